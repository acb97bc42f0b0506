"""Measurements against peers that are too long for a post: `python -m bench`."""

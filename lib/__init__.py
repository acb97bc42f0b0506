"""The library that the posts build up and use."""

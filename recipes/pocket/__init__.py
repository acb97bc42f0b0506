"""Pocket Stable Diffusion: the parts of Stable Diffusion in small, trained from scratch on drawn scenes."""

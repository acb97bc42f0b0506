"""Pictures and latents: what the autoencoder takes, and there and back.

Pictures are [n, 3, h, w] in [0, 1], latents [n, 4, h/f, w/f] with f the factor of the autoencoder.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.diffusion.latent.parts import Parts

Picture = Image.Image | np.ndarray | Tensor


def as_pictures(parts: Parts, pictures: Picture) -> Tensor:
    """Turn a picture, or tensors and arrays of them, into [n, 3, h, w] in [-1, 1], where the parts are.

    Takes PIL images of any mode, uint8 arrays [h, w, 3] or [n, h, w, 3], and float tensors [3, h, w] or [n, 3, h, w]
    in [0, 1]. Raises ValueError for others, and for sides that the autoencoder cannot halve.
    """
    if isinstance(pictures, Image.Image):
        pictures = np.asarray(pictures.convert("RGB"))
    if isinstance(pictures, np.ndarray):
        if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or pictures.shape[-1] != 3:
            raise ValueError(f"an array must be uint8 [h, w, 3] or [n, h, w, 3], got {pictures.dtype} {pictures.shape}")
        pictures = torch.from_numpy(pictures.copy()).movedim(-1, -3).float() / 255
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
        raise ValueError(f"pictures must be float [n, 3, h, w], got {pictures.dtype} {list(pictures.shape)}")
    if not (pictures.min() >= -1e-3 and pictures.max() <= 1 + 1e-3):
        raise ValueError(f"pictures must be in [0, 1], got {pictures.min():.3g} to {pictures.max():.3g}")
    if any(side % (2 * parts.factor) for side in pictures.shape[2:]):
        raise ValueError(f"sides must be multiples of {2 * parts.factor} pixels, got {list(pictures.shape[2:])}")
    return pictures.to(parts.device, parts.dtype) * 2 - 1


@torch.no_grad()
def encode_image(parts: Parts, pictures: Picture) -> Tensor:
    """Return the latents of pictures, the mean of what the encoder says, scaled to a deviation of 1."""
    return parts.vae.encode(as_pictures(parts, pictures)).latent_dist.mean * parts.vae.config.scaling_factor


@torch.no_grad()
def decode(parts: Parts, latents: Tensor) -> Tensor:
    """Return the pictures [n, 3, h, w] in [0, 1] that latents stand for."""
    return (parts.vae.decode(latents / parts.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

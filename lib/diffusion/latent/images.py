"""Images and latents: what the autoencoder takes, encoding and decoding.

Images are [n, 3, h, w] in [0, 1], latents [n, 4, h/f, w/f] with f the factor of the autoencoder.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.data.images import load
from lib.diffusion.latent.parts import Parts

ImageInput = Image.Image | np.ndarray | Tensor


def as_images(parts: Parts, images: ImageInput) -> Tensor:
    """Turn an image, or tensors and arrays of them, into [n, 3, h, w] in [-1, 1], where the parts are.

    Takes PIL images of any mode (read by `lib.data.images.load`), uint8 arrays [h, w, 3] or [n, h, w, 3], and float
    tensors [3, h, w] or [n, 3, h, w] in [0, 1]. Raises ValueError for others, and for sides that the autoencoder cannot
    halve.
    """
    if isinstance(images, Image.Image):
        images = load(images)
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
            raise ValueError(f"an array must be uint8 [h, w, 3] or [n, h, w, 3], got {images.dtype} {images.shape}")
        images = torch.from_numpy(images.copy()).movedim(-1, -3).float() / 255
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images must be float [n, 3, h, w], got {images.dtype} {list(images.shape)}")
    if not (images.min() >= -1e-3 and images.max() <= 1 + 1e-3):
        raise ValueError(f"images must be in [0, 1], got {images.min():.3g} to {images.max():.3g}")
    if any(side % (2 * parts.factor) for side in images.shape[2:]):
        raise ValueError(f"sides must be multiples of {2 * parts.factor} pixels, got {list(images.shape[2:])}")
    return images.to(parts.device, parts.dtype) * 2 - 1


@torch.no_grad()
def encode_image(parts: Parts, images: ImageInput) -> Tensor:
    """Return the latents of images: the mean of the encoder's posterior, scaled to a standard deviation of 1."""
    z = parts.vae.encode(as_images(parts, images)).latent_dist.mean * parts.vae.config.scaling_factor
    _check_finite(z, "the encoder of the autoencoder", parts)
    return z


@torch.no_grad()
def decode(parts: Parts, latents: Tensor) -> Tensor:
    """Return the images [n, 3, h, w] in [0, 1] that latents stand for.

    Raises FloatingPointError for NaN or infinity in the latents, and in what the decoder makes of them.
    """
    _check_finite(latents, "the latents to be decoded", parts)
    images = parts.vae.decode(latents / parts.vae.config.scaling_factor).sample / 2 + 0.5
    _check_finite(images, "the decoder of the autoencoder", parts)
    return images.clamp(0, 1)


def _check_finite(x: Tensor, where: str, parts: Parts) -> None:
    if not bool(x.isfinite().all()):
        half = " (an autoencoder may overflow in float16: use bfloat16 or float32)"
        raise FloatingPointError(
            f"NaN or infinity from {where}, in {parts.dtype}{half * (parts.dtype == torch.float16)}"
        )

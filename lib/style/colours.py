"""The colours of one picture with the forms of another, in two ways.

After Gatys, Bethge, Hertzmann and Shechtman 2016, "Preserving color in neural artistic style transfer", arXiv
1606.05897.
"""

from __future__ import annotations

import torch
from torch import Tensor

YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
MIN_EIGENVALUE = 1e-5  # added to a covariance, so that a grey picture has a root


def match_colours(picture: Tensor, like: Tensor) -> Tensor:
    """Return a picture [1, 3, h, w] in [0, 1] with its colours matched to those of another, of any size.

    The moved colours have the mean and the covariance of the other's, by the linear map that turns them least (section
    5.1: the symmetric square roots of the covariances); what leaves [0, 1] is cut.
    """
    pixels, others = (_pixels(each) for each in (picture, like))
    move = _root(torch.cov(others)) @ torch.linalg.inv(_root(torch.cov(pixels)))
    moved = move @ (pixels - pixels.mean(1, keepdim=True)) + others.mean(1, keepdim=True)
    return moved.to(picture.dtype).view_as(picture).clamp(0, 1)


def replace_chrominance(picture: Tensor, other: Tensor) -> Tensor:
    """Return the luminance of a picture [1, 3, h, w] in [0, 1] with the colours of another of the same size.

    Y is the one's and I and Q are the other's (section 5.2); what leaves [0, 1] is cut.
    """
    if picture.shape != other.shape:
        raise ValueError(f"expected two pictures of one size, got {list(picture.shape)} and {list(other.shape)}")
    to = picture.new_tensor(YIQ)
    bright, coloured = (torch.einsum("ij,njhw->nihw", to, each) for each in (picture, other))
    mixed = torch.cat([bright[:, :1], coloured[:, 1:]], 1)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(to), mixed).clamp(0, 1)


def luminance(picture: Tensor) -> Tensor:
    """Return the luminance of pictures [n, 3, h, w], as three equal channels."""
    return (picture * picture.new_tensor(YIQ[0]).view(3, 1, 1)).sum(1, keepdim=True).expand_as(picture)


def _pixels(picture: Tensor) -> Tensor:
    if picture.ndim != 4 or picture.shape[:2] != (1, 3):
        raise ValueError(f"expected a picture [1, 3, h, w], got {list(picture.shape)}")
    return picture[0].flatten(1).double()


def _root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root."""
    values, vectors = torch.linalg.eigh(covariance + MIN_EIGENVALUE * torch.eye(3).to(covariance))
    return vectors * values.clamp(min=MIN_EIGENVALUE).sqrt() @ vectors.mT

"""How near drawn images are to real ones: distances between sets of features, and the nearest real image."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

CANDIDATES = 8  # of the nearest image, whose distances are taken by difference


def fid(ours: Tensor, theirs: Tensor) -> float:
    """Return the Frechet distance of two normal distributions fitted to features [n, d] and [m, d], in float64.

    |mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Heusel et al. 2017, equation 6). It is biased: the fewer samples,
    the larger, also for two halves of one set, so compare it with that of as many real ones. Warns where there are
    fewer samples than features, as the covariance then has no full rank; raises ValueError for what is no two sets.
    """
    ours, theirs = _features(ours), _features(theirs)
    _alike(ours, theirs)
    for name, x in (("ours", ours), ("theirs", theirs)):
        if len(x) < x.shape[1] + 1:
            warnings.warn(f"{name} has {len(x)} samples of {x.shape[1]} features: take more samples", stacklevel=2)
    roots = [_root_of_covariance(x) for x in (ours, theirs)]
    spread = sum(root.square().sum() for root in roots)
    common = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()  # tr((C1 C2)^(1/2)), without a root of a matrix
    apart = (ours.mean(0) - theirs.mean(0)).square().sum()
    return max((apart + spread - 2 * common).item(), 0.0)


def kid(ours: Tensor, theirs: Tensor) -> float:
    """Return the squared maximum mean discrepancy of features [n, d] and [m, d], with the kernel (x.y / d + 1)^3.

    Unbiased, so it may be below 0 (Binkowski et al. 2018, section 4), and of use for few samples as well.
    """
    ours, theirs = _features(ours), _features(theirs)
    _alike(ours, theirs)
    within = sum(_mean_without_diagonal(_cubic(x, x)) for x in (ours, theirs))
    return (within - 2 * _cubic(ours, theirs).mean()).item()


def nearest(drawn: Tensor, real: Tensor, *, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Return the index of the real image [m, ...] nearest to each drawn one [n, ...], and how far it is: [n] each.

    The distance is Euclidean over pixels. A model that has learnt by heart draws images at distances near 0; compare
    with the distances of real images that it was not trained on.
    """
    if drawn.shape[1:] != real.shape[1:] or not len(drawn) or not len(real):
        raise ValueError(f"images of one shape are needed, got {list(drawn.shape)} and {list(real.shape)}")
    flat = real.flatten(1).float()
    wide = flat.double()
    found = [_nearest(part.flatten(1).to(flat), flat, wide) for part in drawn.split(batch_size)]
    indices, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return indices, values


def _nearest(drawn: Tensor, real: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
    # `cdist` works with products, which lose digits where images are near each other: it only proposes a few, and in
    # float64 (`wide` is `real`), as in float32 any of hundreds of near copies may seem the nearest.
    few = torch.cdist(drawn.double(), wide).topk(min(CANDIDATES, len(real)), largest=False).indices
    far = torch.stack([(drawn - real[column]).norm(dim=1) for column in few.T], dim=1).min(dim=1)
    return few.gather(1, far.indices[:, None])[:, 0], far.values


def _features(x: Tensor) -> Tensor:
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features must be [n, d] with at least two samples, got {list(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError(f"features must be finite, got NaN or infinity in {int((~x.isfinite()).any(1).sum())} rows")
    return x.detach().double()


def _alike(ours: Tensor, theirs: Tensor) -> None:
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"both need the same features, got {ours.shape[1]} and {theirs.shape[1]}")


def _root_of_covariance(x: Tensor) -> Tensor:
    """Return R with R^T R the covariance of x [n, d], R at most d high."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5).R


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_without_diagonal(k: Tensor) -> Tensor:
    return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))

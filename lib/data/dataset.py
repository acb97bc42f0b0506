"""Pictures with labels, in a training and a test split, and where they came from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """Which data a result was computed on.

    `kind` is "local" (LIB_DATA), "shipped" (data/ of the repository), "part" (shipped, and fewer than were asked for),
    "hub" or "package". `where` names no folder of this machine, so that stored outputs are the same elsewhere. `sha256`
    is that of the values, so that it is the same whatever they were read from; `sizes` are the images for training and
    for testing, where these are what it is a source of.
    """

    name: str
    kind: str
    where: str
    sha256: str
    sizes: tuple[int, int] | None = None

    def __str__(self) -> str:
        count = "{:,} + {:,} images, ".format(*self.sizes) if self.sizes else ""
        return f"{self.kind}, {count}{self.where}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Unavailable(Exception):
    """A source that does not have what was asked for, which is no fault; the message says why."""


@dataclass(frozen=True)
class Split:
    """Pictures and what is on them: images uint8 [n, h, w] (0 is black, 255 white), labels int64 [n]."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray) -> Split:
        """Copy arrays of bytes, [n, h, w] and [n]."""
        return cls(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))

    def first(self, n: int) -> Split:
        """Return the first n."""
        return Split(self.images[:n], self.labels[:n])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same classes, and where they came from."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    source: Source

    @classmethod
    def of(cls, name: str, kind: str, where: str, classes: tuple[str, ...], train: Split, test: Split) -> Dataset:
        """Put two splits together, with the digest and the sizes of their source."""
        source = Source(name, kind, where, digest(train, test), (len(train), len(test)))
        return cls(train, test, classes, source)


def digest(*splits: Split) -> str:
    """Return the SHA-256 of the splits' images and labels, one byte each."""
    total = hashlib.sha256()
    for split in splits:
        total.update(split.images.numpy())
        total.update(split.labels.numpy().astype(np.uint8))
    return total.hexdigest()


def check_sizes(name: str, sizes: tuple[int, int], have: tuple[int, int]) -> None:
    """Raise ValueError unless 1 <= size <= have for both splits."""
    if not all(0 < size <= limit for size, limit in zip(sizes, have, strict=True)):
        raise ValueError(f"sizes must be from (1, 1) to {have} for {name}, got {tuple(sizes)}")

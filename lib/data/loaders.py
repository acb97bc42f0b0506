"""Batches: whole ones by index from memory, or items of a Hugging Face data set collated one by one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, update_wrapper
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from lib.data.dataset import Dataset, Split
from lib.data.images import pixels

Transform = Callable[[Tensor], Tensor]


@dataclass
class DataLoaders:
    """What a learner trains on and what it is judged on: two iterables of batches, each with a length."""

    train: Iterable
    valid: Iterable | None = None

    @classmethod
    def from_splits(cls, splits: Mapping[str, Any], batch_size: int, *, seed: int = 0, **options: Any) -> DataLoaders:
        """Make two torch `DataLoader`s of the first two splits of a Hugging Face `DatasetDict`, the first shuffled.

        Batches are tuples of columns, see `collate_dict`; `options` (num_workers, ...) go to both loaders. Raises
        ValueError for fewer splits, and for one that streams.
        """
        if len(splits) < 2:
            raise ValueError(f"a training and a validation split are needed, got {list(splits)}")
        for name, split in list(splits.items())[:2]:
            if not hasattr(split, "__len__"):
                raise ValueError(
                    f"split {name!r} streams: it has no length and cannot be shuffled as a whole. Load it without "
                    "streaming, or make loaders of your own that shuffle a buffer and have a __len__, batches a pass"
                )
        train, valid = list(splits.values())[:2]
        return cls(
            DataLoader(
                train,
                batch_size,
                shuffle=True,
                generator=torch.Generator().manual_seed(seed),
                collate_fn=collate_dict(train),
                **options,
            ),
            DataLoader(valid, batch_size * 2, collate_fn=collate_dict(valid), **options),
        )


class FastLoader:
    """Batches of tensors that fit in memory: a whole batch by one index, on the device, with no worker and no copy.

    Each pass yields tuples of tensors [b, ...], every item once (`drop_last` leaves out a last, smaller batch). With
    `shuffle` each pass has a new order, drawn on the CPU from `generator` (made from `seed`), so it is the same on
    every device. `transform` maps the first tensor of each batch, there where it lies. Without `shuffle` batches are
    views: what changes one in place changes the data. Raises ValueError for tensors of unlike lengths, none at all, or
    a batch size below 1.
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        device: torch.device | str | None = None,
        transform: Transform | None = None,
    ) -> None:
        if not tensors or not all(isinstance(tensor, Tensor) and tensor.ndim for tensor in tensors):
            got = ", ".join(type(tensor).__name__ for tensor in tensors) or "nothing"
            raise ValueError(f"expected tensors [n, ...], got {got}")
        if len({len(tensor) for tensor in tensors}) > 1:
            raise ValueError(f"tensors must have one length, got {', '.join(str(list(t.shape)) for t in tensors)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.tensors = tuple(tensor.to(device) if device is not None else tensor for tensor in tensors)
        self.batch_size, self.shuffle, self.drop_last, self.transform = batch_size, shuffle, drop_last, transform
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        n = len(self.tensors[0])
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n, size = len(self.tensors[0]), self.batch_size
        order = torch.randperm(n, generator=self.generator) if self.shuffle else None
        if order is not None:
            order = order.to(self.tensors[0].device)
        for start in range(0, len(self) * size, size):
            rows = slice(start, start + size) if order is None else order[start : start + size]
            first, *rest = (tensor[rows] for tensor in self.tensors)
            yield (self.transform(first) if self.transform else first, *rest)


def in_memory(
    dataset: Dataset,
    batch_size: int,
    *,
    valid_batch_size: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    transform: Transform | str | None = "normalise",
) -> DataLoaders:
    """Make fast loaders of what `lib.data.load` returns: training images shuffled, and the test images in order.

    Batches are x float32 [b, 1, h, w] and y int64 [b]; x has mean 0 and standard deviation 1 over the training images,
    or spans [0, 1] with `transform=None`; a function is applied to the latter.
    """
    if isinstance(transform, str) and transform != "normalise":
        raise ValueError(f"transform must be 'normalise', None or a function, got {transform!r}")
    scale = Normalise.fitted(dataset.train.images) if transform == "normalise" else _compose(as_float, transform)

    def loader(split: Split, size: int, shuffle: bool) -> FastLoader:
        images = split.images[:, None]
        return FastLoader(
            images, split.labels, batch_size=size, shuffle=shuffle, seed=seed, device=device, transform=scale
        )

    return DataLoaders(
        loader(dataset.train, batch_size, True), loader(dataset.test, valid_batch_size or 4 * batch_size, False)
    )


def _compose(first: Transform, second: Transform | None) -> Transform:
    return first if second is None else partial(_then, first, second)


def _then(first: Transform, second: Transform, x: Tensor) -> Tensor:
    return second(first(x))


def as_float(images: Tensor) -> Tensor:
    """Turn bytes (0 black, 255 white) into float32 in [0, 1]; floating tensors stay as they are.

    Raises ValueError for other numbers, of which it is not known what is white.
    """
    if images.is_floating_point():
        return images
    if images.dtype != torch.uint8:
        raise ValueError(f"expected bytes, or floats in [0, 1], got {images.dtype}")
    return images.float().div_(255)


@dataclass(frozen=True)
class Normalise:
    """Shift and scale: (x - mean) / std, for x in [0, 1] or in bytes, any shape and device."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std must be positive, got {self.std}: are all pixels alike?")

    @classmethod
    def fitted(cls, images: Tensor) -> Normalise:
        """Take mean and standard deviation from images, bytes or floats of any shape."""
        values, scale = images.double(), 1 if images.is_floating_point() else 255
        return cls((values.mean() / scale).item(), (values.std(correction=0) / scale).item())

    def __call__(self, x: Tensor) -> Tensor:
        return (as_float(x) - self.mean).div_(self.std)


class inplace:
    """Let a function that changes a batch (a dict of columns) return it, as `Dataset.with_transform` asks.

    An object and no closure, so that workers that start afresh (spawn, forkserver) can be sent it.
    """

    def __init__(self, function: Callable[[dict], Any]) -> None:
        self.function = function
        update_wrapper(self, function)

    def __call__(self, batch: dict) -> dict:
        self.function(batch)
        return batch

    def __reduce__(self) -> tuple:
        name = getattr(self, "__qualname__", "")
        if getattr(sys.modules.get(self.__module__), name, None) is self:
            # As a decorator this took the name by which the function would be found: it is found in here.
            self.function.__qualname__ = f"{name}.function"
        return inplace, (self.function,)


def image_transform(transform: Callable[[Any], Tensor] | None = None, column: str = "image") -> Callable[[dict], dict]:
    """Make a transform for `Dataset.with_transform` that turns a column of pictures into tensors.

    Without a function of one's own: float32 in [0, 1], [1, h, w] of grey and [3, h, w] of coloured pictures, read as by
    `lib.data.images.load`. For workers that start afresh (spawn, forkserver) a function of one's own must be one that
    pickles: of a module, no lambda.
    """
    return partial(_turn, transform or _fractions, column)


def _turn(transform: Callable[[Any], Tensor], column: str, batch: dict) -> dict:
    if column not in batch:
        raise ValueError(f"no column {column!r} in a batch of {', '.join(batch)}")
    batch[column] = [transform(picture) for picture in batch[column]]
    return batch


def _fractions(picture: Image.Image) -> Tensor:
    return as_float(pixels(picture))


def collate_dict(dataset: Any) -> Callable[[Sequence[dict]], tuple]:
    """Make a `collate_fn` for items that are dicts: a tuple of batched columns, in the order of the set's features.

    `dataset` is a Hugging Face data set, and columns that its transform adds come after its features; or the names of
    the columns, and there are no others. Lists are rows: of n items with lists of k numbers [n, k] is made. Raises
    ValueError that names the column that is missing, or whose items have unlike shapes.
    """
    if not hasattr(dataset, "features"):
        return partial(_collate, list(dataset), False)
    return partial(_collate, list(dataset.features or ()), True)  # a stream may not know its features


def _collate(columns: list[str], others: bool, items: Sequence[dict]) -> tuple:
    if others:
        columns = list(dict.fromkeys([*columns, *items[0]]))
    for item in items:
        missing = [column for column in columns if column not in item]
        if missing:
            raise ValueError(f"no column {missing[0]!r} in an item of {', '.join(item)}")
    return tuple(_stack(column, [item[column] for item in items]) for column in columns)


def _stack(column: str, values: list) -> Any:
    """Batch a column as torch's `default_collate` does, but for lists, which that one transposes: they are rows."""
    kinds, first = set(map(type, values)), values[0]
    if len(kinds) > 1 and kinds & {list, tuple, dict}:
        raise ValueError(f"column {column!r} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}")
    if isinstance(first, dict):
        if any(value.keys() != first.keys() for value in values):
            raise ValueError(
                f"column {column!r} has items of unlike keys: {sorted({tuple(value) for value in values})}"
            )
        return {key: _stack(f"{column}.{key}", [value[key] for value in values]) for key in first}
    if isinstance(first, list | tuple):
        rows = [_stack(column, value) if len(value) else torch.empty(0) for value in values]
        return list(values) if list in map(type, rows) else _stack(column, rows)  # words stay as they are
    if isinstance(first, Tensor | np.ndarray):
        _check_shapes(column, values)
    try:
        return default_collate(values)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"column {column!r} cannot be batched: {error}") from error


def _check_shapes(column: str, values: list) -> None:
    shapes = {tuple(value.shape) for value in values if isinstance(value, Tensor | np.ndarray)}
    if len(shapes) > 1:
        listed = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(f"column {column!r} is ragged, its items have shapes {listed}: pad or crop them to one shape")


def in_tensors(dataset: Any) -> tuple[Tensor, ...]:
    """Decode a Hugging Face data set once: a tensor [n, ...] for each column, lists as rows.

    Pictures, read as by `lib.data.images.load`, are bytes [n, 1 or 3, h, w], or float32 in [0, 1] where bytes cannot
    hold one of them (16 bits, floats, what shines through). What `FastLoader` takes. Raises ValueError that names the
    column that is ragged, empty or without numbers, and for a data set that streams.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            "a data set that streams has no end that is known: make one of its first items, "
            "Dataset.from_list(list(stream.take(n)), features=stream.features)"
        )
    plain = dataset.with_format(None)
    return tuple(_column(name, list(plain[name])) for name in plain.features)


def _column(name: str, values: list) -> Tensor:
    if not values:
        raise ValueError(f"column {name!r} has no items")
    if all(isinstance(value, Image.Image) for value in values):
        values = [pixels(picture) for picture in values]
        if any(value.is_floating_point() for value in values):
            values = [as_float(value) for value in values]
    stacked = _stack(name, values)
    if not isinstance(stacked, Tensor):
        raise ValueError(f"column {name!r} holds no numbers but {type(values[0]).__name__}: remove or number it first")
    return stacked

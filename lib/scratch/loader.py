"""Mini-batches by hand: data sets, samplers, collation and a `DataLoader`, with the names of `torch.utils.data`.

A data set is anything with `len(dataset)` and `dataset[index]`; a sampler says in which order its items come; a batch
sampler cuts that order into batches; collation makes tensors of a list of items. For the same generator the first pass
has the batches of `torch.utils.data.DataLoader`, which draws a second order that it does not use at the end of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lib.scratch import workers


class Dataset(Protocol):
    """Items by number, from 0 to the length less one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class TensorDataset:
    """The rows of tensors of one length: item i is the tuple of each tensor's row i."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or len({len(tensor) for tensor in tensors}) > 1:
            raise ValueError(f"expected tensors of one length, got {[list(tensor.shape) for tensor in tensors]}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)


class SequentialSampler:
    """The numbers of a data set's items in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


class RandomSampler:
    """The numbers of a data set's items in another random order for each pass, each number once.

    Drawn from `generator`, or without one from a seed that torch's global generator gives.
    """

    def __init__(self, data_source: Sized, generator: torch.Generator | None = None) -> None:
        self.data_source, self.generator = data_source, generator

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        generator = self.generator or torch.Generator().manual_seed(draw_seed(None))
        yield from torch.randperm(len(self), generator=generator).tolist()


class BatchSampler:
    """Lists of `batch_size` numbers of a sampler; the last may be shorter, and `drop_last` leaves it out."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __len__(self) -> int:
        batches = len(self.sampler) / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def __iter__(self) -> Iterator[list[int]]:
        batch = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch


def collate(items: Sequence[Any], where: str = "the items") -> Any:
    """Make one batch of a list of items that are alike.

    Tensors and arrays of one shape and dtype are stacked [n, ...], numbers become a tensor [n] (int64, float64, bool),
    tuples and dicts are collated part by part, words stay a list. Raises ValueError for items that differ in type,
    shape, dtype or keys, and TypeError for others; `where` is what the error calls them.
    """
    first = items[0]
    _alike(where, "type", map(type, items))
    if isinstance(first, np.ndarray):
        items = [torch.from_numpy(item) for item in items]
    if isinstance(first, Tensor | np.ndarray):
        _alike(where, "dtype", [item.dtype for item in items])
        return _stack(items, where)
    if isinstance(first, float):
        return torch.tensor(items, dtype=torch.float64)
    if isinstance(first, int):
        return torch.tensor(items)
    if isinstance(first, str):
        return list(items)
    if isinstance(first, tuple):
        _alike(where, "length", map(len, items))
        return tuple(collate(part, f"part {i} of {where}") for i, part in enumerate(zip(*items, strict=True)))
    if isinstance(first, dict):
        _alike(where, "keys", map(tuple, items))
        return {key: collate([item[key] for item in items], f"{key!r} of {where}") for key in first}
    kinds = "tensors, arrays, numbers, words, or tuples and dicts of them"
    raise TypeError(f"{where} must be {kinds}, got {type(first).__name__}")


def _stack(items: Sequence[Tensor], where: str) -> Tensor:
    try:
        return torch.stack(items)
    except RuntimeError:
        _alike(where, "shape", [item.shape for item in items])
        raise


def _alike(where: str, what: str, values: Iterable[Any]) -> None:
    kinds = set(values)
    if len(kinds) > 1:
        raise ValueError(f"{where} differ in {what}: {', '.join(sorted(map(_words, kinds)))}")


def _words(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(list(value) if isinstance(value, tuple) else value)


class DataLoader:
    """Batches of a data set, one pass for each `iter`; made here, or by `num_workers` processes, in the same order.

    `shuffle` draws another order for each pass from `generator`; `sampler` gives an order of one's own. Batch k is
    made with torch's random numbers seeded by the pass and k, so that what a data set draws does not depend on the
    number of workers. Workers get data set and `collate_fn` as `multiprocessing_context` ("fork", "spawn",
    "forkserver", by default the platform's) hands them over, seed Python's and NumPy's random numbers too, and are
    ended with the pass, however that ends. What an item raises is raised here, with the item's number.
    Raises ValueError for a data set without items and for options out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] = collate,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
        multiprocessing_context: str | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"the data set, a {type(dataset).__name__}, has no items")
        if not isinstance(num_workers, int) or num_workers < 0:
            raise ValueError(f"num_workers must be a whole number of at least 0, got {num_workers!r}")
        if sampler is not None and shuffle:
            raise ValueError("a sampler gives the order, so shuffle must be False, got shuffle=True and a sampler")
        order = RandomSampler(dataset, generator) if shuffle else SequentialSampler(dataset)
        self.batch_sampler = BatchSampler(order if sampler is None else sampler, batch_size, drop_last)
        self.dataset, self.collate_fn, self.generator = dataset, collate_fn, generator
        self.num_workers, self.multiprocessing_context = num_workers, multiprocessing_context

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        seed = draw_seed(self.generator)
        jobs = ((indices, seed + k) for k, indices in enumerate(self.batch_sampler))
        make = partial(make_batch, self.dataset, self.collate_fn)
        if self.num_workers:
            return workers.imap(make, jobs, self.num_workers, self.multiprocessing_context)
        return (make(*job) for job in jobs)


def make_batch(dataset: Dataset, collate_fn: Callable[[list], Any], indices: Iterable[int], seed: int) -> Any:
    """Collate some items of a data set; what one raises carries its number as a note."""
    items = []
    with seeded(seed):
        for index in indices:
            try:
                items.append(dataset[index])
            except Exception as error:
                error.add_note(f"in item {index} of the data set, a {type(dataset).__name__} of {len(dataset)}")
                raise
    return collate_fn(items)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers on the CPU from a seed for a while; afterwards they go on as if nothing was drawn."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # manual_seed of torch itself asks every device, which takes longer
    try:
        yield
    finally:
        torch.set_rng_state(state)


def draw_seed(generator: torch.Generator | None) -> int:
    """Draw a seed from a generator, or from torch's global one, as torch's loaders do."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))

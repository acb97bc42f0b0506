"""The loader yields what torch's does, each item once, whatever the batch size and the number of workers."""

import multiprocessing
import random
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import data as theirs

from lib.scratch.loader import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    collate,
    seeded,
)

METHODS = ("fork", "spawn", "forkserver")


class Squares:
    """Item i is (i, i squared); `fails` raise, and `drawn` gives random numbers as well."""

    def __init__(self, n: int, fails: tuple[int, ...] = (), drawn: bool = False) -> None:
        self.n, self.fails, self.drawn = n, fails, drawn

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple:
        if index in self.fails:
            raise KeyError(f"nothing under {index}")
        if self.drawn:
            return index, torch.rand(2), random.random(), float(np.random.rand())  # noqa: NPY002
        return index, torch.tensor(index**2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(n: int) -> TensorDataset:
    return TensorDataset(torch.rand(n, 3, generator=generator()), torch.arange(n))


def same(ours, others) -> bool:
    return all(all(map(torch.equal, a, b)) for a, b in zip(ours, others, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_batches_are_torchs(n, batch_size, shuffle, drop_last, seed):
    options = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
    ours = DataLoader(pairs(n), **options, generator=generator(seed))
    other = theirs.DataLoader(pairs(n), **options, generator=generator(seed))
    assert len(ours) == len(other)
    assert same(ours, other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_a_generator_torchs_global_one_is_drawn_from_as_torch_does(num_workers):
    orders = []
    for loader in (DataLoader, theirs.DataLoader):
        torch.manual_seed(3)
        orders.append([list(map(int, y)) for _, y in loader(pairs(10), 4, True, num_workers=num_workers)])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_each_item_comes_once(num_workers, batch_size):
    loader = DataLoader(Squares(23), batch_size, True, num_workers=num_workers, generator=generator())
    batches = list(loader)
    assert [len(index) for index, _ in batches[:-1]] == [batch_size] * (len(loader) - 1)
    assert sorted(torch.cat([index for index, _ in batches]).tolist()) == list(range(23))
    assert all(torch.equal(index**2, square) for index, square in batches)


@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_start_workers_makes_the_same_batches(method):
    there = DataLoader(pairs(20), 3, True, num_workers=2, multiprocessing_context=method, generator=generator())
    assert same(there, DataLoader(pairs(20), 3, True, generator=generator()))


def test_batches_of_workers_lie_in_shared_memory():
    for x, y in DataLoader(pairs(6), 2, num_workers=1):
        assert x.is_shared()
        assert y.is_shared()


def test_what_a_data_set_draws_does_not_depend_on_the_number_of_workers():
    def drawn(num_workers: int, seed: int = 0) -> list:
        loader = DataLoader(Squares(12, drawn=True), 2, num_workers=num_workers, generator=generator(seed))
        return [[part.tolist() for part in batch] for batch in loader]

    here, one, two = map(drawn, (0, 1, 2))
    assert one == two  # Python's and NumPy's as well
    assert [batch[:2] for batch in here] == [batch[:2] for batch in one]
    assert len({tuple(batch[3]) for batch in two}) == len(two)  # a fork copies NumPy's state: all would be alike
    assert drawn(2, seed=1) != two


def test_without_workers_the_callers_random_numbers_go_on():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    batches = iter(DataLoader(Squares(4, drawn=True), 2, generator=generator()))
    next(batches)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_seeded_gives_the_generator_back_when_something_fails():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError), seeded(5):
        torch.rand(3) / (1 // 0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_what_an_item_raises_names_the_item(num_workers):
    loader = iter(DataLoader(Squares(9, fails=(5,)), 2, num_workers=num_workers))
    assert [next(loader)[0].tolist() for _ in range(2)] == [[0, 1], [2, 3]]  # what came before it is there
    with pytest.raises(KeyError, match="nothing under 5") as caught:
        next(loader)
    notes = " ".join(caught.value.__notes__)
    assert "item 5 " in notes
    assert ("worker process" in notes) == ("__getitem__" in notes) == (num_workers > 0)
    assert next(loader, None) is None
    assert not multiprocessing.active_children()


def test_samplers_are_torchs():
    dataset = Squares(10)
    assert list(SequentialSampler(dataset)) == list(theirs.SequentialSampler(dataset))
    ours, other = RandomSampler(dataset, generator()), theirs.RandomSampler(dataset, generator=generator())
    first, second = list(ours), list(ours)
    assert first == list(other)
    assert sorted(second) == list(range(10))
    assert first != second
    for drop_last in (False, True):
        ours, other = (kind(range(10), 4, drop_last) for kind in (BatchSampler, theirs.BatchSampler))
        assert list(ours) == list(other)
        assert len(ours) == len(other)


def test_a_sampler_gives_the_order_and_the_length():
    loader = DataLoader(Squares(10), 2, sampler=[7, 7, 1])
    assert [index.tolist() for index, _ in loader] == [[7, 7], [1]]
    assert len(loader) == 2


ITEMS = [
    [torch.ones(2), torch.zeros(2)],
    [np.ones((2, 1), dtype=np.int16), np.zeros((2, 1), dtype=np.int16)],
    [1, 2],
    [True, False],
    [1.5, 2.0],
    ["a", "b"],
    [{"x": torch.ones(1), "y": 3}, {"x": torch.zeros(1), "y": 4}],
    [(1, torch.ones(1)), (2, torch.zeros(1))],
]


@pytest.mark.parametrize("items", ITEMS, ids=lambda items: type(items[0]).__name__)
def test_collates_as_torch(items):
    def flat(batch) -> list:
        if isinstance(batch, dict):
            batch = list(batch.values())
        return [leaf for part in batch for leaf in flat(part)] if isinstance(batch, list | tuple) else [batch]

    for ours, other in zip(flat(collate(items)), flat(theirs.default_collate(items)), strict=True):
        assert type(ours) is type(other)
        assert ours == other if isinstance(ours, str) else torch.equal(ours, other) and ours.dtype == other.dtype


@pytest.mark.parametrize(
    ("items", "error", "named"),
    [
        ([torch.ones(2), torch.ones(3)], ValueError, r"shape.*\[2\], \[3\]"),
        ([torch.ones(2), torch.ones(2).double()], ValueError, "dtype.*float32, torch.float64"),
        ([np.ones(2), np.ones(3)], ValueError, r"shape.*\[2\], \[3\]"),
        ([1, 2.5], ValueError, "type.*float, int"),
        ([(1, 2), (1,)], ValueError, "length.*1, 2"),
        ([(1, torch.ones(1)), (1, torch.ones(2))], ValueError, r"part 1 of.*\[1\], \[2\]"),
        ([{"x": 1}, {"y": 1}], ValueError, r"keys.*\['x'\], \['y'\]"),
        ([{"x": torch.ones(1)}, {"x": torch.ones(1, 1)}], ValueError, r"'x' of.*\[1, 1\], \[1\]"),
        ([[1], [2]], TypeError, "list"),
        ([None, None], TypeError, "NoneType"),
    ],
)
def test_items_that_make_no_batch_are_named(items, error, named):
    with pytest.raises(error, match=named):
        collate(items)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_ragged_items_are_named_from_workers_too(num_workers):
    items = [torch.ones(2), torch.ones(3)]
    with pytest.raises(ValueError, match=r"shape.*\[2\], \[3\]"):
        list(DataLoader(items, 2, num_workers=num_workers))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (partial(DataLoader, Squares(0)), "Squares"),
        (partial(DataLoader, Squares(3), 0), "batch_size.*0"),
        (partial(DataLoader, Squares(3), 2.5), r"batch_size.*2\.5"),
        (partial(DataLoader, Squares(3), num_workers=-1), "num_workers.*-1"),
        (partial(DataLoader, Squares(3), num_workers=1.5), r"num_workers.*1\.5"),
        (partial(DataLoader, Squares(3), shuffle=True, sampler=[0]), "shuffle=True"),
        (partial(TensorDataset, torch.ones(2), torch.ones(3)), r"\[2\], \[3\]"),
        (TensorDataset, r"\[\]"),
    ],
)
def test_options_out_of_range_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()

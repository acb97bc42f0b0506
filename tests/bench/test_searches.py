"""Searches are timed beside what they found; a growth is that of the numbers measured."""

import pytest
import torch

from bench import searches
from bench.points import features, garments, growth, mixture, recall
from lib.cluster.neighbours import knn


@pytest.fixture(scope="module")
def base():
    x = mixture(1200, 56, count=20)
    return x[:1100], x[1100:], knn(x[1100:], x[:1100], 10)


def test_quantised_and_inverted_searches_are_compared_with_faiss(base, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(searches, "LISTS", 8)
    records = [*searches.quantised(*base, pieces=56, pairs=1), *searches.inverted(*base, pairs=1)]
    assert [record.name for record in records] == [
        f"cluster/{name}/{part}" for name in ("pq56", "ivf-pq") for part in ("build", "search")
    ]
    assert all(record.same and "recall@1 of 100 queries" in record.note for record in records)


def test_hashing_tells_what_it_looked_at(base, monkeypatch):
    monkeypatch.setattr(searches, "WIDTH", 12.0)
    share, timing = searches.hashed(*base, pairs=1)
    assert 0 < share.value < 100
    assert share.unit == "%"
    assert "distinct candidates counted" in timing.note


def test_mean_shift_through_searches_is_compared_with_the_exact_one():
    records = list(searches.mean_shifts(mixture(500, 16, count=5), bandwidth=3.0, pairs=1))
    assert [record.name for record in records] == ["cluster/mean-shift/pq", "cluster/mean-shift/lists"]
    assert all("5 clusters above 1%" in record.note for record in records)


def test_recall_is_the_share_found():
    assert recall(torch.tensor([[1, 2], [5, 9]]), torch.tensor([[2, 1], [9, 4]])) == 0.75


def test_a_growth_fits_the_times_of_each_size():
    calls = []
    record = growth("nothing", "no work", (10, 100), lambda n: lambda: calls.append(n))
    assert calls == [1000, 10, 100]
    assert record.name == "cluster/nothing/growth"
    assert "10: 0.00 s, 100: 0.00 s" in record.note


def test_garments_are_rows_of_pixels_and_features_of_them():
    x, asked = garments(7)
    assert x.shape[1] == asked.shape[1] == 784
    assert len(asked) == 7
    assert 0 <= x.min() < x.max() <= 1
    assert features(20).shape == (20, 96)

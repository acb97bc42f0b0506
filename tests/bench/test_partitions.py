"""k-means and DBSCAN are timed from the same starts, against an answer that is as good."""

import pytest

from bench import partitions
from bench.points import mixture


def test_passes_from_the_same_starts_end_alike():
    pytest.importorskip("faiss")
    record = partitions.many_centres(mixture(400, 8), 5, pairs=1)
    assert record.same
    assert "(ratio 1.000" in record.note
    assert record.ours > 0 < record.theirs


def test_passes_to_the_end_give_the_same_inertia():
    record = partitions.to_the_end(mixture(400, 8), 5, pairs=1)
    assert record.same
    assert record.name == "cluster/kmeans/5"
    assert record.peer.startswith("scikit-learn ")


def test_dbscan_gives_the_labels_of_scikit_learn():
    record = partitions.density(600, pairs=1)
    assert record.same
    assert "labels equal: True" in record.note


def test_the_fastest_is_named_with_all_seconds():
    name, seconds = partitions._fastest({"slow": lambda: sum(range(10**6)), "quick": lambda: None})
    assert name == "quick"
    assert seconds.startswith("slow 0.")
    assert "quick 0.00 s" in seconds

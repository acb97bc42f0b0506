"""Clustering is timed against an equal answer, and a growth is that of the numbers measured."""

import json
import subprocess
import sys

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from bench import cluster
from lib.cluster.mean_shift import mean_shift


def test_times_are_compared_of_an_equal_answer():
    record = cluster.against("150", "scikit-learn", {}, pairs=1, target="<= 1")
    assert record.same
    assert record.name == "cluster/mean-shift/150"
    assert record.ours > 0
    assert "Rand index of the labels 1.0000" in record.note


def test_growth_is_measured_and_its_error_checked(monkeypatch):
    monkeypatch.setattr(cluster, "SIZES", (100, 400))
    record = cluster.growth("nearest-growth", "the same square", lambda n: 1.0, repeats=1)
    assert record.same
    assert "(grid)" in record.note
    assert "400: " in record.note


def test_steps_that_differ_show():
    x = torch.zeros(5, 2)
    assert cluster.apart(x, lambda p: (p + 0.3, None), lambda p: (p, None), 0.5) == pytest.approx(0.6 * 2**0.5)


@pytest.mark.parametrize("power", [0.9, 2.0])
def test_the_exponent_is_that_of_a_power(power):
    assert cluster.exponent({n: 3 * n**power for n in (10, 100, 1000)}) == pytest.approx(power)


def test_there_are_as_many_blobs_to_the_area():
    one, four = cluster.blobs(2000, 0.01), cluster.blobs(2000, 0.01, larger=4)
    assert len(mean_shift(one, 0.2).centres) == pytest.approx(20, abs=2)
    assert len(mean_shift(four, 0.2).centres) == pytest.approx(80, abs=6)
    assert four.max() < 2 * 20.5 < four.max() + 4
    assert adjusted_rand_score(mean_shift(one, 0.2).labels, mean_shift(one, 0.3).labels) > 0.9


@pytest.mark.parametrize("name", ["colours", "moons", "lines", "duplicates"])
def test_what_is_no_blob_is_clustered_as_by_scikit_learn(name):
    x, bandwidth = next((x, bandwidth) for found, x, bandwidth in cluster.shapes() if found == name)
    assert len(x) > 1900
    record = cluster.no_blobs(name, x[::10], bandwidth, pairs=1)
    assert record.name == f"cluster/mean-shift/{name}"
    assert "adjusted Rand index" in record.note


def test_a_process_tells_its_peak():
    peak = subprocess.check_output([sys.executable, "-c", cluster.PEAK, "100"], text=True)
    assert json.loads(peak) > 10_000

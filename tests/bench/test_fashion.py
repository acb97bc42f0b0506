"""The long measurement, in small: it records what it saw."""

import dataclasses
import json

import pytest
from torch import nn

from bench import fashion, training
from lib import data

TINY = training.Recipe("tiny", "sgd", lr=0.1, weight_decay=1e-3, batch_size=20, epochs=3, seeds=(1, 2))


def test_the_record_is_the_mean_with_its_range(monkeypatch, tmp_path):
    loaded = data.load("fashion_mnist", sizes=(100, 40))
    monkeypatch.setitem(training.NETS, "tiny", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    monkeypatch.setattr(fashion, "RECIPES", {"init": TINY})
    monkeypatch.setattr(fashion.data, "load", lambda name: loaded)
    (record,) = fashion.records(lambda line: None, runs=tmp_path)
    last = [json.loads(path.read_text())["accuracy"][-1] for path in tmp_path.glob("*.json")]
    assert record.name == "fashion/init"
    assert record.value == pytest.approx(sum(last) / 2)
    assert (record.low, record.high) == (min(last), max(last))
    assert record.n == 2
    assert "7,850 parameters" in record.note
    assert record.reference == 89.9


def test_a_part_is_refused(monkeypatch):
    source = data.Source("fashion_mnist", "part", "12,000 of 60,000", "0")
    loaded = dataclasses.replace(data.load("fashion_mnist", sizes=(1, 1)), source=source)
    monkeypatch.setattr(fashion.data, "load", lambda name: loaded)
    with pytest.raises(ValueError, match=r"fashion.*12,000 of 60,000.*LIB_DATA"):
        next(fashion.records(print))

"""The long measurement, in small: it goes on where it was, and records what it saw."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from bench import fashion
from lib import data
from lib.nn.resnet import ResNet

TINY = fashion.Recipe("tiny", "sgd", lr=0.1, weight_decay=1e-3, batch_size=20, epochs=3, seeds=(1, 2))


@pytest.fixture
def clothes(monkeypatch):
    """Take a net and a data set that train in a moment."""
    loaded = data.load("fashion_mnist", sizes=(100, 40))
    tiny = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))  # noqa: E731
    monkeypatch.setitem(fashion.NETS, "tiny", tiny)
    monkeypatch.setattr(fashion, "RECIPES", {"init": TINY})
    monkeypatch.setattr(fashion.data, "load", lambda name: loaded)
    return loaded


def test_an_interrupted_run_goes_on_and_ends_as_the_whole_one(clothes, tmp_path):
    said = []
    whole = fashion.train("init", TINY, 1, clothes, said.append, tmp_path / "whole")
    assert len(said) == 3
    assert "epoch 3 of 3" in said[-1]

    def stop_at_two(line):
        if "epoch 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fashion.train("init", TINY, 1, clothes, stop_at_two, tmp_path / "parts")
    said.clear()
    parts = fashion.train("init", TINY, 1, clothes, said.append, tmp_path / "parts")
    assert len(said) == 2
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["parameters"] == 7850
    said.clear()
    assert fashion.train("init", TINY, 1, clothes, said.append, tmp_path / "parts") == parts
    assert said == []
    assert [path.suffix for path in (tmp_path / "parts").iterdir()] == [".json"]


def test_another_recipe_net_or_data_set_starts_anew(clothes):
    keys = {
        fashion.digest(TINY, clothes.source),
        fashion.digest(dataclasses.replace(TINY, lr=0.2), clothes.source),
        fashion.digest(dataclasses.replace(TINY, seeds=(3,)), clothes.source),  # the same run
        fashion.digest(TINY, dataclasses.replace(clothes.source, sha256="0")),
    }
    fashion.NETS["tiny"] = lambda: nn.Linear(784, 11)
    keys.add(fashion.digest(TINY, clothes.source))
    assert len(keys) == 4


def test_the_record_is_the_mean_with_its_range(clothes, tmp_path):
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


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_only_what_has_two_axes_decays(kind):
    layer = nn.Linear(3, 2)
    recipe = dataclasses.replace(TINY, optimiser=kind)
    groups = fashion.optimiser(recipe, layer.parameters()).param_groups
    assert [group["weight_decay"] for group in groups] == [1e-3, 0.0]
    assert groups[0]["params"] == [layer.weight]
    assert groups[1]["params"] == [layer.bias]


def test_the_nets_keep_to_what_they_promise():
    assert sum(p.numel() for p in ResNet().parameters()) <= 1_300_000
    for name in ("convnet", "ResNet"):
        net = fashion.NETS[name]()
        x, _ = fashion.channels_last((torch.zeros(2, 1, 28, 28), None))
        assert net(x).shape == (2, 10)

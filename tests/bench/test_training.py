"""A training that takes long, in small: it goes on where it was, and does what its recipe says."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bench import training
from bench.training import Recipe, train
from lib import data
from lib.augment import Augment
from lib.data.dataset import Split
from lib.learner import MixedPrecision
from lib.nn.resnet import ResNet
from lib.scratch.optim import Muon

TINY = Recipe("tiny", "sgd", lr=0.1, weight_decay=1e-3, batch_size=20, epochs=3, seeds=(1, 2))


@pytest.fixture
def clothes(monkeypatch):
    """Take a net and a data set that train in a moment."""
    monkeypatch.setitem(training.NETS, "tiny", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    return data.load("fashion_mnist", sizes=(100, 40))


@pytest.mark.parametrize("changes", [{}, {"changes": ("crop", "flip", "erase", "copy"), "mix": "cutmix"}])
def test_an_interrupted_run_goes_on_and_ends_as_the_whole_one(clothes, tmp_path, changes):
    said, recipe = [], dataclasses.replace(TINY, **changes)
    whole = train("init", recipe, 1, clothes, said.append, tmp_path / "whole")
    assert len(said) == 3
    assert "epoch 3 of 3" in said[-1]

    def stop_at_two(line):
        if "epoch 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("init", recipe, 1, clothes, stop_at_two, tmp_path / "parts")
    said.clear()
    parts = train("init", recipe, 1, clothes, said.append, tmp_path / "parts")
    assert len(said) == 2
    assert parts["accuracy"] == whole["accuracy"]
    assert (parts["parameters"], parts["flops"]) == (7850, 2 * 7840)
    said.clear()
    assert train("init", recipe, 1, clothes, said.append, tmp_path / "parts") == parts
    assert said == []
    assert sorted(path.suffix for path in (tmp_path / "parts").iterdir()) == [".json", ".npy"]


def test_what_is_kept_are_the_probabilities_of_the_pictures_and_of_their_mirror_images(clothes, tmp_path):
    result = train("init", TINY, 1, clothes, print, tmp_path)
    views = torch.from_numpy(np.load(tmp_path / result["probabilities"]))
    assert views.shape == (2, 40, 10)
    torch.testing.assert_close(views.sum(2), torch.ones(2, 40))
    right = [100 * (view.argmax(1) == clothes.test.labels).double().mean().item() for view in (views[0], views.mean(0))]
    assert [result["accuracy"][-1], result["mirrored"]] == pytest.approx(right)
    turned = dataclasses.replace(clothes, test=Split(clothes.test.images.flip(2), clothes.test.labels))
    other = train("init", TINY, 1, turned, print, tmp_path / "turned")
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "turned" / other["probabilities"])), views.flip(0))


def test_another_recipe_net_or_data_set_starts_anew(clothes):
    keys = {
        training.digest(TINY, clothes.source),
        training.digest(dataclasses.replace(TINY, lr=0.2), clothes.source),
        training.digest(dataclasses.replace(TINY, mix="mixup"), clothes.source),
        training.digest(dataclasses.replace(TINY, seeds=(3,)), clothes.source),  # the same run
        training.digest(TINY, dataclasses.replace(clothes.source, sha256="0")),
    }
    training.NETS["tiny"] = lambda: nn.Linear(784, 11)
    keys.add(training.digest(TINY, clothes.source))
    assert len(keys) == 5


def test_what_is_held_out_are_the_last_training_images(monkeypatch, clothes):
    monkeypatch.setattr(training, "HELD_OUT", 30)
    split = training.held_out(clothes)
    assert split.source.sizes == (70, 30)
    assert torch.equal(torch.cat([split.train.images, split.test.images]), clothes.train.images)
    assert torch.equal(torch.cat([split.train.labels, split.test.labels]), clothes.train.labels)
    assert split.source.sha256 != clothes.source.sha256
    few = training.held_out(clothes, first=20)
    assert few.source.sizes == (20, 30)
    assert torch.equal(few.test.images, split.test.images)


def test_a_part_is_refused(clothes):
    source = data.Source("fashion_mnist", "part", "12,000 of 60,000", "0")
    with pytest.raises(ValueError, match=r"board/5.*12,000 of 60,000.*LIB_DATA"):
        train("board/5", TINY, 1, dataclasses.replace(clothes, source=source), print)


@pytest.mark.parametrize(("kind", "made"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("muon", Muon)])
def test_only_what_has_two_axes_decays(kind, made):
    layer = nn.Linear(3, 2)
    optimiser = training.optimiser(dataclasses.replace(TINY, optimiser=kind), layer.parameters())
    groups = optimiser.param_groups
    assert type(optimiser) is made
    assert [group["weight_decay"] for group in groups] == [1e-3, 0.0]
    assert groups[0]["params"] == [layer.weight]
    assert groups[1]["params"] == [layer.bias]
    assert {group["lr"] for group in groups} == {0.1}


def test_what_is_cropped_is_filled_with_empty_pixels(clothes):
    recipe = dataclasses.replace(TINY, changes=("crop",), bfloat16=True)
    loaders = data.in_memory(clothes, 20)
    found = list(training.callbacks(recipe, 1, loaders))
    (change,) = (callback for callback in found if isinstance(callback, Augment))
    assert change.functions[0].keywords["fill"] == pytest.approx(loaders.valid.transform(torch.zeros(1)).item())
    assert any(isinstance(callback, MixedPrecision) for callback in found)


def test_the_schedules_begin_low_reach_the_rate_and_end_near_nothing():
    for decay in (None, 0.5):
        schedule = training.schedule(dataclasses.replace(TINY, warmup=0.2, decay=decay))
        assert schedule(0.2) == 1
        assert schedule(0) < 0.1
        assert schedule(1) < 0.001
    assert schedule(0.5) == 1


def test_a_recipe_says_what_it_is():
    assert str(TINY) == "SGD with momentum 0.9, batches of 20, one cycle to a learning rate of 0.1, weight decay 0.001"
    recipe = Recipe(
        "ResNet", "muon", 0.01, 0.1, decay=0.4, smoothing=0.1, changes=("flip",), mix="mixup", bfloat16=True
    )
    assert str(recipe).endswith(
        "0.15 warm-up, 0.4 linear decay, from a learning rate of 0.01, weight decay 0.1, labels smoothed by 0.1, flip, "
        "mixup, bfloat16"
    )


def test_the_nets_keep_to_what_they_promise():
    assert sum(p.numel() for p in ResNet().parameters()) <= 1_300_000
    for name in ("convnet", "ResNet"):
        net = training.NETS[name]()
        x, _ = training.channels_last((torch.zeros(2, 1, 28, 28), None))
        assert net(x).shape == (2, 10)

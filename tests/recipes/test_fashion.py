"""The training command, on a few drawn pictures that pass for the real ones, and with small models."""

import dataclasses
import json

import pytest
import torch

from lib import data
from lib.diffusion import Schedule
from lib.diffusion import train as command
from lib.diffusion.draw import draw
from lib.diffusion.train import features, learner, padded, train
from lib.nn.resnet import ResNet
from lib.nn.unet import UNet


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Small models on a few clothes; returns what `train` takes to stay in a folder of its own."""
    clothes = data.load("fashion_mnist", sizes=(96, 40))
    real = dataclasses.replace(clothes, source=data.Source("fashion_mnist", "local", "LIB_DATA", "abc"))
    monkeypatch.setattr(command.data, "load", lambda _: real)
    made = {
        "classifier": lambda: ResNet((8, 16), stem=4),
        "unet": lambda: UNet(1, (8, 8), classes=10, attention=(False, True)),
        "plain": lambda: UNet(1, (8, 8), classes=10, attention=(False, True)),
    }
    monkeypatch.setattr(command, "MODELS", made)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {}}')
    return {"runs": tmp_path / "runs", "manifest": manifest, "batch_size": 32, "say": lambda _: None}


def shipped(options, name):
    path = options["manifest"].parent / f"models/fashion/{name}.safetensors"
    return path.read_bytes(), json.loads(options["manifest"].read_text())["files"][f"models/fashion/{name}.safetensors"]


@pytest.mark.parametrize("name", ["classifier", "unet"])
def test_a_run_ships_weights_and_their_story(name, small):
    train(name, epochs=2, **small)
    _, story = shipped(small, name)
    assert story["steps"] == 6
    assert story["data"] == "fashion_mnist, sha256 abc"
    assert story["made_by"] == f"python -m lib.diffusion.train {name} --epochs 2 --batch-size 32 --seed 0"
    assert {"machine", "seconds", "parameters", "valid_loss"} <= story.keys()


@pytest.mark.parametrize("name", ["classifier", "unet"])
def test_a_run_that_was_cut_off_ends_as_the_whole_one(name, small, tmp_path):
    train(name, epochs=3, **small)
    whole = shipped(small, name)[0]

    def cut(message):
        if message.startswith("epoch 2 of"):
            raise KeyboardInterrupt

    again = {**small, "runs": tmp_path / "again"}
    with pytest.raises(KeyboardInterrupt):
        train(name, epochs=3, **{**again, "say": cut})
    said = []
    train(name, epochs=3, **{**again, "say": said.append})
    assert any("goes on from" in line for line in said)
    assert shipped(small, name)[0] == whole


def test_a_run_may_begin_with_what_ships(small):
    with pytest.raises(
        ValueError, match=r"no weights from models/fashion/unet.*\n.*python -m lib.diffusion.train unet"
    ):
        train("unet", epochs=1, start=True, **small)
    train("unet", epochs=2, **small)
    before = shipped(small, "unet")[0]
    train("unet", epochs=2, start=True, **small)
    after, story = shipped(small, "unet")
    assert after != before
    assert story["made_by"].endswith("--from-shipped")


def test_a_run_that_ended_is_not_taken_up_again(small):
    train("classifier", epochs=2, **small)
    first = shipped(small, "classifier")
    train("classifier", epochs=2, **small)
    again = shipped(small, "classifier")
    assert again[0] == first[0]
    assert again[1]["valid_loss"] == first[1]["valid_loss"]
    assert not list(small["runs"].iterdir())


def test_the_net_for_comparison_is_kept_apart_from_what_ships(small, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RUNS", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no weights from models/fashion/plain"):
        command.load("plain")
    path = train("plain", epochs=1, **{**small, "manifest": None})
    assert path == tmp_path / "elsewhere/models/fashion/plain.safetensors"
    assert not command.load("plain").training
    assert command.listed("unet") == data.MANIFEST


def test_the_two_regimes_differ_in_all_that_is_compared():
    best, plain = command.REGIMES["unet"], command.REGIMES["plain"]
    torch.testing.assert_close(plain.schedule.alpha_bar, Schedule.make("linear").alpha_bar)
    assert (plain.prediction, plain.weighted, plain.ema) == ("noise", False, None)
    assert (best.prediction, best.weighted, best.ema) == ("v", False, 0.999)
    weighed = command.REGIMES["min-snr"]
    assert weighed._replace(weighted=False, schedule=best.schedule) == best
    assert torch.equal(weighed.schedule.alpha_bar, best.schedule.alpha_bar)
    assert weighed.weighted


def test_the_time_before_a_cut_counts():
    told = command.Told(print)
    told.load_state_dict({"seconds": 500.0})
    assert 500 <= told.state_dict()["seconds"] < 560


def test_a_part_is_refused(small, monkeypatch, capsys):
    part = dataclasses.replace(
        command.data.load(""), source=data.Source("fashion_mnist", "part", "12,000 of 60,000", "abc")
    )
    monkeypatch.setattr(command.data, "load", lambda _: part)
    with pytest.raises(ValueError, match="all the pictures are needed, got part, 12,000 of 60,000: set LIB_DATA"):
        train("unet", epochs=1, **small)
    assert command.main(["unet"]) == 2
    assert "set LIB_DATA" in capsys.readouterr().err


def test_pictures_are_padded_with_black():
    found = padded(torch.ones(2, 1, 28, 28))
    assert found.shape == (2, 1, 32, 32)
    assert (found[:, :, 2:-2, 2:-2] == 1).all()
    assert found.sum() == 2 * (28 * 28 - (32 * 32 - 28 * 28))
    with pytest.raises(ValueError, match=r"\[n, 1, 28, 28\], got \[2, 1, 32, 32\]"):
        padded(found)


def test_features_are_what_the_head_sees():
    torch.manual_seed(0)
    net = ResNet((8, 16), stem=4).eval()
    x = torch.randn(7, 1, 32, 32)
    found = features(net, x, batch_size=3)
    assert found.shape == (7, 16)
    torch.testing.assert_close(net.head(found), net(x))


def test_the_models_that_ship_fit_into_four_megabytes():
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in command.MODELS.items()}
    assert 2 * sum(sizes[name] for name in command.SHIPPED) < 4 * 2**20, sizes  # at two bytes a weight


@pytest.mark.parametrize("name", ["classifier", "unet", "plain"])
def test_a_learner_learns(name, small):
    learn = learner(name, command.data.load(""), 16, 0, [])
    before = learn.evaluate()["loss"]
    learn.fit(4)
    assert learn.evaluate()["loss"] < before


def test_the_classifier_that_ships_can_be_loaded_and_tells_pictures_apart():
    net = command.load("classifier")
    assert not net.training
    pictures = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = features(net, padded(pictures))
    assert found.shape == (4, 96)
    assert torch.pdist(found).min() > 0


def test_the_unet_that_ships_takes_noise_away_and_knows_the_classes():
    net, schedule = command.load("unet"), command.REGIMES["unet"].schedule
    drawn = draw(net, schedule, "v", torch.tensor([1, 8, 9]), sampler="dpm-solver", steps=6, guidance=2.0)
    with torch.no_grad():
        assert command.load("classifier")(drawn).argmax(1).tolist() == [1, 8, 9]

"""The training command, on a few drawn images that pass for the real ones, and with small models."""

import dataclasses
import json

import pytest

from lib import data
from lib.diffusion import fashion
from lib.nn.resnet import ResNet
from lib.nn.unet import UNet
from recipes import fashion as command
from recipes.fashion import learner, train


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
    monkeypatch.setattr(fashion, "MODELS", made)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {}}')
    return {"runs": tmp_path / "runs", "manifest": manifest, "batch_size": 32, "say": lambda _: None}


def shipped(options, name):
    path = options["manifest"].parent / f"models/fashion/{name}.safetensors"
    return path.read_bytes(), json.loads(options["manifest"].read_text())["files"][f"models/fashion/{name}.safetensors"]


@pytest.mark.parametrize("name", ["classifier", "unet"])
def test_a_run_exports_weights_and_their_metadata(name, small):
    train(name, epochs=2, **small)
    _, metadata = shipped(small, name)
    assert metadata["steps"] == 6
    assert metadata["data"] == "fashion_mnist, sha256 abc"
    assert metadata["made_by"] == f"python -m recipes.fashion {name} --epochs 2 --batch-size 32 --seed 0"
    assert {"machine", "seconds", "parameters", "valid_loss"} <= metadata.keys()


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
    with pytest.raises(ValueError, match=r"models/fashion/unet\.safetensors(.|\n)*python -m recipes\.fashion unet"):
        train("unet", epochs=1, from_shipped=True, **small)
    train("unet", epochs=2, **small)
    before = shipped(small, "unet")[0]
    train("unet", epochs=2, from_shipped=True, **small)
    after, metadata = shipped(small, "unet")
    assert after != before
    assert metadata["made_by"].endswith("--from-shipped")


def test_a_run_that_ended_is_not_taken_up_again(small):
    train("classifier", epochs=2, **small)
    first = shipped(small, "classifier")
    train("classifier", epochs=2, **small)
    again = shipped(small, "classifier")
    assert again[0] == first[0]
    assert again[1]["valid_loss"] == first[1]["valid_loss"]
    assert not list(small["runs"].iterdir())


def test_the_net_for_comparison_is_kept_apart_from_what_ships(small, monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "RUNS", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"models/fashion/plain\.safetensors"):
        fashion.load("plain")
    path = train("plain", epochs=1, **{**small, "manifest": None})
    assert path == tmp_path / "elsewhere/models/fashion/plain.safetensors"
    assert not fashion.load("plain").training
    assert fashion.manifest_of("unet") == data.MANIFEST


def test_a_part_is_refused(small, monkeypatch, capsys):
    part = dataclasses.replace(
        command.data.load(""), source=data.Source("fashion_mnist", "part", "12,000 of 60,000", "abc")
    )
    monkeypatch.setattr(command.data, "load", lambda _: part)
    with pytest.raises(ValueError, match=r"12,000 of 60,000.*LIB_DATA"):
        train("unet", epochs=1, **small)
    assert command.main(["unet"]) == 2
    assert "set LIB_DATA" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["classifier", "unet", "plain"])
def test_a_learner_learns(name, small):
    learn = learner(name, command.data.load(""), 16, 0, [])
    before = learn.evaluate()["loss"]
    learn.fit(4)
    assert learn.evaluate()["loss"] < before

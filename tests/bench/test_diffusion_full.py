"""The long scores, in small: they go on where they were, count calls as they are made, and judge by what was drawn."""

import dataclasses
import json

import pytest
import torch

from bench import diffusion_full as full
from lib import data
from lib.diffusion import fashion
from lib.diffusion.scores import fid
from lib.measure import Record
from lib.nn.resnet import ResNet
from lib.nn.unet import UNet

SMALL = full.Drawing(steps=2, count=6)


@pytest.fixture
def judge(monkeypatch, tmp_path):
    """Small models with listed weights, and clothes that pass for the real images."""
    clothes = data.load("fashion_mnist", sizes=(120, 60))
    real = dataclasses.replace(clothes, source=data.Source("fashion_mnist", "local", "LIB_DATA", "abc"))
    monkeypatch.setattr(full.data, "load", lambda _: real)
    names = ("classifier", "unet", "plain", "min-snr")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": {f"models/fashion/{n}.safetensors": {"sha256": n} for n in names}}))
    monkeypatch.setattr(fashion, "manifest_of", lambda _: manifest)

    def load(name):
        torch.manual_seed(0)
        if name == "classifier":
            return ResNet((4, 8), stem=4).eval()
        return UNet(1, (8, 8), classes=10, attention=(False, True)).eval()

    monkeypatch.setattr(fashion, "load", load)
    monkeypatch.setattr(full, "BATCH", 4)
    monkeypatch.setattr(full, "BATCH_ON_GPU", 4)
    return full.Judge(real)


def test_an_interrupted_drawing_goes_on_and_ends_as_the_whole_one(judge, tmp_path):
    whole, said = full.drawn(SMALL, judge, lambda _: None, tmp_path / "whole"), []

    def cut(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        full.drawn(SMALL, judge, cut, tmp_path / "parts")
    (folder,) = (tmp_path / "parts").iterdir()
    next(folder.iterdir()).unlink()
    parts = full.drawn(SMALL, judge, said.append, tmp_path / "parts")
    assert len(said) == 1
    assert torch.equal(parts, whole)
    assert torch.equal(full.drawn(SMALL, judge, cut, tmp_path / "parts"), whole)
    assert whole.shape == (6, 8)


def test_other_settings_or_weights_start_anew_and_more_pictures_do_not(judge, monkeypatch):
    others = [
        dataclasses.replace(SMALL, steps=3),
        dataclasses.replace(SMALL, guidance=2.0),
        dataclasses.replace(SMALL, model="plain"),
    ]
    assert len({full.digest(d) for d in (SMALL, *others)}) == 4
    assert full.digest(dataclasses.replace(SMALL, count=9)) == full.digest(SMALL)
    before = full.digest(SMALL)
    fashion.manifest_of("unet").write_text(fashion.manifest_of("unet").read_text().replace('"unet"', '"new"'))
    assert full.digest(SMALL) != before


@pytest.mark.parametrize(
    ("sampler", "guidance", "calls"), [("ddim", 1.0, 5), ("ddim", 0.0, 5), ("heun", 1.0, 9), ("heun", 2.0, 18)]
)
def test_calls_are_those_that_are_made(judge, sampler, guidance, calls):
    net, seen = fashion.load("unet"), []
    net.register_forward_hook(lambda *_: seen.append(1))
    drawing = full.Drawing(sampler=sampler, steps=5, guidance=guidance, count=2)
    assert full.draw_images(net, drawing, 0, 2).shape == (2, 1, 32, 32)
    assert len(seen) == drawing.calls == calls


def test_the_sweep_keeps_to_its_calls():
    found = list(full.sweep())
    assert len(found) == len(full.SWEEP) * len(full.STEPS)
    for calls in full.STEPS:
        assert sum(calls - 1 <= drawing.calls <= calls for drawing in found) == len(full.SWEEP)


def test_the_floor_is_of_disjoint_sets_and_excess_of_real_pictures_is_near_0(judge):
    assert len(judge.floor(40)) == 3
    assert judge.floor(40) == judge.floor(40)
    assert judge.excess(judge.training[:40]) == pytest.approx(0, abs=2 * max(judge.floor(40)))
    shifted = judge.training[:40] + 5
    assert judge.excess(shifted) == pytest.approx(8 * 25, rel=0.3)
    assert fid(shifted, judge.test) > judge.excess(shifted)


def test_variety_is_the_mean_distance_within_classes():
    features = torch.tensor([[0.0], [1.0], [5.0], [8.0]])
    assert full.variety(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(2.0)


def test_all_records_are_made_and_the_best_of_few_calls_is_drawn_anew(judge, monkeypatch, tmp_path):
    asked = []

    def drawn(drawing, judge, say, runs):
        """Features that are the worse the fewer the calls, and best with Heun's method."""
        asked.append(drawing)
        off = {"plain": 4.0, "min-snr": 3.0, "unet": 2.0}[drawing.model] + 5 / drawing.steps
        off -= drawing.sampler == "heun"
        return judge.test[torch.arange(drawing.count) % len(judge.test)] + off

    monkeypatch.setattr(full, "drawn", drawn)
    monkeypatch.setattr(full.Judge, "floor", lambda *_: [0.1, 0.3])
    found = {record.name: record for record in full.records(lambda _: None, tmp_path)}
    assert all(isinstance(record, Record) for record in found.values())
    wanted = (
        "plain",
        "plain-clipped",
        "min-snr",
        "min-snr-50",
        "ddpm",
        "ddim-50",
        "best-10",
        "ddim/5-calls",
        "heun/49-calls",
    )
    assert {f"diffusion/excess-fid/{name}" for name in wanted} < found.keys()
    best = found["diffusion/excess-fid/best-10"]
    assert best.note.startswith("heun, 5 Karras's steps from sigma 80, 2,048 images, 9 calls each")
    assert best.seed == 0
    assert {d.seed for d in asked if d.count == 1024 and d.guidance == 1 and d.steps != 25} == {1}
    ddpm = found["diffusion/excess-fid/ddpm"]
    assert ddpm.value == pytest.approx(8 * (2 + 5 / 1000) ** 2 - 0.2, abs=0.5)
    assert ddpm.n == 512
    half = float(ddpm.target.removeprefix("<= ").removesuffix(", half of plain"))
    assert half == pytest.approx(found["diffusion/excess-fid/plain"].value / 2, rel=0.01)
    assert found["diffusion/class-read"].unit == "%"
    assert "% of the training images are" in found["diffusion/class-read"].note
    assert "not clipped" in found["diffusion/excess-fid/plain"].note
    assert "not clipped" not in found["diffusion/excess-fid/plain-clipped"].note
    assert found["diffusion/class-read"].value == max(
        found[f"diffusion/guidance/{scale:g}/class-read"].value for scale in full.GUIDANCE
    )


def test_what_is_compared_with_learns_as_long_as_what_ships(judge, monkeypatch):
    listed = {"epochs": 3, "batch_size": 64, "sha256": "a"}
    fashion.manifest_of("plain").write_text(json.dumps({"files": {"models/fashion/unet.safetensors": listed}}))
    asked = []

    def train_it(command, **_):
        asked.append(command[1:])
        raise KeyboardInterrupt

    monkeypatch.setattr(full.subprocess, "run", train_it)
    with pytest.raises(KeyboardInterrupt):
        next(full.records(lambda _: None))
    assert asked == [["-m", "recipes.fashion", "plain", "--epochs", "3", "--batch-size", "64"]]


def test_a_part_is_refused(judge, monkeypatch):
    part = dataclasses.replace(
        full.data.load(""), source=data.Source("fashion_mnist", "part", "12,000 of 60,000", "abc")
    )
    monkeypatch.setattr(full.data, "load", lambda _: part)
    with pytest.raises(ValueError, match=r"diffusion-full.*12,000 of 60,000.*LIB_DATA"):
        next(full.records(lambda _: None))

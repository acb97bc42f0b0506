"""Weights are loaded as they were exported, or not at all."""

import errno
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.data import weights


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text('{"note": "kept", "files": {"z/old.bin": {"sha256": "0"}}}')
    return path


def test_what_is_exported_is_loaded_with_its_metadata(manifest):
    model = net()
    model(torch.randn(8, 3))  # so that buffers are not as new
    weights.export("models/a.safetensors", model, {"steps": 3}, manifest=manifest)
    other = net(1)
    entry = weights.load("models/a.safetensors", other, "make it", manifest=manifest)
    assert entry["steps"] == 3
    assert entry["bytes"] == (manifest.parent / "models/a.safetensors").stat().st_size
    for name, value in model.state_dict().items():
        found = other.state_dict()[name]
        assert found.dtype == value.dtype
        torch.testing.assert_close(found, value, atol=1e-3, rtol=1e-3)
    listed = json.loads(manifest.read_text())
    assert listed["note"] == "kept"
    assert list(listed["files"]) == ["models/a.safetensors", "z/old.bin"]


def test_full_precision_is_exact(manifest):
    model, other = net(), net(1)
    weights.export("a.safetensors", model, {}, dtype=torch.float32, manifest=manifest)
    weights.load("a.safetensors", other, "make it", manifest=manifest)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_same_weights_make_the_same_file(manifest):
    first = weights.export("a.safetensors", net(), {}, manifest=manifest).read_bytes()
    assert weights.export("a.safetensors", net(), {}, manifest=manifest).read_bytes() == first


@pytest.mark.parametrize(
    ("key", "value"),
    [("1.running_var", 1e5), ("0.weight", float("nan")), ("0.bias", float("-inf")), ("1.running_var", 1e-9)],
)
def test_weights_that_half_precision_does_not_hold_are_not_written(manifest, key, value):
    before, model = manifest.read_bytes(), net()
    model.state_dict()[key].fill_(value)
    largest = re.escape(f"{abs(value):.0e}")
    with pytest.raises(ValueError, match=rf"a\.safetensors.*{key}.*torch\.float16.*{largest}"):
        weights.export("a.safetensors", model, {}, manifest=manifest)
    assert manifest.read_bytes() == before
    assert list(manifest.parent.iterdir()) == [manifest]
    if value in (1e5, 1e-9):
        weights.export("a.safetensors", model, {}, dtype=torch.float32, manifest=manifest)
        weights.load("a.safetensors", other := net(1), "make it", manifest=manifest)
        assert torch.equal(other.state_dict()[key], model.state_dict()[key])


def test_small_values_beside_large_ones_and_empty_tensors_are_held():
    state = {"w": torch.tensor([1.0, 1e-9, 65504.0]), "n": torch.tensor(70_000), "none": torch.zeros(0)}
    held = weights.cast(state)
    assert held["w"].tolist() == [1.0, 0.0, 65504.0]
    assert held["n"].item() == 70_000
    assert {value.dtype for value in held.values()} == {torch.float16, torch.int64}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def relist(path):
    """List a file that is no safetensors, with the sum that it has."""
    path.write_bytes(b"\x80\x04pickle")
    manifest = path.parent / "manifest.json"
    listed = json.loads(manifest.read_text())
    listed["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("harm", "words"), [(truncate, "sha256.*expected"), (Path.unlink, "manifest.json"), (relist, "header")]
)
def test_a_broken_file_is_named_with_the_remedy_and_changes_nothing(harm, words, manifest):
    harm(weights.export("a.safetensors", net(), {}, manifest=manifest))
    other = net(1)
    with pytest.raises(ValueError, match=words) as refusal:
        weights.load("a.safetensors", other, "python -m make.it", manifest=manifest)
    assert "a.safetensors" in str(refusal.value)
    assert "To make them: python -m make.it" in str(refusal.value)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), net(1).parameters(), strict=True))


def test_an_unknown_name_and_another_model_are_refused(manifest):
    weights.export("a.safetensors", net(), {}, manifest=manifest)
    with pytest.raises(ValueError, match=r"manifest\.json.*'b\.safetensors'; did you mean 'a\.safetensors'"):
        weights.load("b.safetensors", net(), "make it", manifest=manifest)
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(ValueError, match=r"a\.safetensors.*2\.bias.*None.*\[1\]"):
        weights.load("a.safetensors", other, "make it", manifest=manifest)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), before, strict=True))


def test_no_room_leaves_what_was_there(manifest, monkeypatch):
    path = weights.export("a.safetensors", net(), {"steps": 1}, manifest=manifest)
    before = path.read_bytes(), manifest.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        weights.export("a.safetensors", net(5), {"steps": 2}, manifest=manifest)
    assert (path.read_bytes(), manifest.read_bytes()) == before
    assert sorted(p.name for p in manifest.parent.iterdir()) == ["a.safetensors", "manifest.json"]

"""Each network is the one it says, the best within reach is taken, and a broken file is never used."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import torchvision
from numpy.testing import assert_allclose
from safetensors.torch import save_file

from lib.data import files
from lib.style import extractors, hook_features, load
from tests.style.helpers import picture

REAL = os.environ.get("LIB_DATA")  # before a fixture hides it


@pytest.fixture(autouse=True)
def nothing_near(monkeypatch, tmp_path):
    """No LIB_DATA, no network and an empty cache."""
    monkeypatch.delenv("LIB_DATA", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(extractors.urllib.request, "urlopen", no_network)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A LIB_DATA with SqueezeNet, of random weights."""
    torch.manual_seed(0)
    whole = torchvision.models.squeezenet1_1().state_dict()
    path = tmp_path / extractors.SQUEEZENET
    path.parent.mkdir()
    save_file({key: value for key, value in whole.items() if "features" in key}, path)
    monkeypatch.setattr(extractors, "SQUEEZENET_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("LIB_DATA", str(tmp_path))
    return tmp_path


def test_random_filters_need_nothing_and_are_the_same_each_time():
    found, again = load("random"), load("random")
    assert found.source.as_dict() == again.source.as_dict()
    assert "never trained" in str(found.source)
    x = picture(64, 80).float()
    seen, same = (hook_features(each.net, each.style)(x) for each in (found, again))
    assert [value.shape for value in seen.values()] == [
        (1, 16, 64 // stride, 80 // stride) for stride in extractors.SCALES.values()
    ]
    for name, value in seen.items():
        assert torch.equal(value, same[name])
        assert value.std() > 0.05
        assert not value.requires_grad


def test_the_slim_vgg_is_the_layers_of_the_file_that_ships():
    found = load("vgg19-slim")
    state = {key: value.float() for key, value in extractors.load_file(files.shipped(extractors.SLIM)).items()}
    x = picture(160, 170).float()
    conv = torch.nn.functional.conv2d
    y = conv(x, state["conv0.weight"], state["conv0.bias"])
    seen = hook_features(found.net, found.style)(x)
    for stage, depth in enumerate((2, 2, 4, 4, 1), 1):
        for i in range(1, depth + 1):
            padded = torch.nn.functional.pad(y, (1, 1, 1, 1), mode="reflect")
            y = conv(padded, state[f"conv{stage}{i}.weight"], state[f"conv{stage}{i}.bias"]).relu()
            if i == 1:
                assert_allclose(seen[f"relu{stage}_1"], y, rtol=1e-4, atol=1e-4)
        y = torch.nn.functional.max_pool2d(y, 2)
    assert found.source.kind == "shipped"
    assert found.source.sha256 == json.loads(files.MANIFEST.read_text())["files"][extractors.SLIM]["sha256"]
    assert not found.net.training
    assert {p.dtype for p in found.net.parameters()} == {torch.float32}, "half precision is for the file alone"


def test_squeezenet_is_torchvision_s_with_pixels_as_caffe_had_them(folder):
    found = load("squeezenet")
    whole = torchvision.models.squeezenet1_1()
    whole.load_state_dict(extractors.load_file(folder / extractors.SQUEEZENET), strict=False)
    x = picture(120, 130).float()
    pixels = x.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    with torch.no_grad():
        expected = whole.features.eval()(pixels)
        assert_allclose(found.net(x), expected, rtol=1e-4, atol=1e-4 * expected.max().item())
    assert set(hook_features(found.net, found.style)(x)) == set(found.style)


@pytest.mark.parametrize(("name", "blocks"), [("vgg16", (2, 2, 3, 3, 3)), ("vgg19", (2, 2, 4, 4, 4))])
def test_torchvision_s_weights_go_where_they_belong(name, blocks, tmp_path, monkeypatch):
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(weights=None).features.eval()
    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    cached = tmp_path / "hub" / "checkpoints" / Path(url).name
    cached.parent.mkdir(parents=True)
    cached.touch()
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    asked = []

    def answer(asked_url, **options):
        asked.append((asked_url, options["check_hash"], options["weights_only"]))
        return state | {"classifier.0.weight": torch.zeros(1)}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", answer)
    found = load(name)
    assert asked == [(url, True, True)]
    x = picture(48, 48).float()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (extractors.IMAGENET_MEAN, extractors.IMAGENET_STD))
    names = [each for each, _ in found.net.named_children()]
    assert names[1:3] == ["conv1_1", "relu1_1"]
    assert names[-1] == f"relu5_{blocks[-1]}"
    with torch.no_grad():
        expected = reference[:-1]((x - mean) / std)  # ours ends before the last pool
        assert_allclose(found.net(x), expected, rtol=1e-3, atol=1e-5 * expected.max().item())
    assert found.source.kind == "hub"


def test_the_first_within_reach_is_taken(folder, monkeypatch):
    assert load().name == "vgg19-slim"
    assert load(("squeezenet", "vgg19-slim")).name == "squeezenet"
    assert load(("squeezenet", "random"), root=folder / "nowhere").name == "random"
    monkeypatch.delenv("LIB_DATA")
    assert load(("squeezenet", "vgg19-slim")).name == "vgg19-slim"
    assert "the given root" in str(load("squeezenet", root=folder).source)


def test_what_is_out_of_reach_says_why():
    with pytest.raises(ValueError, match=r"squeezenet.*LIB_DATA"):
        load("squeezenet")
    with pytest.raises(ValueError, match=r"vgg19.*download\.pytorch\.org"):
        load("vgg19")
    with pytest.raises(ValueError, match=r"vgg16.*network"):
        load("vgg16", network=False)
    with pytest.raises(ValueError, match=r"'vgg18'.*'vgg1"):
        load("vgg18")
    with pytest.raises(ValueError, match=r"name.*'random'"):
        load(())


def test_offline_by_the_environment_asks_nobody(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(extractors.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the network"))
    assert load().name == "vgg19-slim"


def test_a_download_that_breaks_off_is_out_of_reach(monkeypatch):
    class Answer:
        def close(self):
            pass

    monkeypatch.setattr(extractors.urllib.request, "urlopen", lambda *_, **__: Answer())

    def broken(*_, **__):
        raise OSError("connection reset")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", broken)
    with pytest.raises(ValueError, match=r"vgg19.*connection reset"):
        load("vgg19")


@pytest.mark.parametrize("name", ["vgg19-slim", "squeezenet"])
def test_a_broken_file_is_named_and_not_used(folder, name, tmp_path, monkeypatch):
    whole = files.shipped(extractors.SLIM) if name == "vgg19-slim" else folder / extractors.SQUEEZENET
    sha256 = hashlib.sha256(whole.read_bytes()).hexdigest()
    broken = tmp_path / "broken" / extractors.SQUEEZENET
    broken = broken if name == "squeezenet" else broken.with_name(whole.name)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(whole.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(extractors.files, "shipped", lambda _: files.verify(broken, sha256))
    with pytest.raises(ValueError, match=rf"{broken}.*sha256"):
        load((name, "random"), root=tmp_path / "broken")


@pytest.mark.skipif(REAL is None, reason="LIB_DATA is not set")
def test_the_real_file_is_the_one_that_is_expected():
    found = load("squeezenet", root=REAL)
    assert found.name == "squeezenet"
    x = picture(180, 180).float()
    for value in hook_features(found.net, found.style)(x).values():
        assert value.isfinite().all()
        assert value.std() > 0

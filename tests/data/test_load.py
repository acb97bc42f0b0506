"""Data: each source found, told and checked; broken files named and never used."""

import gzip
import hashlib
import json
import os
import re
import struct
import subprocess
import sys

import datasets
import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lib import data
from lib.data import fashion_mnist, files
from recipes.data import idx as packed_idx
from recipes.data import png


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A small Fashion-MNIST: four idx files below a root, whose sums are those that the library expects."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "root" / "fashion-mnist"
    folder.mkdir(parents=True)
    arrays, files = {}, {}
    for key, (name, _, _) in fashion_mnist.FILES.items():
        n = 30 if key[0] == "train" else 10
        shape = (n, 28, 28) if key[1] == "images" else (n,)
        array = rng.integers(0, 256 if key[1] == "images" else 10, shape, dtype=np.uint8)
        packed = gzip.compress(idx(array))
        (folder / name).write_bytes(packed)
        arrays[key] = array
        files[key] = (name, hashlib.sha256(packed).hexdigest(), hashlib.sha256(array.tobytes()).hexdigest())
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "SIZES", (30, 10))
    monkeypatch.delenv("LIB_DATA", raising=False)
    return folder, arrays


@pytest.fixture
def part(original, monkeypatch, tmp_path):
    """The first 12 training images and all 10 of the test set, as they ship: below a data/ with a manifest."""
    _, arrays = original
    manifest = tmp_path / "data" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text('{"files": {}}')
    for split, n in (("train", 12), ("test", 10)):
        images = png(fashion_mnist.mosaic(arrays[split, "images"][:n], columns=5))
        labels = packed_idx(arrays[split, "labels"][:n])
        contents = {
            f"fashion-mnist/{split}-images.png": (images, {}),
            f"fashion-mnist/{split}-labels-idx1-ubyte.gz": (labels, {}),
        }
        files.export(contents, manifest=manifest)
    monkeypatch.setattr(fashion_mnist, "SHIPPED", {"train": 12, "test": 10})
    monkeypatch.setattr(fashion_mnist.shipped, "__defaults__", (manifest,))
    return manifest


def hub_of(arrays):
    """What the hub's client returns for these arrays: pictures as PNG files, labels as integers."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=fashion_mnist.CLASSES)})
    parts = {}
    for part in ("train", "test"):
        columns = {
            "image": list(map(Image.fromarray, arrays[part, "images"])),
            "label": arrays[part, "labels"].tolist(),
        }
        parts[part] = datasets.Dataset.from_dict(columns, features=features)
    return datasets.DatasetDict(parts)


def no_hub(*args, **kwargs):
    raise ConnectionError("no route to the hub")


def assert_holds(loaded, arrays):
    for part, split in (("train", loaded.train), ("test", loaded.test)):
        assert torch.equal(split.images, torch.from_numpy(arrays[part, "images"]))
        assert split.images.dtype == torch.uint8
        assert split.labels.tolist() == arrays[part, "labels"].tolist()
        assert split.labels.dtype == torch.int64
        assert len(split) == len(arrays[part, "labels"])


# idx files


@settings(deadline=None, max_examples=30)
@given(array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)))
def test_idx_files_of_any_shape_read_back(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "x.gz"
    path.write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(fashion_mnist.read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"not gzip at all", "gzip"),
        (gzip.compress(idx(np.zeros((50, 28, 28), np.uint8)))[:-20], "gzip"),
        (gzip.compress(b"\0\0"), "00 00 08.* 00 00$"),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"), "00 00 08.* 00 00 0d"),
        (gzip.compress(idx(np.zeros((5, 4), np.uint8))[:-3]), r"\(5, 4\).* 17 "),
        (gzip.compress(b"\0\0\x08\x03\0\0\0\x01"), r"\(1,\).* -8 "),
    ],
)
def test_broken_idx_files_are_named(tmp_path, content, fault):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"images\.gz.*{fault}"):
        fashion_mnist.read_idx(path)


# Fashion-MNIST: the folder, what ships, the hub


def test_a_root_with_the_original_files_is_used(original, monkeypatch):
    folder, arrays = original
    loaded = data.load("fashion_mnist", root=folder.parent)
    assert_holds(loaded, arrays)
    assert loaded.classes[9] == "Ankle boot"
    assert str(loaded.source) == "local, 30 + 10 images, the original files, fashion-mnist/ in the given root"
    monkeypatch.setenv("LIB_DATA", str(folder.parent))
    loaded = data.load("fashion_mnist")
    assert_holds(loaded, arrays)
    assert "LIB_DATA" in str(loaded.source)
    assert str(folder.parent) not in json.dumps(loaded.source.as_dict())


def test_a_broken_local_file_is_named_with_both_sums_and_nothing_else_is_tried(original, monkeypatch):
    folder, arrays = original
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub_of(arrays))
    name, expected, _ = fashion_mnist.FILES["test", "images"]
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*sha256.*{found}.*{expected}"):
        data.load("fashion_mnist", root=folder.parent)


def test_what_ships_is_taken_where_it_is_enough_and_the_hub_is_not_asked(part, original, monkeypatch):
    folder, _ = original
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked"))
    shipped = data.load("fashion_mnist", sizes=(12, 10))
    assert (shipped.source.kind, len(shipped.train), len(shipped.test)) == ("shipped", 12, 10)
    local = data.load("fashion_mnist", sizes=(12, 10), root=folder.parent)
    assert local.source.kind == "local"
    assert torch.equal(shipped.train.images, local.train.images)
    assert torch.equal(shipped.test.labels, local.test.labels)
    assert shipped.source.sha256 == local.source.sha256, "the same values, whatever they were read from"
    assert shipped.source.sha256 != data.load("fashion_mnist", sizes=(11, 10)).source.sha256


def test_the_hub_is_asked_for_more_than_ships(part, original, monkeypatch):
    _, arrays = original
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub_of(arrays))
    loaded = data.load("fashion_mnist", sizes=(13, 10))
    assert (loaded.source.kind, len(loaded.train)) == ("hub", 13)


def test_without_the_hub_the_part_that_ships_is_returned_and_says_so(part, original, monkeypatch):
    folder, arrays = original
    name = fashion_mnist.FILES["train", "labels"][0]
    (folder / name).unlink()
    monkeypatch.setattr(datasets, "load_dataset", no_hub)
    for sizes in ((20, 10), None):
        loaded = data.load("fashion_mnist", root=folder.parent, sizes=sizes)
        assert loaded.source.kind == "part"
        assert str(loaded.source).startswith("part, 12 + 10 images, ")
        assert f"of {sizes[0] if sizes else 30} training images asked for, because" in str(loaded.source)
        assert f"the given root has no fashion-mnist/{name} and the hub did not answer" in str(loaded.source)
        assert torch.equal(loaded.train.images, torch.from_numpy(arrays["train", "images"][:12]))
        assert "\n" not in str(loaded.source)


@pytest.mark.parametrize("spoilt", ["train-images.png", "test-labels-idx1-ubyte.gz"])
def test_a_broken_shipped_file_is_named_and_not_used(part, spoilt):
    path = part.parent / "fashion-mnist" / spoilt
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{re.escape(spoilt)}.*sha256.*expected"):
        data.load("fashion_mnist", sizes=(1, 1))


def test_the_hub_is_asked_for_the_pinned_revision_quietly_and_its_arrays_are_checked(original, monkeypatch, capfd):
    _, arrays = original

    def load_dataset(name, *, revision):
        assert (name, revision) == ("zalando-datasets/fashion_mnist", fashion_mnist.REVISION)
        print("Downloading: 100%", file=sys.stderr)
        return hub_of(arrays)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(fashion_mnist, "SHIPPED", {"train": 0, "test": 0})
    loaded = data.load("fashion_mnist")
    assert_holds(loaded, arrays)
    assert loaded.source.kind == "hub"
    assert fashion_mnist.REVISION[:8] in str(loaded.source)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("spoilt", ["images", "labels"])
def test_other_values_from_the_hub_are_refused_with_the_remedy(part, original, monkeypatch, spoilt):
    _, arrays = original
    arrays["train", spoilt].flat[0] = (int(arrays["train", spoilt].flat[0]) + 1) % 10
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub_of(arrays))
    with pytest.raises(ValueError, match=rf"train {spoilt}.*sha256.*delete.*cache"):
        data.load("fashion_mnist")


def test_other_sizes_from_the_hub_are_refused(part, original, monkeypatch):
    _, arrays = original
    short = {key: array[:-1] for key, array in arrays.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: hub_of(short))
    with pytest.raises(ValueError, match=r"train images.*sha256"):
        data.load("fashion_mnist")


def test_without_network_the_hub_is_not_asked(part, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked"))
    loaded = data.load("fashion_mnist", network=False)
    assert "LIB_DATA is not set and the network was not to be used" in str(loaded.source)


def test_offline_mode_is_respected(tmp_path):
    """The client's retries, which take far longer than this timeout, do not begin."""
    code = "from lib import data; print(data.load('fashion_mnist').source.kind)"
    env = {k: v for k, v in os.environ.items() if k != "LIB_DATA"} | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "part"


def test_what_ships_is_real_and_nearly_balanced(monkeypatch):
    monkeypatch.delenv("LIB_DATA", raising=False)
    loaded = data.load("fashion_mnist", sizes=(12_000, 10_000))
    assert loaded.source.kind == "shipped"
    assert loaded.train.images.shape == (12_000, 28, 28)
    assert loaded.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert loaded.train.labels.bincount().min() > 1100
    images = hashlib.sha256(loaded.test.images.numpy().tobytes()).hexdigest()
    labels = hashlib.sha256(loaded.test.labels.numpy().astype(np.uint8).tobytes()).hexdigest()
    assert (images, labels) == (fashion_mnist.FILES["test", "images"][2], fashion_mnist.FILES["test", "labels"][2])


@pytest.mark.skipif("LIB_DATA" not in os.environ, reason="LIB_DATA is not set")
def test_the_original_files_are_those_expected_and_what_ships_is_their_beginning(monkeypatch):
    loaded = data.load("fashion_mnist", network=False)
    if loaded.source.kind != "local":
        pytest.skip(str(loaded.source))
    assert loaded.train.images.shape == (60_000, 28, 28)
    assert loaded.test.labels.bincount().tolist() == [1000] * 10
    assert loaded.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    for part, split in (("train", loaded.train), ("test", loaded.test)):
        digest = hashlib.sha256(split.images.numpy().tobytes()).hexdigest()
        assert digest == fashion_mnist.FILES[part, "images"][2]
        digest = hashlib.sha256(split.labels.numpy().astype(np.uint8).tobytes()).hexdigest()
        assert digest == fashion_mnist.FILES[part, "labels"][2]
    monkeypatch.delenv("LIB_DATA")
    shipped = data.load("fashion_mnist", sizes=(12_000, 10_000))
    assert torch.equal(shipped.train.images, loaded.train.images[:12_000])
    assert torch.equal(shipped.train.labels, loaded.train.labels[:12_000])


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 12), columns=st.integers(1, 7))
def test_a_mosaic_is_cut_into_the_same_pictures(n, columns):
    images = np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    assert np.array_equal(fashion_mnist.cut(fashion_mnist.mosaic(images, columns))[:n], images)


# Digits


def test_digits_are_those_of_scikit_learn():
    loaded, bunch = data.load("digits"), sklearn.datasets.load_digits()
    images = torch.cat([loaded.train.images, loaded.test.images])
    assert np.array_equal(np.rint(images.numpy() * (16 / 255)), bunch.images)
    assert images.max() == 255
    assert torch.cat([loaded.train.labels, loaded.test.labels]).tolist() == bunch.target.tolist()
    assert (len(loaded.train), len(loaded.test)) == (1500, 297)
    assert loaded.test.labels.bincount().min() > 25
    assert len(data.load("digits", sizes=(7, 5)).test) == 5


def test_sizes_keep_the_first(original):
    folder, arrays = original
    loaded = data.load("fashion_mnist", root=folder.parent, sizes=(7, 3))
    assert loaded.train.labels.tolist() == arrays["train", "labels"][:7].tolist()
    assert len(loaded.test) == 3
    for sizes in ((31, 10), (0, 1), (5, -1)):
        with pytest.raises(ValueError, match=rf"sizes.*\(1, 1\).*\(30, 10\).*{re.escape(str(sizes))}"):
            data.load("fashion_mnist", root=folder.parent, sizes=sizes)


@pytest.mark.parametrize(("wrong", "near"), [("fashion-mnist", "fashion_mnist"), ("digit", "digits")])
def test_an_unknown_name_gets_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"data {wrong!r}; did you mean {near!r}"):
        data.load(wrong)

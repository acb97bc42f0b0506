"""What ships of others is packed out of the original files, the same each time."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lib.data import MANIFEST, fashion_mnist
from lib.style import extractors
from recipes import data as recipe

needs_originals = pytest.mark.skipif("LIB_DATA" not in os.environ, reason="LIB_DATA is not set")


def test_labels_read_back_and_pack_alike():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    raw = recipe.idx(values)
    assert raw == recipe.idx(values)
    assert gzip.decompress(raw)[:4] == b"\0\0\x08\x02"


@needs_originals
def test_what_ships_is_what_the_recipe_makes(tmp_path):
    manifest = tmp_path / "manifest.json"
    shutil.copy(MANIFEST, manifest)
    made = recipe.pack(Path(os.environ["LIB_DATA"]), manifest)
    assert json.loads(manifest.read_text()) == json.loads(MANIFEST.read_text())
    for name in [*made, "fashion-mnist/LICENSE", "models/vgg19-slim/LICENSE"]:
        assert (tmp_path / name).read_bytes() == (MANIFEST.parent / name).read_bytes(), name
    total = sum((tmp_path / name).stat().st_size for name in made if name.startswith(fashion_mnist.FOLDER))
    assert total < 9_000_000


@needs_originals
def test_half_precision_changes_what_the_slim_vgg_sees_by_less_than_a_thousandth():
    whole = load_file(Path(os.environ["LIB_DATA"]) / recipe.VGG_FILE)
    half = load_file(MANIFEST.parent / extractors.SLIM)
    assert whole.keys() == half.keys()
    for name, value in whole.items():
        assert half[name].dtype == torch.float16
        apart = (half[name].float() - value).norm() / value.norm()
        assert apart < 1e-3, name

"""Pack the data and the weights of others that ship, out of their original files: `python -m recipes.data`.

LIB_DATA names the folder with `fashion-mnist/` and `vgg19-slim/`; what is written is listed in data/manifest.json.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save

from lib.data import fashion_mnist, weights
from lib.data.files import MANIFEST, export, verify
from lib.style.extractors import SLIM

COMMAND = "python -m recipes.data"
VGG_FILE = "vgg19-slim/vgg19-slim.safetensors"
VGG_SHA256 = "9d0fe57fdb4017346c35ce3fe233b6f79ef9be4ec4fb6053b79b5290493fa96b"
FASHION = {
    "made_by": COMMAND,
    "licence": "MIT, Copyright (c) 2017 Zalando SE",
    "source": "https://github.com/zalandoresearch/fashion-mnist",
}
VGG = {
    "made_by": COMMAND,
    "licence": "MIT, Copyright (c) 2020 Huan Wang",
    "source": "https://github.com/MingSun-Tse/Collaborative-Distillation",
    "data": f"{VGG_FILE}, sha256 {VGG_SHA256}, in half precision",
}


def pack(root: Path, manifest: Path = MANIFEST) -> list[str]:
    """Write what is packed from the original files in `root` beside the manifest, list it there, return the names."""
    packed = dict([*_fashion(root), *_vgg(root)])
    export(packed, manifest=manifest)
    for source, place in ((fashion_mnist.FOLDER, fashion_mnist.FOLDER), (Path(VGG_FILE).parent, Path(SLIM).parent)):
        shutil.copyfile(root / source / "LICENSE", manifest.parent / place / "LICENSE")
    return list(packed)


def _fashion(root: Path) -> Iterator[tuple[str, tuple[bytes, dict]]]:
    splits, _, _ = fashion_mnist.local(root)
    for part, n in fashion_mnist.SHIPPED.items():
        split = splits[part].first(n)
        metadata = FASHION | {"data": f"the first {n:,} {part} images, bit for bit"}
        yield (
            f"{fashion_mnist.FOLDER}/{fashion_mnist.MOSAICS[part]}",
            (png(fashion_mnist.mosaic(split.images.numpy())), metadata),
        )
        labels = split.labels.numpy().astype(np.uint8)
        yield f"{fashion_mnist.FOLDER}/{fashion_mnist.LABELS[part]}", (idx(labels), metadata)


def _vgg(root: Path) -> Iterator[tuple[str, tuple[bytes, dict]]]:
    state = load_file(verify(root / VGG_FILE, VGG_SHA256))
    yield SLIM, (save(weights.cast(state)), VGG)


def png(picture: np.ndarray) -> bytes:
    """Return a grey picture [h, w] as a PNG file."""
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def idx(values: np.ndarray) -> bytes:
    """Return bytes of any shape as a gzipped idx file, the same at any time of day."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)


if __name__ == "__main__":
    if not os.environ.get("LIB_DATA"):
        sys.exit("LIB_DATA must name the folder with fashion-mnist/ and vgg19-slim/")
    print("\n".join(pack(Path(os.environ["LIB_DATA"]))))

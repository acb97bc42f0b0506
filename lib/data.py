"""Where pictures with labels come from: a folder, the hub or a stand-in, each checked, and which one it was."""

from __future__ import annotations

import contextlib
import difflib
import functools
import gzip
import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.loaders import (
    DataLoaders,
    FastLoader,
    Normalise,
    as_float,
    collate_dict,
    image_transform,
    in_memory,
    in_tensors,
    inplace,
)

__all__ = [
    "DataLoaders",
    "Dataset",
    "FastLoader",
    "Normalise",
    "Source",
    "Split",
    "as_float",
    "collate_dict",
    "image_transform",
    "in_memory",
    "in_tensors",
    "inplace",
    "load",
    "read_idx",
    "shipped",
    "verify",
]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_HUB = "zalando-datasets/fashion_mnist"
FASHION_REVISION = "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
# Of each original file: name, sha256 of the file, sha256 of the decoded values (one byte a pixel or label).
FASHION_FILES = {
    ("train", "images"): (
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    ),
    ("train", "labels"): (
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    ("test", "images"): (
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    ),
    ("test", "labels"): (
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}
MANIFEST = Path(__file__).resolve().parent.parent / "data" / "manifest.json"


@dataclass(frozen=True)
class Source:
    """Which data a result was computed on: `kind` is "local", "hub", "stand-in" or "package".

    `where` names no folder of this machine, so that stored outputs are the same elsewhere.
    """

    name: str
    kind: str
    where: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.where}"

    def as_dict(self) -> dict[str, str]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Split:
    """Pictures and what is on them: images uint8 [n, h, w] (0 is black, 255 white), labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split over the same classes, and where they came from."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    source: Source


def load(
    name: str,
    *,
    root: str | Path | None = None,
    network: bool = True,
    sizes: tuple[int, int] | None = None,
) -> Dataset:
    """Load "fashion_mnist", "glyphs" or "digits"; `dataset.source` says where from.

    Fashion-MNIST is looked for in `root` (by default the environment's LIB_DATA), then, with `network`, on the hub, and
    is else replaced by the glyphs. Whatever is read is checked by sha256 before use. `sizes` keeps the first images
    only: (training, test). Raises ValueError for an unknown name, a size that is not there, or a file that is broken.
    """
    loaders: dict[str, Callable[[], Dataset]] = {
        "fashion_mnist": lambda: _fashion_mnist(root, network, sizes),
        "glyphs": lambda: _glyphs("glyphs", "package", "drawn in the fonts that ship with matplotlib", sizes),
        "digits": _digits,
    }
    if name not in loaders:
        near = difflib.get_close_matches(str(name), loaders, n=1, cutoff=0)[0]
        raise ValueError(f"unknown data {name!r}; did you mean {near!r}? Known: {', '.join(loaders)}")
    return _first(loaders[name](), sizes)


def _first(dataset: Dataset, sizes: tuple[int, int] | None) -> Dataset:
    if sizes is None:
        return dataset
    splits = (dataset.train, dataset.test)
    for size, split in zip(sizes, splits, strict=True):
        if not 0 < size <= len(split):
            have = f"({len(dataset.train)}, {len(dataset.test)})"
            raise ValueError(f"sizes must be from (1, 1) to {have} for {dataset.source.name}, got {tuple(sizes)}")
    train, test = (Split(split.images[:n], split.labels[:n]) for split, n in zip(splits, sizes, strict=True))
    return Dataset(train, test, dataset.classes, dataset.source)


def _fashion_mnist(root: str | Path | None, network: bool, sizes: tuple[int, int] | None) -> Dataset:
    missing = []
    for find in (functools.partial(_fashion_local, root), functools.partial(_fashion_hub, network)):
        try:
            return find()
        except _NotHere as reason:
            missing.append(str(reason))
    where = f"glyphs drawn in matplotlib's fonts, because {' and '.join(missing)}"
    return _glyphs("fashion_mnist", "stand-in", where, sizes)


class _NotHere(Exception):
    """A source that does not have the data, which is no fault; the message says why."""


def _fashion_local(root: str | Path | None) -> Dataset:
    named = "LIB_DATA" if root is None else "the given root"
    root = os.environ.get("LIB_DATA") if root is None else root
    if not root:
        raise _NotHere("LIB_DATA is not set")
    folder = Path(root) / "fashion-mnist"
    absent = [file for file, _, _ in FASHION_FILES.values() if not (folder / file).is_file()]
    if absent:
        raise _NotHere(f"{named} has no {', '.join(f'{folder.name}/{file}' for file in absent)}")
    arrays = {key: read_idx(folder / file, digest) for key, (file, digest, _) in FASHION_FILES.items()}
    return _fashion(arrays, "local", f"the original files, {folder.name}/ in {named}")


def _fashion_hub(network: bool) -> Dataset:
    if not network:
        raise _NotHere("the network was not to be used")
    try:
        import datasets

        with _quiet():
            hub = datasets.load_dataset(FASHION_HUB, revision=FASHION_REVISION)
    except Exception as error:  # the client raises what its transport raises: OSError, httpx errors, its own
        raise _NotHere(f"the hub did not answer ({type(error).__name__})") from error
    arrays = {}
    for key, (_, _, digest) in FASHION_FILES.items():
        arrays[key] = _hub_column(hub[key[0]], key[1])
        found = hashlib.sha256(arrays[key].tobytes()).hexdigest()
        if found != digest:
            raise ValueError(
                f"{FASHION_HUB}, {key[0]} {key[1]}: the decoded values have sha256 {found}, expected {digest}; "
                f"delete the folder of this dataset in the cache ({datasets.config.HF_DATASETS_CACHE}) and load again"
            )
    return _fashion(arrays, "hub", f"{FASHION_HUB} at {FASHION_REVISION[:8]}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client's progress bars and warnings out of a post's stored outputs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _hub_column(split, column: str) -> np.ndarray:
    import datasets
    from PIL import Image

    if column == "labels":
        return np.asarray(split["label"][:], dtype=np.uint8)
    encoded = split.cast_column("image", datasets.Image(decode=False))["image"][:]
    return np.stack([np.asarray(Image.open(io.BytesIO(picture["bytes"]))) for picture in encoded])


def _fashion(arrays: dict[tuple[str, str], np.ndarray], kind: str, where: str) -> Dataset:
    digests = "".join(digest for _, _, digest in FASHION_FILES.values())
    source = Source("fashion_mnist", kind, where, hashlib.sha256(digests.encode()).hexdigest())
    train, test = (_split(arrays[part, "images"], arrays[part, "labels"]) for part in ("train", "test"))
    return Dataset(train, test, FASHION_CLASSES, source)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64)))


def _glyphs(name: str, kind: str, where: str, sizes: tuple[int, int] | None) -> Dataset:
    from lib import glyphs

    parts = [Split(*glyphs.draw(n, seed)) for seed, n in enumerate(sizes or (60_000, 10_000))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.images.numpy())
    return Dataset(*parts, glyphs.CLASSES, Source(name, kind, where, digest.hexdigest()))


def _digits() -> Dataset:
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    digest = hashlib.sha256(images.tobytes() + bunch.target.astype(np.uint8).tobytes()).hexdigest()
    # The last writers' digits are the test set: nobody in it was seen in training.
    parts = (_split(images[part], bunch.target[part]) for part in (slice(0, 1500), slice(1500, None)))
    source = Source("digits", "package", f"scikit-learn {sklearn.__version__}, load_digits", digest)
    return Dataset(*parts, tuple("0123456789"), source)


def read_idx(path: str | Path, sha256: str | None = None) -> np.ndarray:
    """Read a gzipped idx file of bytes (http://yann.lecun.com/exdb/mnist): uint8, of the shape its header tells.

    Raises ValueError that names the file when it is not the one with this sha256, is cut short, or is no idx file.
    """
    path = Path(path)
    if sha256 is not None:
        verify(path, sha256)
    try:
        raw = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: an idx file of bytes starts with 00 00 08, this one with {raw[:3].hex(' ')}")
    start = 4 + 4 * raw[3]
    shape = tuple(int(size) for size in np.frombuffer(raw[4:start], ">u4"))
    if len(shape) != raw[3] or len(raw) - start != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path}: the header tells of shape {shape}, but {len(raw) - start} values follow")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def verify(path: str | Path, sha256: str) -> Path:
    """Return `path` when the file has this sha256; else raise a ValueError that names it, both sums and the remedy."""
    path = Path(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: sha256 is {found}, expected {sha256}; the file is broken or another one: replace it")
    return path


def shipped(name: str, manifest: Path = MANIFEST) -> Path:
    """Return the path of a file of data/ that data/manifest.json lists, once its sha256 is checked.

    Raises ValueError when the manifest does not list it (the nearest name is told), or when it is missing or broken.
    """
    files = json.loads(manifest.read_text())["files"]
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0)
        raise ValueError(f"{manifest} does not list {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    path = manifest.parent / name
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {manifest.name} lists it")
    return verify(path, files[name]["sha256"])

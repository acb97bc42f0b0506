"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747) from a folder, from what ships, or from the hub.

Bit for bit the same from each: the first 12,000 training images and the whole test set ship as mosaics in PNG.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data import files
from lib.data.dataset import Dataset, Split, Unavailable, check_sizes

NAME = "fashion_mnist"
CLASSES = (
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
SIZES = (60_000, 10_000)
SIDE = 28
HUB = "zalando-datasets/fashion_mnist"
REVISION = "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
# Of each original file: name, sha256 of the file, sha256 of the decoded values (one byte a pixel or label).
FILES = {
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
FOLDER = "fashion-mnist"
SHIPPED = {"train": 12_000, "test": 10_000}  # images of each
MOSAICS = {"train": "train-images.png", "test": "test-images.png"}
LABELS = {"train": "train-labels-idx1-ubyte.gz", "test": "test-labels-idx1-ubyte.gz"}


def load(root: str | Path | None, network: bool, sizes: tuple[int, int] | None) -> Dataset:
    """Load as `lib.data.load` says: the first source that has as many, else the part that ships."""
    asked = sizes or SIZES
    check_sizes(NAME, asked, SIZES)
    enough = all(n <= have for n, have in zip(asked, SHIPPED.values(), strict=True))
    reasons = []
    try:
        return _dataset(*local(root), asked)
    except Unavailable as reason:
        reasons.append(str(reason))
    if not enough:
        try:
            return _dataset(*hub(network), asked)
        except Unavailable as reason:
            reasons.append(str(reason))
    return _dataset(*shipped(), asked, because=" and ".join(reasons))


def _dataset(parts: dict[str, Split], kind: str, where: str, asked: tuple[int, int], because: str = "") -> Dataset:
    train, test = parts["train"].first(asked[0]), parts["test"].first(asked[1])
    if len(train) < asked[0]:
        kind, where = "part", f"{where}, of {asked[0]:,} training images asked for, because {because}"
    return Dataset.of(NAME, kind, where, CLASSES, train, test)


def local(root: str | Path | None = None) -> tuple[dict[str, Split], str, str]:
    """Read the four original files in `root`/fashion-mnist, `root` being the environment's LIB_DATA if none is given.

    Returns the splits by name, the kind of source, and where it is. Raises Unavailable, and ValueError for a broken
    file.
    """
    named = "LIB_DATA" if root is None else "the given root"
    root = os.environ.get("LIB_DATA") if root is None else root
    if not root:
        raise Unavailable("LIB_DATA is not set")
    folder = Path(root) / FOLDER
    absent = [file for file, _, _ in FILES.values() if not (folder / file).is_file()]
    if absent:
        raise Unavailable(f"{named} has no {', '.join(f'{FOLDER}/{file}' for file in absent)}")
    arrays = {key: read_idx(folder / file, sha256) for key, (file, sha256, _) in FILES.items()}
    return _splits(arrays), "local", f"the original files, {FOLDER}/ in {named}"


def shipped(manifest: Path = files.MANIFEST) -> tuple[dict[str, Split], str, str]:
    """Read the mosaics that ship, as `local` does. Raises ValueError for a file that is missing or broken."""
    parts = {}
    for part, n in SHIPPED.items():
        with Image.open(files.shipped(f"{FOLDER}/{MOSAICS[part]}", manifest)) as mosaic:
            images = cut(np.asarray(mosaic))[:n]
        parts[part] = Split.of(images, read_idx(files.shipped(f"{FOLDER}/{LABELS[part]}", manifest)))
    return parts, "shipped", f"{FOLDER}/ in data/ of the repository"


def hub(network: bool = True) -> tuple[dict[str, Split], str, str]:
    """Read from the Hugging Face hub or its cache, as `local` does; ValueError where the decoded values are others."""
    if not network:
        raise Unavailable("the network was not to be used")
    try:
        import datasets

        with _quiet():
            found = datasets.load_dataset(HUB, revision=REVISION)
    except Exception as error:  # the client raises what its transport raises: OSError, httpx errors, its own
        raise Unavailable(f"the hub did not answer ({type(error).__name__})") from error
    arrays = {}
    for key, (_, _, sha256) in FILES.items():
        arrays[key] = _column(found[key[0]], key[1])
        seen = hashlib.sha256(arrays[key].tobytes()).hexdigest()
        if seen != sha256:
            raise ValueError(
                f"{HUB}, {key[0]} {key[1]}: the decoded values have sha256 {seen}, expected {sha256}; "
                f"delete the folder of this dataset in the cache ({datasets.config.HF_DATASETS_CACHE}) and load again"
            )
    return _splits(arrays), "hub", f"{HUB} at {REVISION[:8]}"


def _splits(arrays: dict[tuple[str, str], np.ndarray]) -> dict[str, Split]:
    return {part: Split.of(arrays[part, "images"], arrays[part, "labels"]) for part in SHIPPED}


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


def _column(split, column: str) -> np.ndarray:
    import datasets

    if column == "labels":
        return np.asarray(split["label"][:], dtype=np.uint8)
    encoded = split.cast_column("image", datasets.Image(decode=False))["image"][:]
    return np.stack([np.asarray(Image.open(io.BytesIO(picture["bytes"]))) for picture in encoded])


def mosaic(images: np.ndarray, columns: int = 100) -> np.ndarray:
    """Lay pictures [n, 28, 28] out in rows of `columns`, as one picture; what is left of the last row is black."""
    rows = -(-len(images) // columns)
    whole = np.zeros((rows * columns, SIDE, SIDE), np.uint8)
    whole[: len(images)] = images
    return whole.reshape(rows, columns, SIDE, SIDE).swapaxes(1, 2).reshape(rows * SIDE, columns * SIDE)


def cut(mosaic: np.ndarray) -> np.ndarray:
    """Cut a mosaic into its pictures: [rows * columns, 28, 28]."""
    rows, columns = (side // SIDE for side in mosaic.shape)
    return mosaic.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)


def read_idx(path: str | Path, sha256: str | None = None) -> np.ndarray:
    """Read a gzipped idx file of bytes (http://yann.lecun.com/exdb/mnist): uint8, of the shape its header tells.

    Raises ValueError that names the file when it is not the one with this sha256, is cut short, or is no idx file.
    """
    path = Path(path)
    if sha256 is not None:
        files.verify(path, sha256)
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

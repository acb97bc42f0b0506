"""What loading a batch costs: whole batches by index against torch's `DataLoader` over a Hugging Face data set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import datasets
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lib import data
from lib.data.dataset import Split
from lib.data.loaders import FastLoader, as_float, collate_dict, image_transform, in_tensors
from lib.measure import Record, compare

BATCH = 256


def hugging_face(split: Split, classes: tuple[str, ...]) -> datasets.Dataset:
    """Make the data set that the hub serves, pictures as PNG files, from images and labels in memory."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    columns = {"image": [Image.fromarray(image.numpy()) for image in split.images], "label": split.labels.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def records(say: Callable[[str], None], images: int = 10_000, pairs: int = 15) -> Iterator[Record]:
    """Time a pass over the first Fashion-MNIST images, ours against each way to feed torch's loader."""
    loaded = data.load("fashion_mnist", sizes=(images, 1))
    pictures = hugging_face(loaded.train, loaded.classes)
    start = time.perf_counter()
    tensors = in_tensors(pictures)
    decoding = time.perf_counter() - start
    transformed = pictures.with_transform(image_transform())
    formatted = pictures.with_format("torch")
    cases = (
        ("with_transform", transformed, as_float, "float32 in [0, 1]", "<= 0.05"),
        ("with_format", formatted, None, "bytes", "<= 0.125"),
    )
    for name, dataset, transform, kind, target in cases:
        say(f"measuring loaders/{name}, {pairs} pairs")
        in_order, shuffled = (
            [
                FastLoader(*tensors, batch_size=BATCH, transform=transform, shuffle=shuffle),
                DataLoader(dataset, BATCH, collate_fn=collate_dict(pictures), shuffle=shuffle),
            ]
            for shuffle in (False, True)
        )
        timing = compare(*(partial(last, loader) for loader in shuffled), pairs=pairs, warmup=1)
        yield Record(
            f"loaders/{name}",
            timing.ratio,
            "time ratio",
            peer="DataLoader",
            ours=timing.ours,
            theirs=timing.theirs,
            low=timing.low,
            high=timing.high,
            same=all(map(equal, *in_order)) and len(in_order[0]) == len(in_order[1]),
            target=target,
            n=timing.n,
            note=f"a shuffled pass over {images:,} images of Fashion-MNIST ({loaded.source.kind}), batches of {BATCH}, "
            f"{kind}, no workers; in order, all batches are equal; ours decoded once before, in {decoding:.1f} s",
        )


def last(batches: Iterable) -> Any:
    """Go through all batches and return the last."""
    return deque(batches, maxlen=1)[0]


def equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    """Return whether two batches are the same, values, shapes and dtypes."""
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))

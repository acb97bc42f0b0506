"""What each step of the board's recipe adds, on a net of half the width and a sixth of the images; resumable, long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.board import FIVE, record
from bench.training import RUNS, held_out, train
from lib import data
from lib.measure import Record

# Each is the first with one thing changed: a net of half the width, on a sixth of the images, twenty passes over them.
SMALL = replace(FIVE, net="half ResNet", changes=(), epochs=20)
STEPS = {
    "none": SMALL,
    "AdamW": replace(SMALL, optimiser="adamw"),
    "no smoothing": replace(SMALL, smoothing=0.0),
    "flip": replace(SMALL, changes=("flip",)),
    "crop": replace(SMALL, changes=("crop",)),
    "erase": replace(SMALL, changes=("erase",)),
    "copy": replace(SMALL, changes=("copy",)),
    "mixup": replace(SMALL, mix="mixup"),
    "cutmix": replace(SMALL, mix="cutmix"),
}
IMAGES = 10_000


def records(say: Callable[[str], None], runs: Path = RUNS) -> Iterator[Record]:
    """Train with each change and each seed; give the accuracy on training images put aside."""
    few = held_out(data.load("fashion_mnist"), first=IMAGES)
    images = f"the last 10,000 training images, trained on the first {IMAGES:,},"
    for name, recipe in STEPS.items():
        results = [train(f"board/steps/{name}", recipe, seed, few, say, runs) for seed in recipe.seeds]
        yield record(f"steps/{name}", recipe, [result["accuracy"][-1] for result in results], results, images)

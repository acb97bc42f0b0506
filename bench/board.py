"""The board: how many garments a ResNet gets right after 5, 10, 20 and 50 epochs; resumable, long.

The recipe of five epochs was chosen by the last 10,000 training images, the longer ones follow it with crops added; the
nets are trained on all 60,000 images and tested once a seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.training import RUNS, Recipe, accuracy, train
from lib import data, gpu
from lib.measure import Record
from lib.nn.summary import short

FIVE = Recipe(
    "wide ResNet",
    "muon",
    lr=8e-3,
    weight_decay=0.05,
    batch_size=128,
    smoothing=0.1,
    changes=("flip",),
    bfloat16=True,
)
TEN = replace(FIVE, changes=("crop", "flip"), epochs=10)
BOARD = {"5": FIVE, "10": TEN, "20": replace(TEN, epochs=20), "50": replace(TEN, epochs=50)}
ON_CPU = {"20": (1,), "50": ()}  # the seeds that two cores have time for, where not all
TEST = "the 10,000 test images"
TARGETS = {"5": ">= 94.2", "10": ">= 94.8", "20": ">= 95.2", "20/mirrored": ">= 95.5", "50": ">= 95.8"}
NOTEBOOK = "fast.ai course part 2 2022, lesson 18, notebook 14_augment"
COURSE = {
    "5": (93.4, f"{NOTEBOOK} (93.2 in its first version)"),
    "20": (94.3, NOTEBOOK),
    "20/mirrored": (94.5, f"{NOTEBOOK}, with test-time augmentation"),
    "50": (94.9, NOTEBOOK),
}


def records(say: Callable[[str], None], runs: Path = RUNS) -> Iterator[Record]:
    """Train each entry with each of its seeds; give accuracies of the nets, with mirror images, and of all together."""
    loaded = data.load("fashion_mnist")
    for name, recipe in BOARD.items():
        seeds = recipe.seeds if gpu.device().type == "cuda" else ON_CPU.get(name, recipe.seeds)
        if not seeds:
            say(f"left out: board/{name}, for which a GPU is needed")
            continue
        results = [train(f"board/{name}", recipe, seed, loaded, say, runs) for seed in seeds]
        yield record(name, recipe, [result["accuracy"][-1] for result in results], results)
        yield record(f"{name}/mirrored", recipe, [result["mirrored"] for result in results], results)
        if len(results) > 1:
            together = torch.from_numpy(np.mean([np.load(runs / result["probabilities"]) for result in results], 0))
            yield record(f"{name}/together", recipe, [accuracy(together[0], loaded.test.labels)], results)


def record(name: str, recipe: Recipe, values: list[float], results: list[dict], images: str = TEST) -> Record:
    """Sum up accuracies [%]: their mean, with the smallest and the largest as range."""
    reference, source = COURSE.get(name, (None, None))
    first = results[0]
    what = {"mirrored": "mean over each picture and its mirror image, ", "together": f"{len(results)} nets together, "}
    spread = f", standard deviation {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    where = first["device"] or f"{first['threads']} thread(s) of a busy machine"
    seconds = statistics.median(result["seconds"] for result in results)
    return Record(
        f"board/{name}",
        statistics.mean(values),
        "%",
        low=min(values),
        high=max(values),
        target=TARGETS.get(name),
        reference=reference,
        source=source,
        n=len(values),
        seed=recipe.seeds[0],
        note=f"accuracy on {images} after {recipe.epochs} epochs, {what.get(name.split('/')[-1], '')}"
        f"{len(values)} value(s) ({', '.join(f'{value:.2f}' for value in values)}){spread}; {recipe.net}, "
        f"{first['parameters']:,} parameters, {short(first['flops'])} FLOPs a picture; {recipe}; "
        f"{seconds:.0f} s an epoch on {where}",
    )

"""The nets of posts 11 and 13 trained in full on Fashion-MNIST: five epochs, three seeds; resumable, long."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.training import RUNS, Recipe, train
from lib import data
from lib.measure import Record

# In two epochs timm's net computes as long as ours in five (FLOPs and memory traffic, measured on one core).
RESNET = {"optimiser": "adamw", "lr": 8e-3, "weight_decay": 0.05, "smoothing": 0.1}
RECIPES = {
    "init": Recipe("convnet", "sgd", lr=0.1, weight_decay=5e-4),
    "resnet": Recipe("ResNet", **RESNET),
    "timm-resnet18d": Recipe("timm resnet18d", **RESNET, epochs=2, seeds=(1,)),
}
TARGETS = {"init": ">= 91.0", "resnet": ">= 93.3"}
COURSE = {
    "init": (89.9, "fast.ai course part 2 2022, lesson 17, notebook 11_initializing, after 5 epochs"),
    "resnet": (92.2, "fast.ai course part 2 2022, lesson 18, notebook 13_resnet, after 5 epochs"),
    "timm-resnet18d": (92.0, "fast.ai course part 2 2022, lesson 18, notebook 13_resnet, timm's resnet18d"),
}
CHOSEN = (
    "recipe chosen from trials of one seed on the last 10,000 training images, those of the ResNet with nets of half "
    "its parameters; trained on all 60,000 and tested once a seed"
)


def records(say: Callable[[str], None], runs: Path = RUNS) -> Iterator[Record]:
    """Train each net with each seed, and record the mean accuracy on the test images with its range."""
    loaded = data.load("fashion_mnist")
    for name, recipe in RECIPES.items():
        if recipe.net.startswith("timm") and importlib.util.find_spec("timm") is None:
            say(f"left out: fashion/{name}, for which the package timm is needed")
            continue
        results = [train(f"fashion/{name}", recipe, seed, loaded, say, runs) for seed in recipe.seeds]
        yield record(name, recipe, results)


def record(name: str, recipe: Recipe, results: list[dict]) -> Record:
    """Sum up the runs of a recipe: mean of the last accuracies, smallest and largest as range."""
    last = [result["accuracy"][-1] for result in results]
    reference, source = COURSE[name]
    spread = f"standard deviation {statistics.stdev(last):.2f}" if len(last) > 1 else "one seed"
    seconds = statistics.median(result["seconds"] for result in results)
    where = results[0].get("device") or f"{results[0]['threads']} thread(s) of a busy machine"
    return Record(
        f"fashion/{name}",
        statistics.mean(last),
        "%",
        low=min(last),
        high=max(last),
        target=TARGETS.get(name),
        reference=reference,
        source=source,
        n=len(last),
        seed=recipe.seeds[0],
        note=f"accuracy on the 10,000 test images after {recipe.epochs} epochs, no augmentation; mean, smallest and "
        f"largest of {len(last)} seed(s) ({', '.join(f'{value:.2f}' for value in last)}), {spread}; "
        f"{results[0]['parameters']:,} parameters; {recipe}; {CHOSEN}; "
        f"{seconds:.0f} s an epoch on {where}",
    )

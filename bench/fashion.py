"""The nets of posts 11 and 13 trained in full on Fashion-MNIST: five epochs, three seeds; resumable, long.

Each run keeps its state after each epoch, and its result, in `bench/runs`, under a digest of its recipe: an interrupted
measurement goes on from there, and a changed recipe starts anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lib import data, gpu
from lib.learner import (
    Accuracy,
    BatchTransform,
    Checkpoint,
    Learner,
    LogProgress,
    Metrics,
    Recorder,
    Scheduled,
    one_cycle,
)
from lib.measure import Record
from lib.nn.layers import convnet
from lib.nn.resnet import ResNet

RUNS = Path(__file__).parent / "runs"
SEEDS = (1, 2, 3)
EPOCHS = 5


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: `optimiser` is "sgd" (Nesterov momentum 0.9) or "adamw" (betas 0.9, 0.99).

    Matrices and filters decay, biases and norms do not; `lr` follows one cycle with this share of `warmup`.
    """

    net: str
    optimiser: str
    lr: float
    weight_decay: float
    batch_size: int = 64
    warmup: float = 0.15
    smoothing: float = 0.0
    epochs: int = EPOCHS
    seeds: tuple[int, ...] = SEEDS

    def __str__(self) -> str:
        smooth = f", labels smoothed by {self.smoothing:g}" if self.smoothing else ""
        kind = {"sgd": "SGD with momentum 0.9", "adamw": "AdamW"}[self.optimiser]
        return (
            f"{kind}, batches of {self.batch_size}, one cycle to a learning rate of {self.lr:g}, "
            f"decay {self.weight_decay:g}{smooth}"
        )


def timm_resnet18d() -> nn.Module:
    """Return timm's ResNet-18-D for one channel and ten classes, not pretrained."""
    import timm

    return timm.create_model("resnet18d", in_chans=1, num_classes=10)


NETS: dict[str, Callable[[], nn.Module]] = {
    "convnet": partial(convnet, norm=nn.BatchNorm2d),
    "ResNet": ResNet,
    "timm resnet18d": timm_resnet18d,
}
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
        results = [train(name, recipe, seed, loaded, say, runs) for seed in recipe.seeds]
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


def train(
    name: str, recipe: Recipe, seed: int, loaded: data.Dataset, say: Callable[[str], None], runs: Path = RUNS
) -> dict:
    """Train one net, or go on with it, or return what is kept: accuracy [%] after each epoch, seconds, parameters."""
    if loaded.source.kind == "part":
        raise ValueError(f"fashion needs all the images, got {loaded.source}: set LIB_DATA to their folder")
    key = digest(recipe, loaded.source)
    kept = runs / f"{name}-{seed}-{key}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    torch.manual_seed(seed)
    model = NETS[recipe.net]().to(gpu.device(), memory_format=torch.channels_last)
    recorder, state = Recorder(), kept.with_suffix(".pt")
    learner = Learner(
        model,
        data.in_memory(loaded, recipe.batch_size, valid_batch_size=500, seed=seed, device=gpu.device()),
        nn.CrossEntropyLoss(label_smoothing=recipe.smoothing),
        partial(optimiser, recipe),
        [
            Metrics(accuracy=Accuracy()),
            BatchTransform(channels_last),
            Scheduled(lr=one_cycle(recipe.warmup)),
            recorder,
            Checkpoint(state),
            LogProgress(lambda line: say(f"fashion/{name}, seed {seed}, {line}")),
        ],
    )
    learner.fit(recipe.epochs)
    result = {
        "accuracy": [100 * row["valid_accuracy"] for row in recorder.history],
        "training": [100 * row["train_accuracy"] for row in recorder.history],
        "seconds": statistics.median(row["seconds"] for row in recorder.history),
        "threads": torch.get_num_threads(),
        "device": gpu.name() if gpu.device().type == "cuda" else "",
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(kept)
    state.unlink()
    return result


def digest(recipe: Recipe, source: data.Source) -> str:
    """Return what tells one recipe on one data set from another: its values, and the net's parameters by name."""
    shapes = {key: list(value.shape) for key, value in NETS[recipe.net]().state_dict().items()}
    values = {key: value for key, value in asdict(recipe).items() if key != "seeds"}
    description = json.dumps([values, source.sha256, shapes], sort_keys=True)
    return hashlib.sha256(description.encode()).hexdigest()[:12]


def optimiser(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the recipe's optimiser; what has one axis (biases, norms) does not decay."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), eps=1e-5)


def channels_last(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Lay images out with the channels last, which convolutions on a CPU are faster on."""
    x, y = batch
    return x.contiguous(memory_format=torch.channels_last), y

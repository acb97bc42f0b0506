"""A net trained in full on Fashion-MNIST by a recipe; resumable, as that takes minutes to hours.

Each run keeps its state after each epoch, and its result, in `bench/runs`, under a digest of its recipe: an interrupted
measurement goes on from there, and a changed recipe starts anew.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib import augment, data, gpu
from lib.data import files
from lib.data.dataset import Split
from lib.learner import (
    Accuracy,
    BatchTransform,
    Callback,
    Checkpoint,
    Learner,
    LogProgress,
    Metrics,
    MixedPrecision,
    Recorder,
    Scheduled,
    one_cycle,
    through,
)
from lib.nn.layers import convnet
from lib.nn.resnet import ResNet
from lib.nn.summary import summary
from lib.scratch.optim import Muon

RUNS = Path(__file__).parent / "runs"
HELD_OUT = 10_000


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: `optimiser` is "sgd" (Nesterov momentum 0.9), "adamw" (betas 0.9, 0.99) or "muon".

    Matrices and filters decay, biases and norms do not. `lr` follows one cycle with this share of `warmup`, or rises in
    a straight line and falls in one over the last share `decay`. `changes` are made to each training picture, then
    `mix` to each batch: "crop", "flip", "erase", "copy" and "mixup" or "cutmix".
    """

    net: str
    optimiser: str
    lr: float
    weight_decay: float
    batch_size: int = 64
    warmup: float = 0.15
    decay: float | None = None
    smoothing: float = 0.0
    changes: tuple[str, ...] = ()
    mix: str | None = None
    bfloat16: bool = False
    epochs: int = 5
    seeds: tuple[int, ...] = (1, 2, 3)

    def __str__(self) -> str:
        kind = {"sgd": "SGD with momentum 0.9", "adamw": "AdamW", "muon": "Muon"}[self.optimiser]
        cycle = "one cycle to" if self.decay is None else f"{self.warmup:g} warm-up, {self.decay:g} linear decay, from"
        more = [
            f"labels smoothed by {self.smoothing:g}" if self.smoothing else "",
            *self.changes,
            self.mix,
            "bfloat16" if self.bfloat16 else "",
        ]
        rest = "".join(f", {text}" for text in more if text)
        return (
            f"{kind}, batches of {self.batch_size}, {cycle} a learning rate of {self.lr:g}, "
            f"weight decay {self.weight_decay:g}{rest}"
        )


def timm_resnet18d() -> nn.Module:
    """Return timm's ResNet-18-D for one channel and ten classes, not pretrained."""
    import timm

    return timm.create_model("resnet18d", in_chans=1, num_classes=10)


NETS: dict[str, Callable[[], nn.Module]] = {
    "convnet": partial(convnet, norm=nn.BatchNorm2d),
    "ResNet": ResNet,
    "wide ResNet": partial(ResNet, (64, 128, 256), stem=32),
    "half ResNet": partial(ResNet, (24, 48, 96), stem=12),
    "timm resnet18d": timm_resnet18d,
}


def train(
    name: str, recipe: Recipe, seed: int, loaded: data.Dataset, say: Callable[[str], None], runs: Path = RUNS
) -> dict:
    """Train one net, or go on with it, or return what is kept.

    That is accuracy and training accuracy [%] after each epoch, the accuracy [%] of the mean over each picture and its
    mirror image (`mirrored`), parameters, FLOPs a picture, seconds an epoch, threads or device, and the path of the
    probabilities [2, n, classes] of the test pictures and their mirror images.
    """
    if loaded.source.kind == "part":
        raise ValueError(f"{name} needs all the images, got {loaded.source}: set LIB_DATA to their folder")
    kept = runs / f"{name.replace('/', '-')}-{seed}-{digest(recipe, loaded.source)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    torch.manual_seed(seed)
    model = NETS[recipe.net]().to(gpu.device(), memory_format=torch.channels_last)
    work = summary(model, torch.zeros(1, 1, 28, 28, device=gpu.device()))
    loaders = data.in_memory(loaded, recipe.batch_size, valid_batch_size=500, seed=seed, device=gpu.device())
    recorder, state = Recorder(), kept.with_suffix(".pt")
    log = LogProgress(lambda line: say(f"{name}, seed {seed}, {line}"))
    learner = Learner(
        model,
        loaders,
        nn.CrossEntropyLoss(label_smoothing=recipe.smoothing),
        partial(optimiser, recipe),
        [*callbacks(recipe, seed, loaders), recorder, Checkpoint(state), log],
    )
    learner.fit(recipe.epochs)
    views = probabilities(recipe, model, loaders.valid)
    result = {
        "accuracy": [100 * row["valid_accuracy"] for row in recorder.history],
        "training": [100 * row["train_accuracy"] for row in recorder.history],
        "mirrored": accuracy(views.mean(0), loaded.test.labels),
        "parameters": work.parameters,
        "flops": work.flops,
        "seconds": statistics.median(row["seconds"] for row in recorder.history),
        "threads": torch.get_num_threads(),
        "device": gpu.name() if gpu.device().type == "cuda" else "",
        "probabilities": kept.with_suffix(".npy").name,
    }
    np.save(kept.with_suffix(".npy"), views.numpy())
    files.replace(kept, json.dumps(result).encode())
    state.unlink()
    return result


def held_out(loaded: data.Dataset, first: int | None = None) -> data.Dataset:
    """Return training images alone: the last 10,000 to choose a recipe by, the first, or all others, to train on."""
    images, labels = loaded.train.images, loaded.train.labels
    parts = Split(images[:-HELD_OUT], labels[:-HELD_OUT]), Split(images[-HELD_OUT:], labels[-HELD_OUT:])
    if first is not None:
        parts = parts[0].first(first), parts[1]
    source = loaded.source
    return data.Dataset.of(source.name, source.kind, f"{source.where}, held out", loaded.classes, *parts)


def digest(recipe: Recipe, source: data.Source) -> str:
    """Return what tells one recipe on one data set from another: its values, and the net's parameters by name."""
    shapes = {key: list(value.shape) for key, value in NETS[recipe.net]().state_dict().items()}
    defaults = {field.name: field.default for field in fields(recipe)}
    values = {key: value for key, value in asdict(recipe).items() if key != "seeds" and value != defaults[key]}
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
    if recipe.optimiser == "muon":
        return Muon(groups, lr=recipe.lr)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), eps=1e-5)


def callbacks(recipe: Recipe, seed: int, loaders: data.DataLoaders) -> Iterator[Callback]:
    """Give what the recipe adds to the training loop."""
    yield Metrics(accuracy=Accuracy())
    if recipe.changes or recipe.mix:
        empty = loaders.train.transform(torch.zeros(1)).item()  # what an empty pixel becomes
        known = {
            "crop": partial(augment.random_crop, fill=empty),
            "flip": augment.random_flip,
            "erase": augment.random_erase,
            "copy": augment.random_copy,
        }
        mix = {"mixup": augment.mixup, "cutmix": augment.cutmix}.get(recipe.mix)
        mix = mix and partial(mix, classes=10)
        yield augment.Augment(*(known[name] for name in recipe.changes), mix=mix, seed=seed)
    yield BatchTransform(channels_last)
    yield Scheduled(lr=schedule(recipe))
    if recipe.bfloat16:
        yield MixedPrecision()


def schedule(recipe: Recipe) -> Callable[[float], float]:
    """Return what the learning rate is multiplied by, as a function of the progress."""
    if recipe.decay is None:
        return one_cycle(recipe.warmup)
    return through((0, 0.01), (recipe.warmup, 1), (1 - recipe.decay, 1), (1, 1e-4), straight=True)


@torch.no_grad()
def probabilities(recipe: Recipe, model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> Tensor:
    """Return the probabilities of the classes of all pictures, and of their mirror images: float32 [2, n, classes]."""
    model.eval()
    seen = []
    with torch.autocast(gpu.device().type, torch.bfloat16, enabled=recipe.bfloat16):
        for x, _ in batches:
            views = (channels_last((view, None))[0] for view in (x, x.flip(3)))
            seen.append(torch.stack([model(view).float().softmax(1) for view in views]))
    return torch.cat(seen, 1).cpu()


def accuracy(shares: Tensor, labels: Tensor) -> float:
    """Return for how many [%] of the pictures the most probable class [n, classes] is the label [n]."""
    return 100 * (shares.argmax(1) == labels).double().mean().item()


def channels_last(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Lay images out with the channels last, which convolutions on a CPU are faster on."""
    x, y = batch
    return x.contiguous(memory_format=torch.channels_last), y

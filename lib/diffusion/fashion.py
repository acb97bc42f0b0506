"""The models for Fashion-MNIST: their definitions, how each learns, and the weights that ship.

The classifier's features are what FID is measured on; the U-Net draws, with a class or, its label being null, without.
`recipes/fashion.py` trains them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import data
from lib.data import files, weights
from lib.diffusion.schedule import Schedule
from lib.nn.resnet import ResNet
from lib.nn.unet import UNet

COMMAND = "python -m recipes.fashion"  # makes the weights
CLASSES = 10
RUNS = Path(__file__).resolve().parents[2] / "recipes" / "runs" / "fashion"
SHIPPED = ("classifier", "unet")


class Regime(NamedTuple):
    """How a U-Net learns: along which schedule, to predict what, by losses weighed by min-SNR, to averaged weights."""

    schedule: Schedule
    prediction: str
    weighted: bool
    ema: float | None


REGIMES = {
    "unet": Regime(Schedule.make("cosine"), "v", weighted=False, ema=0.999),
    # To compare with; neither ships.
    "plain": Regime(Schedule.make("linear"), "noise", weighted=False, ema=None),
    "min-snr": Regime(Schedule.make("cosine"), "v", weighted=True, ema=0.999),
}


def preprocess(images: Tensor) -> Tensor:
    """Scale images [n, 1, 28, 28] from [0, 1] to [-1, 1] and pad them with black to [n, 1, 32, 32]."""
    if images.shape[1:] != (1, 28, 28):
        raise ValueError(f"images must be [n, 1, 28, 28], got {list(images.shape)}")
    return F.pad(images, (2, 2, 2, 2)) * 2 - 1


def classifier() -> ResNet:
    """Return the net whose 96 features scores are measured on."""
    return ResNet((32, 64, 96), stem=16, classes=CLASSES)


def unet() -> UNet:
    """Return the net that draws."""
    net = UNet(1, (48, 64, 80), classes=CLASSES, attention=(False, False, True), patch=2)
    return net.to(memory_format=torch.channels_last)  # 1.3 times as fast on a CPU


MODELS: dict[str, Callable[[], nn.Module]] = {"classifier": classifier, "unet": unet, "plain": unet, "min-snr": unet}


def manifest_of(name: str) -> Path:
    """Return the manifest that lists a model's weights: of what ships, or of models made for comparison only."""
    if name in SHIPPED:
        return data.MANIFEST
    manifest = RUNS / "manifest.json"
    if not manifest.exists():
        files.replace(manifest, b'{"files": {}}')
    return manifest


def load(name: str) -> nn.Module:
    """Return a trained model in evaluation mode; raises ValueError that tells how to make what is missing."""
    model = MODELS[name]()
    weights.load(f"models/fashion/{name}.safetensors", model, f"{COMMAND} {name}", manifest=manifest_of(name))
    return model.eval()


def features(net: ResNet, images: Tensor, batch_size: int = 500) -> Tensor:
    """Return what the classifier's head sees of images [n, 1, 32, 32] in [-1, 1]: [n, 96]."""
    body = nn.Sequential(*list(net.children())[:-1])
    with torch.no_grad():
        return torch.cat([body(part) for part in images.split(batch_size)])

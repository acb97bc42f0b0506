"""Train the models that ship for Fashion-MNIST: `python -m recipes.fashion classifier`, or `unet`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lib import data, measure
from lib.data import weights
from lib.diffusion.fashion import CLASSES, COMMAND, MODELS, REGIMES, RUNS, manifest_of, preprocess
from lib.diffusion.training import AddNoise, WeightedLoss, min_snr
from lib.learner import (
    EMA,
    Accuracy,
    Callback,
    Checkpoint,
    ClipGradients,
    Learner,
    LogProgress,
    Metrics,
    Scheduled,
    TerminateOnNaN,
    one_cycle,
)

EPOCHS = {"classifier": 6, "unet": 8, "plain": 8, "min-snr": 8}


def learner(name: str, loaded: data.Dataset, batch_size: int, seed: int, more: list[Callback]) -> Learner:
    """Return what trains a model, on a GPU if there is one: the classifier on labels, the U-Net on noise."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MODELS[name]().to(device)
    loaders = data.in_memory(loaded, batch_size, valid_batch_size=500, seed=seed, device=device, transform=preprocess)
    if name == "classifier":
        callbacks, loss, lr = [Metrics(accuracy=Accuracy())], nn.CrossEntropyLoss(label_smoothing=0.1), 8e-3
    else:
        regime = REGIMES[name]
        callbacks = [AddNoise(regime.schedule, regime.prediction, null=CLASSES), ClipGradients(1.0)]
        if regime.weighted:
            callbacks.append(WeightedLoss(min_snr(regime.schedule, regime.prediction)))
        if regime.ema is not None:
            callbacks.append(EMA(regime.ema))
        loss, lr = F.mse_loss, 2e-3
    callbacks += [Scheduled(lr=one_cycle(0.1)), TerminateOnNaN(), *more]
    return Learner(model, loaders, loss, partial(torch.optim.AdamW, lr=lr, weight_decay=0.01), callbacks)


def train(
    name: str,
    *,
    epochs: int,
    batch_size: int = 128,
    seed: int = 0,
    from_shipped: bool = False,
    runs: Path = RUNS,
    manifest: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train a model on Fashion-MNIST and export its weights; an interrupted run resumes after its last complete epoch.

    `manifest` is where they are listed, `manifest_of(name)` if none is given. With `from_shipped` it begins from the
    weights that ship. Raises ValueError where only a part is at hand: what ships learnt from all of them.
    """
    loaded = data.load("fashion_mnist")
    if loaded.source.kind == "part":
        raise ValueError(f"all the images are needed, got {loaded.source}: set LIB_DATA to their folder")
    kept = runs / f"{name}-{seed}-{epochs}x{batch_size}{'-from-shipped' if from_shipped else ''}.pt"
    say(f"{name}: {epochs} epochs, seed {seed}; goes on from {kept}" if kept.exists() else f"{name}: {epochs} epochs")
    manifest = manifest_of(name) if manifest is None else manifest
    progress = LogProgress(say, every=50)
    learn = learner(name, loaded, batch_size, seed, [progress, Checkpoint(kept)])
    if from_shipped:
        weights.load(f"models/fashion/{name}.safetensors", learn.model, f"{COMMAND} {name}", manifest=manifest)
    learn.fit(epochs)
    metadata: dict[str, Any] = {
        "made_by": f"{COMMAND} {name} --epochs {epochs} --batch-size {batch_size} --seed {seed}"
        + " --from-shipped" * from_shipped,
        "data": f"{loaded.source.name}, sha256 {loaded.source.sha256}",
        "epochs": epochs,
        "batch_size": batch_size,
        "steps": epochs * len(learn.data.train),
        "parameters": sum(p.numel() for p in learn.model.parameters()),
        "machine": measure.machine(),
        "seconds": round(progress.seconds),
        **{key: round(float(value), 5) for key, value in learn.log.items() if key.startswith("valid")},
    }
    path = weights.export(f"models/fashion/{name}.safetensors", learn.model, metadata, manifest=manifest)
    kept.unlink()  # found again, it would end the next run before it began
    say(f"wrote {path.name}: {path.stat().st_size / 2**20:.2f} MiB")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--epochs", type=int, help="default: " + ", ".join(f"{k} {v}" for k, v in EPOCHS.items()))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-shipped", action="store_true", help="begin with the weights that ship")
    given = parser.parse_args(arguments)
    try:
        train(
            given.model,
            epochs=EPOCHS[given.model] if given.epochs is None else given.epochs,
            batch_size=given.batch_size,
            seed=given.seed,
            from_shipped=given.from_shipped,
            say=partial(print, flush=True),
        )
    except ValueError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

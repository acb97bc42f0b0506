"""Look without touching: put back weights, buffers, gradients, modes and random states."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def training_modes(model: nn.Module) -> Iterator[None]:
    """Put each module back into the mode, training or evaluation, in which it is now."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def untouched(model: nn.Module, loader: Iterable = (), weights: bool = False) -> Iterator[None]:
    """Put back the model's buffers and modes, all random states and the loader's; with `weights` those, too."""
    tensors = dict(model.named_buffers()) | (dict(model.named_parameters()) if weights else {})
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients = [(p, None if p.grad is None else p.grad.clone()) for p in model.parameters()] if weights else []
    states = random_states(loader)
    try:
        with training_modes(model):
            yield
    finally:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(kept[name])
        for parameter, gradient in gradients:
            parameter.grad = gradient
        set_random_states(states, loader)


def random_states(*loaders: Iterable) -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators and of the loaders' own, as plain values."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what is kept
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loaders": [None if g is None else g.get_state() for g in map(_generator, loaders)],
    }


def set_random_states(states: dict[str, Any], *loaders: Iterable) -> None:
    """Set what `random_states` returned."""
    name, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    for loader, state in zip(loaders, states["loaders"], strict=True):
        if state is not None:
            _generator(loader).set_state(state)


def _generator(loader: Iterable) -> torch.Generator | None:
    generator = getattr(loader, "generator", None)
    return generator if isinstance(generator, torch.Generator) else None

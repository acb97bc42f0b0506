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
def preserve_state(model: nn.Module, loader: Iterable = (), weights: bool = False) -> Iterator[None]:
    """Put back the model's buffers and modes, all random states and the loader's.

    With `weights` the weights and their gradients, too.
    """
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    parameters = [
        (p, p.detach().clone(), None if p.grad is None else p.grad.clone())
        for p in (model.parameters() if weights else ())
    ]
    states = random_states(loader)
    try:
        with training_modes(model):
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                now = module._buffers[name]
                if now is buffer and now is not None:
                    now.copy_(value)
                else:  # the model put another in its place, or moved to a device
                    module._buffers[name] = value if now is None or value is None else value.to(now.device)
            for parameter, value, gradient in parameters:
                parameter.copy_(value)
                parameter.grad = None if gradient is None else gradient.to(parameter.device)
        set_random_states(states, loader)


def random_states(*loaders: Iterable) -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators and of the loaders' own, as plain values."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what is kept
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loaders": [[generator.get_state() for generator in _generators(loader)] for loader in loaders],
    }


def set_random_states(states: dict[str, Any], *loaders: Iterable) -> None:
    """Set what `random_states` returned."""
    name, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    for loader, saved in zip(loaders, states["loaders"], strict=True):
        for generator, state in zip(_generators(loader), saved, strict=True):
            generator.set_state(state)


def _generators(loader: Iterable) -> list[torch.Generator]:
    """Return what a loader, and the sampler of a torch `DataLoader`, shuffle with."""
    generators = (getattr(part, "generator", None) for part in (loader, getattr(loader, "sampler", None)))
    return [generator for generator in generators if isinstance(generator, torch.Generator)]

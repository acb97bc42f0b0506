"""A small problem that the tests of the learner train on, and what they look at before and after."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.loaders import FastLoader
from lib.learner import EVENTS, Callback, DataLoaders, Learner
from lib.learner.events import STEPS
from lib.nn.state import random_states

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
AdamW = partial(torch.optim.AdamW, lr=1e-2)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loaders(n: int = 52, batch_size: int = 8) -> DataLoaders:
    """Three classes in six dimensions; 52 items in batches of 8 make seven batches, the last of 4."""
    x, noise = normal(n + 20, 6), normal(n + 20, 3, seed=1)
    y = (x[:, :3] + 0.3 * noise).argmax(1)
    return DataLoaders(
        FastLoader(x[:n], y[:n], batch_size=batch_size, shuffle=True, seed=3),
        FastLoader(x[n:], y[n:], batch_size=16),
    )


def net(seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """A small net; with dropout it needs random numbers, and its BatchNorm has buffers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 3))


def learner(callbacks: Iterable[Callback] = (), optimiser: Callable = SGD, **options: Any) -> Learner:
    model, data = options.get("model") or net(), options.get("data") or loaders()
    return Learner(model, data, options.get("loss", F.cross_entropy), optimiser, callbacks)


def event_log(kept: list, only: Iterable[str] = EVENTS, order: int = 0, name: str = "") -> Callback:
    """Return a callback that notes each event, but the steps, in `kept`."""

    def log(event: str) -> Callable:
        return lambda self, learn: kept.append(name + event)

    events = {event: log(event) for event in only if event not in STEPS}
    return type("EventLog", (Callback,), {"order": order} | events)()


def raising(event: str, error: BaseException, base: type[Callback] = Callback, order: int = 0) -> Callback:
    """Return a callback, called Failing, that raises in one event."""

    def fail(self, learn):
        raise error

    return type("Failing", (base,), {event: fail, "order": order})()


class Look(Callback):
    """Notes the weights after each step, and those that are validated."""

    def __init__(self):
        self.steps, self.validated = [], []

    def after_step(self, learn):
        self.steps.append([p.detach().clone() for p in learn.model.parameters()])

    def after_valid(self, learn):
        self.validated.append([p.detach().clone() for p in learn.model.parameters()])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(left: Any, right: Any) -> bool:
    """Say whether two nested values are equal, tensors bit for bit."""
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def everything(learn: Learner) -> dict[str, Any]:
    """Copy all that only a fit may change: weights, buffers, gradients, modes, hooks, random states, the learner."""
    model = learn.model
    return {
        "state": weights(model),
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": hooks(model),
        "random": random_states(learn.data.train, learn.data.valid),
        "grad mode": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "learner": {k: v for k, v in vars(learn).items() if isinstance(v, int | float | str | bool | type(None))},
        "active": [id(callback) for callback in learn.active_callbacks],
    }


def hooks(model: nn.Module) -> list[int]:
    return [
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    ]

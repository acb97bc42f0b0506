"""Looking inside a model: hooks that always come off, and what they show of activations and gradients."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lib.checks import wide

TENTHS = 10  # of a bin: the lowest tenth of the first is what counts as dead
BLOCK = 2**18  # values that a CPU takes at a time: a buffer of 1 MiB stays in its cache


class Hook:
    """Call `function(hook, module, inputs, output)` after each forward pass of a module, until `remove`.

    With `backward=True` after each backward pass: then `inputs` and `output` are tuples of gradients. The hook is the
    place to keep things; what the function returns is ignored. A context manager.

    A hook ends with its object: the module does not keep it, so one that nothing keeps is off at once. A copy of the
    module is not hooked.
    """

    def __init__(
        self, module: nn.Module, function: Callable[[Hook, nn.Module, Any, Any], Any], *, backward: bool = False
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"expected a torch module to hook, got {type(module).__name__}")
        self.module, self.function = module, function
        owner = weakref.ref(self)

        def call(module: nn.Module, inputs: Any, output: Any) -> None:
            hook = owner()
            if hook is not None and module is hook.module:
                hook.function(hook, module, inputs, output)

        register = module.register_full_backward_hook if backward else module.register_forward_hook
        self._handle = register(call)
        weakref.finalize(self, self._handle.remove).atexit = False

    def remove(self) -> None:
        """Take the hook off; once is enough, twice does no harm."""
        self._handle.remove()

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooks:
    """A hook on each of several modules, in their order; on leaving the `with` block all of them are removed.

    They end with this object, as a `Hook` does.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        function: Callable[[Hook, nn.Module, Any, Any], Any],
        *,
        backward: bool = False,
    ) -> None:
        self._hooks: list[Hook] = []
        try:
            for module in modules:
                self._hooks.append(Hook(module, function, backward=backward))
        except BaseException:
            self.remove()
            raise

    def __len__(self) -> int:
        return len(self._hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._hooks)

    def __getitem__(self, i: int) -> Hook:
        return self._hooks[i]

    def remove(self) -> None:
        """Take all hooks off."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Statistics:
    """One module's outputs, batch by batch: mean, standard deviation, a histogram, and the share that is dead.

    The histogram counts |x| in `bins` equal bins over [0, max_value); larger values are not counted. A value is dead
    where |x| < `max_value` / `bins` / 10.
    """

    def __init__(self, name: str, bins: int = 40, max_value: float = 10.0) -> None:
        if bins < 1 or not max_value > 0:
            raise ValueError(f"bins must be at least 1 and max_value positive, got {bins} and {max_value}")
        self.name, self.bins, self.max_value = name, bins, max_value
        self._rows: list[Tensor] = []  # of each batch mean, standard deviation and share dead, where they were computed
        self._counts: list[Tensor] = []

    @torch.no_grad()
    def update(self, output: Any) -> None:
        """Add one batch: a tensor, or the first one in nested tuples, lists and dicts; TypeError where there is none.

        A recurrent layer of which only the last state was used has no gradient for its outputs, but for that state.
        Complex numbers are refused: they have no order, and no bin.
        """
        x = first_tensor(output)
        if x is None:
            raise TypeError(f"{self.name}: expected a tensor, or several in a tuple, list or dict, got {output!r:.80}")
        if x.is_complex():
            raise TypeError(f"{self.name}: expected real numbers, got {x.dtype}; take torch.view_as_real or abs of it")
        values = wide(x.detach()).flatten()
        mean, last = values.mean(), self.bins * TENTHS  # larger sizes, and nan, go to one bin more
        block = min(BLOCK, len(values)) if x.device.type == "cpu" else len(values)
        scratch = torch.empty_like(values[:block])
        squares, counts = torch.zeros_like(mean), torch.zeros(last + 1, dtype=torch.long, device=x.device)
        for part in values.split(max(1, block)):
            buffer = scratch[: len(part)]
            squares += torch.sub(part, mean, out=buffer).square_().sum()
            places = torch.abs(part, out=buffer).mul_(last / self.max_value).nan_to_num_(nan=last).clamp_(max=last)
            counts += places.int().bincount(minlength=last + 1)
        counts = counts[:last]
        self._rows.append(torch.stack([mean, (squares / len(values)).sqrt(), counts[0] / len(values)]))
        self._counts.append(counts.view(self.bins, TENTHS).sum(1))

    @property
    def means(self) -> list[float]:
        """The mean of each batch."""
        return self._column(0)

    @property
    def stds(self) -> list[float]:
        """The standard deviation of each batch."""
        return self._column(1)

    @property
    def dead(self) -> list[float]:
        """The share of each batch that is dead."""
        return self._column(2)

    def _column(self, index: int) -> list[float]:
        return torch.stack(self._rows)[:, index].tolist() if self._rows else []

    def histogram(self) -> Tensor:
        """Return the counts, a column a batch and a row a bin, the smallest values in row 0: [bins, batches]."""
        if not self._counts:
            raise ValueError(f"{self.name} has seen no batch")
        return torch.stack(self._counts, dim=1).cpu()


class ActivationStatistics(Hooks):
    """Statistics of the outputs of modules (with `backward`, of the gradients that reach them) while the hooks are on.

    A module that a forward pass uses twice counts twice.
    `modules` are named, as `model.named_children()` or a dict gives them, or plain. `recording` says whether batches
    count; `statistics` holds one `Statistics` a module.
    """

    def __init__(
        self,
        modules: Iterable,
        *,
        bins: int = 40,
        max_value: float = 10.0,
        backward: bool = False,
        recording: bool = True,
    ) -> None:
        named = list(named_modules(modules))
        self.statistics = [Statistics(name, bins, max_value) for name, _ in named]
        self.recording = recording
        by_module = {module: statistics for (_, module), statistics in zip(named, self.statistics, strict=True)}
        owner = weakref.ref(self)  # the hooks keep this function: holding `self` in it would close a circle

        def update(hook: Hook, module: nn.Module, inputs: Any, output: Any) -> None:
            watched = owner()
            if watched is not None and watched.recording:
                by_module[module].update(output)

        super().__init__([module for _, module in named], update, backward=backward)


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in nested tuples, lists and dicts, or None where there is none."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def named_modules(modules: Iterable) -> Iterator[tuple[str, nn.Module]]:
    """Give each module a name, its own where there is one, else its kind and place; a shared one comes once."""
    items = modules.items() if isinstance(modules, dict) else modules
    seen = set()
    for i, item in enumerate(items):
        name, module = item if isinstance(item, tuple) else (f"{i} {type(item).__name__}", item)
        if module not in seen:
            seen.add(module)
            yield name, module


def modules_of(model: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the named modules of some kinds, in the order of the model; raises ValueError when there is none."""
    matches = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    if not matches:
        raise ValueError(f"no {' or '.join(kind.__name__ for kind in kinds)} in {type(model).__name__}")
    return matches

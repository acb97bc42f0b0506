"""What a network sees at some of its layers, and how far around a place it looks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lib.checks import known
from lib.nn.hooks import Hook, Hooks
from lib.nn.state import training_modes

Look = Callable[[Tensor], dict[str, Tensor]]
WIDTH, HEIGHTS = 32, tuple(2**i for i in range(6, 12))  # of the pictures that a receptive field is found with


class _Enough(BaseException):
    """All layers have answered. It is no error, and nothing on its way through a model may catch it."""


def features(model: nn.Module, layers: str | Sequence[str]) -> Look:
    """Return a function of pictures [n, 3, h, w] that gives the outputs of these layers: {name: [n, c, h', w']}.

    Layers go by their names in `model.named_modules()`. The hooks are on only while the function runs, which is no
    longer than the deepest layer needs. Gradients flow. Raises ValueError for no layer or an unknown one; when called,
    for pictures smaller than a layer's receptive field, a layer that the model does not reach, and one whose output
    another layer overwrites in place.
    """
    names = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    modules = {name: module for name, module in model.named_modules() if name}
    if not names:
        raise ValueError(f"name at least one layer; there are: {', '.join(modules)}")
    for name in names:
        known("layer", name, modules)
    wanted = {modules[name]: name for name in names}
    need = max(receptive_field(model, name).size for name in names)

    def look(pictures: Tensor) -> dict[str, Tensor]:
        refuse_small(pictures, need, names)
        return outputs(model, wanted, pictures)

    return look


def refuse_small(pictures: Tensor, need: int, layers: Iterable[str]) -> None:
    """Raise ValueError for pictures that are not [n, 3, h, w], or smaller than `need` x `need`, what layers look at."""
    if pictures.ndim != 4:
        raise ValueError(f"expected pictures [n, 3, h, w], got {list(pictures.shape)}")
    height, width = pictures.shape[-2:]
    if min(height, width) < need:
        raise ValueError(
            f"a picture of {height}x{width} is smaller than what {', '.join(layers)} look at, {need}x{need}: "
            "enlarge it, or take layers that are less deep"
        )


def outputs(model: nn.Module, wanted: dict[nn.Module, str], pictures: Tensor) -> dict[str, Tensor]:
    """Run a model on pictures until the modules `wanted` have each answered: {name: its first output}."""
    found: dict[str, tuple[Tensor, int]] = {}

    def keep(hook: Hook, module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.setdefault(wanted[module], (output, output._version))
        if len(found) == len(wanted):
            raise _Enough

    with Hooks(wanted, keep), suppress(_Enough):
        model(pictures)
    for name in wanted.values():
        if name not in found:
            raise ValueError(f"the model ran without its layer {name!r}")
        output, version = found[name]
        if output._version != version:
            raise ValueError(f"what layer {name!r} gave was overwritten by a layer in place: set its inplace=False")
    return {name: found[name][0] for name in wanted.values()}


@dataclass(frozen=True)
class Field:
    """What one place of a layer looks at: row r of its output sees rows r * stride - before to r * stride + after."""

    stride: int
    before: int
    after: int

    @property
    def size(self) -> int:
        """The side of the square that it sees, in pixels."""
        return self.before + self.after + 1


@lru_cache(maxsize=64)
def receptive_field(model: nn.Module, layer: str) -> Field:
    """Find by trying what a place of a layer looks at: rows of NaN turn to NaN each output that sees one of them.

    The model counts as the same across as down, and stays as it is. It is tried once, and the answer remembered: after
    a change of a model's layers call `receptive_field.cache_clear()`. Raises ValueError for an unknown layer, and for
    one that looks at the whole picture or at more than 2048 pixels of it.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    known("layer", layer, modules)
    with torch.no_grad(), training_modes(model):
        model.eval()
        for height in HEIGHTS:
            field = _tried(model, {modules[layer]: layer}, height)
            if field is not None:
                return field
    raise ValueError(f"layer {layer!r} looks at the whole picture, or at more than {HEIGHTS[-1]} pixels of it")


def _tried(model: nn.Module, wanted: dict[nn.Module, str], height: int) -> Field | None:
    """Return the field, or None if in a picture so high it reaches the edges."""
    middle = len(_blind(model, wanted, height, slice(0, 0))) // 2

    def blind(rows: slice, offset: int = 0) -> bool:
        return _blind(model, wanted, height, rows)[middle + offset]

    if blind(slice(0, 1)) or blind(slice(height - 1, height)):
        return None
    first = bisect_left(range(height), True, key=lambda k: blind(slice(0, k + 1)))
    below = bisect_left(range(height), True, key=lambda k: blind(slice(0, k + 1), 1))
    last = bisect_left(range(height), True, key=lambda k: not blind(slice(k, height))) - 1
    stride = below - first
    return Field(stride, middle * stride - first, last - middle * stride)


def _blind(model: nn.Module, wanted: dict[nn.Module, str], height: int, rows: slice) -> list[bool]:
    """Tell for each row of one module's output whether it turns to NaN with these rows of a picture."""
    like = next(model.parameters(), torch.empty(()))
    picture = torch.zeros(1, 3, height, WIDTH, dtype=like.dtype, device=like.device)
    picture[..., rows, :] = torch.nan
    (output,) = outputs(model, wanted, picture).values()
    return output.isnan().any(-1).any(1)[0].tolist()

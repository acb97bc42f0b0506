"""What a network sees at some of its layers, and how far around a place it looks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lib.checks import check_choice
from lib.nn.hooks import Hook, Hooks
from lib.nn.state import training_modes

Features = dict[str, Tensor]  # by the names of layers
Extract = Callable[[Tensor], Features]
WIDTH, HEIGHTS = 32, tuple(2**i for i in range(6, 12))  # of the pictures that a receptive field is found with


class _AllSeen(BaseException):
    """All layers have answered. It is no error, and nothing on its way through a model may catch it."""


def hook_features(model: nn.Module, layers: str | Sequence[str]) -> Extract:
    """Return a function of pictures [n, 3, h, w] that gives the outputs of these layers: {name: [n, c, h', w']}.

    Layers go by their names in `model.named_modules()`. The hooks are on only while the function runs, which is no
    longer than the deepest layer needs. Gradients flow. Raises ValueError for no layer or an unknown one; when called,
    for what are no pictures, a layer that the model does not reach, and one whose output another layer overwrites in
    place.
    """
    names = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    modules = {name: module for name, module in model.named_modules() if name}
    if not names:
        raise ValueError(f"name at least one layer; there are: {', '.join(modules)}")
    for name in names:
        check_choice("layer", name, modules)
    wanted = {modules[name]: name for name in names}

    def extract(pictures: Tensor) -> Features:
        if pictures.ndim != 4:
            raise ValueError(f"expected pictures [n, 3, h, w], got {list(pictures.shape)}")
        return outputs(model, wanted, pictures)

    return extract


def outputs(model: nn.Module, wanted: dict[nn.Module, str], pictures: Tensor) -> Features:
    """Run a model on pictures until the modules `wanted` have each answered: {name: its first output}."""
    found: dict[str, tuple[Tensor, int]] = {}

    def keep(hook: Hook, module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.setdefault(wanted[module], (output, output._version))
        if len(found) == len(wanted):
            raise _AllSeen

    with Hooks(wanted, keep), suppress(_AllSeen):
        model(pictures)
    for name in wanted.values():
        if name not in found:
            raise ValueError(f"the model ran without its layer {name!r}")
        output, version = found[name]
        if output._version != version:
            raise ValueError(f"what layer {name!r} gave was overwritten by a layer in place: set its inplace=False")
    return {name: found[name][0] for name in wanted.values()}


@dataclass(frozen=True)
class ReceptiveField:
    """What one place of a layer looks at: row r of its output sees rows r * stride - before to r * stride + after."""

    stride: int
    before: int
    after: int

    @property
    def size(self) -> int:
        """The side of the square that it sees, in pixels."""
        return self.before + self.after + 1


class Unbounded(ValueError):
    """A layer looks at the whole picture, or at more of it than a receptive field is looked for in."""


# Finding a field takes some thirty forward passes, so what was found is kept: by the model as it prints, as its layers
# may change, and for no longer than the model lives.
_found: WeakKeyDictionary[nn.Module, dict[tuple[str, str], ReceptiveField]] = WeakKeyDictionary()


def receptive_field(model: nn.Module, layer: str) -> ReceptiveField:
    """Find by trying what a place of a layer looks at: rows of NaN turn to NaN each output that sees one of them.

    The model counts as the same across as down, and stays as it is. Raises ValueError for an unknown layer, and
    `Unbounded`, a ValueError too, for one that looks at the whole picture or at more than 2048 pixels of it.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    check_choice("layer", layer, modules)
    known, key = _found.setdefault(model, {}), (layer, repr(model))
    if key not in known:
        known[key] = _find_field(model, layer, modules[layer])
    return known[key]


def _find_field(model: nn.Module, layer: str, module: nn.Module) -> ReceptiveField:
    # cuDNN's fast algorithms (Winograd, FFT) would spread a NaN over places that do not see it
    with torch.no_grad(), training_modes(model), torch.backends.cudnn.flags(enabled=False):
        model.eval()
        for height in HEIGHTS:
            field = _measure_field(model, {module: layer}, height)
            if field is not None:
                return field
    raise Unbounded(f"layer {layer!r} looks at the whole picture, or at more than {HEIGHTS[-1]} pixels of it")


def _measure_field(model: nn.Module, wanted: dict[nn.Module, str], height: int) -> ReceptiveField | None:
    """Return the field, or None if in a picture so high it reaches the edges."""
    middle = len(_nan_rows(model, wanted, height, slice(0, 0))) // 2

    def is_nan(rows: slice, offset: int = 0) -> bool:
        return _nan_rows(model, wanted, height, rows)[middle + offset]

    if is_nan(slice(0, 1)) or is_nan(slice(height - 1, height)):
        return None
    first = bisect_left(range(height), True, key=lambda k: is_nan(slice(0, k + 1)))
    below = bisect_left(range(height), True, key=lambda k: is_nan(slice(0, k + 1), 1))
    last = bisect_left(range(height), True, key=lambda k: not is_nan(slice(k, height))) - 1
    stride = below - first
    return ReceptiveField(stride, middle * stride - first, last - middle * stride)


def _nan_rows(model: nn.Module, wanted: dict[nn.Module, str], height: int, rows: slice) -> list[bool]:
    """Tell for each row of one module's output whether it turns to NaN with these rows of a picture."""
    like = next(model.parameters(), torch.empty(()))
    picture = torch.zeros(1, 3, height, WIDTH, dtype=like.dtype, device=like.device)
    picture[..., rows, :] = torch.nan
    (output,) = outputs(model, wanted, picture).values()
    return output.isnan().any(-1).any(1)[0].tolist()

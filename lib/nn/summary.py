"""What a model is made of: each module's output, parameters and floating-point operations, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib.nn.hooks import first_tensor
from lib.nn.state import preserve_state


@dataclass
class Row:
    """One module: its name in the model, its class, the shape it puts out, its parameters and its FLOPs."""

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    parameters: int = 0
    flops: int = 0


@dataclass(frozen=True)
class Summary:
    """A model's modules in the order in which they are reached, and totals; printed, or shown by a notebook, a table.

    `flops` are those of one forward pass of all of `inputs`: two (a multiplication and an addition) for each term of
    the sums in convolutions, linear and recurrent layers, matrix products and attention. Norms, activations and pooling
    do not count: they are limited by memory and not by arithmetic.
    """

    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...] = field(repr=False)
    parameters: int
    trainable: int
    flops: int

    def __str__(self) -> str:
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(cell.rjust(width) if i > 2 else cell.ljust(width) for i, (cell, width) in enumerate(row)).rstrip()
            for row in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        rule = "-" * max(map(len, table))
        return "\n".join([table[0], rule, *table[1:-1], rule, table[-1]])

    def _repr_markdown_(self) -> str:
        head, *lines, last = self._lines()
        rows = [head, ("---", "---", "---", "---:", "---:"), *lines, [f"**{cell}**" if cell else "" for cell in last]]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def _lines(self) -> list[tuple[str, ...]]:
        body = [(r.name, r.kind, _sizes(r.shape), f"{r.parameters:,}", short(r.flops)) for r in self.rows]
        inputs = "input " + ", ".join(map(_sizes, self.inputs))
        total = ("total", "", inputs, f"{self.parameters:,}", short(self.flops))
        return [("module", "kind", "output", "parameters", "FLOPs"), *body, total]


def summary(model: nn.Module, inputs: Tensor | Sequence[Tensor], depth: int | None = None) -> Summary:
    """Run the model once on `inputs` (a tensor, or the tensors it takes) and say what each of its modules did.

    A row is a module that was reached and has no parts, or has parameters or products of its own. With `depth`, modules
    more than so many names deep are added to the one that holds them: 1 shows the model's own parts. Parameters of
    parts that are never called count for their holder, too. The model runs in evaluation mode, without gradients; its
    weights, buffers, training modes and hooks, and the random state, are left as they were, also after an error.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    rows = {module: Row(name, type(module).__name__) for name, module in model.named_modules()}
    running: list[Row] = []
    reached: dict[nn.Module, Row] = {}

    def enter(module: nn.Module, _: Any) -> None:
        running.append(reached.setdefault(module, rows[module]))

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        found = first_tensor(output)
        running.pop().shape = () if found is None else tuple(found.shape)

    fast = torch.backends.mha.get_fastpath_enabled()
    handles = [m.register_forward_pre_hook(enter) for m in rows] + [m.register_forward_hook(leave) for m in rows]
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # a transformer layer as one kernel hides its products
        with preserve_state(model), torch.no_grad(), CountFlops(running):
            model.eval()(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    _share_parameters(model, rows, reached)
    shown = list(reached.values()) if depth is None else _folded(rows, reached, depth)
    holders = {name[:i] for name in (row.name for row in shown) for i, c in enumerate(name) if c == "."} | {""}
    parameters = list(model.parameters())
    return Summary(
        inputs=tuple(tuple(x.shape) for x in inputs),
        rows=tuple(r for r in shown if r.parameters or r.flops or r.name not in holders),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        flops=sum(row.flops for row in reached.values()),
    )


class CountFlops(TorchDispatchMode):
    """While active, adds the FLOPs of each product to the row of the innermost module that is running."""

    def __init__(self, running: list[Row]) -> None:
        super().__init__()
        self.running = running

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.running[-1].flops += flops(func.overloadpacket.__name__, args, output)
        return output


def flops(operation: str, args: tuple, output: Any) -> int:
    """Return twice the multiplications in one of torch's products, and 0 for anything else.

    Each value of the output is a sum. A matrix product's has as many terms as a row of the first factor has values, a
    convolution's as many as one filter has weights; in a transposed convolution each value of the input meets all
    weights of its channel. Attention is two matrix products: queries with keys, and the result with values. Where a
    recurrent net is one kernel, each item at each time meets every matrix (on a CPU of one layer, else of all).
    """
    if operation in ("mm", "bmm", "mv", "dot", "vdot"):
        return 2 * output.numel() * args[0].shape[-1]
    if operation in ("addmm", "baddbmm", "addmv"):
        return 2 * output.numel() * args[1].shape[-1]
    if operation == "addbmm":
        return 2 * args[1].numel() * args[2].shape[-1]
    if operation in ("mkldnn_rnn_layer", "_cudnn_rnn"):
        x, weights = args[0], args[1:3] if operation == "mkldnn_rnn_layer" else args[1]
        return 2 * prod(x.shape[:-1]) * sum(weight.numel() for weight in weights if weight.ndim == 2)
    if operation == "convolution":
        x, weight, transposed = args[0], args[1], args[6]
        return 2 * (x if transposed else output).numel() * prod(weight.shape[1:])
    if operation.startswith("_scaled_dot_product"):
        query, key, value = args[:3]
        return 2 * prod(query.shape[:-1]) * key.shape[-2] * (key.shape[-1] + value.shape[-1])
    return 0


def short(count: int) -> str:
    """Write a count in thousands, millions or billions: 1234567 is 1.23 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def _share_parameters(model: nn.Module, rows: dict[nn.Module, Row], reached: dict[nn.Module, Row]) -> None:
    """Give each parameter, once, to its module, or to the nearest one around it that was reached."""
    modules = {row.name: module for module, row in rows.items()}
    for name, parameter in model.named_parameters():
        path = name.rpartition(".")[0]
        while path and modules[path] not in reached:
            path = path.rpartition(".")[0]
        rows[modules[path]].parameters += parameter.numel()


def _folded(rows: dict[nn.Module, Row], reached: dict[nn.Module, Row], depth: int) -> list[Row]:
    """Add the rows that are more than `depth` names deep to those that hold them."""
    empty = {row.name: replace(row, parameters=0, flops=0) for row in rows.values()}
    shown: dict[str, Row] = {}
    for row in reached.values():
        name = ".".join(row.name.split(".")[:depth])
        whole = shown.setdefault(name, empty[name])
        whole.parameters += row.parameters
        whole.flops += row.flops
    return list(shown.values())


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

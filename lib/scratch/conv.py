"""Convolution and its transpose, each as one matrix product, with their gradients.

`Window.unfold` (im2col) writes every patch that a kernel looks at into a column of one large matrix; the kernels, a row
for each output channel, are multiplied with it. `Window.fold` is its transpose: it adds each column back to where its
patch was. A convolution goes forward by unfold and back by fold, a transposed convolution the other way round.
Chellapilla, Puri and Simard, "High performance convolutional neural networks for document processing", 2006.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from lib.scratch.layers import Layer


@dataclass(frozen=True)
class Window:
    """How a kernel moves over a picture: its side, the stride, the zeros around the picture, the gaps inside of it."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def positions(self, side: int) -> int:
        """Return how many places the kernel has along a side; below 1 where it does not fit."""
        return (side + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def unfold(self, x: Tensor) -> Tensor:
        """Return all patches as columns: [n, c, h, w] -> [c * kernel * kernel, n * positions].

        The patches are at first a view, in which pixels occur as often as they are looked at; then they are copied. It
        is several times as fast as `F.unfold` on a CPU, and puts the patches of all pictures into one matrix.
        """
        n, c, h, w = x.shape
        rows, columns = self.positions(h), self.positions(w)
        x = F.pad(x, (self.padding,) * 4)
        of_item, of_channel, down, right = x.stride()
        inside, step = self.dilation, self.stride
        patches = x.as_strided(
            (c, self.kernel, self.kernel, n, rows, columns),
            (of_channel, inside * down, inside * right, of_item, step * down, step * right),
        )
        patches = patches.clone(memory_format=torch.contiguous_format)  # `reshape` may return a view of x
        return patches.view(c * self.kernel**2, n * rows * columns)

    def fold(self, columns: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """Add columns up where their patches were: [c * kernel * kernel, n * positions] -> [n, c, h, w], `shape`."""
        n, c, h, w = shape
        rows, across = self.positions(h), self.positions(w)
        columns = columns.view(c, self.kernel, self.kernel, n, rows, across)
        x = columns.new_zeros(n, c, h + 2 * self.padding, w + 2 * self.padding)
        for i in range(self.kernel):
            for j in range(self.kernel):
                top, left = i * self.dilation, j * self.dilation
                bottom, right = top + self.stride * (rows - 1) + 1, left + self.stride * (across - 1) + 1
                x[:, :, top : bottom : self.stride, left : right : self.stride] += columns[:, i, j].transpose(0, 1)
        return x[:, :, self.padding : self.padding + h, self.padding : self.padding + w]


class _Convolution(Layer):
    """What both have in common: a window, groups of channels, weight [c, c' / groups, kernel, kernel] and bias."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.c_in, self.c_out, self.groups = c_in, c_out, groups
        self.window = Window(kernel, stride, padding, dilation)
        for name, value in {"c_in": c_in, "c_out": c_out, "groups": groups, **vars(self.window)}.items():
            least = 0 if name == "padding" else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{self._name()}: {name} must be a whole number, at least {least}, got {value!r}")
        if c_in % groups or c_out % groups:
            raise ValueError(f"{self._name()}: {c_in} and {c_out} channels cannot both be split into {groups} groups")
        drawn_on = device if generator is None else generator.device
        weight = torch.randn(*self._weight_shape(), generator=generator, dtype=dtype, device=drawn_on)
        looked_at = c_in // groups * kernel**2
        self.weight = Parameter((weight * (2 / looked_at) ** 0.5).to(device), requires_grad=False)
        self.bias = Parameter(torch.zeros(c_out, dtype=dtype, device=device), requires_grad=False)

    def _name(self) -> str:
        """Write the layer as it can be called: Conv2d(8, 16, 3, stride=2)."""
        usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}
        values = vars(self.window) | {"groups": self.groups, "output_padding": vars(self).get("output_padding", 0)}
        others = [f"{name}={values[name]}" for name, value in usual.items() if values[name] != value]
        return f"{type(self).__name__}({', '.join(map(str, (self.c_in, self.c_out, self.window.kernel, *others)))})"

    def _weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _matrices(self) -> Tensor:
        """Return the weights of each group as a matrix: [groups, channels / groups, other channels * kernel²]."""
        return self.weight.view(self.groups, len(self.weight) // self.groups, self.weight[0].numel())

    def _grouped(self, matrix: Tensor) -> Tensor:
        """Split the rows of a matrix among the groups: [groups, rows / groups, columns]."""
        return matrix.view(self.groups, len(matrix) // self.groups, matrix.shape[1])

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.c_in or 0 in x.shape[2:]:
            raise ValueError(f"{self._name()} takes [n, {self.c_in}, h, w], got {list(x.shape)}")
        if x.dtype != self.weight.dtype:
            raise ValueError(f"{self._name()} holds {self.weight.dtype}, got an input of {x.dtype}")

    def _check_grad(self, grad: Tensor, shape: tuple[int, ...]) -> None:
        if grad.shape != shape:
            raise ValueError(
                f"{self._name()}.backward: the gradient has the shape of the output, {list(shape)}, "
                f"got {list(grad.shape)}"
            )

    def __repr__(self) -> str:
        return self._name()


class Conv2d(_Convolution):
    """Kernels moved over pictures, each a weighted sum of what it looks at: [n, c_in, h, w] -> [n, c_out, h', w'].

    h' = (h + 2 padding - dilation (kernel - 1) - 1) // stride + 1. As in torch, weight is [c_out, c_in / groups,
    kernel, kernel], and kernels are not turned round (it is a cross-correlation). Weights are drawn with variance
    2 / (c_in / groups * kernel²), biases are zero.
    """

    def _weight_shape(self) -> tuple[int, ...]:
        return self.c_out, self.c_in // self.groups, self.window.kernel, self.window.kernel

    def forward(self, x: Tensor) -> Tensor:
        """Return weight times the columns of x, plus bias. Raises ValueError where the kernel does not fit."""
        self._check_input(x)
        n, _, h, w = x.shape
        rows, columns = self.window.positions(h), self.window.positions(w)
        if rows < 1 or columns < 1:
            raise ValueError(f"{self._name()}: the kernel does not fit into an input of {list(x.shape)}")
        patches = self._grouped(self.window.unfold(x))
        self.saved = x.shape, (n, self.c_out, rows, columns), patches
        y = torch.bmm(self._matrices(), patches).view(self.c_out, n, rows, columns)
        return (y + self.bias[:, None, None, None]).transpose(0, 1)

    def backward(self, grad: Tensor) -> Tensor:
        """From the gradient of the output return that of x; store those of weight and bias.

        It can be called once for each call of the layer: the gradient of the patches takes the memory of the patches.
        """
        shape, out_shape, patches = self.saved_for_backward()
        self._check_grad(grad, out_shape)
        grad = self._grouped(_by_channel(grad))
        self.saved = None
        self.weight.grad = torch.bmm(grad, patches.transpose(1, 2)).view(self.weight.shape)
        self.bias.grad = grad.sum(2).flatten()
        torch.bmm(self._matrices().transpose(1, 2), grad, out=patches)
        return self.window.fold(patches.flatten(0, 1), shape)


class ConvTranspose2d(_Convolution):
    """The transpose of a convolution: each pixel lays its kernel down, and what overlaps is added up.

    [n, c_in, h, w] -> [n, c_out, h', w'] with h' = (h - 1) stride - 2 padding + dilation (kernel - 1) + 1 +
    output_padding. As in torch, weight is [c_in, c_out / groups, kernel, kernel]. Weights are drawn with variance
    2 / (c_in / groups * kernel²), biases are zero.
    """

    def __init__(self, c_in: int, c_out: int, *args: int, output_padding: int = 0, **options: object) -> None:
        super().__init__(c_in, c_out, *args, **options)
        self.output_padding = output_padding
        if not isinstance(output_padding, int) or not 0 <= output_padding < self.window.stride:
            raise ValueError(f"{self._name()}: output_padding must be from 0 to stride - 1, got {output_padding!r}")

    def _weight_shape(self) -> tuple[int, ...]:
        return self.c_in, self.c_out // self.groups, self.window.kernel, self.window.kernel

    def _side(self, side: int) -> int:
        window = self.window
        reach = window.dilation * (window.kernel - 1) + 1
        return (side - 1) * window.stride - 2 * window.padding + reach + self.output_padding

    def forward(self, x: Tensor) -> Tensor:
        """Return what the pixels lay down, added up, plus bias. Raises ValueError where nothing would be left."""
        self._check_input(x)
        n, _, h, w = x.shape
        shape = n, self.c_out, self._side(h), self._side(w)
        if min(shape[2:]) < 1:
            raise ValueError(f"{self._name()}: of an input of {list(x.shape)} the padding leaves {list(shape)}")
        pixels = self._grouped(_by_channel(x))
        self.saved = x.shape, shape, pixels
        patches = torch.bmm(self._matrices().transpose(1, 2), pixels)
        return self.window.fold(patches.flatten(0, 1), shape) + self.bias[:, None, None]

    def backward(self, grad: Tensor) -> Tensor:
        """From the gradient of the output return that of x; store those of weight and bias."""
        (n, c_in, h, w), out_shape, pixels = self.saved_for_backward()
        self._check_grad(grad, out_shape)
        patches = self._grouped(self.window.unfold(grad))
        self.weight.grad = torch.bmm(pixels, patches.transpose(1, 2)).view(self.weight.shape)
        self.bias.grad = grad.sum((0, 2, 3))
        return torch.bmm(self._matrices(), patches).view(c_in, n, h, w).transpose(0, 1)


class Flatten(Layer):
    """Pictures as rows: [n, c, h, w] -> [n, c * h * w]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return each picture as one row."""
        self.saved = x.shape
        return x.flatten(1)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient in the shape of the pictures."""
        return grad.reshape(self.saved_for_backward())


def _by_channel(x: Tensor) -> Tensor:
    """Return a row for each channel: [n, c, h, w] -> [c, n * h * w]."""
    n, c, h, w = x.shape
    return x.transpose(0, 1).reshape(c, n * h * w)

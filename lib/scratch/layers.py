"""Layers and losses that know their own gradient: call one, then hand it the gradient of what it returned.

No autograd: `forward` saves what `backward` will need, and `backward(grad)` returns the gradient with respect to the
layer's input and stores those of its parameters in their `.grad`, as torch does, so that any optimiser can use them.
Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 1986.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lib.checks import wide
from lib.scratch.module import Module


class Layer(Module):
    """A module whose `forward` keeps in `saved` what its `backward` needs."""

    saved: Any = None

    def saved_for_backward(self) -> Any:
        """Return what the last call saved; raises RuntimeError when there was none."""
        if self.saved is None:
            raise RuntimeError(f"{type(self).__name__}: call it before backward; there is nothing to go back through")
        return self.saved


class Linear(Layer):
    """y = x @ weight + bias, for x [n, inputs], weight [inputs, outputs], bias [outputs] and y [n, outputs].

    Weights are drawn with variance 2 / inputs (He et al., 2015), from `generator` where one is given; biases are zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if inputs < 1 or outputs < 1:
            raise ValueError(f"Linear needs at least one input and one output, got {inputs} and {outputs}")
        super().__init__()
        drawn_on = device if generator is None else generator.device
        weight = torch.randn(inputs, outputs, generator=generator, dtype=dtype, device=drawn_on)
        self.weight = Parameter((weight * (2 / inputs) ** 0.5).to(device), requires_grad=False)
        self.bias = Parameter(torch.zeros(outputs, dtype=dtype, device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight + bias. Raises ValueError for another width or dtype."""
        inputs, outputs = self.weight.shape
        if x.ndim != 2 or x.shape[1] != inputs:
            raise ValueError(f"Linear({inputs}, {outputs}) takes [n, {inputs}], got {list(x.shape)}")
        if x.dtype != self.weight.dtype:
            raise ValueError(f"Linear({inputs}, {outputs}) holds {self.weight.dtype}, got an input of {x.dtype}")
        self.saved = x.detach()  # an input that is a Parameter is not a parameter of this layer
        return x @ self.weight + self.bias

    def backward(self, grad: Tensor) -> Tensor:
        """From the gradient of y, [n, outputs], return that of x, [n, inputs]; store those of weight and bias."""
        x = self.saved_for_backward()
        _same_shape("Linear", grad, (len(x), len(self.bias)))
        self.weight.grad = x.T @ grad
        self.bias.grad = grad.sum(0)
        return grad @ self.weight.T


class ReLU(Layer):
    """y = max(x, 0), number by number, for any shape; the slope at zero is taken as zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with its negative numbers set to zero."""
        _floating("ReLU", x)
        self.saved = x > 0
        return x.clamp_min(0)

    def backward(self, grad: Tensor) -> Tensor:
        """Let the gradient through where x was positive; same shape."""
        on = self.saved_for_backward()
        _same_shape("ReLU", grad, on.shape)
        return grad.where(on, 0)


class MSE(Layer):
    """The mean of the squared differences of predictions and targets, both of one shape."""

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar. Raises ValueError for shapes that differ, even where they would broadcast."""
        if predictions.shape != targets.shape:
            raise ValueError(
                f"MSE compares equal shapes, got {list(predictions.shape)} and {list(targets.shape)}; "
                "broadcasting would compare each prediction with other rows' targets"
            )
        _floating("MSE", predictions)
        if targets.dtype != predictions.dtype:
            raise ValueError(f"MSE: predictions are {predictions.dtype}, targets {targets.dtype}; convert the targets")
        _not_empty("MSE", predictions)
        self.saved = predictions - targets
        return wide(self.saved).square().mean().to(predictions.dtype)

    def backward(self, grad: Tensor | float = 1.0) -> Tensor:
        """Return the gradient with respect to the predictions, in their shape."""
        difference = self.saved_for_backward()
        return grad * 2 * difference / difference.numel()


class SoftmaxCrossEntropy(Layer):
    """The mean of -log softmax(logits)[target], for logits [n, classes] and targets int64 [n]."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar. Raises ValueError for other shapes or dtypes, and for a target out of range."""
        _class_targets(logits, targets)
        log_p = log_softmax(logits)
        self.saved = log_p, targets
        return -log_p[torch.arange(len(targets), device=targets.device), targets].mean()

    def backward(self, grad: Tensor | float = 1.0) -> Tensor:
        """Return the gradient with respect to the logits, [n, classes]: (probability - 1 at the target) / n."""
        log_p, targets = self.saved_for_backward()
        gradient = log_p.exp()
        gradient[torch.arange(len(targets), device=targets.device), targets] -= 1
        return grad * gradient / len(targets)


def log_softmax(logits: Tensor) -> Tensor:
    """Return log(exp(x) / sum(exp(x))) over the last axis, in the same shape.

    The largest logit is taken away first, which changes nothing but the size of the numbers: no exp can overflow, and
    their sum is at least 1.
    """
    shifted = logits - logits.amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def _class_targets(logits: Tensor, targets: Tensor) -> None:
    name = "SoftmaxCrossEntropy"
    _floating(name, logits)
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(
            f"{name} takes logits [n, classes] and targets [n], got {list(logits.shape)} and {list(targets.shape)}"
        )
    if targets.dtype != torch.int64:
        raise ValueError(f"{name} takes targets of int64, the number of the right class, got {targets.dtype}")
    _not_empty(name, logits)
    classes = logits.shape[1]
    outside = targets[(targets < 0) | (targets >= classes)]
    if len(outside):
        raise ValueError(f"{name}: targets must be from 0 to {classes - 1} for {classes} classes, got {outside[0]}")


def _floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name} takes floating-point numbers, got {x.dtype}; convert with .float()")


def _not_empty(name: str, x: Tensor) -> None:
    if x.numel() == 0:
        raise ValueError(f"{name}: an empty batch has no mean, got shape {list(x.shape)}")


def _same_shape(name: str, grad: Tensor, shape: tuple[int, ...]) -> None:
    if grad.shape != shape:
        raise ValueError(
            f"{name}.backward: the gradient has the shape of the output, {list(shape)}, got {list(grad.shape)}"
        )

"""Optimisers as one formula each: SGD with momentum, RMSProp, Adam, AdamW, Muon.

They are torch optimisers (parameter groups, `state_dict`, schedulers), with torch's names for the hyper-parameters and
torch's trajectories. Each parameter without a gradient is left as it is.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lib.checks import wide

# Each hyper-parameter's smallest value, and the value that it must stay below.
RANGES = {
    "lr": (0.0, math.inf),
    "momentum": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "alpha": (0.0, 1.0),
    "betas": (0.0, 1.0),
    "eps": (0.0, math.inf),
}


class Optimiser(torch.optim.Optimizer):
    """Goes through groups and parameters; a subclass says in `update` how one parameter moves."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own. Raises ValueError for an unknown option or a bad value."""
        for name in param_group.keys() - {"params", "param_names"} - self.defaults.keys():
            near = difflib.get_close_matches(name, self.defaults, n=1, cutoff=0)[0]
            options = ", ".join(self.defaults)
            raise ValueError(f"{type(self).__name__} has no option {name!r}; did you mean {near!r}? It has {options}")
        options = self.defaults | param_group
        for name, (low, below) in RANGES.items():
            if name in options:
                _check(type(self).__name__, name, options[name], low, below)
        if options.get("nesterov") and not options["momentum"]:
            raise ValueError(f"{type(self).__name__}: nesterov=True looks ahead along the momentum, which is 0")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move every parameter that has a gradient; a `closure`, when given, computes them first, and the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, wide(parameter.grad), self.state[parameter], group)
        return loss

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """Change the parameter in place; `state` is what this parameter keeps from step to step.

        The gradient comes in float32 or wider, as squares and averages do not fit into half precision.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how a parameter moves: define update")


class SGD(Optimiser):
    """Stochastic gradient descent with heavy-ball momentum, or Nesterov's, and L2 `weight_decay`.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Nesterov's in the form of
    Bengio, Boulanger-Lewandowski and Pascanu, "Advances in optimizing recurrent networks", ICASSP 2013, section 3.5,
    as torch has it.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """With v = momentum * v + gradient: parameter -= lr * v."""
        step = _with_decay(gradient, parameter, group)
        if group["momentum"]:
            velocity = _buffer(state, "velocity", parameter).mul_(group["momentum"]).add_(step)
            step = step.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
        parameter.sub_(step, alpha=group["lr"])


class RMSProp(Optimiser):
    """The gradient divided by the root of its running mean square, with L2 `weight_decay`.

    Hinton, Srivastava and Swersky, "Neural networks for machine learning", lecture 6e, 2012.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """With s = alpha * s + (1 - alpha) * gradient²: parameter -= lr * gradient / (√s + eps)."""
        gradient = _with_decay(gradient, parameter, group)
        square = _running(state, "square", gradient.square(), group["alpha"])
        parameter.addcdiv_(gradient, square.sqrt().add_(group["eps"]), value=-group["lr"])


class Adam(Optimiser):
    """Momentum and RMSProp, both corrected for having started at zero, with L2 `weight_decay`.

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """The decay is part of the gradient, and so is divided by the root mean square like the rest of it."""
        _adam(parameter, _with_decay(gradient, parameter, group), state, group)


class AdamW(Optimiser):
    """Adam with decoupled `weight_decay`: the weights shrink by lr * weight_decay, whatever the gradient's size.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """The decay goes past the moments, straight to the weights."""
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        _adam(parameter, gradient, state, group)


class Muon(Optimiser):
    """Nesterov's momentum, whose step for each matrix is made orthogonal, with decoupled `weight_decay`.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; decay, and a factor that gives the
    step's entries the size of Adam's, from Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982, eq. 4,
    as torch has it with `adjust_lr_fn="match_rms_adamw"`. A filter [c_out, ...] is a matrix of c_out rows, a bias, for
    which torch takes another optimiser, one of a single column. Products are taken in `dtype`.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "dtype": dtype})

    def update(self, parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        """With m the gradient's running mean: parameter -= lr * 0.2 √(longer side) * orthogonal(look-ahead of m)."""
        mean = _running(state, "mean", gradient, group["momentum"])
        matrix = gradient.lerp(mean, group["momentum"]).reshape(len(gradient) if gradient.ndim else 1, -1)
        step = orthogonal(matrix.to(group["dtype"])).view(parameter.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(step, alpha=group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Give a matrix [r, c] singular values of about 1 (0.7 to 1.2) and leave its singular vectors.

    Each step of this Newton-Schulz iteration takes every singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵, by
    products alone. Coefficients and steps are those of Jordan et al. 2024; values near zero stay smaller.
    """
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445)
    return x.T if len(matrix) > matrix.shape[1] else x


def _adam(parameter: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
    """Move by -lr * mean / (√square + eps), where each average is divided by the weight that it has had so far."""
    step = state["step"] = state.get("step", 0) + 1
    beta1, beta2 = group["betas"]
    mean = _running(state, "mean", gradient, beta1)
    square = _running(state, "square", gradient.square(), beta2)
    root = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
    parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**step))


def _running(state: dict, name: str, value: Tensor, keep: float) -> Tensor:
    """Move the running average `name`, which starts at zero, a step of 1 - keep towards `value`."""
    return _buffer(state, name, value).lerp_(value, 1 - keep)


def _buffer(state: dict, name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(wide(like))  # in bfloat16 a slow average would not move
    return state[name]


def _with_decay(gradient: Tensor, parameter: Tensor, group: dict) -> Tensor:
    """Add the gradient of weight_decay / 2 * |parameter|²."""
    return gradient.add(parameter, alpha=group["weight_decay"]) if group["weight_decay"] else gradient


def _check(optimiser: str, name: str, value: Any, low: float, below: float) -> None:
    pair = name == "betas"
    wanted = f"{'two numbers' if pair else 'a number'} from {low:g}, {'finite' if below == math.inf else 'below 1'}"
    values = value if pair and isinstance(value, tuple | list) else (value,)
    fits = all(isinstance(v, int | float) and not isinstance(v, bool) and low <= v < below for v in values)
    if not fits or len(values) != 1 + pair:
        raise ValueError(f"{optimiser}: {name} must be {wanted}, got {value!r}")

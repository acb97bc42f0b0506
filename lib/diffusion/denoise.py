"""One contract for all models and samplers: `denoise(x, t)` returns the predicted picture and the predicted noise.

Both are tied by x = signal * x0 + noise_level * noise, so one tells the other; which one a network was trained to
predict is hidden here, and guidance and clipping are wrappers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import check_choice
from lib.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # x [n, ...], times [n] -> x0 and noise, shaped as x
PREDICTIONS = ("noise", "v", "x0")


def weights(schedule: Schedule, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return what picture and noise weigh in x [n, ...] at times t [n]: two tensors [n, 1, ...] of x's dtype."""
    alpha_bar = schedule.alpha_bar_at(t.reshape(-1)).reshape(-1, *[1] * (x.ndim - 1)).to(x.device)
    return alpha_bar.sqrt().to(x.dtype), (1 - alpha_bar).sqrt().to(x.dtype)


def target(prediction: str, schedule: Schedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return what a network has to predict, of the shape of x0 [n, ...], for noise and times t [n].

    "noise" (Ho et al. 2020, equation 14), "x0", or "v" = signal * noise - noise_level * x0 (Salimans and Ho 2022,
    appendix D).
    """
    check_choice("prediction", prediction, PREDICTIONS)
    if prediction == "v":
        signal, level = weights(schedule, x0, t)
        return signal * noise - level * x0
    return noise if prediction == "noise" else x0


def split(prediction: str, schedule: Schedule, x: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the picture and the noise that a prediction about x [n, ...] at times t [n] implies."""
    check_choice("prediction", prediction, PREDICTIONS)
    signal, level = weights(schedule, x, t)
    if prediction == "noise":
        return (x - level * predicted) / signal, predicted
    if prediction == "x0":
        return predicted, (x - signal * predicted) / level
    return signal * x - level * predicted, level * x + signal * predicted


def denoiser(model: Callable[..., Tensor], schedule: Schedule, prediction: str = "noise", *given: Tensor) -> Denoise:
    """Return the denoiser of a network that is called as `model(x, t, *given)`, t [n] float32.

    Raises ValueError for an unknown prediction, and a network that returns another shape than that of x.
    """
    check_choice("prediction", prediction, PREDICTIONS)

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted = model(x, t.to(x.device, torch.float32), *given)
        if predicted.shape != x.shape:
            raise ValueError(f"the network returned {list(predicted.shape)} for x {list(x.shape)}")
        return split(prediction, schedule, x, predicted, t)

    return denoise


def guided(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Return a denoiser that goes `scale` times the way from one to the other (Ho and Salimans 2022, equation 6).

    0 is the unconditional one, 1 the conditional; the paper's w is scale - 1. As both are linear in the prediction, it
    is the same for noise, v and x0.
    """

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        to, start = conditional(x, t), unconditional(x, t)
        x0, noise = (b + scale * (a - b) for a, b in zip(to, start, strict=True))
        return x0, noise

    return denoise


def clipped(denoise: Denoise, schedule: Schedule, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Return a denoiser whose pictures stay within a range; the noise is what is then left of x."""
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")

    def within(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x0 = denoise(x, t)[0].clamp(low, high)
        return split("x0", schedule, x, x0, t)

    return within

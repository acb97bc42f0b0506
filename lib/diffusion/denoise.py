"""One contract for all models and samplers: `denoise(x, t)` returns the predicted image and the predicted noise.

As x = alpha_t * x0 + sigma_t * noise, each of them follows from the other. Which one a network was trained to predict
is hidden here; guidance and clipping are wrappers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import check_choice
from lib.diffusion.schedule import Schedule, alpha_sigma

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # x [n, ...], times [n] -> x0 and noise, shaped as x
PREDICTIONS = ("noise", "v", "x0")


def check_prediction(schedule: Schedule, prediction: str) -> None:
    """Raise ValueError for an unknown prediction, or noise where the last signal-to-noise ratio is 0."""
    check_choice("prediction", prediction, PREDICTIONS)
    if prediction == "noise" and schedule.zero_snr:
        raise ValueError("with a zero terminal signal-to-noise ratio a network must predict v or x0, got 'noise'")


def target(schedule: Schedule, prediction: str, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return what a network has to predict, of the shape of x0 [n, ...], for noise and times t [n].

    "noise" (Ho et al. 2020, equation 14), "x0", or "v" = alpha_t * noise - sigma_t * x0 (Salimans and Ho 2022,
    appendix D).
    """
    check_choice("prediction", prediction, PREDICTIONS)
    if prediction == "v":
        alpha_t, sigma_t = alpha_sigma(schedule, x0, t)
        return alpha_t * noise - sigma_t * x0
    return noise if prediction == "noise" else x0


def x0_and_noise(schedule: Schedule, prediction: str, x: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image and the noise that follow from a network's prediction for x [n, ...] at times t [n]."""
    check_choice("prediction", prediction, PREDICTIONS)
    alpha_t, sigma_t = alpha_sigma(schedule, x, t)
    if prediction == "noise":
        return (x - sigma_t * predicted) / alpha_t, predicted
    if prediction == "x0":
        return predicted, (x - alpha_t * predicted) / sigma_t
    return alpha_t * x - sigma_t * predicted, sigma_t * x + alpha_t * predicted


def denoiser(model: Callable[..., Tensor], schedule: Schedule, prediction: str = "noise", *cond: Tensor) -> Denoise:
    """Return the denoiser of a network that is called as `model(x, t, *cond)`, t [n] float32.

    Raises ValueError for an unknown prediction, a network that returns another shape than that of x, and one that
    predicts noise on a schedule whose last time has no image: none could be told from the noise there.
    """
    check_prediction(schedule, prediction)

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        predicted = model(x, t.to(x.device, torch.float32), *cond)
        if predicted.shape != x.shape:
            raise ValueError(f"the network returned {list(predicted.shape)} for x {list(x.shape)}")
        return x0_and_noise(schedule, prediction, x, predicted, t)

    return denoise


def guided(cond: Denoise, uncond: Denoise, guidance: float) -> Denoise:
    """Return a denoiser with classifier-free guidance from `uncond` to `cond` (Ho and Salimans 2022, equation 6).

    With a guidance of 0 it is `uncond`, with 1 `cond`; the paper's w is guidance - 1. As x0 and noise are linear in the
    prediction, the result is the same for noise, v and x0.
    """

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        towards, away = cond(x, t), uncond(x, t)
        x0, noise = (b + guidance * (a - b) for a, b in zip(towards, away, strict=True))
        return x0, noise

    return denoise


def clipped(denoise: Denoise, schedule: Schedule, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Return a denoiser whose images are clipped to a range; the noise follows from x and the clipped image."""
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")

    def denoise_clipped(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x0 = denoise(x, t)[0].clamp(low, high)
        return x0_and_noise(schedule, "x0", x, x0, t)

    return denoise_clipped

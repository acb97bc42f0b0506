"""Training a denoiser with the learner: noise is added to each batch, and the network learns to predict it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import check_choice, wide
from lib.diffusion.denoise import PREDICTIONS, target
from lib.diffusion.schedule import Schedule
from lib.learner import Callback, LearnerState


class AddNoise(Callback):
    """Turn each batch (images, labels) into (noisy images, times, target) (Ho et al. 2020, algorithm 1).

    With `null` the labels go along, after the times, and each becomes `null` with probability `p_uncond`, so that one
    network learns the conditional and the unconditional model (Ho and Salimans 2022, algorithm 1). A label may be a
    tensor, such as the embedding of a caption. In validation the same times and noise are drawn in each epoch.
    """

    order = -40

    def __init__(
        self,
        schedule: Schedule,
        prediction: str = "noise",
        *,
        null: int | Tensor | None = None,
        p_uncond: float = 0.1,
        seed: int = 0,
    ) -> None:
        check_choice("prediction", prediction, PREDICTIONS)
        if not 0 <= p_uncond <= 1:
            raise ValueError(f"p_uncond must be from 0 to 1, got {p_uncond}")
        self.schedule, self.prediction, self.null, self.p_uncond, self.seed = schedule, prediction, null, p_uncond, seed
        self.generator: torch.Generator | None = None  # of validation

    def before_valid(self, _learn: LearnerState) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def cleanup_valid(self, _learn: LearnerState) -> None:
        self.generator = None

    def before_batch(self, learn: LearnerState) -> None:
        images, labels = learn.batch
        n, generator = len(images), self.generator
        device = images.device if generator is None else "cpu"  # in validation the same on every device
        t = torch.randint(len(self.schedule), (n,), generator=generator, device=device).to(images.device)
        noise = torch.randn(images.shape, generator=generator, device=device).to(images)
        x = self.schedule.add_noise(images, noise, t)
        cond = ()
        if self.null is not None:
            dropped = (torch.rand(n, generator=generator, device=device) < self.p_uncond).to(images.device)
            cond = (torch.where(dropped.reshape(-1, *[1] * (labels.ndim - 1)), self.null, labels),)
        learn.batch = (x, t.float(), *cond, target(self.schedule, self.prediction, images, noise, t))


class WeightedLoss(Callback):
    """Weight each sample's squared error by its time: `weights(t)` [n] -> [n]."""

    def __init__(self, weights: Callable[[Tensor], Tensor]) -> None:
        self.weights = weights

    def loss(self, learn: LearnerState) -> None:
        error = (wide(learn.preds) - learn.targets).square().flatten(1).mean(dim=1)
        learn.loss_value = (self.weights(learn.inputs[1]).to(error) * error).mean()


def min_snr(schedule: Schedule, prediction: str = "noise", gamma: float = 5.0) -> Callable[[Tensor], Tensor]:
    """Return the weights min(SNR, gamma), as errors of x0 are counted (Hang et al. 2023, section 3.4)."""
    check_choice("prediction", prediction, PREDICTIONS)

    def weights(t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar_at(t)
        snr = alpha_bar / (1 - alpha_bar)
        divisor = {"x0": torch.ones_like(snr), "noise": snr, "v": snr + 1}[prediction]
        return snr.clamp(max=gamma) / divisor

    return weights

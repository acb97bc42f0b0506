"""Training a denoiser with the learner: noise goes into each batch, and the network learns what it was."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from lib.checks import check_choice
from lib.diffusion.denoise import PREDICTIONS, target
from lib.diffusion.schedule import Schedule
from lib.learner import Callback, LearnerState


class Noised(Callback):
    """Turn each batch (pictures, labels) into (noised pictures, times, what to predict) (Ho et al. 2020, algorithm 1).

    With `null` the labels go along, after the times, and a share `drop` of them becomes `null`, so that one network
    learns to draw with and without a class (Ho and Salimans 2022, algorithm 1); a label may be a tensor, such as what
    is known of a caption. In validation the same times and noise are drawn each epoch.
    """

    order = -40

    def __init__(
        self,
        schedule: Schedule,
        prediction: str = "noise",
        *,
        null: int | Tensor | None = None,
        drop: float = 0.1,
        seed: int = 0,
    ) -> None:
        check_choice("prediction", prediction, PREDICTIONS)
        if not 0 <= drop <= 1:
            raise ValueError(f"drop must be from 0 to 1, got {drop}")
        self.schedule, self.prediction, self.null, self.drop, self.seed = schedule, prediction, null, drop, seed
        self.fixed: torch.Generator | None = None

    def before_valid(self, _learn: LearnerState) -> None:
        self.fixed = torch.Generator().manual_seed(self.seed)

    def cleanup_valid(self, _learn: LearnerState) -> None:
        self.fixed = None

    def before_batch(self, learn: LearnerState) -> None:
        images, labels = learn.batch
        n, draw = len(images), self.fixed
        where = images.device if draw is None else "cpu"  # in validation the same on every device
        t = torch.randint(len(self.schedule), (n,), generator=draw, device=where).to(images.device)
        noise = torch.randn(images.shape, generator=draw, device=where).to(images)
        x = self.schedule.noised(images, noise, t)
        given = ()
        if self.null is not None:
            dropped = (torch.rand(n, generator=draw, device=where) < self.drop).to(images.device)
            given = (torch.where(dropped.reshape(-1, *[1] * (labels.ndim - 1)), self.null, labels),)
        learn.batch = (x, t.float(), *given, target(self.prediction, self.schedule, images, noise, t))


class WeightedLoss(Callback):
    """Weigh each sample's squared error by its time: `weights(t)` [n] -> [n]."""

    def __init__(self, weights: Callable[[Tensor], Tensor]) -> None:
        self.weights = weights

    def loss(self, learn: LearnerState) -> None:
        error = (learn.preds - learn.targets).square().flatten(1).mean(dim=1)
        learn.loss_value = (self.weights(learn.inputs[1]).to(error) * error).mean()


def min_snr(schedule: Schedule, prediction: str = "noise", most: float = 5.0) -> Callable[[Tensor], Tensor]:
    """Return weights by the signal-to-noise ratio, at most `most` for the picture (Hang et al. 2023, section 3.4)."""
    check_choice("prediction", prediction, PREDICTIONS)

    def weights(t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar_at(t)
        ratio = alpha_bar / (1 - alpha_bar)
        divisor = {"x0": torch.ones_like(ratio), "noise": ratio, "v": ratio + 1}[prediction]
        return ratio.clamp(max=most) / divisor

    return weights


class Told(Callback):
    """Tell how far a fit is: every `every` batches, and after each epoch."""

    whole_fit, order = True, 95

    def __init__(self, say: Callable[[str], None], every: int = 50) -> None:
        self.say, self.every, self.began = say, every, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the fit has taken, with what it took before it was cut off."""
        return time.monotonic() - self.began

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.began = time.monotonic() - state["seconds"]

    def after_batch(self, learn: LearnerState) -> None:
        if learn.training and learn.batch_index % self.every == 0:
            loss = learn.loss_value.item()
            self.say(f"epoch {learn.epoch + 1}, batch {learn.batch_index + 1}: loss {loss:.4f}, {self.seconds:.0f} s")

    def after_epoch(self, learn: LearnerState) -> None:
        told = ", ".join(f"{key} {value:.4f}" for key, value in learn.log.items())
        self.say(f"epoch {learn.epoch + 1} of {learn.epochs}: {told}")

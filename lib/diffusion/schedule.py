"""How much image and how much noise there is at each time (Ho et al. 2020, section 2; Karras et al. 2022)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lib.checks import check_choice, check_count

KINDS = ("linear", "scaled_linear", "cosine")
SPACINGS = ("leading", "linspace", "trailing")
FAR_FROM_NOISE = 0.75  # of the last time
LARGEST_BETA = 0.999  # of "cosine", which would end in a division by 0 (Nichol and Dhariwal 2021, section 3.2)


class Level(NamedTuple):
    """A time t, and the weights of image and noise there: x_t = alpha_t * x0 + sigma_t * noise.

    The symbols are those of Kingma et al. (2021) and Lu et al. (2022b): alpha_t is the root of alpha-bar, and not the
    1 - beta_t of Ho et al. (2020).
    """

    t: float
    alpha_t: float
    sigma_t: float

    @property
    def sigma(self) -> float:
        """The noise-to-signal ratio, the sigma of Karras et al. (2022); infinite where there is no image."""
        return self.sigma_t / self.alpha_t if self.alpha_t else math.inf

    @property
    def lambda_t(self) -> float:
        """Half the logarithm of the signal-to-noise ratio: log(alpha_t / sigma_t)."""
        return -math.log(self.sigma) if self.sigma else math.inf


@dataclass(frozen=True)
class Schedule:
    """The variances of a diffusion in `len(self)` time steps: `alpha_bar` float64 [T], falling in (0, 1).

    At time t, from 0 to T - 1, x = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) n, n standard normal (Ho et al. 2020,
    equation 4). Sampling ends at `final_alpha_bar`: 1, or alpha_bar[0] as in Stable Diffusion. The last alpha-bar may
    be 0 (`rescaled`): then x holds nothing of the image there, and a network must predict v or x0.
    """

    alpha_bar: Tensor
    final_alpha_bar: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha_bar", self.alpha_bar.double())  # 1 - alpha_bar is 0 in bfloat16 near t = 0
        falls = self.alpha_bar.ndim == 1 and len(self.alpha_bar) and bool((self.alpha_bar.diff() < 0).all())
        if not falls or not 0 <= self.alpha_bar[-1] <= self.alpha_bar[0] < 1 or self.alpha_bar[0] == 0:
            raise ValueError(f"alpha_bar must fall within (0, 1), and may end at 0, got {self.alpha_bar}")
        if not self.alpha_bar[0] <= self.final_alpha_bar <= 1:
            raise ValueError(
                f"final_alpha_bar must be from alpha_bar[0] = {self.alpha_bar[0]:.6g} to 1, got {self.final_alpha_bar}"
            )

    @classmethod
    def make(
        cls,
        kind: str = "linear",
        steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        *,
        set_alpha_to_one: bool = True,
    ) -> Schedule:
        """Return a schedule by name; with `set_alpha_to_one` sampling ends at alpha-bar 1, else at alpha_bar[0].

        "linear": the variances beta rise evenly (Ho et al. 2020, section 4); "scaled_linear": their roots do (Rombach
        et al. 2022); "cosine": alpha-bar falls like a squared cosine, without `beta_start` and `beta_end` (Nichol and
        Dhariwal 2021, equation 17). Raises ValueError for an unknown name and betas that are not in (0, 1).
        """
        check_choice("schedule", kind, KINDS)
        if steps < 1:
            raise ValueError(f"a schedule has at least 1 step, got {steps}")
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(f"0 < beta_start <= beta_end < 1 is needed, got {beta_start} and {beta_end}")
        if kind == "linear":
            beta = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
        elif kind == "scaled_linear":
            beta = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
        else:
            t = torch.arange(steps + 1, dtype=torch.float64) / steps
            f = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()
            beta = (1 - f[1:] / f[:-1]).clamp(max=LARGEST_BETA)
        alpha_bar = (1 - beta).cumprod(0)
        return cls(alpha_bar, 1.0 if set_alpha_to_one else alpha_bar[0].item())

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @property
    def zero_snr(self) -> bool:
        """Say whether the last time has no image in it at all."""
        return self.alpha_bar[-1].item() == 0

    def rescaled(self) -> Schedule:
        """Return the schedule with a zero terminal signal-to-noise ratio (Lin et al. 2023, algorithm 1).

        The roots of alpha-bar are shifted so that the last is 0, and scaled so that the first stays.
        """
        if len(self) < 2:
            raise ValueError("a schedule of one step cannot be rescaled: it would be noise alone")
        root = self.alpha_bar.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        final = root[0].item() ** 2 if self.final_alpha_bar < 1 else 1.0
        return Schedule(root.square(), final)

    @property
    def beta(self) -> Tensor:
        """The variance that each step adds: [T]."""
        return 1 - self.alpha_bar / torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar[:-1]])

    @property
    def sigmas(self) -> Tensor:
        """The noise-to-signal ratio at each time: [T], ascending."""
        return ((1 - self.alpha_bar) / self.alpha_bar).sqrt()

    def alpha_bar_at(self, t: Tensor) -> Tensor:
        """Return alpha-bar, float64, at times t of any shape, on their device; between whole ones log sigma is linear.

        Raises ValueError for times that are not in the schedule; on a GPU, where a look at them would wait for it, a
        device-side assertion fails instead. Below a last alpha-bar of 0, which has no log sigma, alpha-bar is linear.
        """
        if t.device.type == "cpu" and t.numel() and not (t.min() >= 0 and t.max() <= len(self) - 1):
            raise ValueError(f"times are from 0 to {len(self) - 1}, got {t.min():g} to {t.max():g}")
        alpha_bar = self.alpha_bar.to(t.device)
        if not t.is_floating_point():  # as in training
            return alpha_bar[t.long()]
        low, high = t.double().floor().long(), t.double().ceil().long()
        fraction, log_sigma = t.double() - low, self.sigmas.log().to(t.device)
        log_sigma_t = log_sigma[low] + fraction * (log_sigma[high] - log_sigma[low])
        between = torch.where(
            alpha_bar[high] > 0,
            1 / (1 + (2 * log_sigma_t).exp()),
            torch.lerp(alpha_bar[low], alpha_bar[high], fraction),
        )
        return torch.where(fraction == 0, alpha_bar[low], between)

    def level(self, t: float) -> Level:
        """Return alpha_t and sigma_t at a time."""
        alpha_bar = self.alpha_bar_at(torch.tensor(float(t))).item()
        return Level(float(t), alpha_bar**0.5, (1 - alpha_bar) ** 0.5)

    @property
    def last(self) -> Level:
        """The level at which sampling ends."""
        return Level(0.0, self.final_alpha_bar**0.5, (1 - self.final_alpha_bar) ** 0.5)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x0 [n, ...] with noise of its shape at times t [n] (Ho et al. 2020, equation 4)."""
        alpha_t, sigma_t = alpha_sigma(self, x0, t)
        return alpha_t * x0 + sigma_t * noise

    def timesteps(self, steps: int, spacing: str = "trailing", offset: int = 0) -> Tensor:
        """Return `steps` timesteps to sample at, descending, float64 (Lin et al. 2023, table 2).

        "leading" are multiples of T // steps, from 0; "linspace" go evenly from T - 1 to 0, and may not be whole;
        "trailing" begin with T - 1. `offset` is added (Stable Diffusion: leading, 1). Raises ValueError for an unknown
        spacing, more steps than the schedule has, and an offset that leads beyond its last time. Leading times begin
        far from noise where T // steps leaves many out, as 501 of 1,000 do at 500, and a single one with none of it:
        then a warning says so.
        """
        check_choice("spacing", spacing, SPACINGS)
        self._within(steps)
        if spacing == "leading":
            times = torch.arange(steps, dtype=torch.float64).flip(0) * (len(self) // steps)
        elif spacing == "linspace":
            times = torch.linspace(0, len(self) - 1, steps, dtype=torch.float64).flip(0)
            times[0] = len(self) - 1  # of a single one torch makes the other end
        else:
            times = (len(self) - torch.arange(steps, dtype=torch.float64) * len(self) / steps).round() - 1
        times = times + offset
        if times.max() > len(self) - 1 or times.min() < 0:
            raise ValueError(
                f"{steps} steps, {spacing}, with offset {offset} go from {times.max():g} to {times.min():g}, and the "
                f"schedule from {len(self) - 1} to 0: take fewer steps, or another offset"
            )
        if spacing == "leading" and times.max() < FAR_FROM_NOISE * (len(self) - 1) and steps not in (2, 3):
            warnings.warn(
                f"{steps} leading steps begin at time {times.max():g} of {len(self) - 1}, far from pure noise: "
                '"trailing" and "linspace" begin at the last',
                stacklevel=2,
            )
        return times

    def karras(self, steps: int, rho: float = 7.0, sigma_max: float | None = None) -> Tensor:
        """Return `steps` timesteps, descending, whose sigmas are dense where small (Karras et al. 2022, equation 5).

        They begin with the last time, or where sigma is `sigma_max` (80 in the paper): the cosine schedule ends so near
        to pure noise that half of the steps would be spent there.
        """
        self._within(steps)
        first, last = self.sigmas[0].item(), self.sigmas[-1].item()
        if sigma_max is None and math.isinf(last):
            raise ValueError("sigma is infinite at the last time: name a sigma_max, such as 80")
        if sigma_max is not None and not first < sigma_max <= last:
            raise ValueError(f"sigma_max must be above {first:.4g} and at most {last:.4g}, got {sigma_max}")
        low, high = first ** (1 / rho), (last if sigma_max is None else sigma_max) ** (1 / rho)
        return self.sigma_to_t(torch.linspace(high, low, steps, dtype=torch.float64) ** rho)

    def sigma_to_t(self, sigmas: Tensor) -> Tensor:
        """Return the times whose noise-to-signal ratios are `sigmas`: the inverse of `alpha_bar_at`."""
        log_sigma, log_wanted = self.sigmas.log(), sigmas.double().log().to(self.alpha_bar.device)
        low = (torch.searchsorted(log_sigma, log_wanted, right=True) - 1).clamp(0, max(len(self) - 2, 0))
        high = (low + 1).clamp(max=len(self) - 1)
        gap = (log_sigma[high] - log_sigma[low]).clamp(min=1e-300)
        return (low + (log_wanted - log_sigma[low]) / gap).clamp(0, len(self) - 1)

    def _within(self, steps: int) -> None:
        if not 1 <= steps <= len(self):
            raise ValueError(f"steps must be from 1 to the schedule's {len(self)}, got {steps}")
        check_count("steps", steps)


def alpha_sigma(schedule: Schedule, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha_t and sigma_t, the weights of image and noise, for x [n, ...] at times t [n]: [n, 1, ...] each.

    They are computed in float64 and have x's dtype: 1 - alpha_bar is 0 in bfloat16 near t = 0, its root is not.
    """
    alpha_bar = schedule.alpha_bar_at(t.reshape(-1)).reshape(-1, *[1] * (x.ndim - 1)).to(x.device)
    return alpha_bar.sqrt().to(x.dtype), (1 - alpha_bar).sqrt().to(x.dtype)

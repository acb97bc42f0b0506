"""Samplers: from noise to an image, as pure functions of a denoiser, a start, a schedule and its steps.

All take x [n, ...] with image and noise weighed as at the first timestep (standard normal noise, as a rule), and
`steps`: a number, or the timesteps themselves, descending (`schedule.timesteps`, `schedule.karras`). All call
`callback(step, t, x, x0)` after each step: its index, its timestep, the new x, and the predicted image. Noise is drawn
from one generator for each sample, so a result does not depend on how a batch is split. NaN or infinity in a step
raises FloatingPointError, which names the step. No graph is kept.

Each step is written as a sum of the predicted image and the predicted noise, weighed as at the next timestep: with the
noise-to-signal ratio sigma and x / alpha_t = x0 + sigma * noise, the papers' steps are the same, but subtract numbers
of the size of sigma from each other, which half precision does not survive.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lib.checks import check_choice
from lib.diffusion.denoise import Denoise
from lib.diffusion.schedule import Level, Schedule

StepCallback = Callable[[int, float, Tensor, Tensor], None]  # step, t, x, x0
Step = Callable[[Tensor, Tensor, Tensor, Level, Level], Tensor]  # x, x0, noise, level, next level -> next x
Generators = Sequence[torch.Generator]


def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    callback: StepCallback | None = None,
) -> Tensor:
    """Ancestral sampling: draw from the posterior of each step of noising (Ho et al. 2020, algorithm 2, equation 7)."""

    def step(x: Tensor, x0: Tensor, _noise: Tensor, now: Level, then: Level) -> Tensor:
        alpha = (now.alpha_t / then.alpha_t) ** 2  # the paper's alpha_t of this step: 1 - beta_t
        mean = then.alpha_t * (1 - alpha) / now.sigma_t**2 * x0 + alpha**0.5 * (then.sigma_t / now.sigma_t) ** 2 * x
        std = then.sigma_t / now.sigma_t * (1 - alpha) ** 0.5
        return mean + std * randn_like(x, generators) if std else mean

    return _sample_loop(denoise, x, schedule, steps, step, callback)


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    *,
    eta: float = 0.0,
    generators: Generators | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """DDIM: the predicted image and noise, weighed as at the next timestep (Song et al. 2021, equation 12).

    `eta` is how much of that noise is drawn anew: 0 none, 1 as much as in ancestral sampling (equation 16). Where it is
    above 0, `generators` are needed.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1, got {eta}")
    if eta and generators is None:
        raise ValueError(f"eta = {eta} draws noise: generators are needed, one for each sample")

    def step(x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        std = eta * then.sigma_t / now.sigma_t * (1 - (now.alpha_t / then.alpha_t) ** 2) ** 0.5
        x = then.alpha_t * x0 + max(0.0, then.sigma_t**2 - std**2) ** 0.5 * noise
        return x + std * randn_like(x, generators) if std else x

    return _sample_loop(denoise, x, schedule, steps, step, callback)


@torch.no_grad()
def invert_ddim(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """DDIM run backwards: from an image to the noise that `sample_ddim`, with these steps, takes back to it.

    The noise at the end of a step is predicted from x at its beginning (Dhariwal and Nichol 2021, appendix F), so the
    inversion is exact only in the limit of many steps.
    """
    levels = [schedule.last, *(schedule.level(t) for t in _times(schedule, steps).flip(0).tolist())]
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        noise = denoise(x, _at(then, x))[1]
        x0 = (x - now.sigma_t * noise) / now.alpha_t
        x = then.alpha_t * x0 + then.sigma_t * noise
        check_finite(x, i, then)
        if callback is not None:
            callback(i, then.t, x, x0)
    return x


def sample_euler(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """Euler's method for the probability flow (Karras et al. 2022, algorithm 1 without churn and correction).

    x / alpha_t + (sigma' - sigma) * noise is x0 + sigma' * noise, so this is DDIM (Song et al. 2021, section 4.3).
    """

    def step(_x: Tensor, x0: Tensor, noise: Tensor, _now: Level, then: Level) -> Tensor:
        return then.alpha_t * x0 + then.sigma_t * noise

    return _sample_loop(denoise, x, schedule, steps, step, callback)


def sample_euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    callback: StepCallback | None = None,
) -> Tensor:
    """Euler's method down to sigma'^2 / sigma, then fresh noise up to sigma' (k-diffusion's sampler of this name)."""

    def step(x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        kept = min(1.0, then.sigma / now.sigma) if now.sigma else 1.0
        x_next = then.alpha_t * x0 + then.sigma_t * kept * noise
        fresh = then.sigma_t * (1 - kept**2) ** 0.5
        return x_next + fresh * randn_like(x, generators) if fresh else x_next

    return _sample_loop(denoise, x, schedule, steps, step, callback)


def sample_heun(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """Heun's method: Euler's step, repeated with the mean of the slopes at both ends (Karras et al. 2022, algorithm 1).

    Two calls of the denoiser for each step but one that ends without noise, or begins without an image. The second
    slope (x_next / alpha' - x0') / sigma' is that of Euler's step but for the image predicted at its end, x0'.
    """

    def step(_x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        x_next = then.alpha_t * x0 + then.sigma_t * noise
        if not then.sigma_t or not now.alpha_t:
            return x_next
        x0_next = denoise(x_next, _at(then, x_next))[0]
        return x_next + then.alpha_t * (now.sigma / then.sigma - 1) / 2 * (x0_next - x0)

    return _sample_loop(denoise, x, schedule, steps, step, callback)


def sample_lms(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    *,
    order: int = 4,
    callback: StepCallback | None = None,
) -> Tensor:
    """Linear multistep: integrate a polynomial through the last `order` slopes (Adams and Bashforth; k-diffusion).

    The integrals of its terms add up to sigma' - sigma, so this is Euler's step and what older slopes differ by.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    slopes: list[Tensor] = []
    sigmas: list[float] = []

    def step(_x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        x_next = then.alpha_t * x0 + then.sigma_t * noise
        if not now.alpha_t:  # an infinite sigma has no place on a polynomial
            return x_next
        slopes.append(noise)
        sigmas.append(now.sigma)
        del slopes[:-order], sigmas[:-order]
        for j, slope in enumerate(slopes[:-1]):
            x_next = x_next + then.alpha_t * _integral(sigmas, j, then.sigma) * (slope - noise)
        return x_next

    return _sample_loop(denoise, x, schedule, steps, step, callback)


def sample_dpm_solver(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, callback: StepCallback | None = None
) -> Tensor:
    """DPM-Solver++(2M), the last step of first order (Lu et al. 2022b, algorithm 2).

    The paper's D is the predicted image, extrapolated from the step before; all else is DDIM's step. The last step is
    often by far the longest in lambda, where an extrapolation does harm, whether the schedule ends at 1 or before.
    """
    previous: list[tuple[Tensor, float]] = []  # x0 and lambda_t of the step before

    def step(x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        lambda_t, h = now.lambda_t, then.lambda_t - now.lambda_t
        x_next = then.alpha_t * x0 + then.sigma_t * noise
        if previous and then != schedule.last and h:
            x0_prev, lambda_prev = previous.pop()
            r = (lambda_t - lambda_prev) / h
            x_next = x_next + (then.alpha_t - then.sigma_t / now.sigma_t * now.alpha_t) * (x0 - x0_prev) / (2 * r)
        previous[:] = [(x0, lambda_t)]
        return x_next

    return _sample_loop(denoise, x, schedule, steps, step, callback)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddpm": sample_ddpm,
    "ddim": sample_ddim,
    "euler": sample_euler,
    "euler-ancestral": sample_euler_ancestral,
    "heun": sample_heun,
    "lms": sample_lms,
    "dpm-solver": sample_dpm_solver,
}
STOCHASTIC = ("ddpm", "euler-ancestral")  # they draw noise in each step


def sample(
    name: str,
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    callback: StepCallback | None = None,
) -> Tensor:
    """Sample with a sampler of `SAMPLERS`, by name; raises ValueError, with the nearest, for an unknown one."""
    check_choice("sampler", name, SAMPLERS)
    given = (generators,) if name in STOCHASTIC else ()
    return SAMPLERS[name](denoise, x, schedule, steps, *given, callback=callback)


def randn_like(like: Tensor, generators: Generators) -> Tensor:
    """Return standard normal numbers shaped as `like` [n, ...], each sample's from a generator of its own."""
    if len(generators) != len(like):
        raise ValueError(f"one generator for each sample is needed: got {len(generators)} for {len(like)} samples")
    drawn = [torch.randn(like.shape[1:], generator=g, device=g.device, dtype=like.dtype) for g in generators]
    return torch.stack(drawn).to(like.device) if drawn else torch.empty_like(like)


def make_generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Return the generators of samples `first` to `first + count - 1` of a seed, on the CPU whatever x's device."""
    if seed < 0 or first < 0:
        raise ValueError(f"seed and first must be at least 0, got seed {seed} and first {first}")
    seeds = np.random.SeedSequence(seed).generate_state(first + count, np.uint64)[first:]
    return [torch.Generator().manual_seed(int(s)) for s in (seeds >> np.uint64(1))]


@torch.no_grad()
def _sample_loop(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, step: Step, callback: StepCallback | None
) -> Tensor:
    levels = [*(schedule.level(t) for t in _times(schedule, steps).tolist()), schedule.last]
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        x0, noise = denoise(x, _at(now, x))
        x = step(x, x0, noise, now, then)
        check_finite(x, i, now)
        if callback is not None:
            callback(i, now.t, x, x0)
    return x


def _times(schedule: Schedule, steps: int | Tensor) -> Tensor:
    times = steps if isinstance(steps, Tensor) else schedule.timesteps(steps)
    if times.ndim != 1 or not len(times) or bool((times.diff() >= 0).any()):
        raise ValueError(f"the timesteps must descend, got {times}")
    return times


def _at(level: Level, x: Tensor) -> Tensor:
    return torch.full((len(x),), level.t, dtype=torch.float64, device=x.device)


def check_finite(x: Tensor, i: int, level: Level) -> None:
    """Raise FloatingPointError, with the step, for NaN or infinity."""
    if not bool(x.isfinite().all()):
        raise FloatingPointError(f"NaN or infinity in step {i}, at time {level.t:g}")


def _integral(sigmas: Sequence[float], j: int, end: float) -> float:
    """Integrate the Lagrange polynomial that is 1 at sigma j and 0 at the others, from the last of them to `end`."""
    others = [sigma for k, sigma in enumerate(sigmas) if k != j]
    polynomial = np.poly1d(others, r=True) / np.prod([sigmas[j] - sigma for sigma in others])
    area = polynomial.integ()
    return float(area(end) - area(sigmas[-1]))

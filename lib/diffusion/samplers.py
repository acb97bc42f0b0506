"""Samplers: from noise to a picture, as pure functions of a denoiser, a start, a schedule and its steps.

All take x [n, ...] with signal and noise weighed as at the first time (standard normal noise, as a rule), and `steps`:
a number, or the times themselves, falling (`schedule.times`, `schedule.karras`). All call `watch(i, t, x, x0)` after a
step: its number, its time, where it led, and the picture that was guessed on the way. Noise on the way comes from one
generator a sample, so a result does not depend on how a batch is split. NaN or infinity in a step raises
FloatingPointError, which names it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lib.checks import check_choice
from lib.diffusion.denoise import Denoise
from lib.diffusion.schedule import Level, Schedule

Watch = Callable[[int, float, Tensor, Tensor], None]
Advance = Callable[[Tensor, Tensor, Tensor, Level, Level], Tensor]  # x, x0, noise, from where, to where -> x
Generators = Sequence[torch.Generator]


def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    watch: Watch | None = None,
) -> Tensor:
    """Ancestral sampling: draw from the posterior of each step of noising (Ho et al. 2020, algorithm 2, equation 7)."""

    def advance(x: Tensor, x0: Tensor, _noise: Tensor, now: Level, then: Level) -> Tensor:
        kept = (now.signal / then.signal) ** 2  # alpha of the step; 1 - alpha is its beta
        mean = then.signal * (1 - kept) / now.noise**2 * x0 + kept**0.5 * (then.noise / now.noise) ** 2 * x
        deviation = then.noise / now.noise * (1 - kept) ** 0.5
        return mean + deviation * normal(x, generators) if deviation else mean

    return _walk(denoise, x, schedule, steps, advance, watch)


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    *,
    eta: float = 0.0,
    generators: Generators | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """DDIM: the guessed picture with the guessed noise of the next time (Song et al. 2021, equation 12).

    `eta` is how much of that noise is drawn anew: 0 none, 1 as much as in ancestral sampling (equation 16); with it
    `generators` are needed.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1, got {eta}")
    if eta and generators is None:
        raise ValueError(f"eta = {eta} draws noise: generators are needed, one a sample")

    def advance(x: Tensor, x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        drawn = eta * then.noise / now.noise * (1 - (now.signal / then.signal) ** 2) ** 0.5
        x = then.signal * x0 + (then.noise**2 - drawn**2) ** 0.5 * noise
        return x + drawn * normal(x, generators) if drawn else x

    return _walk(denoise, x, schedule, steps, advance, watch)


def invert_ddim(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, watch: Watch | None = None
) -> Tensor:
    """DDIM run backwards: from a picture to the noise that `sample_ddim`, with these steps, takes back to it.

    The noise at the far end of a step is asked for where the step begins (Dhariwal and Nichol 2021, appendix F), so
    the way back is exact only for many steps.
    """
    levels = [schedule.last, *(schedule.level(t) for t in _times(schedule, steps).flip(0).tolist())]
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        noise = denoise(x, _at(then, x))[1]
        x0 = (x - now.noise * noise) / now.signal
        x = then.signal * x0 + then.noise * noise
        _finite(x, i, then)
        if watch is not None:
            watch(i, then.time, x, x0)
    return x


def sample_euler(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, watch: Watch | None = None
) -> Tensor:
    """Euler's method for the probability flow (Karras et al. 2022, algorithm 1 without churn and correction)."""

    def advance(x: Tensor, _x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        return then.signal * (x / now.signal + (then.sigma - now.sigma) * noise)

    return _walk(denoise, x, schedule, steps, advance, watch)


def sample_euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    watch: Watch | None = None,
) -> Tensor:
    """Euler's method to less noise than the next time has, and noise drawn up to it (as k-diffusion's of this name)."""

    def advance(x: Tensor, _x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        up = then.sigma / now.sigma * (now.sigma**2 - then.sigma**2) ** 0.5
        down = then.sigma**2 / now.sigma
        x = x / now.signal + (down - now.sigma) * noise
        return then.signal * (x + up * normal(x, generators) if up else x)

    return _walk(denoise, x, schedule, steps, advance, watch)


def sample_heun(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, watch: Watch | None = None
) -> Tensor:
    """Heun's method: Euler's step, taken again with the mean of both ends' slopes (Karras et al. 2022, algorithm 1).

    Two calls a step, but for the last, where there is no noise left to ask for.
    """

    def advance(x: Tensor, _x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        start, width = x / now.signal, then.sigma - now.sigma
        ahead = then.signal * (start + width * noise)
        if then.noise:
            noise = (noise + denoise(ahead, _at(then, x))[1]) / 2
        return then.signal * (start + width * noise)

    return _walk(denoise, x, schedule, steps, advance, watch)


def sample_lms(
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    *,
    order: int = 4,
    watch: Watch | None = None,
) -> Tensor:
    """Linear multistep: integrate a polynomial through the last `order` slopes (Adams and Bashforth; k-diffusion)."""
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    slopes: list[Tensor] = []
    sigmas: list[float] = []

    def advance(x: Tensor, _x0: Tensor, noise: Tensor, now: Level, then: Level) -> Tensor:
        slopes.append(noise)
        sigmas.append(now.sigma)
        del slopes[:-order], sigmas[:-order]
        parts = [_integral(sigmas, j, then.sigma) * slope for j, slope in enumerate(slopes)]
        return then.signal * (x / now.signal + sum(parts))

    return _walk(denoise, x, schedule, steps, advance, watch)


def sample_dpm_solver(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, *, watch: Watch | None = None
) -> Tensor:
    """DPM-Solver++(2M), the last step of first order (Lu et al. 2022b, algorithm 2)."""
    before: list[tuple[Tensor, float]] = []  # the picture guessed in the step before, and the log of its 1 / sigma

    def advance(x: Tensor, x0: Tensor, _noise: Tensor, now: Level, then: Level) -> Tensor:
        here = -math.log(now.sigma)
        guess = x0
        if before and then.noise:
            old, there = before.pop()
            ratio = (here - there) / (-math.log(then.sigma) - here)
            guess = x0 + (x0 - old) / (2 * ratio)
        before[:] = [(x0, here)]
        shrunk = then.noise / now.noise
        return shrunk * x + (then.signal - shrunk * now.signal) * guess

    return _walk(denoise, x, schedule, steps, advance, watch)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddpm": sample_ddpm,
    "ddim": sample_ddim,
    "euler": sample_euler,
    "euler-ancestral": sample_euler_ancestral,
    "heun": sample_heun,
    "lms": sample_lms,
    "dpm-solver": sample_dpm_solver,
}
DRAWING = ("ddpm", "euler-ancestral")  # noise on the way, too


def sample(
    name: str,
    denoise: Denoise,
    x: Tensor,
    schedule: Schedule,
    steps: int | Tensor,
    generators: Generators,
    *,
    watch: Watch | None = None,
) -> Tensor:
    """Sample with a sampler of `SAMPLERS`, by name; raises ValueError, with the nearest, for an unknown one."""
    check_choice("sampler", name, SAMPLERS)
    given = (generators,) if name in DRAWING else ()
    return SAMPLERS[name](denoise, x, schedule, steps, *given, watch=watch)


def normal(like: Tensor, generators: Generators) -> Tensor:
    """Return standard normal numbers shaped as `like` [n, ...], each sample's from its own generator."""
    if len(generators) != len(like):
        raise ValueError(f"one generator a sample is needed: got {len(generators)} for {len(like)} samples")
    drawn = [torch.randn(like.shape[1:], generator=g, device=g.device, dtype=like.dtype) for g in generators]
    return torch.stack(drawn).to(like.device) if drawn else torch.empty_like(like)


def seeded(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Return the generators of samples `first` to `first + count - 1` of a seed, on the CPU whatever x's device."""
    seeds = np.random.SeedSequence(seed).generate_state(first + count, np.uint64)[first:]
    return [torch.Generator().manual_seed(int(s)) for s in (seeds >> np.uint64(1))]


def _walk(
    denoise: Denoise, x: Tensor, schedule: Schedule, steps: int | Tensor, advance: Advance, watch: Watch | None
) -> Tensor:
    levels = [*(schedule.level(t) for t in _times(schedule, steps).tolist()), schedule.last]
    for i, (now, then) in enumerate(itertools.pairwise(levels)):
        x0, noise = denoise(x, _at(now, x))
        x = advance(x, x0, noise, now, then)
        _finite(x, i, now)
        if watch is not None:
            watch(i, now.time, x, x0)
    return x


def _times(schedule: Schedule, steps: int | Tensor) -> Tensor:
    times = steps if isinstance(steps, Tensor) else schedule.times(steps)
    if times.ndim != 1 or not len(times) or bool((times.diff() >= 0).any()):
        raise ValueError(f"the times of the steps must fall, got {times}")
    return times


def _at(level: Level, x: Tensor) -> Tensor:
    return torch.full((len(x),), level.time, dtype=torch.float64, device=x.device)


def _finite(x: Tensor, i: int, level: Level) -> None:
    if not bool(x.isfinite().all()):
        raise FloatingPointError(f"NaN or infinity in step {i}, at time {level.time:g}")


def _integral(sigmas: Sequence[float], j: int, end: float) -> float:
    """Integrate the Lagrange polynomial that is 1 at sigma j and 0 at the others, from the last of them to `end`."""
    others = [sigma for k, sigma in enumerate(sigmas) if k != j]
    polynomial = np.poly1d(others, r=True) / np.prod([sigmas[j] - sigma for sigma in others])
    area = polynomial.integ()
    return float(area(end) - area(sigmas[-1]))

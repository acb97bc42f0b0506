"""Every sampler with every spacing, both ends, all predictions, one to a thousand steps, in three precisions.

The data are a mixture of normal distributions, whose best denoiser is known in closed form.
"""

import itertools
import math

import pytest
import torch

from lib.diffusion import Schedule, denoiser, samplers
from tests.diffusion.models import mixture

KINDS = {
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {},
}
SPACINGS = {
    "leading": ("leading", 0),
    "leading+1": ("leading", 1),
    "linspace": ("linspace", 0),
    "trailing": ("trailing", 0),
    "karras": None,
}
EXACT = {torch.float32: 2e-4, torch.float16: 0.01, torch.bfloat16: 0.05}  # median error of values of about 1
pytestmark = pytest.mark.filterwarnings("ignore:.* leading steps begin at time")


def schedule_of(kind: str, to_one: bool, rescaled: bool = False) -> Schedule:
    made = Schedule.make(kind, set_alpha_to_one=to_one, **KINDS[kind])
    return made.rescaled() if rescaled else made


def times(schedule: Schedule, spacing: str, steps: int) -> torch.Tensor:
    if spacing == "karras":
        return schedule.karras(steps, sigma_max=80.0 if schedule.sigmas[-1] > 80 else None)
    return schedule.timesteps(steps, *SPACINGS[spacing])


def start(n: int = 64, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def sampled(name, schedule, prediction, ts, dtype, n=64):
    denoise = denoiser(mixture(schedule, prediction), schedule, prediction)
    return samplers.sample(name, denoise, start(n, dtype), schedule, ts, samplers.make_generators(1, n)).double()


def lost(name, schedule, prediction, ts):
    """Return by how much a rounding grows, however the sampler is written.

    A network's noise is multiplied by sigma to become an image; Heun's correction multiplies a difference of images.
    """
    levels = [*(schedule.level(t) for t in ts.tolist()), schedule.last]
    steps = [(a, b) for a, b in itertools.pairwise(levels) if b.sigma]
    grown = 1 + (levels[0].sigma if prediction == "noise" else 0)
    return grown * (1 + max([b.alpha_t * (a.sigma / b.sigma - 1) / 2 for a, b in steps], default=0) * (name == "heun"))


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize(("kind", "to_one"), list(itertools.product(KINDS, [True, False])))
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", ["noise", "v", "x0"])
def test_float32_and_bfloat16_draw_what_float64_draws(name, kind, to_one, spacing, prediction):
    schedule = schedule_of(kind, to_one)
    for steps in (1, 2, 7, 20):
        ts = times(schedule, spacing, steps)
        wanted = sampled(name, schedule, prediction, ts, torch.float64)
        for dtype, bound in EXACT.items():
            grown = lost(name, schedule, prediction, ts)
            if dtype == torch.float16 and grown > 100:
                continue  # sigma times an image would not fit
            if name in samplers.STOCHASTIC and dtype.itemsize == 2:
                found = sampled(name, schedule, prediction, ts, dtype)
                assert found.isfinite().all()
                continue  # other random numbers: torch draws them in the dtype
            error = (sampled(name, schedule, prediction, ts, dtype) - wanted).abs().median()
            assert error < bound * grown, (steps, dtype)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_thousand_steps_are_finite_and_in_place(name, to_one, dtype):
    schedule = schedule_of("scaled_linear", to_one)
    found = sampled(name, schedule, "v", schedule.timesteps(1000), dtype, n=32)
    assert found.isfinite().all()
    assert found.abs().max() < 2


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.parametrize("spacing", ["linspace", "trailing", "karras"])
def test_from_a_time_with_no_image_at_all(name, prediction, spacing):
    """Zero terminal signal-to-noise ratio (Lin et al. 2023): the first sigma is infinite."""
    schedule = schedule_of("scaled_linear", to_one=False, rescaled=True)
    for steps, dtype in itertools.product((1, 2, 7, 50), (torch.float64, torch.float32, torch.bfloat16)):
        found = sampled(name, schedule, prediction, times(schedule, spacing, steps), dtype)
        assert found.isfinite().all()
        if steps == 50:
            centres = (found[..., None] - torch.tensor([-1.0, 0.2, 1.0])).abs().min(-1).values
            assert centres.median() < 0.2


@pytest.mark.parametrize("name", ["euler", "euler-ancestral", "heun", "lms", "ddim", "dpm-solver"])
def test_few_steps_in_bfloat16_are_as_good_as_its_digits(name):
    """Written with x / alpha_t - sigma * noise, Euler's step lost everything here: relative error 1.3."""
    schedule = Schedule.make("linear")
    ts = schedule.timesteps(4)
    wanted = samplers.sample(
        name,
        denoiser(mixture(schedule, "v"), schedule, "v"),
        start(dtype=torch.bfloat16).double(),
        schedule,
        ts,
        [Fixed() for _ in range(64)],
    )
    found = samplers.sample(
        name,
        denoiser(mixture(schedule, "v"), schedule, "v"),
        start(dtype=torch.bfloat16),
        schedule,
        ts,
        [Fixed() for _ in range(64)],
    )
    error = (found.double() - wanted).norm() / wanted.norm()
    assert error < 0.06


class Fixed(torch.Generator):
    """A generator that begins anew for each dtype, so that a test may compare them."""

    def __init__(self) -> None:
        super().__init__()
        self.manual_seed(3)


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_dpm_solver_ends_with_a_step_of_first_order(spacing):
    """An extrapolation into the last, long step did harm where the schedule does not end at 1."""
    schedule = schedule_of("scaled_linear", to_one=False)
    wanted = sampled("heun", schedule, "v", schedule.timesteps(1000), torch.float64)
    errors = {
        name: (sampled(name, schedule, "v", times(schedule, spacing, 7), torch.float64) - wanted).abs().mean().item()
        for name in ("dpm-solver", "ddim")
    }
    assert errors["dpm-solver"] < 1.05 * errors["ddim"]


@pytest.mark.parametrize(("name", "low", "high"), [("ddim", 0.8, 1.3), ("euler", 0.8, 1.3), ("heun", 1.7, 2.6),
                                                   ("dpm-solver", 1.6, 2.6), ("lms", 2.5, 5.0)])  # fmt: skip
def test_the_order_of_a_sampler_shows(name, low, high):
    """Halving the steps divides the error by two to the order, before the last step, which is of first order."""
    schedule = Schedule.make("linear")
    denoise = denoiser(mixture(schedule, "v", spread=0.7), schedule, "v")

    def before_the_last(name, steps):
        """Return x at the same last time, after steps that are even in log sigma."""
        sigmas = torch.linspace(math.log(60), math.log(0.3), steps + 1, dtype=torch.float64).exp()
        path = []
        samplers.sample(
            name, denoise, start(), schedule, schedule.sigma_to_t(sigmas), [],
            callback=lambda step, t, x, x0: path.append(x),
        )  # fmt: skip
        return path[steps - 1]

    exact = before_the_last("heun", 3000)
    errors = [(before_the_last(name, steps) - exact).abs().mean().item() for steps in (40, 80)]
    assert low < math.log2(errors[0] / errors[1]) < high


def test_the_weights_of_noise_keep_their_digits_in_half_precision():
    schedule = schedule_of("scaled_linear", to_one=False)
    exact = (1 - schedule.alpha_bar[1].item()) ** 0.5
    assert exact == pytest.approx(0.0413, abs=1e-4)
    for dtype in (torch.float16, torch.bfloat16):
        noised = schedule.add_noise(torch.zeros(1, 1, dtype=dtype), torch.ones(1, 1, dtype=dtype), torch.tensor([1]))
        assert noised.dtype == dtype
        assert noised.item() == pytest.approx(exact, rel=torch.finfo(dtype).eps)


def test_noise_cannot_be_predicted_where_there_is_nothing_else():
    schedule = schedule_of("scaled_linear", to_one=True, rescaled=True)
    with pytest.raises(ValueError, match=r"v or x0.*'noise'"):
        denoiser(mixture(schedule, "v"), schedule, "noise")


def test_samplers_keep_no_graph():
    schedule, weight = Schedule.make("linear"), torch.ones((), requires_grad=True)

    def denoise(x, t):
        return x * weight, x * 0

    for name in samplers.SAMPLERS:
        x = samplers.sample(name, denoise, start(4), schedule, 3, samplers.make_generators(0, 4))
        assert not x.requires_grad
    assert not samplers.invert_ddim(denoise, start(4), schedule, 3).requires_grad

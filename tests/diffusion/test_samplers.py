"""Samplers against those of diffusers, along whole trajectories, and against what can be computed exactly."""

import math

import diffusers
import pytest
import torch

from lib.diffusion import Schedule, denoiser, samplers
from tests.diffusion.models import exact, fixed, start

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2 in diffusers

SCHEDULES = {
    "linear": Schedule.make("linear"),
    "scaled_linear": Schedule.make("scaled_linear", beta_start=0.00085, beta_end=0.012),
    "cosine": Schedule.make("cosine"),
}
THEIRS = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}
NAMES = {"noise": "epsilon", "v": "v_prediction", "x0": "sample"}
IN_SIGMAS = (
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.LMSDiscreteScheduler,
)
DETERMINISTIC = [
    samplers.sample_ddim,
    samplers.sample_euler,
    samplers.sample_heun,
    samplers.sample_lms,
    samplers.sample_dpm_solver,
]
STOCHASTIC = [samplers.sample_ddpm, samplers.sample_euler_ancestral]


def follow(scheduler, schedule, prediction, steps, x, **options):
    """Run a scheduler of diffusers with the fixed model; return its points, with signal and noise weighed as here.

    Its own alpha-bar is in float32, whose rounding alone makes 1e-5 after some steps; so it gets ours.
    """
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.alpha_bar, rtol=2e-5, atol=1e-7)
    scheduler.alphas_cumprod = schedule.alpha_bar
    scheduler.set_timesteps(steps)
    if isinstance(scheduler, IN_SIGMAS):
        x = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    path, model = [], fixed(schedule, prediction)
    for t in scheduler.timesteps:
        predicted = model(scheduler.scale_model_input(x, t), torch.full((len(x),), float(t), dtype=torch.float64))
        x = scheduler.step(predicted, t, x, **options).prev_sample
        in_sigmas = isinstance(scheduler, IN_SIGMAS)
        path.append(x / (scheduler.sigmas[scheduler.step_index] ** 2 + 1) ** 0.5 if in_sigmas else x)
    return path


def ours(sample, name, prediction, x, steps, *given, **options):
    path = []
    schedule = SCHEDULES[name]
    sample(
        denoiser(fixed(schedule, prediction), schedule, prediction),
        x,
        schedule,
        steps,
        *given,
        callback=lambda _step, _t, x, _x0: path.append(x.clone()),
        **options,
    )
    return path


def same(ours, theirs, atol=1e-5):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.to(a), rtol=atol, atol=atol)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize(("steps", "spacing"), [(200, "leading"), (10, "trailing")])
def test_ddpm_is_that_of_diffusers(name, prediction, steps, spacing):
    scheduler = diffusers.DDPMScheduler(
        **THEIRS[name], clip_sample=False, prediction_type=NAMES[prediction], timestep_spacing=spacing
    )
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x, generator=samplers.make_generators(3, 3))
    times = SCHEDULES[name].timesteps(steps, spacing)
    same(ours(samplers.sample_ddpm, name, prediction, x, times, samplers.make_generators(3, 3)), theirs)


def test_the_thousand_steps_of_the_paper_are_those_of_diffusers():
    scheduler = diffusers.DDPMScheduler(**THEIRS["linear"], clip_sample=False)
    x = start(2)
    theirs = follow(scheduler, SCHEDULES["linear"], "noise", 1000, x, generator=samplers.make_generators(3, 2))
    same(ours(samplers.sample_ddpm, "linear", "noise", x, 1000, samplers.make_generators(3, 2)), theirs)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("steps", "spacing"), [(50, "leading"), (10, "trailing")])
def test_ddim_is_that_of_diffusers(name, prediction, eta, steps, spacing):
    scheduler = diffusers.DDIMScheduler(
        **THEIRS[name], clip_sample=False, prediction_type=NAMES[prediction], timestep_spacing=spacing
    )
    x, generators = start(), samplers.make_generators(3, 3)
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x, generator=samplers.make_generators(3, 3), eta=eta)
    times = SCHEDULES[name].timesteps(steps, spacing)
    same(ours(samplers.sample_ddim, name, prediction, x, times, eta=eta, generators=generators), theirs)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("steps", [10, 28])  # linspace gives whole times, which need no interpolation
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_euler_is_that_of_diffusers(name, prediction, steps, spacing):
    scheduler = diffusers.EulerDiscreteScheduler(
        **THEIRS[name], prediction_type=NAMES[prediction], timestep_spacing=spacing
    )
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x)
    same(ours(samplers.sample_euler, name, prediction, x, SCHEDULES[name].timesteps(steps, spacing)), theirs)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", ["noise", "v"])
@pytest.mark.parametrize("steps", [10, 28])  # linspace gives whole times, which need no interpolation
def test_euler_ancestral_is_that_of_diffusers(name, prediction, steps):
    scheduler = diffusers.EulerAncestralDiscreteScheduler(
        **THEIRS[name], prediction_type=NAMES[prediction], timestep_spacing="linspace"
    )
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x, generator=samplers.make_generators(3, 3))
    times = SCHEDULES[name].timesteps(steps, "linspace")
    same(ours(samplers.sample_euler_ancestral, name, prediction, x, times, samplers.make_generators(3, 3)), theirs)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("steps", [10, 28])  # linspace gives whole times, which need no interpolation
def test_lms_is_that_of_diffusers(name, steps):
    scheduler = diffusers.LMSDiscreteScheduler(**THEIRS[name], timestep_spacing="linspace")
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], "noise", steps, x, order=4)
    same(ours(samplers.sample_lms, name, "noise", x, SCHEDULES[name].timesteps(steps, "linspace")), theirs, 1e-4)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("steps", [10, 28])  # linspace gives whole times, which need no interpolation
def test_heun_is_that_of_diffusers(name, prediction, steps):
    scheduler = diffusers.HeunDiscreteScheduler(
        **THEIRS[name], prediction_type=NAMES[prediction], timestep_spacing="linspace"
    )
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x)
    mine = ours(samplers.sample_heun, name, prediction, x, SCHEDULES[name].timesteps(steps, "linspace"))
    same(mine, [*theirs[1::2], theirs[-1]])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("steps", [10, 28])  # linspace gives whole times, which need no interpolation
def test_dpm_solver_is_that_of_diffusers(name, prediction, steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **THEIRS[name], prediction_type=NAMES[prediction], timestep_spacing="trailing"
    )
    x = start()
    theirs = follow(scheduler, SCHEDULES[name], prediction, steps, x)
    same(ours(samplers.sample_dpm_solver, name, prediction, x, SCHEDULES[name].timesteps(steps, "trailing")), theirs)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 20, 100])
def test_ddim_with_eta_1_is_ddpm(name, steps):
    ddpm, ddim = (
        ours(samplers.sample_ddpm, name, "v", start(), steps, samplers.make_generators(0, 3)),
        ours(samplers.sample_ddim, name, "v", start(), steps, eta=1.0, generators=samplers.make_generators(0, 3)),
    )
    same(ddpm, ddim, 1e-9)


@pytest.mark.parametrize("sample", DETERMINISTIC)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 5])
def test_a_model_that_knows_the_noise_recovers_the_picture(sample, name, steps):
    schedule, x0, noise = SCHEDULES[name], start(seed=1), start(seed=2)
    times = schedule.timesteps(steps)
    x = schedule.add_noise(x0, noise, times[:1].expand(3))
    found = sample(lambda _x, _t: (x0, noise), x, schedule, times)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sample", DETERMINISTIC)
@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_more_steps_come_nearer_to_the_flow(sample, name):
    schedule, x = SCHEDULES[name], start()  # the flow of standard normal data leaves everything where it is
    errors = [(sample(exact(schedule), x, schedule, steps) - x).abs().max().item() for steps in (10, 40, 160)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1


@pytest.mark.parametrize("sample", DETERMINISTIC)
def test_karras_steps_end_at_the_picture_too(sample):
    schedule, x = SCHEDULES["scaled_linear"], start()
    found = sample(exact(schedule), x, schedule, schedule.karras(40))
    assert (found - x).abs().max() < 0.35
    heun = samplers.sample_heun(exact(schedule), x, schedule, schedule.karras(40))
    assert (heun - x).abs().max() < 0.02


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_inversion_and_sampling_return_the_faster_the_more_steps(name):
    schedule, x = SCHEDULES[name], start()
    errors = []
    for steps in (50, 100, 200):
        noise = samplers.invert_ddim(exact(schedule), x, schedule, steps)
        errors.append((samplers.sample_ddim(exact(schedule), noise, schedule, steps) - x).abs().max().item())
    if name != "cosine":  # whose end is so steep that 200 steps are few
        assert errors[2] <= 0.02
    assert errors[0] / errors[2] > 2.5


@pytest.mark.parametrize("sample", STOCHASTIC)
def test_a_sample_does_not_depend_on_its_batch(sample):
    schedule, x = SCHEDULES["linear"], start(6)
    denoise = denoiser(fixed(schedule, "noise"), schedule)
    whole = sample(denoise, x, schedule, 8, samplers.make_generators(5, 6))
    parts = [sample(denoise, x[i : i + 2], schedule, 8, samplers.make_generators(5, 2, first=i)) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


def test_ancestral_sampling_of_normal_data_gives_normal_data():
    schedule = SCHEDULES["linear"]
    x = torch.randn(400, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = samplers.sample_ddpm(exact(schedule), x, schedule, 200, samplers.make_generators(1, 400))
    assert abs(found.mean()) < 0.03
    assert abs(found.var() - 1) < 0.05
    assert (found - x).abs().mean() > 0.5  # and it is not where it began


def test_seeds_differ_and_come_again():
    drawn = samplers.randn_like(torch.empty(4, 2000, dtype=torch.float64), samplers.make_generators(7, 4))
    again = samplers.randn_like(torch.empty(4, 2000, dtype=torch.float64), samplers.make_generators(7, 4))
    assert torch.equal(drawn, again)
    assert drawn.corrcoef().fill_diagonal_(0).abs().max() < 0.1
    assert not torch.equal(drawn, samplers.randn_like(drawn, samplers.make_generators(8, 4)))


@pytest.mark.parametrize("sample", [*DETERMINISTIC, samplers.invert_ddim])
def test_a_step_that_breaks_is_named(sample):
    schedule, calls = SCHEDULES["linear"], []

    def breaks(x, t):
        calls.append(t)
        return (x * math.nan, x * math.nan) if len(calls) > 3 else (x * 0, x)

    with pytest.raises(FloatingPointError, match=r"NaN.*step \d.*time \d+"):
        sample(breaks, start(), schedule, 10)


def test_what_was_guessed_is_shown_at_every_step():
    schedule, seen = SCHEDULES["linear"], []
    samplers.sample_ddim(exact(schedule), start(), schedule, 5, callback=lambda *step: seen.append(step))
    assert [i for i, *_ in seen] == list(range(5))
    assert [t for _, t, *_ in seen] == schedule.timesteps(5).tolist()
    torch.testing.assert_close(seen[-1][2], seen[-1][3])  # the last step leads to the image that was guessed


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, x: samplers.sample_ddim(exact(s), x, s, 1001), "steps.*1.*1000.*1001"),
        (lambda s, x: samplers.sample_ddim(exact(s), x, s, 0), "steps.*1.*1000.* 0"),
        (lambda s, x: samplers.sample_ddim(exact(s), x, s, torch.tensor([1.0, 5.0])), r"timesteps.*\[1\., 5\.\]"),
        (lambda s, x: samplers.sample_ddim(exact(s), x, s, 5, eta=1.5), r"eta.*0.*1.*1\.5"),
        (lambda s, x: samplers.sample_ddim(exact(s), x, s, 5, eta=0.5), r"eta.*0\.5.*generators"),
        (
            lambda s, x: samplers.sample_ddpm(exact(s), x, s, 5, samplers.make_generators(0, 2)),
            "generator.* 2 for 3 samples",
        ),
        (lambda s, x: samplers.sample_lms(exact(s), x, s, 5, order=0), "order.*1.* 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(SCHEDULES["linear"], start())

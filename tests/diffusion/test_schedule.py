"""Schedules against diffusers, and what must hold for any of them."""

import warnings

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.diffusion import Schedule
from lib.diffusion.schedule import KINDS, SPACINGS

ALL = [Schedule.make(kind, steps) for kind in KINDS for steps in (1, 2, 50, 1000)]


@pytest.mark.parametrize("schedule", ALL)
def test_alpha_bar_falls_within_0_and_1(schedule):
    assert schedule.alpha_bar.min() > 0
    assert schedule.alpha_bar.max() < 1
    assert (schedule.alpha_bar.diff() < 0).all()
    assert (schedule.beta > 0).all()
    torch.testing.assert_close((1 - schedule.beta).cumprod(0), schedule.alpha_bar)


@pytest.mark.parametrize(
    ("kind", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_it_is_that_of_diffusers(kind, theirs):
    scheduler = diffusers.DDPMScheduler(beta_schedule=theirs, beta_start=0.0008, beta_end=0.013)
    ours = Schedule.make(kind, beta_start=0.0008, beta_end=0.013)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), ours.alpha_bar, rtol=1e-4, atol=1e-6)


FAR = pytest.mark.filterwarnings("ignore:.* leading steps begin at time")


@FAR
@pytest.mark.parametrize(("spacing", "offset"), [("leading", 0), ("leading", 1), ("linspace", 0), ("trailing", 0)])
@pytest.mark.parametrize("steps", [1, 7, 10, 50, 999, 1000])
def test_times_are_those_of_diffusers(spacing, steps, offset):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    scheduler.set_timesteps(steps)
    schedule = Schedule.make()
    if schedule.timesteps(steps, spacing).max() + offset > 999:
        with pytest.raises(ValueError, match=f"{steps} steps.*{spacing}.*offset {offset}.*1000"):
            schedule.timesteps(steps, spacing, offset)
    elif not (spacing == "linspace" and steps == 1):  # where theirs is the first time, and ours too
        assert torch.equal(schedule.timesteps(steps, spacing, offset).round().long(), scheduler.timesteps)


@FAR
@settings(deadline=None)
@given(steps=st.integers(1, 300), length=st.integers(1, 300), spacing=st.sampled_from(SPACINGS))
def test_times_fall_within_the_schedule(steps, length, spacing):
    schedule = Schedule.make("scaled_linear", length)
    if steps > length:
        with pytest.raises(ValueError, match=f"steps.*1.*{length}.*{steps}"):
            schedule.timesteps(steps, spacing)
    else:
        times = schedule.timesteps(steps, spacing)
        assert len(times) == steps
        assert (times.diff() < 0).all()
        assert 0 <= times.min() <= times.max() <= length - 1


@pytest.mark.parametrize("schedule", [s for s in ALL if len(s) > 1])
def test_times_of_sigmas_are_the_inverse(schedule):
    times = torch.linspace(0, len(schedule) - 1, 37, dtype=torch.float64)
    alpha_bar = schedule.alpha_bar_at(times)
    torch.testing.assert_close(schedule.sigma_to_t(((1 - alpha_bar) / alpha_bar).sqrt()), times, rtol=0, atol=1e-6)


def test_whole_times_have_the_alpha_bar_of_the_list():
    schedule = Schedule.make("cosine")
    assert torch.equal(schedule.alpha_bar_at(torch.arange(1000)), schedule.alpha_bar)
    between = schedule.alpha_bar_at(torch.tensor([10.0, 10.5, 11.0]))
    assert between[0] > between[1] > between[2]


def test_karras_steps_go_from_end_to_end_and_are_dense_where_sigma_is_small():
    schedule = Schedule.make("linear")
    times = schedule.karras(20)
    sigmas = ((1 - schedule.alpha_bar_at(times)) / schedule.alpha_bar_at(times)).sqrt()
    expected = torch.linspace(sigmas[0] ** (1 / 7), sigmas[-1] ** (1 / 7), 20, dtype=torch.float64) ** 7
    torch.testing.assert_close(sigmas, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(times[[0, -1]], torch.tensor([999.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)
    assert (times.diff() < 0).all()


def test_noise_is_weighed_as_said():
    schedule, generator = Schedule.make("linear"), torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    x = schedule.add_noise(x0, noise, torch.tensor([0, 700]))
    for i, t in enumerate((0, 700)):
        level = schedule.level(t)
        torch.testing.assert_close(x[i], level.alpha_t * x0[i] + level.sigma_t * noise[i])
        assert level.alpha_t**2 + level.sigma_t**2 == pytest.approx(1)


@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_sampling_ends_at_one_or_at_the_first(set_alpha_to_one):
    plain = Schedule.make("scaled_linear", set_alpha_to_one=set_alpha_to_one)
    for schedule in (plain, plain.rescaled()):
        assert schedule.last.alpha_t**2 == pytest.approx(1 if set_alpha_to_one else schedule.alpha_bar[0].item())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Schedule.make("lineer"), "schedule 'lineer'; did you mean 'linear'"),
        (lambda: Schedule.make("linear", 0), "1 step.* 0"),
        (lambda: Schedule.make("linear", beta_start=0.1, beta_end=0.01), r"beta_start.*beta_end.*0\.1 and 0\.01"),
        (lambda: Schedule.make("linear", beta_end=1.0), r"beta_start.*beta_end.*0\.0001 and 1\.0"),
        (lambda: Schedule(torch.tensor([0.5, 0.6])), r"alpha_bar.*\[0\.50*, 0\.60*\]"),
        (lambda: Schedule(torch.tensor([0.5, 0.4]), final_alpha_bar=0.3), r"final_alpha_bar.*0\.5.*1.*0\.3"),
        (lambda: Schedule.make().timesteps(5, "leeding"), "spacing 'leeding'; did you mean 'leading'"),
        (lambda: Schedule.make().timesteps(2.5), r"steps.*2\.5"),
        (lambda: Schedule.make().karras(2000), "steps.*1.*1000.*2000"),
        (lambda: Schedule.make().level(1000), "times.*0.*999.*1000"),
        (lambda: Schedule.make().alpha_bar_at(torch.tensor([-1.0, 5.0])), "times.*0.*999.*-1 to 5"),
    ],
)
def test_what_is_no_schedule_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_one_step_is_from_the_last_time_where_there_is_noise_alone(spacing):
    assert Schedule.make().timesteps(1, spacing).tolist() == [999]


def test_one_leading_step_is_from_time_0_and_says_so():
    with pytest.warns(UserWarning, match="1 leading.*time 0 of 999"):
        assert Schedule.make().timesteps(1, "leading").tolist() == [0]


@pytest.mark.parametrize(("steps", "first"), [(2, 500), (3, 666), (4, 750)])
def test_leading_steps_that_leave_few_out_are_not_warned_of(steps, first):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Schedule.make().timesteps(steps, "leading")[0] == first


@pytest.mark.parametrize("values", [[], [[0.5, 0.4]], [1.0, 0.5], [1.5, 0.5], [0.5, -0.1], [0.0], [0.5, 0.5]])
def test_alpha_bar_is_a_list_that_falls_within_0_and_1(values):
    with pytest.raises(ValueError, match=r"alpha_bar.*tensor\(\["):
        Schedule(torch.tensor(values))


@pytest.mark.parametrize("steps", [2, 1000])
def test_a_rescaled_schedule_is_that_of_diffusers_and_ends_in_noise_alone(steps):
    schedule = Schedule.make("scaled_linear", steps, 0.00085, 0.012).rescaled()
    theirs = diffusers.DDIMScheduler(steps, 0.00085, 0.012, "scaled_linear", rescale_betas_zero_snr=True)
    torch.testing.assert_close(schedule.alpha_bar, theirs.alphas_cumprod.double(), rtol=1e-3, atol=1e-6)
    assert schedule.zero_snr
    assert not Schedule.make("scaled_linear", steps).zero_snr
    end = schedule.alpha_bar[-2:]
    for fraction in (0.25, 0.5):  # the last sigma has no logarithm
        between = schedule.alpha_bar_at(torch.tensor(steps - 2 + fraction))
        assert between.item() == pytest.approx((end[0] * (1 - fraction)).item())
    with pytest.raises(ValueError, match="schedule of one step"):
        Schedule.make("linear", 1).rescaled()


def test_karras_steps_begin_at_a_sigma_that_is_in_the_schedule():
    schedule = Schedule.make("linear")
    first, last = schedule.sigmas[[0, -1]].tolist()
    assert torch.equal(schedule.karras(5, sigma_max=last), schedule.karras(5))
    assert schedule.karras(5, sigma_max=2.0)[0] == pytest.approx(schedule.sigma_to_t(torch.tensor(2.0)).item())
    for outside in (first, last * 1.01):
        with pytest.raises(ValueError, match=rf"{first:.4g}.*{last:.4g}.*{outside}"):
            schedule.karras(5, sigma_max=outside)

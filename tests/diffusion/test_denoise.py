"""Predictions turn into each other and back; guidance and clipping are what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.diffusion import Schedule, clipped, denoiser, guided
from lib.diffusion.denoise import PREDICTIONS, check_prediction, target, x0_and_noise
from lib.diffusion.schedule import KINDS
from tests.diffusion.models import exact, start


@settings(deadline=None, max_examples=60)
@given(
    prediction=st.sampled_from(PREDICTIONS),
    kind=st.sampled_from(KINDS),
    t=st.lists(st.integers(0, 999), min_size=3, max_size=3),
)
def test_target_and_split_invert_each_other(prediction, kind, t):
    schedule, x0, noise, t = Schedule.make(kind), start(seed=1), start(seed=2), torch.tensor(t)
    x = schedule.add_noise(x0, noise, t)
    found = x0_and_noise(schedule, prediction, x, target(schedule, prediction, x0, noise, t), t)
    for ours, theirs in zip(found, (x0, noise), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_denoiser_hands_on_times_and_what_is_given(prediction):
    schedule, x = Schedule.make("linear"), start()
    t, given, seen = torch.tensor([5, 600, 999.0]), torch.tensor([3, 1, 4]), []

    def model(*received):
        seen.append(received)
        return received[0] / 2

    x0, noise = denoiser(model, schedule, prediction, given)(x, t)
    assert seen[0][0] is x
    assert seen[0][1].dtype == torch.float32
    assert torch.equal(seen[0][1], t)
    assert seen[0][2] is given
    torch.testing.assert_close(schedule.add_noise(x0, noise, t), x)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 7.5])
def test_guidance_goes_the_way_from_one_to_the_other(scale):
    schedule, x, t = Schedule.make("linear"), start(), torch.full((3,), 400)

    def blank(x, _):
        return torch.zeros_like(x), x

    x0, noise = guided(exact(schedule), blank, scale)(x, t)
    to, start_at = exact(schedule)(x, t), blank(x, t)
    torch.testing.assert_close(x0, start_at[0] + scale * (to[0] - start_at[0]))
    torch.testing.assert_close(noise, start_at[1] + scale * (to[1] - start_at[1]))


def test_clipped_pictures_stay_in_range_and_still_explain_x():
    schedule, x, t = Schedule.make("linear"), start() * 3, torch.tensor([50, 500, 999])
    x0, noise = clipped(exact(schedule), schedule, -0.5, 0.5)(x, t)
    assert x0.abs().max() == 0.5
    torch.testing.assert_close(schedule.add_noise(x0, noise, t), x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: denoiser(None, s, "nois"), "prediction 'nois'; did you mean 'noise'"),
        (lambda s: clipped(exact(s), s, 1.0, -1.0), r"low.*high.*1\.0 and -1\.0"),
        (lambda s: denoiser(lambda x, t: x[:, :, :2], s)(start(), torch.ones(3)), r"\[3, 1, 2, 5\].*x \[3, 1, 6, 5\]"),
        (lambda s: denoiser(lambda x, t: x, s)(start(), torch.full((3,), 1000)), "times.*0.*999.*1000"),
    ],
)
def test_what_is_no_denoiser_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(Schedule.make())


def test_only_noise_cannot_be_predicted_where_there_is_noise_alone():
    plain = Schedule.make("linear")
    for prediction in PREDICTIONS:
        check_prediction(plain, prediction)
    for prediction in ("v", "x0"):
        check_prediction(plain.rescaled(), prediction)
    with pytest.raises(ValueError, match=r"v or x0.*'noise'"):
        check_prediction(plain.rescaled(), "noise")
    with pytest.raises(ValueError, match="'nois'"):
        check_prediction(plain, "nois")


def test_images_are_clipped_to_their_range_by_default():
    schedule = Schedule.make("linear")
    x, x0 = torch.zeros(3, 1), torch.tensor([[-1.5], [0.3], [1.5]])
    found, noise = clipped(lambda x, t: (x0, x), schedule)(x, torch.full((3,), 500.0))
    assert found.flatten().tolist() == pytest.approx([-1.0, 0.3, 1.0])
    level = schedule.level(500)
    torch.testing.assert_close(noise.double(), -level.alpha_t / level.sigma_t * found.double(), rtol=1e-5, atol=1e-6)

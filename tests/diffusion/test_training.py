"""What a denoiser is trained on, and that a learner trains one."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib.data.loaders import DataLoaders
from lib.diffusion import Schedule, denoiser, samplers
from lib.diffusion.denoise import PREDICTIONS, x0_and_noise
from lib.diffusion.training import AddNoise, WeightedLoss, min_snr
from lib.learner import Callback, Learner

SCHEDULE = Schedule.make("linear", 50, beta_start=1e-3, beta_end=0.3)


class Catch(Callback):
    order = 100

    def __init__(self):
        self.train, self.valid = [], []

    def before_predict(self, learn):
        (self.train if learn.training else self.valid).append(tuple(learn.batch))


class Net(nn.Module):
    """A small network for points in the plane: [n, 2], times [n], labels [n]."""

    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(4, 8)
        self.net = nn.Sequential(nn.Linear(11, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t, label=None):
        label = torch.full((len(x),), 3) if label is None else label
        return self.net(torch.cat([x, t[:, None] / 50, self.label(label)], 1))


def points(n=512):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (n,), generator=generator)
    places = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    return places[labels] + 0.1 * torch.randn(n, 2, generator=generator), labels


def loaders():
    return DataLoaders(*(DataLoader(TensorDataset(*points(n)), 64, shuffle=n == 512) for n in (512, 128)))


def learner(*callbacks):
    torch.manual_seed(0)
    return Learner(Net(), loaders(), F.mse_loss, partial(torch.optim.AdamW, lr=5e-3), callbacks)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_batch_is_noised_and_its_target_leads_back(prediction):
    class Before(Callback):
        order = -100

        def before_batch(self, learn):
            if learn.training:
                images.append(learn.batch[0])

    catch, images = Catch(), []
    learner(Before(), AddNoise(SCHEDULE, prediction), catch).fit(1)
    for clean, (x, t, wanted) in zip(images, catch.train, strict=True):
        x0, noise = x0_and_noise(SCHEDULE, prediction, x, wanted, t)
        torch.testing.assert_close(x0, clean, atol=2e-3, rtol=0)
        torch.testing.assert_close(SCHEDULE.add_noise(clean, noise, t), x, atol=2e-3, rtol=0)
    times = torch.cat([t for _, t, _ in catch.train])
    assert (times.min(), times.max()) == (0, 49)


def test_labels_go_along_and_a_share_of_them_is_dropped():
    catch = Catch()
    learner(AddNoise(SCHEDULE, null=3, p_uncond=0.25), catch).fit(2)
    labels = torch.cat([label for _, _, label, _ in catch.train])
    assert (labels == 3).float().mean() == pytest.approx(0.25, abs=0.06)
    assert set(labels.tolist()) == {0, 1, 2, 3}


def test_validation_draws_the_same_each_epoch_and_training_does_not():
    catch = Catch()
    learner(AddNoise(SCHEDULE, null=3), catch).fit(2)
    half = len(catch.valid) // 2
    for one, other in zip(catch.valid[:half], catch.valid[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(catch.train[0][1], catch.train[8][1])


def test_a_trained_net_draws_what_it_has_seen():
    learn = learner(AddNoise(SCHEDULE, null=3)).fit(60)
    net = learn.model.eval()
    x = samplers.randn_like(torch.empty(90, 2), samplers.make_generators(0, 90))
    labels = torch.arange(3).repeat_interleave(30)
    with torch.no_grad():
        drawn = samplers.sample_ddpm(
            denoiser(net, SCHEDULE, "noise", labels), x, SCHEDULE, 50, samplers.make_generators(1, 90)
        )
    places = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    assert (torch.cdist(drawn, places).argmin(1) == labels).float().mean() > 0.9
    assert (drawn - places[labels]).norm(dim=1).median() < 0.4


def test_a_weighted_loss_weighs_each_sample():
    class Check(Callback):
        def after_loss(self, learn):
            error = (learn.preds - learn.targets).square().mean(1)
            torch.testing.assert_close(learn.loss_value, ((learn.inputs[1] + 1) * error).mean())
            seen.append(learn.loss_value.item())

    seen = []
    learner(AddNoise(SCHEDULE), WeightedLoss(lambda t: t + 1), Check()).fit(1)
    assert len(seen) == 8 + 2


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_one_weight_for_the_picture_whatever_is_predicted(prediction):
    schedule, t = Schedule.make("cosine"), torch.tensor([0, 300, 500, 900])
    ratio = schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])
    per_picture = {"x0": 1.0, "noise": ratio, "v": ratio + 1}[
        prediction
    ]  # how an error grows on its way to x0, squared
    found = min_snr(schedule, prediction)(t) * per_picture
    torch.testing.assert_close(found, ratio.clamp(max=5.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: AddNoise(SCHEDULE, "nose"), "prediction 'nose'; did you mean 'noise'"),
        (lambda: AddNoise(SCHEDULE, p_uncond=1.2), r"p_uncond.*0.*1.*1\.2"),
        (lambda: min_snr(SCHEDULE, "w"), "prediction 'w'"),
    ],
)
def test_what_cannot_be_trained_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_errors_of_half_precision_are_squared_in_single(dtype):
    learn = SimpleNamespace(
        preds=torch.tensor([[300.0, -300.0], [1e-3, 0.0]], dtype=dtype),
        targets=torch.zeros(2, 2),
        inputs=(None, torch.zeros(2)),
    )
    WeightedLoss(lambda t: t + 1).loss(learn)
    assert learn.loss_value.item() == pytest.approx(45_000, rel=0.01)

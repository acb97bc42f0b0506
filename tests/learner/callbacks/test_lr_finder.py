"""The finder suggests a learning rate that trains, ends where the loss runs away, and says what it cannot do."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.loaders import FastLoader
from lib.learner import BatchTransform, Callback, DataLoaders, Metrics, Recorder
from tests.learner.problem import SGD, AdamW, learner, loaders, net, same, weights


def final(optimiser, lr):
    return learner(optimiser=optimiser).fit(3, lr=lr).evaluate()["loss"]


@pytest.mark.parametrize("optimiser", [SGD, AdamW])
def test_the_suggestion_trains_far_better_than_a_small_or_a_large_rate(optimiser):
    result = learner(optimiser=optimiser).lr_find()
    start = learner().evaluate()["loss"]
    good = final(optimiser, result.suggestion)
    assert good < 0.8 * start
    assert good < final(optimiser, result.suggestion / 100)
    assert good < final(optimiser, 100 * result.suggestion)


def test_rates_grow_by_one_factor_and_the_loss_is_that_of_each_batch():
    result = learner().lr_find(1e-4, 1.0, 10)
    ratios = [b / a for a, b in zip(result.lrs, result.lrs[1:], strict=False)]
    assert ratios == pytest.approx([10_000 ** (1 / 9)] * 9)
    assert (result.lrs[0], result.lrs[-1]) == (pytest.approx(1e-4), pytest.approx(1.0))
    model, data = net().train(), loaders()
    optimiser, losses = SGD(model.parameters()), []
    for x, y in [*data.train, *data.train][:10]:
        optimiser.param_groups[0]["lr"] = result.lrs[len(losses)]
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert result.losses == losses
    smooth = losses[0]
    for loss, smoothed in zip(losses, result.smoothed, strict=True):
        smooth = 0.9 * smooth + 0.1 * loss
        assert smoothed == pytest.approx(smooth)


def quadratic(scale):
    """A loss with a known stability limit: gradient descent on scale/2 x^2 diverges from lr = 2 / scale on."""
    ones = torch.ones(4, 1)
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    data = DataLoaders(FastLoader(ones, torch.zeros(4, 1), batch_size=4))
    loss = lambda preds, _: scale / 2 * preds.square().mean()  # noqa: E731
    return learner(optimiser=partial(torch.optim.SGD, lr=1), model=model, data=data, loss=loss)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_a_diverging_run_ends_early_beyond_the_stable_rate(scale):
    learn = quadratic(scale)
    before = weights(learn.model)
    result = learn.lr_find(1e-3 / scale, 1e5 / scale, 100)
    assert 2 / scale < result.lrs[-1] < 2000 / scale
    assert len(result.losses) < 100
    assert result.suggestion < 2 / scale
    assert all(map(math.isfinite, result.losses))
    assert same(weights(learn.model), before)


def test_a_loss_below_zero_does_not_end_it():
    learn = learner(loss=lambda preds, y: F.cross_entropy(preds, y) - 5)
    result, plain = learn.lr_find(steps=20, stop=0.5), learner().lr_find(steps=20, stop=0.5)
    assert result.losses == pytest.approx([loss - 5 for loss in plain.losses], abs=1e-5)
    assert result.suggestion == plain.suggestion


def test_callbacks_that_prepare_batches_are_heard_and_those_that_watch_a_fit_are_not():
    class Watches(Callback):
        whole_fit = True

        def before_batch(self, learn):
            pytest.fail("called")

    transformed = []
    recorder = Recorder()
    count = BatchTransform(lambda batch: transformed.append(len(batch[0])) or batch)
    learn = learner([Watches(), recorder, Metrics(), count])
    result = learn.lr_find(steps=9)
    assert len(transformed) == len(result.losses) == 9
    assert recorder.losses == []


def test_the_validation_data_are_not_looked_at():
    class Untouchable:
        def __len__(self):
            return 1

        def __iter__(self):
            pytest.fail("looked at")

    assert len(learner(data=DataLoaders(loaders().train, Untouchable())).lr_find(steps=9).losses) == 9


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"start": 0}, r"0, 10\.0 and 100"),
        ({"start": 1, "stop": 0.1}, r"1, 0\.1 and 100"),
        ({"stop": math.inf}, "1e-05, inf and 100"),
        ({"steps": 1}, r"1e-05, 10\.0 and 1"),
        ({"start": math.nan}, r"nan, 10\.0 and 100"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(options, given):
    with pytest.raises(ValueError, match=f"start.*stop.*steps.*2.* {given}"):
        learner().lr_find(**options)


def test_a_loss_that_is_never_finite_is_an_error():
    learn = learner(loss=lambda preds, y: preds.sum() * math.nan)
    before = weights(learn.model)
    with pytest.raises(ValueError, match=r"loss.*learning rate 1e-05"):
        learn.lr_find()
    assert same(weights(learn.model), before)
    with pytest.raises(ValueError, match=r"loader for train .*empty"):
        learner(data=DataLoaders([])).lr_find()


@pytest.mark.parametrize("steps", [2, 3, 4, 100])
def test_the_last_rate_tried_is_never_suggested_as_nothing_was_seen_of_it(steps):
    """However the loss falls until then: here it is halved with each batch, whatever the rate."""
    learn = learner(loss=lambda preds, y: preds.sum() * 0 + next(losses))
    losses = (2.0**-i for i in range(1000))
    result = learn.lr_find(steps=steps)
    assert len(result.lrs) == steps
    assert result.suggestion in result.lrs[:-1]


def test_parameter_groups_keep_their_share_of_the_rate():
    seen, model = [], net()

    class Look(Callback):
        def before_step(self, learn):
            seen.append([group["lr"] for group in learn.optimiser.param_groups])

    def grouped(_):
        body, head = [*model[:4].parameters()], [*model[4].parameters()]
        return torch.optim.SGD([{"params": body, "lr": 1e-4}, {"params": head}], lr=1e-2)

    result = learner([Look()], grouped, model=model).lr_find(1e-3, 1e-1, steps=9)
    assert [head for _, head in seen] == result.lrs[: len(seen)]
    assert [body for body, _ in seen] == pytest.approx([lr / 100 for lr in result.lrs[: len(seen)]])

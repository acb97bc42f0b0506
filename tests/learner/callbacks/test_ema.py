"""Callbacks that steer a fit: what they do to the weights, and where they end it."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.learner import (
    EMA,
    BatchTransform,
    Callback,
    CancelFit,
    ClipGradients,
    EarlyStop,
    Metrics,
    Recorder,
    SingleBatch,
    StopAtNaN,
)
from tests.learner.problem import SGD, heard, learner, loaders, net, raising, same, weights

# A single batch


def test_a_single_batch_of_each_kind_and_the_end():
    kept = []
    recorder = Recorder()
    learn = learner([SingleBatch(), recorder, heard(kept, ("after_step", "after_valid", "cleanup_fit"))]).fit(5)
    assert kept == ["after_step", "after_valid", "cleanup_fit"]
    model, (x, y) = net().train(), next(iter(loaders().train))
    optimiser = SGD(model.parameters())
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
    assert same(weights(learn.model), weights(model))
    assert recorder.losses == [loss.item()]


# Clipping


class Norms(Callback):
    """Notes the norm of all gradients together, before or after they are clipped."""

    def __init__(self, order):
        self.order, self.norms = order, []

    def before_step(self, learn):
        gradients = torch.cat([p.grad.flatten() for p in learn.model.parameters()])
        self.norms.append(gradients.norm().item())


def test_gradients_are_scaled_down_to_the_norm_and_never_up():
    before, after = Norms(-1), Norms(1)
    learner([before, after, ClipGradients(0.8)]).fit(2)
    assert min(before.norms) < 0.8 < max(before.norms)
    assert after.norms == pytest.approx([min(norm, 0.8) for norm in before.norms], rel=1e-4)
    with pytest.raises(ValueError, match="max_norm must be positive, got 0"):
        ClipGradients(0)


# Averages


class Look(Callback):
    """Notes the weights after each step, and those that are validated."""

    def __init__(self):
        self.steps, self.validated = [], []

    def after_step(self, learn):
        self.steps.append([p.detach().clone() for p in learn.model.parameters()])

    def after_valid(self, learn):
        self.validated.append([p.detach().clone() for p in learn.model.parameters()])


def averaged(start, steps, decay):
    """Average by hand, in double precision."""
    mean = [p.double() for p in start]
    out = []
    for n, step in enumerate(steps, 1):
        part = min(decay, (1 + n) / (10 + n))
        mean = [part * m + (1 - part) * p.double() for m, p in zip(mean, step, strict=True)]
        out.append(mean)
    return out


def close(left, right):
    return all(torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_that_by_hand_and_is_validated_and_ends_the_fit(decay):
    look, model = Look(), net()
    start = [p.detach().clone() for p in model.parameters()]
    learn = learner([look, EMA(decay), Metrics()], model=model).fit(2)
    means = averaged(start, look.steps, decay)
    assert close(look.validated[0], means[6])
    assert close(look.validated[1], means[13])
    assert close([p.detach() for p in model.parameters()], means[13])
    assert learn.evaluate()["loss"] == pytest.approx(learn.log["valid_loss"], rel=1e-6)
    plain = Look()
    learner([plain]).fit(2)
    assert same(look.steps, plain.steps)  # training itself does not see the average


def test_an_interrupted_fit_ends_with_its_own_weights():
    """In the middle of the validation, too, where the model has the average."""
    for event in ("after_train", "after_batch", "before_valid"):
        look = Look()

        class Later(Callback):
            order = 99

        setattr(Later, event, lambda self, learn: _stop_in_validation(learn) if event == "after_batch" else _stop())  # noqa: B023
        learn = learner([look, EMA(0.9), Later()])
        with pytest.raises(KeyboardInterrupt):
            learn.fit(1)
        assert same([p.detach() for p in learn.model.parameters()], look.steps[-1])


def _stop():
    raise KeyboardInterrupt


def _stop_in_validation(learn):
    if not learn.training:
        raise KeyboardInterrupt


def test_a_cancelled_fit_ends_with_the_average():
    look, model = Look(), net()
    start = [p.detach().clone() for p in model.parameters()]
    learner([look, EMA(0.9), raising("after_epoch", CancelFit())], model=model).fit(5)
    assert close([p.detach() for p in model.parameters()], averaged(start, look.steps, 0.9)[6])
    learner([EMA(0.9), raising("before_fit", CancelFit(), order=-1)], model=model).fit(5)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay must be at least 0 and below 1, got {decay}"):
        EMA(decay)


# Early stop


class Figure(Callback):
    """Logs given figures, one an epoch."""

    def __init__(self, values):
        self.values = values

    def after_valid(self, learn):
        learn.log["figure"] = self.values[learn.epoch]


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([3, 2, 1, 1, 1, 1, 0, 0], {"patience": 3}, 6),
        ([3, 2, 3, 1, 3, 3, 0, 0], {"patience": 2}, 6),
        ([1, 2, 3, 3, 4, 9, 9, 9], {"patience": 2, "larger_is_better": True}, 8),
        ([1, 2, 3, 3, 3, 9, 9, 9], {"patience": 2, "larger_is_better": True}, 5),
        ([3, 2.9, 2.8, 2.4, 2, 2, 2, 2], {"patience": 2, "min_delta": 0.5}, 3),
        ([float("nan")] * 8, {"patience": 1}, 1),
    ],
)
def test_a_fit_ends_when_the_figure_no_longer_improves(values, options, epochs):
    recorder, kept = Recorder(), []
    stop = EarlyStop("figure", **options)
    learn = learner([Figure(values), stop, recorder, heard(kept, ("after_fit", "cleanup_fit"))])
    learn.fit(8)
    assert len(recorder.history) == epochs
    assert kept == ["after_fit", "cleanup_fit"]
    assert len(learn.fit(8).callbacks[2].history) == epochs  # it begins anew


def test_early_stop_watches_what_there_is():
    with pytest.raises(ValueError, match=r"watches 'valid_accuracy', the log has train_loss, valid_loss"):
        learner([EarlyStop("valid_accuracy")]).fit(1)
    with pytest.raises(ValueError, match="patience must be at least 1 epoch, got 0"):
        EarlyStop(patience=0)


# Not a number


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_told_before_it_reaches_the_weights(value):
    class Later(Callback):
        def loss(self, learn):
            learn.loss_value = learn.preds.square().mean()
            if (learn.epoch, learn.batch_index) == (1, 4):
                learn.loss_value = learn.loss_value * value

    learn, look = learner([Later(), StopAtNaN()]), Look()
    told = f"the loss is {value} at epoch 1, batch 4, learning rate 0.03"
    with pytest.raises(FloatingPointError, match=re.escape(told)):
        learn.fit(2, lr=0.03, callbacks=[look])
    assert same([p.detach() for p in learn.model.parameters()], look.steps[-1])
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())
    assert len(look.steps) == 11


def test_a_rate_that_is_far_too_high_is_stopped_with_finite_weights():
    learn = learner([StopAtNaN()], model=nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 3)), loss=F.mse_loss)
    learn.callbacks.append(BatchTransform(lambda batch: (batch[0], F.one_hot(batch[1], 3).float())))
    with pytest.raises(FloatingPointError, match=r"the loss is (inf|nan) at epoch \d, batch \d, learning rate 1e\+03"):
        learn.fit(5, lr=1e3)


def test_validation_may_be_anything():
    def loss(preds, y):
        return F.cross_entropy(preds, y) * (1 if preds.requires_grad else float("nan"))

    assert learner([StopAtNaN()], loss=loss).fit(1).step_count == 7

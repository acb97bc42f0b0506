"""What ends a fit early, and where."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.learner import BatchTransform, Callback, EarlyStopping, Recorder, SingleBatch, TerminateOnNaN
from tests.learner.problem import SGD, Look, event_log, learner, loaders, net, same, weights


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
        ([3 - 1e-9 * k for k in range(8)], {"patience": 1}, 8),  # by default any improvement is one
        ([3, 3 - 1e-9, 3 - 1e-9, 0, 0, 0, 0, 0], {"patience": 1}, 3),  # and as good is none
        ([2, 3, 3, 3, 0, 0, 0, 0], {}, 4),  # three epochs of patience
        ([3, 2.7, 2, 1, 0, 0, 0, 0], {"patience": 1, "min_delta": 0.5}, 2),  # in units of the figure
    ],
)
def test_a_fit_ends_when_the_figure_no_longer_improves(values, options, epochs):
    recorder, kept = Recorder(), []
    stop = EarlyStopping("figure", **options)
    learn = learner([Figure(values), stop, recorder, event_log(kept, ("after_fit", "cleanup_fit"))])
    learn.fit(8)
    assert len(recorder.history) == epochs
    assert kept == ["after_fit", "cleanup_fit"]
    assert len(learn.fit(8).callbacks[2].history) == epochs  # it begins anew


def test_early_stopping_monitors_what_there_is():
    with pytest.raises(ValueError, match=r"'valid_accuracy'.*train_loss, valid_loss"):
        learner([EarlyStopping("valid_accuracy")]).fit(1)
    with pytest.raises(ValueError, match=r"patience.*1.* 0"):
        EarlyStopping(patience=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_told_before_it_reaches_the_weights(value):
    class Later(Callback):
        def loss(self, learn):
            learn.loss_value = learn.preds.square().mean()
            if (learn.epoch, learn.batch_index) == (1, 4):
                learn.loss_value = learn.loss_value * value

    learn, look = learner([Later(), TerminateOnNaN()]), Look()
    with pytest.raises(FloatingPointError, match=rf"loss.*{value}.*epoch 1.*batch 4.*learning rate 0\.03"):
        learn.fit(2, lr=0.03, callbacks=[look])
    assert same([p.detach() for p in learn.model.parameters()], look.steps[-1])
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())
    assert len(look.steps) == 11


def test_a_rate_that_is_far_too_high_is_stopped_with_finite_weights():
    learn = learner([TerminateOnNaN()], model=nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 3)), loss=F.mse_loss)
    learn.callbacks.append(BatchTransform(lambda batch: (batch[0], F.one_hot(batch[1], 3).float())))
    with pytest.raises(FloatingPointError, match=r"loss.*(inf|nan).*epoch \d.*batch \d.*learning rate 1e\+03"):
        learn.fit(5, lr=1e3)


def test_validation_may_be_anything():
    def loss(preds, y):
        return F.cross_entropy(preds, y) * (1 if preds.requires_grad else float("nan"))

    assert learner([TerminateOnNaN()], loss=loss).fit(1).step_count == 7


def test_a_single_batch_of_each_kind_and_the_end():
    kept = []
    recorder = Recorder()
    learn = learner([SingleBatch(), recorder, event_log(kept, ("after_step", "after_valid", "cleanup_fit"))]).fit(5)
    assert kept == ["after_step", "after_valid", "cleanup_fit"]
    model, (x, y) = net().train(), next(iter(loaders().train))
    optimiser = SGD(model.parameters())
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
    assert same(weights(learn.model), weights(model))
    assert recorder.losses == [loss.item()]


@pytest.mark.parametrize("callback", [EarlyStopping("valid_f1"), TerminateOnNaN(), SingleBatch()])
def test_what_ends_a_fit_early_does_not_end_a_search_for_a_rate(callback):
    def search(callbacks):
        seen = []

        def loss(preds, y):
            seen.append(F.cross_entropy(preds, y))
            return seen[-1] * (float("inf") if len(seen) > 12 else 1)

        return learner(callbacks, loss=loss).lr_find(steps=20, stop=0.1).losses

    assert search([callback]) == search([])
    assert len(search([])) == 12

"""What a recorder keeps is what happened, and its plot shows it."""

import math

import pytest
import torch
from numpy.testing import assert_allclose

from lib.learner import Accuracy, Callback, CancelEpoch, DataLoaders, Metrics, Recorder
from tests.learner.problem import AdamW, learner, loaders, raising


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def after_loss(self, learn):
        if learn.training:
            self.seen.append(learn.loss_value.item())


def test_every_training_batch_and_every_epoch_is_kept():
    losses, recorder = Losses(), Recorder()
    learn = learner([losses, recorder, Metrics(accuracy=Accuracy())], AdamW).fit(2)
    assert recorder.losses == losses.seen
    assert recorder.lrs == [0.01] * 14
    assert recorder.momenta == [0.9] * 14
    assert [(row["epoch"], row["batches"]) for row in recorder.history] == [(0, 7), (1, 14)]
    figures = ["train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
    assert [*recorder.history[1]] == ["epoch", *figures, "batches", "seconds"]
    assert {name: recorder.history[1][name] for name in figures} == learn.log
    assert all(0 < row["seconds"] < 60 for row in recorder.history)
    sizes = [8] * 6 + [4]
    mean = sum(n * loss for n, loss in zip(sizes, losses.seen[7:], strict=True)) / 52
    assert recorder.history[1]["train_loss"] == pytest.approx(mean, rel=1e-6)


def test_a_failed_fit_keeps_its_batches_and_the_next_begins_anew():
    losses, recorder = Losses(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        learner([losses, recorder, raising("after_train", KeyboardInterrupt())]).fit(2)
    assert recorder.losses == losses.seen
    assert recorder.history == []
    learner([recorder, raising("before_valid", CancelEpoch())]).fit(1)
    assert len(recorder.losses) == 7
    assert [row["epoch"] for row in recorder.history] == [0]


def test_an_optimiser_without_momentum_has_none():
    recorder = Recorder()
    learner([recorder], lambda p: torch.optim.Adagrad(p, lr=0.1)).fit(1)
    assert recorder.momenta == []
    assert len(recorder.plot().axes[1].lines) == 1


def smoothed(values, smooth):
    """Weigh all values by hand."""
    out = []
    for i in range(len(values)):
        powers = [smooth ** (i - j) for j in range(i + 1)]
        out.append(sum(w * v for w, v in zip(powers, values[: i + 1], strict=True)) / sum(powers))
    return out


def test_the_plot_shows_losses_rates_and_momenta():
    recorder = Recorder()
    learner([recorder]).fit(3)
    left, right = recorder.plot(smooth=0.8).axes
    batches, mean, valid = left.lines
    assert list(batches.get_ydata()) == recorder.losses
    assert_allclose(mean.get_ydata(), smoothed(recorder.losses, 0.8))
    assert list(valid.get_xdata()) == [7, 14, 21]
    assert list(valid.get_ydata()) == [row["valid_loss"] for row in recorder.history]
    assert left.get_ylim()[0] == 0
    assert left.get_ylim()[1] > max(valid.get_ydata())
    rate, momentum = right.lines
    assert list(rate.get_ydata()) == [1.0] * 21
    assert list(momentum.get_ydata()) == [0.9] * 21


@pytest.mark.parametrize("shift", [math.nan, math.inf, -5.0])
def test_losses_that_are_not_finite_or_below_zero_can_be_drawn(shift):
    recorder = Recorder()
    data = DataLoaders(loaders().train)
    learner([recorder], loss=lambda preds, y: preds.square().mean() + shift, data=data).fit(1)
    low, high = recorder.plot().axes[0].get_ylim()
    assert low < high
    assert low < min(smoothed(recorder.losses, 0.9)) if shift == -5 else low == 0


def test_nothing_recorded_cannot_be_drawn():
    with pytest.raises(ValueError, match="nothing was recorded: give the recorder to a learner and fit it"):
        Recorder().plot()

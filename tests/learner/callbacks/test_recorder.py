"""What a recorder keeps is what happened."""

import pytest
import torch

from lib.learner import Accuracy, Callback, CancelEpoch, Metrics, Recorder
from tests.learner.problem import AdamW, learner, raising


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

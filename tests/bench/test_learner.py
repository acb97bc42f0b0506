"""The loops that are timed against each other do the same."""

import pytest
import torch

from bench import learner


@pytest.fixture
def short(monkeypatch):
    """Make a pass 5 batches long."""
    monkeypatch.setattr(learner, "BATCHES", 5)
    return learner.batches()


def expected(loader):
    model = learner.Idle()
    right = [(model.scores.argmax(1) == y).float().mean().item() for _, y in loader]
    return pytest.approx({"loss": 1.5, "accuracy": sum(right) / len(right)}, rel=1e-5)


@pytest.mark.parametrize("loop", [learner.ours, learner.by_hand])
def test_a_pass_averages_loss_and_accuracy_and_trains_nothing(short, loop):
    run = loop(short)
    assert run() == expected(short)
    assert run() == expected(short)


@pytest.mark.parametrize(("package", "loop"), [("fastai", learner.with_fastai), ("lightning", learner.with_lightning)])
def test_the_peers_do_the_same(short, package, loop):
    pytest.importorskip(package)
    assert learner.quietly(loop(short))() == expected(short)


def test_microseconds_more_are_those_of_the_two_sides(short):
    record = learner.microseconds(short)
    assert record.same
    assert record.unit == "us"
    assert record.low <= record.value <= record.high
    assert record.value == pytest.approx(record.ours - record.theirs, abs=record.high - record.low + 50)


def test_the_idle_step_leaves_the_parameter_alone():
    model = learner.Idle()
    optimiser = learner.Still(model.parameters(), lr=1.0)
    model.loss(None, None).backward()
    optimiser.step()
    assert torch.equal(model.cost, torch.tensor(1.5))


def test_an_epoch_of_the_resnet_ends_with_the_same_weights():
    epoch, noise = learner.epoch(pairs=1, images=32, batch_size=16)
    assert epoch.same
    assert (epoch.name, noise.name) == ("learner/epoch", "learner/epoch-noise")


def test_statistics_of_every_layer_leave_the_weights_as_they_would_be():
    record = learner.statistics(pairs=1, images=32, batch_size=16)
    assert (record.name, record.same) == ("learner/statistics", True)
    assert "all 33 layers" in record.note

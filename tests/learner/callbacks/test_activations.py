"""Activation statistics are those of the training batches of a fit, and the hooks end with it."""

import pytest
import torch

from lib.learner import ActivationStats
from lib.nn.hooks import Hooks
from tests.learner.problem import hooks, learner, net, raising


@pytest.mark.parametrize("backward", [False, True])
def test_training_batches_are_watched_and_no_others(backward):
    model, kept = net(), []
    stats = ActivationStats({"relu": model[2], "head": model[4]}, backward=backward)
    learn = learner([stats], model=model)

    def keep(hook, module, inputs, output):
        if model.training:
            kept.append((output[0] if backward else output).detach().clone())

    with Hooks([model[4]], keep, backward=backward):
        learn.fit(2)
    assert [layer.name for layer in stats.statistics] == ["relu", "head"]
    assert stats.statistics[1].means == pytest.approx([x.mean().item() for x in kept], abs=1e-7)
    assert stats.statistics[1].stds == pytest.approx([x.std(correction=0).item() for x in kept], rel=1e-5)
    assert len(kept) == 14
    assert hooks(model) == [0] * 6


def test_a_second_fit_begins_anew_and_evaluation_is_not_watched():
    model = net()
    stats = ActivationStats(model.named_children(), bins=8, max_value=4.0)
    learn = learner([stats], model=model).fit(2)
    learn.fit(1)
    learn.evaluate()
    learn.lr_find(steps=5)
    assert [len(layer.means) for layer in stats.statistics] == [7] * 5
    assert stats.statistics[0].histogram().shape == (8, 7)


def test_it_looks_at_some_batches_where_that_is_enough():
    model = net()
    stats, some = ActivationStats([model[2]]), ActivationStats([model[2]], every=3)
    learner([stats, some], model=model).fit(2)
    assert some.statistics[0].means == [*stats.statistics[0].means[:7:3], *stats.statistics[0].means[7::3]]
    with pytest.raises(ValueError, match=r"every.*1.* 0"):
        ActivationStats([model[2]], every=0)


def test_an_interrupted_fit_keeps_what_was_seen():
    model = net()
    stats = ActivationStats([model[2]])
    with pytest.raises(KeyboardInterrupt):
        learner([stats, raising("after_train", KeyboardInterrupt())], model=model).fit(1)
    assert len(stats.statistics[0].means) == 7
    assert hooks(model) == [0] * 6


def test_what_cannot_be_hooked_leaves_no_hook():
    model = net()
    with pytest.raises(TypeError, match=r"module.*Tensor"):
        learner([ActivationStats([model[0], torch.ones(1)])], model=model).fit(1)
    assert hooks(model) == [0] * 6

"""Looking without touching: everything is put back, also after an error."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from lib.nn.state import preserve_state, random_states, set_random_states, training_modes
from tests.learner.problem import loaders, net, normal, same, weights


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("changed", "replaced", "filled", "emptied", "moved"):
            self.register_buffer(name, None if name == "filled" else torch.arange(3.0))


def test_buffers_are_put_back_in_place_and_where_they_were_replaced():
    model, data = Buffers(), torch.ones(3)
    changed = model.changed
    with preserve_state(model):
        model.changed.mul_(2)
        model.replaced = data
        model.filled = torch.ones(1)
        model.emptied = None
        model.moved = model.moved.to("meta")
    assert model.changed is changed
    assert model.filled is None
    for name in ("changed", "replaced", "emptied"):
        assert getattr(model, name).tolist() == [0, 1, 2], name
    assert model.moved.device.type == "meta"  # a model that was moved stays there
    assert data.tolist() == [1, 1, 1]


def test_weights_and_gradients_are_put_back_where_asked():
    model = net()
    model(normal(4, 6)).sum().backward()
    model[4].bias.grad = None
    parameters, before = list(model.parameters()), weights(model)
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    with preserve_state(model, weights=True):
        for p in parameters:
            p.data.add_(1)
            p.grad = torch.ones_like(p)
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    assert same(weights(model), before)
    assert same([p.grad for p in parameters], gradients)


def test_weights_stay_changed_where_they_are_not_asked_for():
    model = net()
    with preserve_state(model):
        model[0].bias.data.fill_(7)
    assert (model[0].bias == 7).all()


def draw(loader) -> list:
    order = [batch[0].tolist() if isinstance(batch, tuple) else batch.tolist() for batch in loader]
    return [random.random(), np.random.rand(), torch.rand(3).tolist(), order]  # noqa: NPY002


def shuffled(n=20):
    own = DataLoader(range(n), 4, shuffle=True, generator=torch.Generator().manual_seed(1))
    sampled = DataLoader(range(n), 4, sampler=RandomSampler(range(n), generator=torch.Generator().manual_seed(1)))
    return {"fast": loaders().train, "own": own, "sampler": sampled, "global": DataLoader(range(n), 4, shuffle=True)}


@pytest.mark.parametrize("kind", ["fast", "own", "sampler", "global"])
def test_every_source_of_random_numbers_is_put_back(kind):
    loader = shuffled()[kind]
    draw(loader)
    with preserve_state(net(), loader):
        inside = draw(loader)
    assert draw(loader) == inside
    assert draw(loader) != inside


@pytest.mark.parametrize("kind", ["fast", "own", "sampler", "global"])
def test_random_states_can_be_set_on_other_loaders(kind):
    loader, other = shuffled()[kind], shuffled()[kind]
    draw(loader)
    states = random_states(loader, None)
    expected = draw(loader)
    set_random_states(states, other, None)
    assert draw(other) == expected


def test_modes_are_put_back_module_by_module_after_an_error_too():
    model = net()
    model[1].eval()

    def fails(guard):
        with guard:
            model.eval()
            model[1].train()
            model[1].running_mean.fill_(9)
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        fails(training_modes(model))
    assert [module.training for module in model] == [True, False, True, True, True]
    before = weights(model)
    model[1].running_mean.fill_(3)
    with pytest.raises(OSError, match="broken"):
        fails(preserve_state(model))
    assert (model[1].running_mean == 3).all()
    assert same(weights(model) | {"1.running_mean": before["1.running_mean"]}, before)
    assert [module.training for module in model] == [True, False, True, True, True]

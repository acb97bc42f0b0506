"""A picture comes as near to its target as its loss asks, by either method, and tells how it went."""

import gc

import pytest
import torch
from numpy.testing import assert_allclose

from lib.style import build_objective, optimise_image
from lib.style.extractors import Preprocess, vgg
from tests.style.helpers import picture


def squared(target):
    return lambda x: (x - target).square().sum()


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_a_picture_with_a_plain_error_for_its_loss_becomes_its_target(method):
    target = picture(12, 15)
    assert target.max() > 0.9
    found, losses = optimise_image(squared(target), torch.rand_like(target), 200, method=method)
    assert (found - target).square().mean() < 1e-5
    assert losses[0] > 1
    assert min(losses) == squared(target)(found)


@pytest.mark.parametrize("start", ["noise", "grey"])
def test_content_alone_brings_a_picture_back_from_anything(start):
    torch.manual_seed(0)
    net = vgg((1,), (16,), Preprocess((2.0,) * 3, (-1.0,) * 3), padding_mode="reflect").double().requires_grad_(False)
    content = picture(24, 28)
    begin = torch.rand_like(content) if start == "noise" else torch.full_like(content, 0.5)
    objective = build_objective(net, content=content, content_layers="relu1_1")
    found, losses = optimise_image(objective, begin, 300)
    assert (found - content).square().mean() < 1e-3
    assert min(losses) < 1e-3 * losses[0]


def test_the_network_s_weights_get_no_gradient(net):
    net.requires_grad_(True)
    objective = build_objective(net, content=picture(20, 20), content_layers="relu2_1")
    optimise_image(objective, torch.rand(1, 3, 20, 20).double(), 3)
    assert all(weight.grad is None for weight in net.parameters())


def test_pixels_stay_in_range_and_the_start_is_left_alone():
    start = torch.tensor([0.0, 0.3, 1.0]).repeat(12).view(1, 3, 3, 4)
    kept = start.clone()
    seen = []
    optimise_image(lambda x: -(x * 50).sum(), start, 20, callback=lambda step, x, loss: seen.append(x.clone()))
    assert torch.equal(start, kept)
    assert torch.stack(seen).min() >= 0
    assert torch.stack(seen).max() <= 1
    assert_allclose(seen[0], start, atol=0.0051)
    assert seen[-1].min() > 0.99


def test_black_and_white_pixels_can_move():
    start = torch.tensor([0.0, 1.0]).repeat(6).view(1, 3, 2, 2)
    for method in ("lbfgs", "adam"):
        found, _ = optimise_image(squared(1 - start), start, 300, method=method)
        assert_allclose(found, 1 - start, atol=0.02)


def test_the_callback_sees_each_step_and_can_end_it():
    steps = []

    def callback(step, x, loss):
        steps.append((step, loss))
        return step == 4

    for method in ("lbfgs", "adam"):
        steps.clear()
        _, losses = optimise_image(
            squared(picture(6, 6)), torch.rand(1, 3, 6, 6).double(), method=method, callback=callback
        )
        assert steps == list(enumerate(losses))
        assert len(losses) == 5


def test_steps_are_evaluations_and_the_best_picture_is_kept():
    values = iter([3.0, 1.0, 2.0, 5.0])
    seen = []

    def rising(x):
        seen.append(x.detach().clone())
        return x.sum() * 0 + next(values)

    found, losses = optimise_image(rising, torch.rand(1, 3, 2, 2), 4, method="adam")
    assert losses == [3.0, 1.0, 2.0, 5.0]
    assert torch.equal(found, seen[1])


def test_lbfgs_stops_where_there_is_nothing_to_gain():
    _, losses = optimise_image(lambda x: (x * 0).sum(), torch.rand(1, 3, 2, 2), 100)
    assert len(losses) < 10


def bytes_alive():
    return sum(each.nbytes for each in gc.get_objects() if issubclass(type(each), torch.Tensor))


@pytest.mark.parametrize(
    ("options", "tensors"),
    [({"method": "adam"}, 2), ({"history_size": 3}, 6), ({"history_size": 9}, 18), ({}, 40)],
)
def test_an_optimiser_keeps_as_many_tensors_of_the_picture_s_size_as_it_says(options, tensors):
    start = picture(40, 40)
    scale = torch.linspace(1, 100, start.numel()).double().view_as(start)  # so that no few steps are enough
    alive = []

    def look(step, x, loss):
        if step in (0, 59):  # counting takes long
            alive.append(bytes_alive() / start.nbytes)

    optimise_image(lambda x: (scale * (x - 0.4)).square().square().sum(), start, 60, callback=look, **options)
    assert tensors <= alive[1] - alive[0] < tensors + 12, "a line search has some more at hand"


def test_what_cannot_be_is_refused():
    x = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"'lbfg'.*'lbfgs'"):
        optimise_image(squared(x), x, method="lbfg")
    with pytest.raises(ValueError, match=r"start.*\[0, 1\].*0 to 2"):
        optimise_image(squared(x), torch.tensor([0.0, 2.0]))
    with pytest.raises(ValueError, match=r"steps.*1.*0"):
        optimise_image(squared(x), x, 0)
    with pytest.raises(FloatingPointError, match=r"nan.*step 0.*adam"):
        optimise_image(lambda x: x.sum() * torch.nan, x, method="adam")

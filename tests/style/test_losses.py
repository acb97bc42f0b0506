"""Losses against loops, gradients against differences, and a style that no order of places can change."""

import pytest
import torch
from numpy.testing import assert_allclose

from lib.style import Objective, build_objective, content_loss, gram, style_loss, total_variation
from lib.style.losses import Target
from tests.style.helpers import picture


def test_gram_is_the_loop():
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    n, c, h, w = features.shape
    looped = torch.zeros(n, c, c, dtype=torch.float64)
    for k in range(n):
        for i in range(c):
            for j in range(c):
                for y in range(h):
                    for x in range(w):
                        looped[k, i, j] += features[k, i, y, x] * features[k, j, y, x]
    assert_allclose(gram(features), looped / (c * h * w), rtol=1e-12)
    assert_allclose(gram(features.float()), looped / (c * h * w), rtol=1e-5, atol=1e-6)
    assert_allclose(gram(features), gram(features).mT)


def test_gram_of_a_batch_is_that_of_each():
    features = torch.randn(3, 4, 6, 5)
    assert_allclose(gram(features), torch.cat([gram(each[None]) for each in features]), rtol=1e-6)


def test_no_order_of_places_changes_the_style(net):
    features = torch.randn(1, 6, 7, 9, dtype=torch.float64)
    target = gram(torch.randn(1, 6, 4, 4, dtype=torch.float64))
    before = style_loss(gram(features), target)
    for seed in range(20):
        order = torch.randperm(63, generator=torch.Generator().manual_seed(seed))
        shuffled = features.flatten(2)[..., order].view_as(features)
        assert_allclose(style_loss(gram(shuffled), target), before, rtol=1e-12)
        assert content_loss(shuffled, features) > 0.5
    assert_allclose(style_loss(gram(features.roll((2, 3), (2, 3)).flip(3)), target), before, rtol=1e-12)


def test_the_size_of_a_picture_does_not_change_its_style():
    features = torch.rand(1, 4, 8, 8)
    assert_allclose(gram(features.tile(1, 1, 3, 2)), gram(features), rtol=1e-5)


def test_content_and_variation_are_their_loops():
    a, b = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(1, 3, 4, 5, dtype=torch.float64)
    looped = [sum((a[k] - b[0]).flatten() ** 2).item() / 60 for k in range(2)]
    assert_allclose(content_loss(a, b), looped)
    down = [sum((a[k, :, y + 1] - a[k, :, y]).flatten().square().sum() for y in range(3)) / 45 for k in range(2)]
    across = [
        sum((a[k, :, :, x + 1] - a[k, :, :, x]).flatten().square().sum() for x in range(4)) / 48 for k in range(2)
    ]
    assert_allclose(total_variation(a), torch.tensor(down) + torch.tensor(across))


@pytest.mark.parametrize("loss", ["content", "style", "variation"])
def test_gradients_of_each_loss(shallow, loss):
    x = picture(5, 6).requires_grad_()
    target = shallow(picture(5, 6, seed=1))
    function = {
        "content": lambda x: content_loss(shallow(x), target),
        "style": lambda x: style_loss(gram(shallow(x)), gram(target)),
        "variation": total_variation,
    }[loss]
    assert torch.autograd.gradcheck(function, x)


def test_gradients_of_a_whole_objective(shallow):
    options = {"content_layers": "0", "style_layers": ["0", "1"], "style_weight": 3.0, "variation_weight": 0.5}
    objective = build_objective(shallow, content=picture(6, 5, 1), style=picture(7, 8, 2), **options)
    assert torch.autograd.gradcheck(objective, picture(6, 5, 3, n=2).requires_grad_())


def test_an_objective_adds_up_losses_times_their_weights():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    targets = {
        "content": {"a": Target(x + 2, 3.0)},
        "style": {"a": Target(gram(x) + 4, 5.0), "b": Target(gram(x), 7.0)},
    }
    objective = Objective(lambda pictures: {"a": pictures, "b": pictures + 0}, **targets, variation_weight=2.0)
    parts = {name: part.item() for name, part in objective.parts(x).items()}
    assert parts == pytest.approx(
        {"content": 3 * 2**2, "style": 5 * 4**2, "variation": 2 * ((1 + 4) / 2 + (4 + 9) / 2)}
    )
    assert objective(torch.cat([x, x])).item() == pytest.approx(2 * sum(parts.values()))
    assert objective.parts(x)["style"].shape == (1,)
    assert set(Objective(objective.extract, **targets).parts(x)) == {"content", "style"}  # no variation unless asked


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\[1, 3, 4, 4\].*\[1, 3, 4, 5\]"):
        content_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"\[1, 3, 3\].*\[1, 4, 4\]"):
        style_loss(torch.zeros(1, 3, 3), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"\[n, c, h, w\].*\[3, 4, 4\]"):
        gram(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"\[n, c, h, w\].*\[1, 3, 1, 4\]"):
        total_variation(torch.zeros(1, 3, 1, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_sums_and_squares_stay_finite(dtype):
    features = (torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 300).to(dtype)
    wide, far = features.float(), torch.zeros_like(features)
    for ours, exact in (
        (gram(features), gram(wide)),
        (content_loss(features, far), content_loss(wide, far.float())),
        (style_loss(gram(features), gram(far)), style_loss(gram(wide), gram(far.float()))),
        (total_variation(features), total_variation(wide)),
    ):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.float(), exact, rtol=0.02, atol=0)

"""An objective adds up what it was told to, and relative weights mean the same for every network."""

import pytest
import torch
from numpy.testing import assert_allclose

from lib.style import build_objective, content_loss, gram, hook_features, style_loss, total_variation
from tests.style.helpers import hooked, picture


def test_the_parts_are_the_losses_times_their_weights(net):
    content, style, x = picture(20, 24, 1), picture(30, 18, 2), picture(20, 24, 3)
    objective = build_objective(
        net,
        content=content,
        content_layers={"conv1_2": 1, "relu2_1": 3},
        content_weight=2.0,
        style=style,
        style_layers=["relu1_1", "relu2_1"],
        style_weight=5.0,
        variation_weight=7.0,
        relative=False,
    )
    extract = hook_features(net, ["conv1_2", "relu1_1", "relu2_1"])
    of_content, of_style, of_x = extract(content), extract(style), extract(x)
    parts = objective.parts(x)
    expected = sum(w * content_loss(of_x[k], of_content[k]) for k, w in (("conv1_2", 0.5), ("relu2_1", 1.5)))
    assert_allclose(parts["content"], expected)
    expected = sum(2.5 * style_loss(gram(of_x[k]), gram(of_style[k])) for k in ("relu1_1", "relu2_1"))
    assert_allclose(parts["style"], expected)
    assert_allclose(parts["variation"], 7 * total_variation(x))
    assert_allclose(objective(x), sum(part.sum() for part in parts.values()))
    assert hooked(net) == 0


def test_relative_weights_do_not_depend_on_the_scale_of_a_network(net):
    options = {"content": picture(20, 20, 1), "content_layers": "conv1_2", "style": picture(20, 20, 2)}
    options |= {"style_layers": ["conv1_1", "conv1_2"], "style_weight": 4.0}
    x = picture(20, 20, 3)
    plain = build_objective(net, **options)(x)
    with torch.no_grad():
        net.conv1_1.weight *= 10
        net.conv1_1.bias *= 10
        net.conv1_2.bias *= 10
    assert_allclose(build_objective(net, **options)(x), plain)


def test_a_picture_costs_nothing_to_itself_and_one_without_features_the_weights(net):
    x = picture(20, 20)
    options = {"content": x, "content_layers": "relu2_1", "style": x, "style_layers": ["relu1_1", "relu2_2"]}
    objective = build_objective(net, **options, content_weight=2.0, style_weight=3.0)
    assert objective(x) < 1e-20
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    parts = objective.parts(x)
    assert_allclose(parts["content"], 2.0)
    assert_allclose(parts["style"], 3.0)


def test_a_batch_costs_what_its_pictures_cost(net):
    objective = build_objective(
        net,
        content=picture(20, 20, 1),
        content_layers="conv2_1",
        style=picture(9, 30, 2).tile(1, 1, 2, 1),
        style_layers="conv1_2",
    )
    x = picture(20, 20, 3, n=3)
    assert_allclose(objective(x), sum(objective(each[None]) for each in x))
    assert objective.parts(x)["style"].shape == (3,)


def test_a_layer_that_is_silent_does_not_divide_by_zero(net):
    with torch.no_grad():
        net.conv1_1.weight.zero_()
        net.conv1_1.bias.fill_(-1)
    objective = build_objective(net, content=picture(20, 20), content_layers="relu1_1")
    assert objective(picture(20, 20, 1)) == 0


def test_what_is_missing_or_negative_is_named(net):
    with pytest.raises(ValueError, match=r"content.*style"):
        build_objective(net, content_layers="conv1_1")
    with pytest.raises(ValueError, match="style_layers"):
        build_objective(net, style=picture(20, 20))
    with pytest.raises(ValueError, match=r"content_layers.*\{'conv1_1': -1\}"):
        build_objective(net, content=picture(20, 20), content_layers={"conv1_1": -1})
    with pytest.raises(ValueError, match="'conv7'"):
        build_objective(net, content=picture(20, 20), content_layers="conv7")

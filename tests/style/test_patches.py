"""In patches a picture has the loss and the gradient that it has in one piece, whatever its size and the tiles'."""

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from lib.style import build_objective
from lib.style.extractors import RandomFilters
from lib.style.patches import Patches
from tests.style.helpers import hooked, picture

LAYERS = {"content_layers": ["conv1_2", "relu2_2"], "style_layers": ["relu1_1", "conv2_1", "relu2_2"]}


def both(net, x, tile, **options):
    return [build_objective(net, tile=size, **options) for size in (tile, None)]


@pytest.mark.parametrize("tile", [1, 8, 13, 16, 64])
@pytest.mark.parametrize("size", [(32, 32), (37, 50), (14, 61), (33, 17)])
def test_loss_and_gradient_are_those_of_one_piece(net, size, tile):
    options = LAYERS | {
        "content": picture(*size, 1),
        "style": picture(21, 45, 2),
        "style_weight": 3.0,
        "variation_weight": 0.2,
    }
    x = picture(*size, 3).requires_grad_()
    losses = [objective(x) for objective in both(net, x, tile, **options)]
    patched, whole = (torch.autograd.grad(2 * loss, x)[0] for loss in losses)
    assert_allclose(losses[0].item(), losses[1].item(), rtol=1e-12)
    assert_allclose(patched, whole, rtol=1e-9, atol=1e-15)
    assert hooked(net) == 0


@pytest.mark.parametrize("options", [{"content": 1}, {"style": 2}, {"content": 1, "variation_weight": 1.0}])
def test_each_part_alone(net, options):
    pictures = {key: picture(30, 34, value) for key, value in options.items() if key != "variation_weight"}
    options = {f"{key}_layers": LAYERS[f"{key}_layers"] for key in pictures} | options | pictures
    x = picture(30, 34, 3).requires_grad_()
    patched, whole = both(net, x, 8, **options)
    assert_allclose(torch.autograd.grad(patched(x), x)[0], torch.autograd.grad(whole(x), x)[0], rtol=1e-9, atol=1e-15)
    parts, expected = patched.parts(x), whole.parts(x)
    assert parts.keys() == expected.keys()
    for name in parts:
        assert_allclose(parts[name], expected[name].detach(), rtol=1e-12)


def test_random_filters_and_layers_without_padding_are_tiled_too():
    odd = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(4, 5, 3))
    for net, layers in ((odd, ["1", "3"]), (RandomFilters(2, {3: 1, 15: 4}), ["filters3", "filters15"])):
        net.double().requires_grad_(False)
        options = {"content": picture(47, 66, 1), "content_layers": layers, "style": picture(40, 40, 2)}
        x = picture(47, 66, 3).requires_grad_()
        patched, whole = both(net, x, 12, **options, style_layers=layers)
        assert_allclose(patched(x).item(), whole(x).item(), rtol=1e-12)
        assert_allclose(
            torch.autograd.grad(patched(x), x)[0], torch.autograd.grad(whole(x), x)[0], rtol=1e-9, atol=1e-15
        )


def test_no_piece_is_larger_than_a_tile_and_its_surroundings(net):
    patches = Patches(net, ["relu2_2"], 16)
    x = picture(100, 130)
    sizes = [(piece.cut[0].stop - piece.cut[0].start) for row in patches.grid(x) for piece in row]
    field = patches.fields["relu2_2"]
    assert max(sizes) <= 16 + field.before + field.after + field.stride
    assert len(patches.grid(x)) == 7
    assert len(patches.grid(x)[0]) == 9


def test_what_cannot_be_tiled_is_refused(net):
    with pytest.raises(ValueError, match=r"tile.* 0"):
        build_objective(net, content=picture(20, 20), content_layers="conv1_1", tile=0)
    objective = build_objective(net, content=picture(20, 20), content_layers="conv1_1", tile=8)
    with pytest.raises(ValueError, match=r"\[1, 3, h, w\].*\[2, 3, 20, 20\]"):
        objective(picture(20, 20, n=2))
    with pytest.raises(ValueError, match="size"):
        objective(picture(20, 26))
    objective = build_objective(net, style=picture(20, 20), style_layers="relu2_2", tile=8)
    with pytest.raises(ValueError, match=r"13x40.*relu2_2.*14x14.*tile"):
        objective(picture(13, 40))

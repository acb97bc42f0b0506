"""The activation's mean and variance, and the shapes of blocks and nets."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.nn.layers import GeneralReLU, conv_block, convnet
from lib.nn.norm import BatchNorm, GroupNorm


@pytest.mark.parametrize("leak", [0.0, 0.1, 0.5, 1.0])
def test_general_relu_has_the_mean_and_variance_of_its_docstring(leak):
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = GeneralReLU(leak)(x)
    assert plain.mean().item() == pytest.approx((1 - leak) / math.sqrt(2 * math.pi), abs=0.003)
    assert plain.square().mean().item() == pytest.approx((1 + leak**2) / 2, abs=0.003)
    assert plain.var().item() == pytest.approx((1 + leak**2) / 2 - (1 - leak) ** 2 / (2 * math.pi), abs=0.003)
    assert GeneralReLU(leak, GeneralReLU.centring(leak))(x).mean().item() == pytest.approx(0, abs=0.003)


def test_general_relu_is_torchs_shifted_and_cut():
    x = torch.linspace(-3, 3, 61)
    assert torch.equal(GeneralReLU()(x), F.relu(x))
    assert torch.equal(GeneralReLU(0.2)(x), F.leaky_relu(x, 0.2))
    torch.testing.assert_close(GeneralReLU(0.2, 0.4, 1.5)(x), (F.leaky_relu(x, 0.2) - 0.4).clamp(max=1.5))
    assert repr(GeneralReLU(0.2, 0.4, 1.5)) == "GeneralReLU(negative_slope=0.2, subtract=0.4, maximum=1.5)"
    assert repr(GeneralReLU()) == "GeneralReLU()"
    assert repr(GeneralReLU(maximum=0.0)) == "GeneralReLU(maximum=0)"


def test_general_relu_leaves_its_input_alone():
    x = torch.randn(10, requires_grad=True)
    before = x.detach().clone()
    GeneralReLU(0.1, 0.4)(x).sum().backward()
    assert torch.equal(x.detach(), before)
    assert torch.equal(x.grad, torch.where(before > 0, 1.0, 0.1))


def test_a_norm_takes_the_place_of_the_bias():
    assert [name for name, _ in conv_block(1, 8).named_children()] == ["conv", "act"]
    assert conv_block(1, 8).conv.bias is not None
    block = conv_block(1, 8, 5, 2, norm=BatchNorm, act=None)
    assert [name for name, _ in block.named_children()] == ["conv", "norm"]
    assert block.conv.bias is None
    assert block(torch.zeros(2, 1, 28, 28)).shape == (2, 8, 14, 14)


@pytest.mark.parametrize("norm", [None, BatchNorm, nn.BatchNorm2d, lambda channels: GroupNorm(1, channels)])
@pytest.mark.parametrize("size", [28, 32, 64])
def test_convnet_gives_a_value_for_each_class(norm, size):
    model = convnet((4, 8, 8, 8), 7, act=lambda: GeneralReLU(0.1, 0.4), norm=norm, c_in=3)
    assert model(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_convnet_halves_to_a_pixel():
    model, x, sides = convnet(), torch.zeros(2, 1, 28, 28), []
    for block in model[:5]:
        x = block(x)
        sides.append(x.shape[-1])
    assert sides == [14, 7, 4, 2, 1]


def test_convnet_needs_channels():
    with pytest.raises(ValueError, match=r"convnet.*channels"):
        convnet(())

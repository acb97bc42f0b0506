"""Residual blocks: what the shortcut passes on, shapes at odd sizes, and each option of the net."""

import re

import pytest
import torch
from torch import nn

from lib.nn.norm import BatchNorm
from lib.nn.resnet import FixupBlock, ResBlock, ResNet


@pytest.mark.parametrize("block", [ResBlock, FixupBlock])
@pytest.mark.parametrize(("c_in", "c_out", "stride"), [(4, 4, 1), (4, 4, 2), (4, 6, 1), (4, 6, 2)])
@pytest.mark.parametrize("side", [7, 8])
def test_branch_and_shortcut_agree_on_the_shape(block, c_in, c_out, stride, side):
    y = block(c_in, c_out, stride)(torch.randn(2, c_in, side, side))
    assert y.shape == (2, c_out, -(-side // stride), -(-side // stride))


def test_a_zero_initialised_branch_leaves_the_identity():
    x = torch.randn(2, 4, 8, 8)
    block = ResBlock(4, 4)
    nn.init.zeros_(block.branch[1].norm.weight)
    assert torch.equal(block(x), x.relu())
    assert sum(p.numel() for p in block.shortcut.parameters()) == 0
    fixed = FixupBlock(4, 4)
    nn.init.zeros_(fixed.conv2.weight)
    assert torch.equal(fixed(x), x.relu())


def test_the_shortcut_averages_and_mixes():
    x = torch.randn(2, 4, 8, 8)
    block = ResBlock(4, 6, 2, norm=None)
    nn.init.zeros_(block.branch[1].conv.weight)
    nn.init.zeros_(block.branch[1].conv.bias)
    mix = block.shortcut[1].conv
    expected = nn.functional.conv2d(nn.functional.avg_pool2d(x, 2), mix.weight, mix.bias).relu()
    torch.testing.assert_close(block(x), expected)


def test_without_shortcuts_the_depth_and_the_branches_stay():
    kept, dropped = ResNet((4, 8), 2), ResNet((4, 8), 2, shortcut=False)
    layers = [sum(isinstance(m, nn.Conv2d) for m in model.modules()) for model in (kept, dropped)]
    assert layers == [1 + 2 * 4 + 2, 1 + 2 * 4]
    x = torch.randn(2, 4, 8, 8)
    block = ResBlock(4, 4, shortcut=False).eval()
    torch.testing.assert_close(block(x), block.branch(x).relu())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"blocks": (1, 2, 1)},
        {"norm": BatchNorm},
        {"norm": None},
        {"block": FixupBlock},
        {"act": nn.SiLU},
        {"dropout": 0.1},
    ],
)
def test_nets_answer_and_pass_gradients_back(options):
    model = ResNet((8, 12, 16), classes=7, c_in=3, stem=4, **options)
    y = model(torch.randn(4, 3, 28, 28))
    assert y.shape == (4, 7)
    y.square().sum().backward() if y.any() else y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_default_has_at_most_1_3_million_parameters():
    assert sum(p.numel() for p in ResNet().parameters()) <= 1.3e6


@pytest.mark.parametrize("blocks", [0, (1, 1), (1, 0, 1)])
def test_each_stage_has_blocks(blocks):
    with pytest.raises(ValueError, match=f"3 stages.*blocks.*{re.escape(str(blocks))}"):
        ResNet((8, 8, 8), blocks)


def test_a_fixup_net_refuses_to_drop_its_shortcuts():
    with pytest.raises(ValueError, match="shortcuts"):
        ResNet((8, 8), block=FixupBlock, shortcut=False)

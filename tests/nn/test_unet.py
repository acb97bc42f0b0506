"""The U-Net: its shapes, its embeddings, and the parts against torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F

from lib.nn.unet import Attention, TimedResBlock, UNet, time_embedding


def small(**options):
    torch.manual_seed(0)
    net = UNet(**{"c_in": 2, "channels": (8, 16, 24), "classes": 5, **options})
    for parameter in net.parameters():  # zeros at the start would hide the embedding
        torch.nn.init.normal_(parameter, std=0.1)
    return net


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (32, 32)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_what_comes_out_has_the_shape_of_what_goes_in(size, blocks):
    x = torch.randn(3, 2, *size)
    assert small(blocks=blocks)(x, torch.tensor([0, 500, 999])).shape == x.shape


@pytest.mark.parametrize("patch", [2, 4])
def test_patches_are_pixels_of_more_channels(patch):
    net, x, t = small(patch=patch), torch.randn(3, 2, 16, 32), torch.tensor([0, 500, 999])
    inner = small(c_in=2 * patch**2)
    inner.load_state_dict(net.state_dict())
    squares = x.reshape(3, 2, 16 // patch, patch, 32 // patch, patch).permute(0, 1, 3, 5, 2, 4)
    expected = inner(squares.reshape(3, 2 * patch**2, 16 // patch, 32 // patch), t)
    expected = expected.reshape(squares.shape).permute(0, 1, 4, 2, 5, 3).reshape(x.shape)
    torch.testing.assert_close(net(x, t), expected)
    with pytest.raises(ValueError, match=rf" {4 * patch}, .*\[3, 2, 16, 30\]"):
        net(x[..., :-2], t)


def test_four_levels_halve_three_times():
    net = small(channels=(8,) * 4, attention=(False,) * 4, classes=None)
    for x in (torch.randn(1, 2, 8, 24), torch.randn(1, 2, 40, 8)):
        assert net(x, torch.zeros(1)).shape == x.shape
    for side in (4, 6, 12):
        with pytest.raises(ValueError, match=f" 8, .*24, {side}"):
            net(torch.randn(1, 2, 24, side), torch.zeros(1))
    seen = []
    net.middle.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(torch.randn(1, 2, 8, 24), torch.zeros(1))
    assert seen == [(1, 8, 1, 3)]


def test_what_a_net_is_by_default():
    wide = {"channels": (32, 64, 96), "attention": (False, False, True)}
    net, same = UNet(), UNet(c_in=1, **wide, blocks=1, classes=None, patch=1)
    assert [(key, value.shape) for key, value in net.state_dict().items()] == [
        (key, value.shape) for key, value in same.state_dict().items()
    ]
    assert net(torch.randn(2, 1, 28, 28), torch.zeros(2)).shape == (2, 1, 28, 28)
    assert [part.heads for part in net.modules() if isinstance(part, Attention)] == [4] * 4
    assert {part.num_groups for part in net.modules() if isinstance(part, torch.nn.GroupNorm)} == {8}


def test_a_new_net_predicts_nothing():
    assert (UNet(1, (8, 16), attention=(False, True))(torch.randn(2, 1, 8, 8), torch.zeros(2)) == 0).all()


def test_time_and_class_change_the_prediction_each_sample_its_own():
    net, x = small(), torch.randn(1, 2, 8, 8).expand(3, -1, -1, -1)
    by_time = net(x, torch.tensor([10.0, 10.0, 900.0]))
    by_class = net(x, torch.full((3,), 10.0), torch.tensor([1, 1, 2]))
    for found in (by_time, by_class):
        torch.testing.assert_close(found[0], found[1])
        assert (found[0] - found[2]).abs().max() > 1e-3


def test_no_label_is_the_null_label():
    net, x, t = small(), torch.randn(3, 2, 8, 8), torch.arange(3.0)
    assert torch.equal(net(x, t), net(x, t, torch.full((3,), net.null)))


def test_every_weight_learns():
    net = small()
    net(torch.randn(4, 2, 8, 8), torch.arange(4.0), torch.arange(4)).square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_times_are_coded_by_cosines_and_sines():
    t = torch.tensor([0.0, 1.0, 250.5])
    found = time_embedding(t, 6)
    for k in range(3):
        angle = t * 10_000 ** (-k / 3)
        torch.testing.assert_close(found[:, k], angle.cos(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found[:, 3 + k], angle.sin(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"size.* 5"):
        time_embedding(t, 5)


def test_attention_is_torchs():
    torch.manual_seed(1)
    ours, theirs = Attention(16, heads=4), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    torch.nn.init.normal_(ours.out.weight)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 16, 3, 5)
    pixels = ours.norm(x).flatten(2).transpose(1, 2)
    expected = x + theirs(pixels, pixels, pixels)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"10 channels.* 4 heads"):
        Attention(10)


def test_a_block_starts_as_its_shortcut_and_its_embedding_scales_and_shifts():
    torch.manual_seed(2)
    block, x, emb = TimedResBlock(8, 8, 6), torch.randn(2, 8, 4, 4), torch.randn(2, 6)
    assert torch.equal(block(x, emb), x)
    torch.nn.init.normal_(block.conv2.weight)
    scale, shift = block.emb_proj(emb)[:, :, None, None].chunk(2, 1)
    inner = block.norm2(block.conv1(F.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, emb), x + block.conv2(F.silu(inner)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, t: net(torch.zeros(2, 2, 8, 6), t), r"\[n, 2, h, w\].* 4.*\[2, 2, 8, 6\]"),
        (lambda net, t: net(torch.zeros(2, 1, 8, 8), t), r"\[n, 2, h, w\].* 4.*\[2, 1, 8, 8\]"),
        (
            lambda net, t: net(torch.zeros(2, 2, 8, 8), t, torch.tensor([0, 6])),
            r"labels.*0.*4.*5.*\[0, 6\]",
        ),
        (lambda net, t: net(torch.zeros(2, 2, 8, 8), t, torch.tensor([-1, 0])), r"labels.*0.*4.*5.*\[-1, 0\]"),
        (lambda _, t: small(classes=None)(torch.zeros(2, 2, 8, 8), t, torch.tensor([0, 1])), "classes"),
        (lambda _, t: UNet(1, (8, 16)), r"attention.*\(False, False, True\).*channels.*\(8, 16\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(small(), torch.zeros(2))


def test_the_wavelengths_span_what_is_said():
    codes = time_embedding(torch.tensor([0.0, 2 * math.pi]), 8)
    assert codes[1, 0] == pytest.approx(1, abs=1e-5)

"""Convolutions by hand are torch's, and so are their gradients: all shapes, strides, paddings, dilations and groups."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.scratch.conv import Conv2d, ConvTranspose2d, Flatten, Window
from lib.scratch.layers import Linear, ReLU, SoftmaxCrossEntropy
from lib.scratch.module import Sequential

SEEDS = st.integers(0, 2**31)
SMALL = st.integers(1, 3)
SIDES = st.integers(1, 9)
WINDOWS = st.builds(Window, st.integers(1, 4), SMALL, st.integers(0, 3), SMALL)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Say whether shapes are equal and numbers within 1e-6 of the largest one."""
    scale = theirs.abs().max().item() if theirs.numel() else 0
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=1e-6 * scale + 1e-15)


def agrees(layer, function, x: torch.Tensor, seed: int, **options: int) -> None:
    """Compare output and all gradients of a layer with those of torch's function of the same weights."""
    layer.bias.copy_(normal(len(layer.bias), seed=seed + 1))
    leaves = [t.detach().clone().requires_grad_() for t in (x, layer.weight, layer.bias)]
    expected = function(*leaves, **vars_of(layer.window), groups=layer.groups, **options)
    y = layer(x)
    assert same(y, expected.detach())
    grad = normal(*y.shape, seed=seed + 2)
    expected.backward(grad)
    for ours, leaf in zip((layer.backward(grad), layer.weight.grad, layer.bias.grad), leaves, strict=True):
        assert same(ours, leaf.grad)


def vars_of(window: Window) -> dict[str, int]:
    return {name: value for name, value in vars(window).items() if name != "kernel"}


def made(kind, c_in: int, c_out: int, window: Window, groups: int, seed: int, **options: int):
    options = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(seed), **options}
    return kind(c_in, c_out, window.kernel, **vars_of(window), groups=groups, **options)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), SMALL, SMALL, SIDES, SIDES, WINDOWS, SMALL, SEEDS)
def test_a_convolution_and_its_gradients_are_those_of_torch(n, c_in, c_out, h, w, window, groups, seed):
    assume(window.positions(h) > 0 and window.positions(w) > 0)
    layer = made(Conv2d, c_in * groups, c_out * groups, window, groups, seed)
    agrees(layer, F.conv2d, normal(n, c_in * groups, h, w, seed=seed), seed)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), SMALL, SMALL, SIDES, SIDES, WINDOWS, SMALL, st.integers(0, 2), SEEDS)
def test_a_transposed_convolution_and_its_gradients_are_those_of_torch(
    n, c_in, c_out, h, w, window, groups, more, seed
):
    assume(more < window.stride)
    layer = made(ConvTranspose2d, c_in * groups, c_out * groups, window, groups, seed, output_padding=more)
    assume(layer._side(h) > 0 and layer._side(w) > 0)
    x = normal(n, c_in * groups, h, w, seed=seed)
    agrees(layer, F.conv_transpose2d, x, seed, output_padding=more)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), SMALL, SIDES, SIDES, WINDOWS, SEEDS)
def test_fold_is_the_transpose_of_unfold_and_both_are_those_of_torch(n, c, h, w, window, seed):
    assume(window.positions(h) > 0 and window.positions(w) > 0)
    x = normal(n, c, h, w, seed=seed)
    columns = window.unfold(x)
    options = vars_of(window)
    theirs = F.unfold(x, window.kernel, **options)  # [n, c * kernel², positions]
    assert torch.equal(columns, theirs.transpose(0, 1).flatten(1))
    other = normal(*columns.shape, seed=seed + 1)
    back = window.fold(other, x.shape)
    by_item = other.view(len(other), n, -1).transpose(0, 1)
    assert same(back, F.fold(by_item, (h, w), window.kernel, **options))
    assert (other * columns).sum().item() == pytest.approx((back * x).sum().item(), rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SMALL, SMALL, SIDES, SIDES, WINDOWS, SEEDS)
def test_a_transposed_convolution_is_the_transpose_of_the_convolution(c_in, c_out, h, w, window, seed):
    """With the same weights <conv(x), y> = <x, transposed(y)>, where the sizes divide."""
    assume(window.positions(h) > 0 and window.positions(w) > 0)
    assume(all((window.positions(s) - 1) * window.stride == s + 2 * window.padding - reach(window) for s in (h, w)))
    conv = made(Conv2d, c_in, c_out, window, 1, seed)
    back = made(ConvTranspose2d, c_out, c_in, window, 1, seed)
    back.weight.copy_(conv.weight)
    x = normal(2, c_in, h, w, seed=seed)
    there = conv(x)
    y = normal(*there.shape, seed=seed + 1)
    assert (there * y).sum().item() == pytest.approx((x * back(y)).sum().item(), rel=1e-9, abs=1e-9)


def reach(window: Window) -> int:
    return window.dilation * (window.kernel - 1) + 1


@pytest.mark.parametrize("shape", [(1, 1, 3, 2), (1, 4, 5, 5)])
@pytest.mark.parametrize("kernel", [1, 2])
def test_the_way_back_leaves_the_input_alone(shape, kernel):
    """The patches of a small input could be a view of it, and the way back writes over the patches."""
    x = normal(*shape, seed=0)
    before = x.clone()
    layer = Conv2d(shape[1], 2, kernel, dtype=torch.float64)
    layer.backward(layer(x))
    assert torch.equal(x, before)


def test_any_layout_of_the_input_will_do():
    x = normal(3, 4, 6, 5, seed=0)
    layer = Conv2d(4, 2, 3, stride=2, dtype=torch.float64)
    expected = layer(x)
    assert torch.equal(layer(x.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(layer(x.flip(0).flip(0)[:, :, :, :]), expected)
    assert torch.equal(layer(torch.cat([x, x])[3:]), expected)
    one = x[:1].expand(3, -1, -1, -1)
    assert torch.equal(layer(one), layer(one.contiguous()))


def test_a_net_of_convolutions_goes_all_the_way_back():
    options = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    net = Sequential(
        Conv2d(1, 4, 5, stride=2, padding=2, **options), ReLU(), Conv2d(4, 3, stride=2, padding=1, **options), ReLU(),
        Flatten(), Linear(3 * 3 * 3, 5, **options),
    )  # fmt: skip
    loss, x, targets = SoftmaxCrossEntropy(), normal(6, 1, 11, 12, seed=1), torch.arange(6) % 5
    value = loss(net(x), targets)
    back = net.backward(loss.backward())
    leaves = [t.detach().clone().requires_grad_() for t in (x, *net.parameters())]
    x_, w1, b1, w2, b2, w3, b3 = leaves
    hidden = F.relu(F.conv2d(F.relu(F.conv2d(x_, w1, b1, 2, 2)), w2, b2, 2, 1))
    expected = F.cross_entropy(hidden.flatten(1) @ w3 + b3, targets)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    for ours, leaf in zip((back, *(p.grad for p in net.parameters())), leaves, strict=True):
        assert same(ours, leaf.grad)


@pytest.mark.parametrize(
    ("layer", "looked_at"), [(Conv2d(64, 96, 3, groups=2), 288), (ConvTranspose2d(64, 96, 3), 576)]
)
def test_weights_start_with_variance_two_over_what_they_look_at(layer, looked_at):
    assert layer.weight.std().item() == pytest.approx((2 / looked_at) ** 0.5, rel=0.03)
    assert not layer.bias.any()


def test_weights_are_drawn_from_the_generator():
    first, second = (Conv2d(2, 3, generator=torch.Generator().manual_seed(1)).weight for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Conv2d(3, 4)(torch.ones(2, 1, 5, 5)), "Conv2d(3, 4, 3) takes [n, 3, h, w], got [2, 1, 5, 5]"),
        (lambda: Conv2d(3, 4)(torch.ones(3, 5, 5)), "takes [n, 3, h, w], got [3, 5, 5]"),
        (lambda: Conv2d(3, 4, padding=2)(torch.ones(3, 3, 0, 5)), "got [3, 3, 0, 5]"),
        (lambda: Conv2d(3, 4)(torch.ones(2, 3, 5, 5).double()), "holds torch.float32, got an input of torch.float64"),
        (lambda: Conv2d(1, 1, 5, dilation=2)(torch.ones(1, 1, 8, 9)), "does not fit into an input of [1, 1, 8, 9]"),
        (lambda: Conv2d(3, 4, groups=2), "3 and 4 channels cannot both be split into 2 groups"),
        (lambda: Conv2d(3, 4, stride=0), "Conv2d(3, 4, 3, stride=0): stride must be a whole number, at least 1, got 0"),
        (lambda: Conv2d(3, 4, padding=-1), "padding must be a whole number, at least 0, got -1"),
        (lambda: Conv2d(3, 4, kernel=(3, 3)), "kernel must be a whole number, at least 1, got (3, 3)"),
        (
            lambda: ConvTranspose2d(3, 4, stride=2, output_padding=2),
            "output_padding must be from 0 to stride - 1, got 2",
        ),
        (lambda: ConvTranspose2d(1, 1, 2, padding=1)(torch.ones(1, 1, 1, 4)), "the padding leaves [1, 1, 0, 3]"),
        (lambda: ConvTranspose2d(3, 4)(torch.ones(2, 4, 5, 5)), "ConvTranspose2d(3, 4, 3) takes [n, 3, h, w], got"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


@pytest.mark.parametrize("layer", [Conv2d(2, 3), ConvTranspose2d(2, 3)])
def test_the_gradient_has_the_shape_of_the_output(layer):
    layer(torch.ones(1, 2, 5, 5))
    with pytest.raises(ValueError, match=r"backward: the gradient has the shape of the output, .* got \[1, 3, 1, 1\]"):
        layer.backward(torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("layer", [Conv2d(2, 3), ConvTranspose2d(2, 3), Flatten()])
def test_there_is_no_way_back_before_the_call(layer):
    with pytest.raises(RuntimeError, match="call it before backward"):
        layer.backward(torch.ones(1, 3, 3, 3))


def test_a_convolution_goes_back_once_for_each_call():
    layer = Conv2d(1, 1)
    y = layer(torch.ones(1, 1, 4, 4))
    layer.backward(y)
    with pytest.raises(RuntimeError, match="call it before backward"):
        layer.backward(y)


def test_its_text_is_how_it_is_called():
    assert repr(Conv2d(4, 8, 3, 2, 1, groups=4)) == "Conv2d(4, 8, 3, stride=2, padding=1, groups=4)"
    assert repr(ConvTranspose2d(4, 8, 4, 2, output_padding=1)) == "ConvTranspose2d(4, 8, 4, stride=2, output_padding=1)"

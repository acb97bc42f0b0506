"""The four normalisations against torch's: outputs, gradients, buffers and what is kept."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.nn.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm

C = 6
PAIRS = {
    "layer": (lambda: LayerNorm((C, 4, 5)), lambda: nn.LayerNorm((C, 4, 5))),
    "batch": (lambda: BatchNorm(C, momentum=0.3), lambda: nn.BatchNorm2d(C, momentum=0.3)),
    "group": (lambda: GroupNorm(3, C), lambda: nn.GroupNorm(3, C)),
    "instance": (lambda: InstanceNorm(C), lambda: nn.InstanceNorm2d(C)),
    "affine": (lambda: InstanceNorm(C, affine=True), lambda: nn.InstanceNorm2d(C, affine=True)),
}


def exchanged(name: str) -> tuple[nn.Module, nn.Module]:
    """Make ours and torch's in float64, with torch's random state loaded into ours: the keys are the same."""
    ours, theirs = (make().double() for make in PAIRS[name])
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31), n=st.integers(1, 5), scale=st.sampled_from([1e-3, 1.0, 1e3]), shift=st.floats(-50, 50)
)
def test_training_and_evaluation_are_torchs(name, seed, n, scale, shift):
    torch.manual_seed(seed)
    ours, theirs = exchanged(name)
    for training in (True, True, False):
        data = torch.randn(n, C, 4, 5, dtype=torch.float64) * scale + shift
        weights = torch.randn_like(data)
        results = []
        for norm in (ours.train(training), theirs.train(training)):
            norm.zero_grad()
            x = data.clone().requires_grad_()
            y = norm(x)
            (y * weights).sum().backward()
            results.append([y, x.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", [(7, C), (5, C, 9), (2, C, 3, 4, 2)])
def test_batch_norm_takes_any_space(shape):
    theirs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}[len(shape)](C)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(BatchNorm(C)(x), theirs(x))


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4)])
def test_layer_norm_takes_any_axes_before(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(LayerNorm(4)(x), nn.LayerNorm(4)(x))


def test_one_channel_is_normalised_by_itself():
    x = torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(InstanceNorm(1)(x), nn.InstanceNorm2d(1)(x))


def test_group_norm_joins_layer_and_instance():
    x = torch.randn(3, C, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(GroupNorm(1, C)(x), nn.functional.layer_norm(x, x.shape[1:]))
    torch.testing.assert_close(GroupNorm(C, C)(x), InstanceNorm(C)(x))


def test_evaluation_leaves_the_averages_and_training_counts():
    norm, x = BatchNorm(C), torch.randn(4, C, 2, 2, generator=torch.Generator().manual_seed(0))
    norm(x)
    assert norm.num_batches_tracked == 1
    before = norm.running_mean.clone()
    norm.eval()(x + 5)
    assert norm.num_batches_tracked == 1
    assert torch.equal(norm.running_mean, before)


def test_the_averages_keep_their_precision_under_autocast():
    norm = BatchNorm(C)
    x = torch.randn(8, C, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    y = norm(x.bfloat16())
    assert norm.running_mean.dtype == torch.float32
    torch.testing.assert_close(y.float(), nn.BatchNorm2d(C)(x), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("shape", [(1, C), (1, C, 1, 1)])
def test_a_batch_of_one_has_no_variance(shape):
    norm = BatchNorm(C)
    with pytest.raises(ValueError, match=rf"BatchNorm\(6\).*{re.escape(str(list(shape)))}.*drop_last"):
        norm(torch.ones(shape))
    assert norm.num_batches_tracked == 0
    assert norm.eval()(torch.ones(shape)).shape == shape


@pytest.mark.parametrize(
    ("norm", "shape", "message"),
    [
        (BatchNorm(3), (2, 4, 5, 5), r"BatchNorm\(3\).*\[2, 4, 5, 5\].*\[n, 3, \.\.\.\]"),
        (BatchNorm(3), (3,), r"BatchNorm\(3\).*\[3\].*\[n, 3, \.\.\.\]"),
        (InstanceNorm(3), (2, 4, 5, 5), r"InstanceNorm\(3\).*\[2, 4, 5, 5\].*\[n, 3, \.\.\.\]"),
        (InstanceNorm(3), (2, 3, 1, 1), r"InstanceNorm\(3\).*\[2, 3, 1, 1\].*variance"),
        (GroupNorm(3, 6), (2, 4, 5), r"GroupNorm\(3, 6\).*\[2, 4, 5\].*\[n, 6, \.\.\.\]"),
        (GroupNorm(3, 3), (2, 3, 1), r"GroupNorm\(3, 3\).*\[2, 3, 1\].*variance"),
        (LayerNorm((3, 4)), (2, 4, 3), r"LayerNorm\(\[3, 4\]\).*\[2, 4, 3\].*\[3, 4\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(norm, shape, message):
    with pytest.raises(ValueError, match=message):
        norm(torch.ones(shape))


def test_groups_divide_the_channels():
    with pytest.raises(ValueError, match=r"7 channels.* 3 groups"):
        GroupNorm(3, 7)


def test_momentum_is_a_share():
    with pytest.raises(ValueError, match=r"momentum.*\[0, 1\].*1\.5"):
        BatchNorm(3, momentum=1.5)


HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@HALVES
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("scale", [3e-3, 1.0, 300.0])
@pytest.mark.parametrize("weights", ["half", "float32"])
def test_in_half_precision_answers_and_gradients_are_torchs(name, dtype, scale, weights):
    """300 squared is infinite in float16; torch computes in float32 inside."""
    generator = torch.Generator().manual_seed(0)
    data = (torch.randn(8, C, 4, 5, generator=generator) * scale).to(dtype)
    downstream = (torch.randn(8, C, 4, 5, generator=generator) * 1e-3).to(dtype)
    results = []
    for make in PAIRS[name]:
        norm = make().to(dtype) if weights == "half" else make()
        x = data.clone().requires_grad_()
        y = norm(x)
        y.backward(downstream)
        results.append((y, x.grad))
        assert (y.dtype, x.grad.dtype) == (dtype, dtype)
        assert abs(y.float().std() - 1) < 0.4, "normalised, or nearly where eps counts"
    (y, gradient), (theirs, their_gradient) = results
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y, theirs, rtol=2 * eps, atol=2 * eps)
    smallest = torch.finfo(dtype).tiny * eps
    atol = 2 * eps * their_gradient.abs().max().item() + smallest
    torch.testing.assert_close(gradient, their_gradient, rtol=0.02, atol=atol)


@HALVES
@pytest.mark.parametrize("name", PAIRS)
def test_under_autocast_the_dtype_is_torchs_and_the_averages_stay_finite(name, dtype):
    ours, theirs = (make() for make in PAIRS[name])
    x = torch.randn(8, C, 4, 5, generator=torch.Generator().manual_seed(0)) * 300
    with torch.autocast("cpu", dtype):
        for given in (x, x.to(dtype)):
            a, b = ours(given), theirs(given)
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=2 * torch.finfo(dtype).eps, atol=2 * torch.finfo(dtype).eps)
    for mine, its in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, its, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@HALVES
@pytest.mark.parametrize("name", PAIRS)
def test_under_autocast_on_a_gpu_the_dtype_is_torchs(name, dtype):
    ours, theirs = (make().cuda() for make in PAIRS[name])
    x = torch.randn(8, C, 4, 5, device="cuda") * 300
    with torch.autocast("cuda", dtype):
        for given in (x, x.to(dtype)):
            a, b = ours(given), theirs(given)
            assert a.dtype == b.dtype
            torch.testing.assert_close(a.float(), b.float(), rtol=0.02, atol=0.02)


def test_with_no_momentum_the_averages_are_those_of_all_batches():
    ours, theirs = BatchNorm(C, momentum=None), nn.BatchNorm2d(C, momentum=None)
    batches = [torch.randn(4, C, 3, 3, generator=torch.Generator().manual_seed(seed)) + seed for seed in range(3)]
    for x in batches:
        torch.testing.assert_close(ours(x), theirs(x))
    for mine, its in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, its)
    torch.testing.assert_close(ours.running_mean, torch.cat(batches).mean((0, 2, 3)))


@pytest.mark.parametrize("name", ["layer", "group", "instance"])  # torch's affine InstanceNorm fails
def test_an_empty_batch_is_normalised_to_an_empty_batch(name):
    for make in PAIRS[name]:
        norm, x = make(), torch.ones(0, C, 4, 5, requires_grad=True)
        y = norm(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == (0, C, 4, 5)
        assert all(not p.grad.any() for p in norm.parameters())


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_averages_may_stay_or_be_those_of_the_last_batch_and_two_items_have_a_variance(momentum):
    x = torch.randn(2, C, generator=torch.Generator().manual_seed(0))
    norm, theirs = BatchNorm(C, momentum=momentum), nn.BatchNorm1d(C, momentum=momentum)
    torch.testing.assert_close(norm(x), theirs(x))
    torch.testing.assert_close(norm.running_mean, theirs.running_mean)
    torch.testing.assert_close(norm.running_var, theirs.running_var)

"""Hooks always come off; what they tell of activations and gradients is what torch computes from them."""

import copy
import gc
import re
import weakref

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from lib.nn.hooks import (
    ActivationStatistics,
    Hook,
    Hooks,
    Statistics,
    modules_of,
    named_modules,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), block, nn.Linear(8, 2))


def on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules())


# Hooks


def test_a_hook_sees_inputs_and_output_until_it_is_removed(net):
    kept = []
    x = normal(4, 5)
    with Hook(net[1], lambda *seen: kept.append(seen)) as hook:
        net(x)
    net(x)
    ((passed, module, inputs, output),) = kept
    assert passed is hook
    assert module is net[1]
    assert torch.equal(inputs[0], net[0](x))
    assert torch.equal(output, net[0](x).relu())
    assert on(net) == 0
    hook.remove()


def test_a_hook_cannot_change_the_output(net):
    x = normal(4, 5)
    expected = net(x)
    with Hooks(net, lambda hook, module, inputs, output: output * 0):
        assert torch.equal(net(x), expected)


def test_backward_hooks_see_the_gradients_of_autograd(net):
    kept = []
    x = normal(4, 5).requires_grad_()
    with Hook(net[2], lambda hook, module, grads_in, grads_out: kept.append((grads_in, grads_out)), backward=True):
        net(x).square().sum().backward()
    inside = net[:2](x).detach().requires_grad_()
    outside = net[2](inside)
    expected_out = torch.autograd.grad(net[3](outside).square().sum(), outside, retain_graph=True)[0]
    expected_in = torch.autograd.grad(outside, inside, expected_out)[0]
    (((grad_in,), (grad_out,)),) = kept
    assert torch.equal(grad_in, expected_in)
    assert torch.equal(grad_out, expected_out)
    assert on(net) == 0


@pytest.mark.parametrize("backward", [False, True])
def test_hooks_come_off_when_something_raises_inside(net, backward):
    def fail(*_):
        raise OSError("broken")

    hooks = Hooks(net, fail, backward=backward)
    assert on(net) == len(hooks) == 4

    def run():
        with hooks:
            net(normal(4, 5)).sum().backward()

    with pytest.raises(OSError, match="broken"):
        run()
    assert on(net) == 0


def test_hooks_that_cannot_all_be_put_on_are_all_taken_off(net):
    with pytest.raises(TypeError, match=r"module.*str"):
        Hooks([net[0], net[1], "relu"], print)
    assert on(net) == 0


def test_each_hook_keeps_its_own_things_in_the_order_of_the_modules(net):
    def keep(hook, module, inputs, output):
        hook.shape = tuple(output.shape)

    with Hooks(net, keep) as hooks:
        net(normal(3, 5))
        assert [hook.shape for hook in hooks] == [(3, 8), (3, 8), (3, 8), (3, 2)]
        assert hooks[3].module is net[3]
        hooks[0].remove()
        assert on(net) == 3
    assert on(net) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_hooks_come_off_on_an_interrupt(net, error):
    def interrupt(*_):
        raise error

    def run():
        with Hooks(net, interrupt), ActivationStatistics(net), Hook(net, interrupt, backward=True):
            net(normal(4, 5))

    with pytest.raises(error):
        run()
    assert on(net) == 0


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("make", [lambda net, **how: Hook(net, print, **how), ActivationStatistics])
def test_a_hook_ends_with_its_object_at_once(net, make, backward):
    gc.disable()  # nothing is left to a collection: there is no circle
    try:
        hook = make(net, backward=backward)
        assert on(net)
        gone = weakref.ref(hook)
        del hook
        assert gone() is None
        assert on(net) == 0
    finally:
        gc.enable()


def test_hooks_whose_function_knows_them_end_when_the_circle_is_collected(net):
    counts = {}

    def put_on():
        hooks = Hooks(net, lambda hook, module, inputs, output: counts.update({module: len(hooks)}))
        net(normal(3, 5))

    put_on()
    gc.collect()
    assert len(counts) == 4
    assert on(net) == 0


def test_a_hook_that_nothing_keeps_is_off(net):
    calls = []
    Hook(net, lambda *_: calls.append(1))
    net(normal(3, 5))
    assert calls == []
    assert on(net) == 0


def test_a_module_may_go_before_its_hook():
    model = nn.Sequential(nn.Linear(2, 2))
    hooks = ActivationStatistics(model)
    gone = weakref.ref(model[0])
    del model
    hooks.remove()
    del hooks
    assert gone() is None


def test_nested_hooks_come_off_one_by_one_in_any_order(net):
    calls = []
    outer = Hook(net[0], lambda *_: calls.append("outer"))
    with Hook(net[0], lambda *_: calls.append("inner")):
        net(normal(2, 5))
        outer.remove()
        net(normal(2, 5))
    net(normal(2, 5))
    assert calls == ["outer", "inner", "inner"]
    assert on(net) == 0


def test_a_shared_module_that_is_given_twice_is_hooked_twice_and_freed_twice():
    act, calls = nn.ReLU(), []
    with Hooks([act, act], lambda *_: calls.append(1)):
        act(normal(3))
    assert len(calls) == 2
    assert on(act) == 0


def test_a_copy_of_a_hooked_model_is_not_watched(net):
    with ActivationStatistics(net) as watched:
        twin = copy.deepcopy(net)
        twin(normal(3, 5))
        assert watched.statistics[0].means == []
        net(normal(3, 5))
    assert len(watched.statistics[0].means) == 1


# Statistics


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4, 5)])
def test_statistics_are_those_of_torch_and_numpy(shape):
    statistics = Statistics("layer", bins=8, max_value=2.0)
    batches = [normal(*shape, seed=seed) * (seed + 1) for seed in range(3)]
    batches[0].view(-1)[0] = 0.0
    for batch in batches:
        statistics.update(batch)
    assert statistics.means == pytest.approx([x.mean().item() for x in batches])
    assert statistics.stds == pytest.approx([x.std(correction=0).item() for x in batches])
    assert statistics.dead == pytest.approx([(x.abs() < 0.025).double().mean().item() for x in batches])
    expected = [np.histogram(x.abs(), 8, (0, 2))[0] for x in batches]
    assert_array_equal(statistics.histogram().numpy(), np.stack(expected, 1))
    assert statistics.dead[0] > 0


def test_statistics_leave_the_tensor_alone_and_take_any_precision():
    statistics = Statistics("layer")
    x = normal(50).to(torch.bfloat16).requires_grad_()
    before = x.detach().clone()
    statistics.update((x, "more"))
    assert torch.equal(x.detach(), before)
    assert x.grad_fn is None
    assert statistics.means == pytest.approx([before.float().mean().item()])
    assert not statistics.histogram().requires_grad


def by_hand(x: torch.Tensor, bins: int, max_value: float) -> tuple[float, float, float, list[int]]:
    """Return mean, standard deviation, share dead and counts, value by value in Python's own floats."""
    values = [float(value) for value in x.flatten().tolist()]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    places = [int(abs(value) * bins / max_value) for value in values]
    dead = sum(abs(value) < max_value / bins / 10 for value in values) / len(values)
    return mean, variance**0.5, dead, [places.count(i) for i in range(bins)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize(
    "x",
    [
        torch.tensor(3.5),
        torch.tensor([0.0]),
        normal(3, 5, 4, 2).to(memory_format=torch.channels_last) * 3,
        normal(6, 10)[::2, 1::3] * 2,
        normal(4, 6).T,
        normal(3, 1).expand(3, 7) * 5,
        normal(2, 3, 2, 2, 3) * 300,
        normal(5, 5) * 2 + 200,
    ],
    ids=["0-d", "one", "channels last", "strided", "transposed", "expanded", "5-d", "far from 0"],
)
def test_statistics_of_odd_shapes_are_those_by_hand_in_any_precision(x, dtype):
    x = x.to(dtype)
    statistics = Statistics("layer", bins=8, max_value=4.0)
    statistics.update(x)
    mean, std, dead, counts = by_hand(x, 8, 4.0)
    assert statistics.means == pytest.approx([mean], rel=1e-5, abs=1e-6)
    assert statistics.stds == pytest.approx([std], rel=1e-4, abs=1e-6)
    assert statistics.dead == pytest.approx([dead])
    assert statistics.histogram().flatten().tolist() == counts


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_what_is_counted_in_blocks_is_what_is_counted_at_once(scale):
    x = normal(3, 2**18).relu() * scale + scale
    statistics = Statistics("layer", bins=40, max_value=10.0)
    statistics.update(x)
    assert statistics.means == pytest.approx([x.double().mean().item()], rel=1e-6)
    assert statistics.stds == pytest.approx([x.double().std(correction=0).item()], rel=1e-6)
    assert statistics.dead == [(x < 0.025).double().mean().item()]
    assert_array_equal(statistics.histogram()[:, 0].numpy(), np.histogram(x, 40, (0, 10))[0])


def test_squares_that_half_precision_cannot_hold():
    statistics = Statistics("layer")
    statistics.update(torch.tensor([-300.0, 300.0, 300.0, -300.0] * 1000, dtype=torch.float16))
    assert statistics.stds == [300.0]


def test_nothing_has_no_mean():
    statistics = Statistics("layer")
    statistics.update(torch.empty(0, 3))
    assert all(np.isnan(value) for value in statistics.means + statistics.stds + statistics.dead)
    assert statistics.histogram().sum() == 0


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match=r"spectrum.*real.*complex64"):
        Statistics("spectrum").update(torch.fft.fft(normal(4)))


def test_values_that_are_not_finite_do_not_stop_it():
    statistics = Statistics("layer", bins=4, max_value=4.0)
    statistics.update(torch.tensor([float("inf"), 1.0, -2.5]))
    statistics.update(torch.tensor([float("nan"), 3.9, -4.0, 3e38, -float("inf")]))
    assert statistics.histogram().T.tolist() == [[0, 1, 1, 0], [0, 0, 0, 1]]
    assert statistics.means[0] == float("inf")


@pytest.mark.parametrize(
    ("options", "given"),
    [({"bins": 0}, r"0 and 10\.0"), ({"max_value": 0.0}, r"40 and 0\.0"), ({"max_value": float("nan")}, "40 and nan")],
)
def test_a_histogram_without_bins_is_refused(options, given):
    with pytest.raises(ValueError, match=f"bins.*max_value.*{given}"):
        Statistics("layer", **options)


def test_activations_are_kept_by_module_nested_ones_too(net):
    x = normal(6, 5)
    with ActivationStatistics(modules_of(net, nn.ReLU)) as watched:
        net(x)
        watched.recording = False
        net(x)
    assert [statistics.name for statistics in watched.statistics] == ["1", "2.1"]
    first, second = watched.statistics
    assert first.means == pytest.approx([net[:2](x).mean().item()])
    assert second.stds == pytest.approx([net[:3](x).std(correction=0).item()])
    share = (net[:2](x) == 0).float().mean().item()
    assert share <= first.dead[0] <= share + 0.1
    assert on(net) == 0


def test_gradients_are_kept_by_module(net):
    with ActivationStatistics({"head": net[3]}, backward=True) as watched:
        out = net(normal(6, 5))
        (out * normal(6, 2, seed=1)).sum().backward()
    assert watched.statistics[0].means == pytest.approx([normal(6, 2, seed=1).mean().item()])


def test_a_module_that_is_used_twice_counts_twice_and_is_named_once():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
    x = normal(3, 4)
    with ActivationStatistics(model) as watched:
        model(x)
    assert [statistics.name for statistics in watched.statistics] == ["0 Linear", "1 ReLU", "2 Linear"]
    assert watched.statistics[1].means == pytest.approx([model[:2](x).mean().item(), model(x).mean().item()])
    assert on(model) == 0


def test_modules_are_named_as_they_are_given(net):
    assert [name for name, _ in named_modules(net.named_children())] == ["0", "1", "2", "3"]
    assert [name for name, _ in named_modules({"a": net[0], "b": net[1]})] == ["a", "b"]
    assert [name for name, _ in named_modules(net[:2])] == ["0 Linear", "1 ReLU"]
    assert modules_of(net, nn.Linear, nn.ReLU)[2] == ("2.0", net[2][0])
    with pytest.raises(ValueError, match=r"Conv2d.*GELU.*Sequential"):
        modules_of(net, nn.Conv2d, nn.GELU)


def test_statistics_take_the_first_tensor_of_nested_outputs():
    statistics, x = Statistics("layer"), normal(5)
    for output in (x, (x, x + 1), {"y": x}, [None, {"a": None, "b": ((), (x, x + 1))}], (None, x)):
        statistics.update(output)
    assert statistics.means == pytest.approx([x.mean().item()] * 5)


@pytest.mark.parametrize("output", [None, (), {"a": None}, "text"])
def test_an_output_without_a_tensor_is_refused_by_the_name_of_its_module(output):
    class Says(nn.Module):
        def forward(self, x):
            return output

    model = nn.ModuleDict({"says": Says()})
    given = re.escape(repr(output))
    with ActivationStatistics(model.named_children()), pytest.raises(TypeError, match=f"says.*tensor.*{given}"):
        model["says"](normal(3))


def test_a_recurrent_layer_of_which_only_the_last_state_is_used():
    gru = nn.GRU(3, 4, batch_first=True)
    weight = normal(1, 2, 4, seed=1)
    with ActivationStatistics({"gru": gru}) as outputs, ActivationStatistics({"gru": gru}, backward=True) as gradients:
        out, h_n = gru(normal(2, 5, 3).requires_grad_())
        (h_n * weight).sum().backward()
    assert outputs.statistics[0].means == pytest.approx([out.mean().item()])
    assert gradients.statistics[0].means == pytest.approx([weight.mean().item()])

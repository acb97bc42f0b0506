"""Hand-written gradients are autograd's; losses are torch's, also where a careless softmax overflows."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.scratch.layers import MSE, Linear, ReLU, SoftmaxCrossEntropy, log_softmax
from lib.scratch.module import Sequential

SIZES = st.integers(1, 9)
SEEDS = st.integers(0, 2**31)


def normal(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Say whether two tensors agree within 1e-6 of the largest number, and have one shape."""
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-6 * theirs.abs().max())


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES, SEEDS)
def test_linear_has_the_gradients_of_autograd(n, inputs, outputs, seed):
    layer = Linear(inputs, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x, grad = normal(n, inputs, seed=seed), normal(n, outputs, seed=seed + 1)
    result = layer(x)
    back = layer.backward(grad)
    x_, w_, b_ = (t.clone().requires_grad_() for t in (x, layer.weight, layer.bias))
    expected = F.linear(x_, w_.T, b_)
    expected.backward(grad)
    assert near(result, expected.detach())
    assert near(back, x_.grad)
    assert near(layer.weight.grad, w_.grad)
    assert near(layer.bias.grad, b_.grad)


@settings(max_examples=30, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=4), SEEDS)
def test_relu_and_mse_have_the_gradients_of_autograd(shape, seed):
    x, targets = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
    x.view(-1)[0] = 0.0  # the corner
    relu, mse = ReLU(), MSE()
    loss = mse(relu(x), targets)
    back = relu.backward(mse.backward())
    x_ = x.clone().requires_grad_()
    expected = F.mse_loss(F.relu(x_), targets)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(back, x_.grad, rtol=1e-6, atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.sampled_from([1e-4, 1.0, 30.0, 1e4]), SEEDS)
def test_cross_entropy_is_that_of_torch_at_any_size_of_logits(n, classes, scale, seed):
    logits = normal(n, classes, seed=seed, scale=scale)
    targets = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    ours = SoftmaxCrossEntropy()
    loss = ours(logits, targets)
    logits_ = logits.clone().requires_grad_()
    expected = F.cross_entropy(logits_, targets)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-14)
    assert torch.allclose(ours.backward(), logits_.grad, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("row", "target"),
    [
        ([1e4, -1e4, 0.0], 0),
        ([1e4, -1e4, 0.0], 1),
        ([-1e4, -1e4, -1e4], 2),
        ([1e4, 1e4, 1e4 - 1], 2),
        ([0.0, -1e4, 1e4], 0),
    ],
)
def test_cross_entropy_is_exact_at_ten_thousand(row, target, dtype):
    logits = torch.tensor([row], dtype=dtype, requires_grad=True)
    ours = SoftmaxCrossEntropy()
    loss = ours(logits.detach(), torch.tensor([target]))
    exact = F.cross_entropy(logits.detach().double(), torch.tensor([target]))
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6, abs=1e-7)
    F.cross_entropy(logits, torch.tensor([target])).backward()
    assert torch.allclose(ours.backward(), logits.grad, atol=1e-7)
    assert log_softmax(logits.detach()).isfinite().all()


def test_log_softmax_is_that_of_torch_over_the_last_axis():
    x = normal(2, 3, 4, seed=0, scale=100)
    assert torch.allclose(log_softmax(x), F.log_softmax(x, dim=-1), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, SEEDS, st.booleans())
def test_a_model_goes_all_the_way_back(n, inputs, hidden, outputs, seed, classify):
    generator = torch.Generator().manual_seed(seed)
    options = {"dtype": torch.float64, "generator": generator}
    model = Sequential(Linear(inputs, hidden, **options), ReLU(), Linear(hidden, outputs, **options))
    x = normal(n, inputs, seed=seed)
    targets = torch.randint(outputs, (n,), generator=generator) if classify else normal(n, outputs, seed=seed + 1)
    loss = SoftmaxCrossEntropy() if classify else MSE()
    value = loss(model(x), targets)
    back = model.backward(loss.backward())

    leaves = [t.clone().requires_grad_() for t in (x, *model.parameters())]
    x_, w1, b1, w2, b2 = leaves
    expected = (F.cross_entropy if classify else F.mse_loss)(F.relu(x_ @ w1 + b1) @ w2 + b2, targets)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    for ours, leaf in zip((back, *(p.grad for p in model.parameters())), leaves, strict=True):
        assert torch.allclose(ours, leaf.grad, rtol=1e-6, atol=1e-13)


def test_a_loss_passes_on_what_it_is_multiplied_by():
    x, targets = normal(3, 2, seed=0), normal(3, 2, seed=1)
    mse, cross = MSE(), SoftmaxCrossEntropy()
    mse(x, targets)
    cross(x, torch.tensor([0, 1, 1]))
    assert torch.equal(mse.backward(4.0), 4 * mse.backward())
    assert torch.equal(cross.backward(torch.tensor(4.0)), 4 * cross.backward())


def test_gradients_replace_those_of_the_batch_before():
    layer = Linear(3, 2, dtype=torch.float64)
    x, grad = normal(4, 3, seed=0), normal(4, 2, seed=1)
    for _ in range(2):
        layer(x)
        layer.backward(grad)
    assert torch.equal(layer.weight.grad, x.T @ grad)


def test_linear_starts_with_variance_two_over_inputs_from_its_generator():
    def make() -> Linear:
        return Linear(400, 300, generator=torch.Generator().manual_seed(3))

    weight = make().weight
    assert weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert abs(weight.mean().item()) < 1e-3
    assert torch.equal(weight, make().weight)
    assert not make().bias.any()
    assert Linear(2, 3, dtype=torch.float64).weight.dtype == torch.float64


def test_any_optimiser_can_use_the_gradients():
    layer = Linear(3, 2, dtype=torch.float64)
    before = layer.weight.clone()
    layer(normal(4, 3, seed=0))
    layer.backward(normal(4, 2, seed=1))
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert torch.allclose(layer.weight, before - 0.1 * layer.weight.grad)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: Linear(3, 2)(torch.ones(5, 4)), r"Linear\(3, 2\).*\[n, 3\].*\[5, 4\]"),
        (lambda: Linear(3, 2)(torch.ones(3)), r"Linear\(3, 2\).*\[n, 3\].*\[3\]"),
        (lambda: Linear(3, 2)(torch.ones(5, 3).double()), r"Linear\(3, 2\).*torch\.float32.*torch\.float64"),
        (lambda: Linear(3, 2)(torch.ones(5, 3, dtype=torch.uint8)), r"Linear\(3, 2\).*torch\.float32.*torch\.uint8"),
        (lambda: Linear(0, 2), "Linear.* 0 and 2"),
        (lambda: ReLU()(torch.ones(2, dtype=torch.int64)), r"ReLU.*torch\.int64"),
        (lambda: MSE()(torch.ones(4, 1), torch.ones(4)), r"MSE.*\[4, 1\] and \[4\]"),
        (lambda: MSE()(torch.ones(4), torch.ones(4, 1)), r"MSE.*\[4\] and \[4, 1\]"),
        (lambda: MSE()(torch.ones(4), torch.ones(4, dtype=torch.int64)), r"MSE.*torch\.int64"),
        (lambda: MSE()(torch.ones(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)), r"MSE.*torch\.int64"),
        (lambda: MSE()(torch.ones(0, 1), torch.ones(0, 1)), r"MSE.*\[0, 1\]"),
        (lambda: SoftmaxCrossEntropy()(torch.ones(0, 3), torch.ones(0, dtype=torch.int64)), r"CrossEntropy.*\[0, 3\]"),
        (lambda: SoftmaxCrossEntropy()(torch.ones(2, 3), torch.tensor([0, 3])), "0 to 2.*3 classes.* 3"),
        (lambda: SoftmaxCrossEntropy()(torch.ones(2, 3), torch.tensor([-1, 0])), "0 to 2.*3 classes.* -1"),
        (lambda: SoftmaxCrossEntropy()(torch.ones(2, 3), torch.tensor([0.0, 1.0])), r"int64.*torch\.float32"),
        (
            lambda: SoftmaxCrossEntropy()(torch.ones(2, 3), torch.tensor([[0], [1]])),
            r"CrossEntropy.*\[2, 3\] and \[2, 1\]",
        ),
        (lambda: SoftmaxCrossEntropy()(torch.ones(3), torch.tensor([0, 1, 1])), r"\[n, classes\].*\[3\]"),
        (lambda: SoftmaxCrossEntropy()(torch.ones(2, 3).long(), torch.tensor([0, 1])), r"CrossEntropy.*torch\.int64"),
    ],
)
def test_what_does_not_fit_is_refused(function, words):
    with pytest.raises(ValueError, match=words):
        function()


@pytest.mark.parametrize(
    ("layer", "name"), [(Linear(2, 3), "Linear"), (ReLU(), "ReLU"), (Sequential(Linear(2, 3)), "Linear")]
)
def test_there_is_no_way_back_before_the_call(layer, name):
    with pytest.raises(RuntimeError, match=f"{name}.*backward"):
        layer.backward(torch.ones(4, 3))


@pytest.mark.parametrize("loss", [MSE(), SoftmaxCrossEntropy()])
def test_there_is_no_way_back_before_the_loss(loss):
    with pytest.raises(RuntimeError, match=f"{type(loss).__name__}.*backward"):
        loss.backward()


@pytest.mark.parametrize("layer", [Linear(2, 3), ReLU()])
def test_the_gradient_has_the_shape_of_the_output(layer):
    output = layer(torch.ones(4, 2))
    with pytest.raises(ValueError, match=rf"{type(layer).__name__}.*\[4, {output.shape[1]}\].*\[4, 7\]"):
        layer.backward(torch.ones(4, 7))
    assert layer.backward(torch.ones_like(output)).shape == (4, 2)


def test_an_input_that_is_a_parameter_is_not_registered() -> None:
    linear = Linear(2, 3)
    linear(torch.nn.Parameter(torch.ones(1, 2)))
    assert list(linear.state_dict()) == ["weight", "bias"]
    linear(torch.ones(1, 2))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_classes_that_are_ruled_out_have_torchs_losses(scale) -> None:
    logits = normal(6, 5, seed=0, scale=scale).float()
    logits[:, 3] = -torch.inf
    targets = torch.tensor([0, 1, 2, 4, 0, 1])
    assert torch.allclose(log_softmax(logits), F.log_softmax(logits, -1))
    ours = SoftmaxCrossEntropy()
    assert ours(logits, targets).item() == pytest.approx(F.cross_entropy(logits, targets).item())
    assert not ours.backward()[:, 3].any()
    assert ours(logits, torch.full((6,), 3)) == F.cross_entropy(logits, torch.full((6,), 3)) == torch.inf

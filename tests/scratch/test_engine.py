"""The engine's values and gradients are torch's, on expressions that nobody chose."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.scratch.engine import Value

# Each takes numbers of either kind, a Value or a tensor, and stays within what both can compute.
UNARY = {
    "neg": lambda a: -a,
    "exp of tanh": lambda a: a.tanh().exp(),
    "log": lambda a: (a**2 + 0.5).log(),
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "square": lambda a: a**2,
    "root": lambda a: (a * a + 1) ** 0.5,
    "inverse": lambda a: (a**2 + 1) ** -1.5,
    "constants": lambda a: 2 / (3 - (1.5 * a - 1) * 0.25 + a * a) + 0.5,
    "power of two": lambda a: 2 ** a.tanh(),
    "no power": lambda a: a**0 + a / 3,
}
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1),
    "**": lambda a, b: (a * a + 0.5) ** b.tanh(),
}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
        st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 99), st.integers(0, 99)),
    ),
    min_size=1,
    max_size=12,
)


def compute(steps: list[tuple], leaves: list) -> list:
    """Return the leaves and every intermediate result: each step takes earlier ones, so many are used twice."""
    made = list(leaves)
    for name, *sources in steps:
        operation = UNARY.get(name) or BINARY[name]
        made.append(operation(*(made[source % len(made)] for source in sources)).tanh() * 2)
    return made


@settings(max_examples=150, deadline=None)
@given(STEPS, st.lists(st.floats(-3, 3), min_size=1, max_size=4))
def test_gradients_of_random_expressions_are_those_of_torch(steps, numbers):
    ours = compute(steps, [Value(x) for x in numbers])
    theirs = compute(steps, [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in numbers])
    for tensor in theirs:
        tensor.retain_grad()
    ours[-1].backward()
    theirs[-1].backward()
    for value, tensor in zip(ours, theirs, strict=True):
        assert value.data == pytest.approx(tensor.item(), rel=1e-9, abs=1e-12)
        expected = 0.0 if tensor.grad is None else tensor.grad.item()
        assert value.grad == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_a_value_used_on_both_sides_gets_both_gradients(name):
    a, t = Value(1.3), torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    BINARY[name](a, a).backward()
    BINARY[name](t, t).backward()
    assert a.grad == pytest.approx(t.grad.item(), rel=1e-12)


def test_backward_adds_to_what_is_there():
    a = Value(3.0)
    square = a * a
    result = square + a
    result.backward()
    assert (a.grad, square.grad, result.grad) == (7.0, 1.0, 1.0)
    result.backward()
    assert (a.grad, square.grad, result.grad) == (14.0, 2.0, 2.0)
    (2 * a).backward()
    assert a.grad == 16.0


def test_a_graph_deeper_than_pythons_stack_is_walked():
    start = Value(1.0)
    end = start
    for _ in range(20_000):
        end = end + 1e-4
    end.backward()
    assert start.grad == 1.0
    assert end.data == pytest.approx(3.0)
    assert len(end.topological_order()) == 40_001


def test_the_topological_order_has_parents_before_children_and_each_once():
    a, b = Value(2.0), Value(3.0)
    result = (a * b + a) / b
    order = result.topological_order()
    assert len({id(value) for value in order}) == len(order) == 5
    assert order[-1] is result
    places = {id(value): place for place, value in enumerate(order)}
    assert all(places[id(parent)] < places[id(value)] for value in order for parent in value.parents)


def test_python_and_numpy_numbers_stand_on_either_side():
    a = Value(4.0)
    pairs = [
        (a + 2, 2 + a, 6),
        (a * 2, 2 * a, 8),
        (a - 2, -(2 - a), 2),
        (a / 2, 1 / (2 / a), 2),
        (a**2, 4 ** Value(2.0), 16),
    ]
    for left, right, expected in pairs:
        assert left.data == pytest.approx(expected)
        assert right.data == pytest.approx(expected)
    for two in (np.float64(2), np.float32(2), np.int64(2)):
        assert isinstance(two * a, Value)
        assert (two * a).data == (a * two).data == 8.0
    assert sum([a, a, a]).data == 12.0


def test_local_gradients_at_the_corners_are_torchs():
    for function in (lambda x: x.relu(), lambda x: x**0.5, lambda x: x**0, lambda x: x**1, lambda x: x**2):
        a, t = Value(0.0), torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
        function(a).backward()
        function(t).backward()
        assert a.grad == t.grad.item()


def test_nothing_is_lost_on_the_way_to_a_million():
    assert Value(1e6).tanh().data == 1.0
    assert Value(-1e6).exp().data == 0.0


@pytest.mark.parametrize("other", ["2", None, [1.0], True, 1j, torch.tensor(1.0)])
def test_what_is_no_real_number_is_refused(other):
    told = f"Value.*{type(other).__name__}.*{re.escape(repr(other))}"
    with pytest.raises(TypeError, match=told):
        Value(1.0) + other
    with pytest.raises(TypeError, match=told):
        Value(1.0) ** other
    with pytest.raises(TypeError, match=told):
        Value(other)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda: Value(3.0, "a") / Value(0.0, "b"), ZeroDivisionError, "a = 3 / b = 0"),
        (lambda: 1 / Value(0.0), ZeroDivisionError, "1 / 0"),
        (lambda: Value(1.0) / 0, ZeroDivisionError, "1 / 0"),
        (lambda: Value(0.0, "a") ** -1, ZeroDivisionError, "a = 0"),
        (lambda: Value(-8.0) ** 0.5, ValueError, r"-8.*0\.5"),
        (lambda: Value(0.0) ** Value(2.0), ValueError, r"0 \*\* 2"),
        (lambda: (-2) ** Value(2.0), ValueError, r"-2 \*\* 2"),
        (lambda: Value(0.0, "p").log(), ValueError, "p = 0"),
        (lambda: Value(710.0, "z").exp(), OverflowError, "z = 710"),
        (lambda: Value(10.0) ** 400, OverflowError, "400"),
    ],
)
def test_what_has_no_result_is_named(function, error, words):
    with pytest.raises(error, match=words):
        function()


def test_it_prints_what_it_is():
    a = Value(2, "a")
    (a * math.pi).backward()
    assert repr(a) == "Value(2, grad=3.14159, label='a')"
    assert repr(Value(0.5)) == "Value(0.5, grad=0)"

"""Numbers that remember how they were made, so that one backward pass finds every derivative.

Reverse-mode automatic differentiation of scalars (Baydin et al., "Automatic differentiation in machine learning: a
survey", JMLR 2018, section 3.2), in the spirit of Andrej Karpathy's micrograd. Drawn by `lib.scratch.graph`.
"""

from __future__ import annotations

import math
import numbers


class Value:
    """A real number, the operation and parents that made it, and its local gradient, the slope in each parent.

    `backward` adds to the `grad` of every number that it came from. Operators take Values and Python numbers, on either
    side. Raises TypeError for what is no real number, and ZeroDivisionError, OverflowError or ValueError, with the
    operation and its numbers, where Python's arithmetic has no result.
    """

    __slots__ = ("data", "grad", "label", "local_grads", "op", "parents")
    __array_ufunc__ = None  # NumPy's numbers leave `2 * value` to the operators below

    def __init__(
        self,
        data: float,
        label: str = "",
        *,
        op: str = "",
        parents: tuple[Value, ...] = (),
        local_grads: tuple[float, ...] = (),
    ) -> None:
        if isinstance(data, bool) or not isinstance(data, numbers.Real):
            raise TypeError(f"a Value holds one real number, got {type(data).__name__}: {data!r:.60}")
        self.data, self.grad, self.label = float(data), 0.0, label
        self.op, self.parents, self.local_grads = op, parents, local_grads

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value({self.data:.6g}, grad={self.grad:.6g}{label})"

    def __add__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data + other.data, op="+", parents=(self, other), local_grads=(1.0, 1.0))

    def __sub__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data - other.data, op="−", parents=(self, other), local_grads=(1.0, -1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data * other.data, op="×", parents=(self, other), local_grads=(other.data, self.data))

    def __truediv__(self, other: Value | float) -> Value:
        other = _value(other)
        if other.data == 0:
            raise ZeroDivisionError(f"{_name(self)} / {_name(other)}: the divisor is zero")
        ratio = self.data / other.data
        return Value(ratio, op="÷", parents=(self, other), local_grads=(1 / other.data, -ratio / other.data))

    def __pow__(self, exponent: Value | float) -> Value:
        """Raise to a power; a Value as exponent gets a gradient of its own, and asks for a positive base."""
        if isinstance(exponent, Value):
            power = _power(self, exponent)
            if self.data <= 0:
                raise ValueError(
                    f"{_name(self)} ** {_name(exponent)}: only a positive base has a slope in the exponent"
                )
            local_grads = (exponent.data * power / self.data, power * math.log(self.data))
            return Value(power, op="**", parents=(self, exponent), local_grads=local_grads)
        exponent = _value(exponent)
        return Value(
            _power(self, exponent),
            op=f"**{exponent.data:g}",
            parents=(self,),
            local_grads=(_power_slope(self, exponent),),
        )

    def __neg__(self) -> Value:
        return Value(-self.data, op="neg", parents=(self,), local_grads=(-1.0,))

    def __radd__(self, other: float) -> Value:
        return _value(other) + self

    def __rsub__(self, other: float) -> Value:
        return _value(other) - self

    def __rmul__(self, other: float) -> Value:
        return _value(other) * self

    def __rtruediv__(self, other: float) -> Value:
        return _value(other) / self

    def __rpow__(self, base: float) -> Value:
        return _value(base) ** self

    def exp(self) -> Value:
        """Return e to this power; its slope is itself."""
        try:
            power = math.exp(self.data)
        except OverflowError:
            raise OverflowError(f"exp({_name(self)}) is too large for a float") from None
        return Value(power, op="exp", parents=(self,), local_grads=(power,))

    def log(self) -> Value:
        """Return the natural logarithm."""
        if self.data <= 0:
            raise ValueError(f"log({_name(self)}): only a positive number has a logarithm")
        return Value(math.log(self.data), op="log", parents=(self,), local_grads=(1 / self.data,))

    def tanh(self) -> Value:
        """Return the hyperbolic tangent."""
        t = math.tanh(self.data)
        return Value(t, op="tanh", parents=(self,), local_grads=(1 - t * t,))

    def relu(self) -> Value:
        """Return this number where it is positive, else zero; the slope at zero is taken as zero."""
        on = float(self.data > 0)
        return Value(max(self.data, 0.0), op="relu", parents=(self,), local_grads=(on,))

    def topological_order(self) -> list[Value]:
        """Return every Value that this one came from, parents before children, itself last."""
        order, seen, stack = [], set(), [(self, False)]
        while stack:  # a stack of our own: Python's ends at a depth of about a thousand
            value, parents_are_in = stack.pop()
            if parents_are_in:
                order.append(value)
            elif id(value) not in seen:
                seen.add(id(value))
                stack.append((value, True))
                stack.extend((parent, False) for parent in value.parents)
        return order

    def backward(self) -> None:
        """Add the derivative of this number with respect to each number it came from to that number's `grad`."""
        order = self.topological_order()
        arriving = dict.fromkeys(map(id, order), 0.0) | {id(self): 1.0}
        for value in reversed(order):  # children first: when we come to a value, all of its gradient has arrived
            gradient = arriving[id(value)]
            value.grad += gradient
            for parent, local_grad in zip(value.parents, value.local_grads, strict=True):
                arriving[id(parent)] += local_grad * gradient


def _value(number: Value | float) -> Value:
    return number if isinstance(number, Value) else Value(number)


def _name(value: Value) -> str:
    return f"{value.label} = {value.data:g}" if value.label else f"{value.data:g}"


def _power(base: Value, exponent: Value) -> float:
    what = f"({_name(base)}) ** ({_name(exponent)})"
    try:
        power = base.data**exponent.data
    except ZeroDivisionError:
        raise ZeroDivisionError(f"{what}: zero to a negative power divides by zero") from None
    except OverflowError:
        raise OverflowError(f"{what} is too large for a float") from None
    if isinstance(power, complex):
        raise ValueError(f"{what}: a negative base needs a whole number as exponent")
    return power


def _power_slope(base: Value, exponent: Value) -> float:
    """Return the slope of base ** exponent in the base; vertical at zero for exponents between 0 and 1."""
    if exponent.data == 0:
        return 0.0
    if base.data == 0 and exponent.data < 1:
        return math.inf
    return exponent.data * _power(base, Value(exponent.data - 1))

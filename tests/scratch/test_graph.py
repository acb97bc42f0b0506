"""The drawn graph shows every number and operation once, and none over another."""

import itertools

import pytest
from matplotlib.patches import Circle, FancyBboxPatch

from lib.scratch.engine import Value
from lib.scratch.graph import draw_graph


def example() -> Value:
    a, b = Value(2.0, "a"), Value(-3.0, "b")
    shared = a * b
    result = (shared + 10).tanh() / (a.exp() - shared) + a**2
    result.label = "result"
    result.backward()
    return result


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_number_and_operation_is_drawn_once():
    result = example()
    values = result.topological_order()
    figure = draw_graph(result)
    patches = figure.axes[0].patches
    assert sum(isinstance(patch, FancyBboxPatch) for patch in patches) == len(values)
    assert sum(isinstance(patch, Circle) for patch in patches) == sum(bool(value.parents) for value in values)
    shown = texts(figure)
    for value in values:
        assert f"{value.data:.4g}".replace("-", "−") in shown
        assert f"{value.grad:.4g}".replace("-", "−") in shown
    assert {"a", "b", "result", "×", "tanh", "÷", "exp", "−", "+", "**2"} <= set(shown)


def test_boxes_do_not_overlap_and_stay_on_the_sheet():
    figure = draw_graph(example())
    figure.canvas.draw()
    ax = figure.axes[0]
    boxes = [p.get_window_extent() for p in ax.patches if isinstance(p, FancyBboxPatch | Circle)]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    sheet = figure.bbox
    words = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert all(sheet.x0 <= box.x0 and box.x1 <= sheet.x1 for box in boxes + words)
    assert all(sheet.y0 <= box.y0 and box.y1 <= sheet.y1 for box in boxes + words)


def test_parents_stand_left_of_their_children():
    a = Value(1.0, "first")
    b = a.exp()
    b.label = "second"
    c = b + a
    c.label = "third"
    at = {text.get_text(): text.get_position()[0] for text in draw_graph(c).axes[0].texts}
    assert at["first"] < at["second"] < at["third"]


def test_first_operands_stand_above_second_ones():
    result = (Value(1.0, "a") * Value(2.0, "b") + Value(3.0, "c") * Value(4.0, "d")) / Value(5.0, "e")
    at = {text.get_text(): text.get_position()[1] for text in draw_graph(result).axes[0].texts}
    assert at["a"] > at["b"] > at["c"] > at["d"]
    assert at["14"] > at["e"]


def test_a_single_number_is_a_graph():
    assert "3" in texts(draw_graph(Value(3)))


def test_it_is_laid_out_the_same_each_time():
    def places() -> list[tuple]:
        return [(text.get_text(), text.get_position()) for text in draw_graph(example()).axes[0].texts]

    assert places() == places()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(TypeError, match=r"Value.*float"):
        draw_graph(3.0)
    with pytest.raises(ValueError, match=r"101 numbers.* 60"):
        draw_graph(sum([Value(1.0) for _ in range(50)]))

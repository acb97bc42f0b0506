"""The computation behind a `Value`, drawn from left to right: operations as circles, numbers as boxes."""

from __future__ import annotations

import math
from collections import defaultdict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from lib import plots
from lib.scratch.engine import Value

WIDTH, HEIGHT, RADIUS = 1.12, 0.46, 0.15  # of a box, and of a circle, in inches
COLUMN, ROW = 1.73, 0.8  # from box to box, in inches
MOST = 60

Slot = tuple[int, int]  # the id of a value, and a column where its box stands or its line passes


def draw_graph(value: Value) -> Figure:
    """Draw every number that `value` came from, with its data and its gradient, and the operations between them.

    A number stands in the column before the operation that first uses it. Numbers that nothing made are blue.
    Raises TypeError for anything but a Value, and ValueError for more than 60 numbers, too many to read.
    """
    if not isinstance(value, Value):
        raise TypeError(f"draw_graph draws the graph of a Value, got {type(value).__name__}")
    values = value.topological_order()
    if len(values) > MOST:
        raise ValueError(f"a drawing of {len(values)} numbers cannot be read; draw_graph takes at most {MOST}")
    column = _columns(values)
    reach = {id(v): column[id(v)] for v in values}  # the last column before one where the value is used
    for child in values:
        for parent in child.parents:
            reach[id(parent)] = max(reach[id(parent)], column[id(child)] - 1)
    slots = [(id(v), c) for v in reversed(values) for c in range(column[id(v)], reach[id(v)] + 1)]
    rows = _rows(slots, _links(values, slots, column))
    top, bottom = min(rows.values()), max(rows.values())
    size = (COLUMN * max(column.values()) + WIDTH + 0.1, ROW * (bottom - top) + HEIGHT + 0.3)
    figure = Figure(figsize=size, layout="none")
    ax = figure.add_axes(
        (0, 0, 1, 1), xlim=(-0.05, size[0] - 0.05), ylim=(-HEIGHT / 2 - 0.05, size[1] - HEIGHT / 2 - 0.05)
    )
    ax.set_axis_off()
    places = {slot: (COLUMN * slot[1], ROW * (bottom - row)) for slot, row in rows.items()}
    for v in values:
        _draw(ax, v, places, column, reach)
    return figure


def _columns(values: list[Value]) -> dict[int, int]:
    """Return the column of each value by id: as far right as the values made from it allow."""
    to_end = {id(value): 0 for value in values}
    for value in reversed(values):
        for parent in value.parents:
            to_end[id(parent)] = max(to_end[id(parent)], to_end[id(value)] + 1)
    last = max(to_end.values())
    return {key: last - steps for key, steps in to_end.items()}


def _links(values: list[Value], slots: list[Slot], column: dict[int, int]) -> list[tuple[Slot, Slot]]:
    """Return which slots of neighbouring columns are joined by a line."""
    links = [((key, c - 1), (key, c)) for key, c in slots if c > column[key]]
    for child in values:
        own = (id(child), column[id(child)])
        links += [((id(parent), own[1] - 1), own) for parent in child.parents]
    return links


def _rows(slots: list[Slot], links: list[tuple[Slot, Slot]], sweeps: int = 40) -> dict[Slot, float]:
    """Give each slot a row, counted downwards: near the mean of those it is joined to, at least 1 from the next.

    A column keeps the order in which an expression is read: first operands stand above second ones.
    """
    columns, near = defaultdict(list), defaultdict(list)
    for slot in slots:
        columns[slot[1]].append(slot)
    for left, right in links:
        near[left].append(right)
        near[right].append(left)
    rows = {slot: float(place) for members in columns.values() for place, slot in enumerate(members)}
    for _ in range(sweeps):
        for members in columns.values():
            wish = {s: sum(rows[n] for n in near[s]) / len(near[s]) if near[s] else 0.0 for s in members}
            rows.update(_spread(members, wish))
    return rows


def _spread(members: list[Slot], wish: dict[Slot, float]) -> dict[Slot, float]:
    """Keep the order and a distance of 1, halfway between pushing up and pushing down."""
    up, down, above, below = {}, {}, -math.inf, math.inf
    for slot in members:
        up[slot] = above = max(wish[slot], above + 1)
    for slot in reversed(members):
        down[slot] = below = min(wish[slot], below - 1)
    return {slot: (up[slot] + down[slot]) / 2 for slot in members}


def _draw(ax: Axes, value: Value, places: dict[Slot, tuple], column: dict[int, int], reach: dict[int, int]) -> None:
    key = id(value)
    x, y = places[key, column[key]]
    edge = plots.INK if value.parents else plots.BLUE
    ax.add_patch(
        FancyBboxPatch(
            (x, y - HEIGHT / 2), WIDTH, HEIGHT, "round,pad=0,rounding_size=0.07", fc=plots.PAPER, ec=edge, lw=1.3
        )
    )
    ax.text(x + 0.04, y + HEIGHT / 2 + 0.04, value.label, fontsize=9.5, fontweight="bold", color=edge, va="bottom")
    for line, (name, number, colour) in enumerate((("data", value.data, edge), ("grad", value.grad, plots.ORANGE))):
        text = {"y": y + 0.1 - 0.2 * line, "fontsize": 9.5, "va": "center", "color": colour}
        ax.text(x + 0.07, s=name, **text)
        ax.text(x + WIDTH - 0.07, s=f"{number:.4g}".replace("-", "−"), ha="right", **text)
    for c in range(column[key] + 1, reach[key] + 1):  # a line that passes by other boxes
        (x0, y0), (x1, y1) = places[key, c - 1], places[key, c]
        _curve(ax, (x0 + WIDTH, y0), (x1, y1))
        _curve(ax, (x1, y1), (x1 + WIDTH, y1))
    if value.parents:
        centre = (x - 0.12 - RADIUS, y)
        ax.add_patch(Circle(centre, RADIUS, fc=plots.INK, ec="none", zorder=3))
        size = 11 if len(value.op) == 1 else 8 if len(value.op) < 4 else 6.5
        ax.text(*centre, value.op, color=plots.PAPER, fontsize=size, ha="center", va="center_baseline", zorder=4)
        _curve(ax, (centre[0] + RADIUS, y), (x, y), arrow=True)
        for parent in dict.fromkeys(map(id, value.parents)):
            px, py = places[parent, column[key] - 1]
            _curve(ax, (px + WIDTH, py), (centre[0] - RADIUS, y))


def _curve(ax: Axes, start: tuple[float, float], end: tuple[float, float], arrow: bool = False) -> None:
    middle = (start[0] + end[0]) / 2
    path = Path([start, (middle, start[1]), (middle, end[1]), end], [1, 4, 4, 4])
    style = "-|>,head_length=3,head_width=1.5" if arrow else "-"
    ax.add_patch(
        FancyArrowPatch(path=path, arrowstyle=style, color=plots.GREY, linewidth=1.1, zorder=1, shrinkA=0, shrinkB=0)
    )

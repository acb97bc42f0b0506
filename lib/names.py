"""Names that are given as strings: of kernels, algorithms, schedules."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def known(what: str, name: str, names: Iterable[str]) -> None:
    """Raise ValueError, with the nearest of the names, if `name` is none of them."""
    names = tuple(names)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0)[0]
        raise ValueError(f"unknown {what} {name!r}; did you mean {near!r}? Known: {', '.join(names)}")

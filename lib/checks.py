"""Names that are given as strings: of kernels, algorithms, schedules."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def known(what: str, name: str, names: Iterable[str]) -> None:
    """Raise ValueError, with the nearest of the names, if `name` is none of them."""
    names = tuple(names)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {what} {name!r}; {meant}Known: {', '.join(names) or 'none'}")

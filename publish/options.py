"""What is asked of the runner: budget, posts, jobs, and where the results go."""

from __future__ import annotations

import difflib
import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path

from publish import notebook

BUDGETS = ("auto", "smoke", "cpu", "gpu")


class UsageError(ValueError):
    """A request that cannot be met as it stands; the message says what would fit. Exit status 2."""


@dataclass(frozen=True)
class Options:
    """What to run and where to put it; `out` is a folder of executed copies, and in place when it is None."""

    root: Path
    out: Path | None
    budget: str = "auto"
    only: tuple[str, ...] = ()
    stale: bool = False
    jobs: int = 1
    timeout: float | None = None
    reuse: bool = False

    def check(self) -> None:
        """Raise UsageError for values that make no sense."""
        if self.budget not in BUDGETS:
            near = difflib.get_close_matches(self.budget.lower(), BUDGETS, n=1, cutoff=0)[0]
            raise UsageError(f"unknown budget {self.budget!r}; did you mean {near!r}? Known: {', '.join(BUDGETS)}")
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {self.jobs}")
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"--timeout must be more than 0 seconds, got {self.timeout:g}")
        if self.out is None and os.environ.get("LIB_GPU_SCALE"):
            raise UsageError(
                "LIB_GPU_SCALE is set, and a rehearsal is never committed: unset it, or leave --in-place out"
            )
        if self.out is None and self.budget == "smoke":
            raise UsageError("a smoke run is never committed: use --budget cpu or gpu with --in-place, or leave it out")


def select(root: Path, patterns: tuple[str, ...] = ()) -> list[Path]:
    """Return the posts whose folder has a pattern's number, matches it, or contains it; all without patterns."""
    paths = notebook.find(root)
    if not paths:
        raise UsageError(f"no posts in {root / 'posts'}; `python -m publish new 01-slug` makes one")
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths):
            known = ", ".join(path.parent.name for path in paths)
            raise UsageError(f"--only {pattern!r} matches no post. There are: {known}")
    return [path for path in paths if not patterns or any(_matches(path, pattern) for pattern in patterns)]


def _matches(path: Path, pattern: str) -> bool:
    name = path.parent.name
    if pattern.isdigit():
        return name.partition("-")[0].lstrip("0") == pattern.lstrip("0")
    return fnmatch.fnmatch(name, pattern) or pattern.strip("/").removesuffix("/index.ipynb").split("/")[-1] in name

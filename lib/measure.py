"""One kind of record for every figure on the site, and a fair way to compare two functions."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

PACKAGES = (
    "accelerate",
    "datasets",
    "diffusers",
    "einops",
    "matplotlib",
    "numba",
    "numpy",
    "scipy",
    "skimage",
    "sklearn",
    "torch",
    "torchvision",
    "transformers",
)
DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Record:
    """A figure that was measured: what, how much, against whom, on what.

    `value` is in `unit`. With a `peer`, `ours` and `theirs` are the two raw values (seconds for a `time ratio`, MiB
    for a `memory ratio`), `low` and `high` the quartiles of `value`, and `same` says whether both gave the same answer.
    `reference` is somebody else's figure, quoted from `source`; `target` is the goal in words, such as `<= 2.2`.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    ours: float | None = None
    theirs: float | None = None
    low: float | None = None
    high: float | None = None
    same: bool | None = None
    target: str | None = None
    reference: float | None = None
    source: str | None = None
    n: int | None = None
    seed: int | None = None
    note: str | None = None
    machine: str = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise ValueError(f"record {self.name!r}: value must be a finite number, got {self.value!r}")
        if not self.unit:
            raise ValueError(f"record {self.name!r}: a unit is needed, such as '%', 's' or 'time ratio'")
        if self.reference is not None and not self.source:
            raise ValueError(f"record {self.name!r}: reference {self.reference!r} needs the source it is quoted from")
        if self.unit == "time ratio" and self.same is None:
            raise ValueError(f"record {self.name!r}: a time ratio says in `same` whether both gave the same answer")

    def as_dict(self) -> dict:
        """Return the fields that are set, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Claim:
    """A statement about the world and how it fared on a run: "held", "did not hold" or "inconclusive" (a wide spread).

    `seen` is what was measured, in words.
    """

    claim: str
    state: str
    seen: str | None = None
    machine: str = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def as_dict(self) -> dict:
        """Return the fields that are set, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Seconds a call of each side (medians), and the ratio ours / theirs: median and quartiles over `n` pairs."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    n: int

    def above(self, limit: float) -> bool | None:
        """Say whether the ratio lies above `limit`; None, so inconclusive, where `limit` is between its quartiles."""
        return None if self.low <= limit <= self.high else self.ratio > limit

    def below(self, limit: float) -> bool | None:
        """Say whether the ratio lies below `limit`; None, so inconclusive, where `limit` is between its quartiles."""
        return None if self.low <= limit <= self.high else self.ratio < limit


def every(*verdicts: bool | None) -> bool | None:
    """Return False if one of the verdicts is False, else None if one is inconclusive, else True."""
    if any(verdict is False for verdict in verdicts):
        return False
    return None if None in verdicts else True


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int = 25,
    warmup: int = 2,
    shortest: float = 1e-3,
    sync: Callable[[], object] = lambda: None,
) -> Comparison:
    """Time two functions in turn, the order alternating from pair to pair, so that a drifting machine hits both alike.

    Calls shorter than `shortest` seconds are repeated within a sample until the sample is that long. `sync` is called
    before each reading of the clock; on a GPU pass `torch.cuda.synchronize`.
    """
    samples = in_turn(ours, theirs, pairs=pairs, warmup=warmup, shortest=shortest, sync=sync)
    low, ratio, high = quartiles([a / b for a, b in zip(*samples, strict=True)])
    return Comparison(*map(statistics.median, samples), ratio, low, high, pairs)


def in_turn(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int = 25,
    warmup: int = 2,
    shortest: float = 1e-3,
    sync: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Return the seconds a call of each side, pair by pair, timed as `compare` does."""
    if pairs < 1 or warmup < 0:
        raise ValueError(f"pairs must be at least 1 and warmup at least 0, got pairs={pairs}, warmup={warmup}")
    sides = (ours, theirs)
    counts = []
    for side in sides:
        for _ in range(warmup):
            side()
        counts.append(_calls(side, shortest, sync))
    samples: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            samples[side].append(_seconds(sides[side], counts[side], sync))
    return samples


def _calls(side: Callable[[], object], shortest: float, sync: Callable[[], object]) -> int:
    """Return how many calls last `shortest` seconds; a short one is tried three times, as one may be interrupted."""
    seconds = _seconds(side, 1, sync)
    if seconds < 20 * shortest:
        seconds = min(seconds, _seconds(side, 1, sync), _seconds(side, 1, sync))
    return max(1, math.ceil(shortest / max(seconds, 1e-9)))


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; of one value, that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, statistics.median(values), high


def _seconds(function: Callable[[], object], count: int, sync: Callable[[], object]) -> float:
    if count > 1:  # the other side has just run: let caches and sleeping threads settle before the clock starts
        for _ in range(count):
            function()
    sync()
    start = time.perf_counter()
    for _ in range(count):
        function()
    sync()
    return (time.perf_counter() - start) / count


def machine() -> str:
    """Describe the machine in a line: processor, usable cores, and the GPU where torch is loaded and sees one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{usable} cores"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].replace("(R)", "").replace("(TM)", "").split())
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the version of Python and of each of the project's packages that this process has imported."""
    imported = {"python": platform.python_version()}
    for name in PACKAGES:
        if name in sys.modules:
            imported[name] = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    return imported

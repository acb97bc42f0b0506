"""What a post says about itself: budget, seed, device, data, recorded results, colophon; and what it lets go of."""

from __future__ import annotations

import difflib
import gc
import inspect
import math
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import Markdown, display

from lib import data, measure, plots
from lib import gpu as hardware
from lib.data import files

BUDGETS = ("smoke", "cpu", "gpu")
RECORD = "application/vnd.lib.record+json"
CLAIM = "application/vnd.lib.claim+json"
COLOPHON = "application/vnd.lib.colophon+json"
WILL_BE_COMMITTED = "LIB_WILL_BE_COMMITTED"  # the runner sets it to 1
STATES = {True: "held", False: "did not hold", None: "inconclusive"}
LAST_ERROR = ("last_exc", "last_value", "last_type", "last_traceback")  # where Python keeps it, in sys
LAST_SHOWN = ("_", "__", "___")  # where IPython keeps what cells showed


class ClaimError(AssertionError):
    """Claims of a post whose outputs are to be committed did not hold; the message names each, and what was seen."""


def start(budget: str = "auto", seed: int = 42) -> Run:
    """Open a post: seed everything, pick the device (in full float32), set the figures' style, and say so in one line.

    `budget` is "smoke" (seconds, never the network), "cpu" (a minute on a laptop), "gpu" (the published results) or
    "auto", which is "gpu" where there is one and "cpu" elsewhere. "gpu" without a GPU runs on the CPU, with a warning;
    with LIB_GPU_SCALE it is a rehearsal of the GPU's run (see `lib.gpu`).
    """
    if budget not in (*BUDGETS, "auto"):
        near = difflib.get_close_matches(str(budget).lower(), (*BUDGETS, "auto"), n=1, cutoff=0)[0]
        raise ValueError(f"unknown budget {budget!r}; did you mean {near!r}? Known: auto, {', '.join(BUDGETS)}")
    has_gpu = torch.cuda.is_available()
    chosen = ("gpu" if has_gpu else "cpu") if budget == "auto" else budget
    device = torch.device("cuda" if has_gpu and chosen == "gpu" else "cpu")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that draw from the global state are seeded too
    torch.manual_seed(seed)
    torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds what goes into a convolution to 10 bits
    plots.use_style()
    print(f"budget {chosen} · device {device} · seed {seed} · torch {torch.__version__}")
    if chosen == "gpu" and hardware.scale():
        print(f"a rehearsal: every branch of the GPU's run, sizes divided by {hardware.scale()}; nothing is judged")
    elif chosen == "gpu" and not has_gpu:
        print("warning: budget 'gpu' on a machine without a GPU runs on the CPU, and may take very long")
    return Run(chosen, seed, device)


@dataclass
class Run:
    """A post being executed; made by `start`."""

    budget: str
    seed: int
    device: torch.device
    sources: dict[str, data.Source] = field(default_factory=dict)
    claims: list[measure.Claim] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    read_before: int = field(default_factory=lambda: len(files.READ))

    @property
    def rehearsal(self) -> bool:
        """Say whether this is a rehearsal of the GPU's run, by LIB_GPU_SCALE."""
        return self.budget == "gpu" and hardware.scale() is not None

    @property
    def on_gpu(self) -> bool:
        """Say whether what is meant for a GPU runs: on one, or in a rehearsal."""
        return self.device.type == "cuda" or self.rehearsal

    @property
    def tiny(self) -> bool:
        """Say whether sizes only show that the code runs, at smoke or in a rehearsal: no result is looked at."""
        return self.budget == "smoke" or self.rehearsal

    def pick(self, *, smoke: Any, cpu: Any, gpu: Any) -> Any:
        """Return the value for this run's budget; in a rehearsal the GPU's, divided, not below `smoke`'s."""
        return hardware.scaled(gpu, smoke) if self.rehearsal else {"smoke": smoke, "cpu": cpu, "gpu": gpu}[self.budget]

    def synchronize(self) -> None:
        """Wait until the post's GPU has done what was asked of it; on a CPU there is nothing to wait for."""
        if self.device.type == "cuda":
            hardware.synchronize()

    def load(self, name: str, **options: Any) -> data.Dataset:
        """`data.load`, with the source noted for the colophon; a smoke run and a rehearsal stay off the network."""
        loaded = data.load(name, network=not self.tiny, **options)
        self.sources[name] = loaded.source
        print(f"data {name}: {loaded.source}")
        return loaded

    def record(self, name: str, value: float, *, unit: str, **fields: Any) -> None:
        """Leave a figure in the post's stored output, for the reader and for the results page.

        The fields are those of `measure.Record`; a `measure.Comparison` can be passed as `comparison=`.
        """
        comparison = fields.pop("comparison", None)
        if comparison is not None:
            fields = vars(comparison) | fields
            fields.pop("ratio")
        record = measure.Record(name, value, unit, **({"seed": self.seed} | fields))
        bundle = {"text/markdown": _sentence(record), RECORD: record.as_dict()}
        display(bundle, raw=True)

    def claim(self, sentence: str, holds: bool | None, *, seen: Any = None) -> None:
        """Say whether a statement about the world held on this run, and leave it for the results page.

        `holds` is True, False, or None where the spread is too wide to tell (`measure.Comparison.above` returns these);
        a smoke run and a rehearsal judge nothing. `seen` is what was measured: a text, a number, a `Comparison`, or
        several of them, with names or without. The post goes on whatever comes out, but one whose outputs are to be
        committed is refused by `colophon`. Raises TypeError for a `holds` that is no truth value.
        """
        judged = _truth(sentence, holds)
        claim = measure.Claim(sentence, STATES[None if self.tiny else judged], None if seen is None else _words(seen))
        self.claims.append(claim)
        display({"text/markdown": _verdict(claim, self.tiny), CLAIM: claim.as_dict()}, raw=True)

    def source(self, *objects: Callable | type) -> None:
        """Show the source of functions or classes of `lib`, read from the live objects."""
        for item in objects:
            target = inspect.unwrap(getattr(item, "py_func", item))
            where = f"{target.__module__.replace('.', '/')}.py"
            code = inspect.getsource(target).rstrip()
            display(Markdown(f'```{{.python filename="{where}"}}\n{code}\n```'))

    def colophon(self) -> None:
        """Close the post: device, versions, data, seed and seconds, for the reader and for the runner.

        The files of data/ that were read since the start are told with their sha256: when one changes, the page is
        stale. What another process read is not known here.
        Raises ClaimError when the outputs are to be committed and a claim did not hold.
        """
        seconds = time.perf_counter() - self.started
        read = dict(sorted(files.READ[self.read_before :]))
        facts = {
            "budget": self.budget,
            **({"rehearsal": hardware.scale()} if self.rehearsal else {}),
            "device": self.device.type,
            "machine": measure.machine(),
            "versions": measure.versions(),
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "data": {name: source.as_dict() for name, source in self.sources.items()},
            "files": read,
        }
        rows = {
            "Budget and device": f"{self.budget}{' (rehearsed)' * self.rehearsal}, {self.device}",
            "Machine": facts["machine"],
            "Versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
            "Data": "; ".join(f"{name}: {source}" for name, source in self.sources.items()) or "made in the post",
            **({"Read of data/": _folders(read)} if read else {}),
            "Seed": str(self.seed),
            **({"Claims": _counted(self.claims)} if self.claims else {}),
            "Time": f"{seconds:.0f} s",
        }
        table = "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
        display({"text/markdown": table, COLOPHON: facts}, raw=True)
        failed = [claim for claim in self.claims if claim.state == STATES[False]]
        if failed and os.environ.get(WILL_BE_COMMITTED) == "1":
            lines = [f"{claim.claim} (seen: {claim.seen})" for claim in failed]
            raise ClaimError("\n".join([f"{len(failed)} of {len(self.claims)} claims did not hold", *lines]))


def release() -> int:
    """Drop the last error with the frames in its traceback, and the output history; return the bytes that came free.

    After an error Python keeps every frame of the traceback for a debugger, and so each tensor in a local variable;
    IPython keeps each value that a cell showed in `Out`, `_`, `__` and `_1`, `_2`, ... Both are let go of; on a GPU
    cached blocks are handed back, and the bytes are the GPU's. Without a GPU the bytes are those of torch's tensors.
    """
    before = _in_use()
    for name in LAST_ERROR:
        error = vars(sys).pop(name, None)
        while isinstance(error, BaseException):
            traceback.clear_frames(error.__traceback__)
            error.__traceback__, error = None, error.__cause__ or error.__context__
        del error
    _forget_history(get_ipython())
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return max(0, before - _in_use())


def _truth(sentence: str, holds: Any) -> bool | None:
    """Return True, False or None; numpy's and torch's single truth values count."""
    if isinstance(holds, torch.Tensor | np.ndarray | np.generic) and math.prod(holds.shape) == 1:
        holds = holds.item()
    if holds is not None and not isinstance(holds, bool):
        raise TypeError(f"claim {sentence!r}: holds must be True, False or None, got {holds!r}")
    return holds


def _verdict(claim: measure.Claim, tiny: bool) -> str:
    seen, sentence = f"seen: {claim.seen}" if claim.seen else "", claim.claim.removesuffix(".")
    if claim.state == "held":
        return f"✓ {claim.claim}" + (f" *({seen})*" if seen else "")
    if claim.state == "did not hold":
        return f"✗ {sentence}: **did not hold on this run**" + (f" *({seen})*" if seen else "")
    why = "so small a run judges nothing" if tiny else f"too wide a spread{'; ' * bool(seen)}{seen}"
    return f"– {sentence}: inconclusive *({why})*"


def _counted(claims: list[measure.Claim]) -> str:
    counts = {state: sum(claim.state == state for claim in claims) for state in STATES.values()}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _folders(names: Iterable[str]) -> str:
    counts = Counter(PurePosixPath(name).parent.as_posix() for name in names)
    return ", ".join(f"{folder} ({count} file{'s' * (count > 1)})" for folder, count in counts.items())


def _words(seen: Any) -> str:
    """Write what was seen: numbers with three digits, a comparison with its quartiles, several with commas."""
    if isinstance(seen, measure.Comparison):
        return f"{_figure(seen.ratio, 3)}, quartiles {_figure(seen.low, 3)} to {_figure(seen.high, 3)}"
    if isinstance(seen, dict):
        return "; ".join(f"{str(name).removesuffix(':')}: {_words(value)}" for name, value in seen.items())
    if isinstance(seen, torch.Tensor | np.ndarray | np.generic):
        seen = seen.tolist()
    if isinstance(seen, list | tuple):
        return ", ".join(map(_words, seen))
    return _figure(seen, 3) if isinstance(seen, float) else str(seen)


def _sentence(record: measure.Record) -> str:
    ratio = record.unit == "time ratio"
    digits = 3 if ratio else 4  # the third digit of a ratio of times is noise already
    spread = f" ({_figure(record.low, digits)} to {_figure(record.high, digits)})" if record.low is not None else ""
    unit = "times the time of" if ratio else record.unit
    peer = f" {record.peer}" if record.peer and ratio else ""
    note = f" · {record.note}" if record.note else ""
    return f"**{record.name}**: {_figure(record.value, digits)} {unit}{peer}{spread}{note}"


def _figure(value: float, digits: int) -> str:
    """Write a number with so many significant digits, and a large one without an exponent."""
    rounded = f"{value:.{digits}g}"
    return f"{float(rounded):,.0f}" if abs(value) >= 1000 else rounded


def _forget_history(shell: object | None) -> None:
    if shell is None:
        return
    shown = shell.user_ns.get("_oh", {})
    for names in (shell.user_ns, shell.user_ns_hidden):
        for number in shown:
            names.pop(f"_{number}", None)
        names |= dict.fromkeys(LAST_SHOWN, "")  # what a fresh session has there
    shown.clear()
    for name in LAST_SHOWN:
        setattr(shell.displayhook, name, "")
    if shell.last_execution_result is not None:  # that of the cell before this one
        shell.last_execution_result.result = None
    shell.InteractiveTB.tb = shell.InteractiveTB.etype = shell.InteractiveTB.value = None


def _in_use() -> int:
    """Return the bytes that tensors hold on the GPU, or without one, those of the CPU tensors that are reachable."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter) and item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())

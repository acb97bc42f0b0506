"""What waiting costs: post 19 as the runner executes it, against OpenMP's own way to wait, and beside busy loops."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from lib.measure import Record, quartiles

ROOT = Path(__file__).resolve().parent.parent
POST = "19-diffedit"
LIBGOMP = "300000"  # steps of spinning at a barrier where nothing is set
PAIRS, BUSY = 3, 3


class Executed(NamedTuple):
    """A run of the post: its seconds by its own clock, a digest of its pictures, and the versions that it ran on."""

    seconds: float
    pictures: str
    versions: dict[str, str]


def execute(spin: str | None = None) -> Executed:
    """Execute the post as `make site` does, at `cpu`; `spin` is for the environment, without it the runner chooses."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    env = kept | ({"GOMP_SPINCOUNT": spin} if spin else {})
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "publish", "run", "--only", POST, "--budget", "cpu", "--out", folder]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{POST} failed:\n{done.stdout}{done.stderr}")
        notebook = json.loads((Path(folder) / POST / "index.ipynb").read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    pictures = [str(output.get("data", {}).get(kind)) for output in outputs for kind in ("image/png", "image/jpeg")]
    about = notebook["metadata"]["provenance"]
    return Executed(about["seconds"], hashlib.sha256("".join(pictures).encode()).hexdigest(), about["versions"])


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep so many cores busy with loops that do nothing."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Time the post quietly, in turn with OpenMP's own setting, and then beside a busy loop for each core."""
    execute()
    ours, theirs = [], []
    for pair in range(PAIRS):
        for spin in (None, LIBGOMP) if pair % 2 == 0 else (LIBGOMP, None):
            (theirs if spin else ours).append(execute(spin))
        say(f"pair {pair + 1} of {PAIRS}: {ours[-1].seconds:.0f} s, libgomp's own {theirs[-1].seconds:.0f} s")
    yield _record("runner/quiet", ours, theirs, "libgomp's own spinning", "<= 1.03", "nothing else running")
    loops = os.cpu_count() or 1
    with busy(loops):
        beside = [execute() for _ in range(BUSY)]
    say(f"beside {loops} busy loops: {', '.join(f'{run.seconds:.0f} s' for run in beside)}")
    yield _record(
        "runner/busy", beside, ours, "the same with nothing else running", "<= 2", f"beside {loops} busy loops"
    )


def _record(name: str, ours: list[Executed], theirs: list[Executed], peer: str, target: str, note: str) -> Record:
    low, ratio, high = quartiles([a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True)])
    return Record(
        name,
        ratio,
        "time ratio",
        peer=peer,
        ours=median(run.seconds for run in ours),
        theirs=median(run.seconds for run in theirs),
        low=low,
        high=high,
        n=len(ours),
        same=len({run.pictures for run in [*ours, *theirs]}) == 1,
        target=target,
        note=f"post 19 at cpu by its own clock, {note}; the same pictures, bit for bit",
        versions=ours[0].versions,
    )

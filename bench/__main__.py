"""The command line of the measurements: `python -m bench [NAME...] [--gpu] [--json] [--save] [--list]`."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import sys
from pathlib import Path

from lib import gpu
from lib.data import files
from lib.measure import Record

# In the order in which a reader asks: how fast is a product, clustering, a training, a drawing?
BENCHES = {
    "matmul": "bench.matmul",
    "cluster": "bench.cluster",
    "learner": "bench.learner",
    "diffusion": "bench.diffusion",
    "stable": "bench.stable",
    "style": "bench.style",
    "loaders": "bench.loaders",
    "runner": "bench.runner",
    "stable-full": "bench.stable_full",
    "diffusion-full": "bench.diffusion_full",
    "fashion": "bench.fashion",
    "board": "bench.board",
    "board-steps": "bench.board_steps",
}
# Hours on two cores, resumable: measured only when named.
LONG = ("stable-full", "diffusion-full", "fashion", "board", "board-steps")
ON_GPU = ("matmul", "cluster", "learner", "diffusion", "stable")  # have measurements of their own for a GPU
NAMES = f"one or more of: {', '.join(BENCHES)} (default: all but {', '.join(LONG)})"
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None, results: Path = RESULTS) -> int:
    """Measure what is named (all but the long ones, if nothing is), print the records, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure against peers, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=NAMES)
    parser.add_argument("--json", action="store_true", help="print a JSON list of records and nothing else")
    parser.add_argument("--gpu", action="store_true", help=f"measure what is for a GPU: {', '.join(ON_GPU)}")
    parser.add_argument("--save", action="store_true", help="write the records to bench/results/[gpu/]NAME.json")
    parser.add_argument("--results", type=Path, default=results, metavar="DIR", help="write them to this folder")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(BENCHES))
        return 0
    known, usual = (ON_GPU, ON_GPU) if options.gpu else (tuple(BENCHES), [name for name in BENCHES if name not in LONG])
    for name in options.names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            what = "bench with measurements for a GPU" if options.gpu else "bench"
            print(f"unknown {what} {name!r}; did you mean {near!r}? Known: {', '.join(known)}", file=sys.stderr)
            return 2
    if options.gpu:
        if not gpu.present():
            print(f"--gpu needs a GPU, and torch sees none; {gpu.SCALE}=1000 rehearses it on the CPU", file=sys.stderr)
            return 2
        gpu.simulate()
    everything = []
    for name in dict.fromkeys(options.names or usual):
        path = options.results / ("gpu" if options.gpu else "") / f"{name}.json" if options.save else None
        everything += measured(name, options.gpu, path)
    print(json.dumps([record.as_dict() for record in everything], indent=1) if options.json else table(everything))
    return 0


def measured(name: str, on_gpu: bool = False, path: Path | None = None) -> list[Record]:
    """Return the records of a bench; with a `path` they are saved there when all are, and until then beside it."""
    bench, found = importlib.import_module(BENCHES[name]), []
    for record in bench.gpu_records(say) if on_gpu else bench.records(say):
        found.append(record)
        if path:
            save(found, path.with_suffix(".part"))
    if path:
        path.with_suffix(".part").unlink(missing_ok=True)
        say(f"saved {save(found, path)}")
    return found


def say(line: str) -> None:
    """Tell how far it is, apart from the results."""
    print(line, file=sys.stderr, flush=True)


def save(records: list[Record], path: Path) -> Path:
    """Write the records as JSON, wholly or not at all, and return the path."""
    files.replace(path, (json.dumps([record.as_dict() for record in records], indent=1) + "\n").encode())
    return path


def table(records: list[Record]) -> str:
    """Lay the records out in columns for a reader."""
    rows = [("name", "value", "quartiles", "unit", "peer", "ours", "theirs", "same", "target")]
    for r in records:
        spread = f"{r.low:.3g} to {r.high:.3g}" if r.low is not None else ""
        ours, theirs = (f"{x:.3g}" if x is not None else "" for x in (r.ours, r.theirs))
        same = {True: "yes", False: "NO", None: ""}[r.same]
        rows.append((r.name, f"{r.value:.4g}", spread, r.unit, r.peer or "", ours, theirs, same, r.target or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *(f"{r.machine} · {r.date}" for r in records[:1])])


if __name__ == "__main__":
    sys.exit(main())

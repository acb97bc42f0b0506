"""The command line of the measurements: `python -m bench [NAME...] [--json] [--save] [--list]`."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import sys
from pathlib import Path

from lib.data import files
from lib.measure import Record

BENCHES = {
    "matmul": "bench.matmul",
    "learner": "bench.learner",
    "loaders": "bench.loaders",
    "fashion": "bench.fashion",
    "cluster": "bench.cluster",
    "diffusion": "bench.diffusion",
    "diffusion-full": "bench.diffusion_full",
    "stable": "bench.stable",
    "stable-full": "bench.stable_full",
    "style": "bench.style",
    "runner": "bench.runner",
}
LONG = ("fashion", "diffusion-full", "stable-full")  # hours on two cores, resumable: measured only when named
NAMES = f"one or more of: {', '.join(BENCHES)} (default: all but {', '.join(LONG)})"
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None, results: Path = RESULTS) -> int:
    """Measure what is named (all but the long ones, if nothing is), print the records, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure against peers, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=NAMES)
    parser.add_argument("--json", action="store_true", help="print a JSON list of records and nothing else")
    parser.add_argument("--save", action="store_true", help="write the records to bench/results/NAME.json")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(BENCHES))
        return 0
    for name in options.names:
        if name not in BENCHES:
            near = difflib.get_close_matches(name, BENCHES, n=1, cutoff=0)[0]
            print(f"unknown bench {name!r}; did you mean {near!r}? Known: {', '.join(BENCHES)}", file=sys.stderr)
            return 2
    everything = []
    for name in dict.fromkeys(options.names or [name for name in BENCHES if name not in LONG]):
        records = list(importlib.import_module(BENCHES[name]).records(say))
        everything += records
        if options.save:
            say(f"saved {save(records, results / f'{name}.json')}")
    print(json.dumps([record.as_dict() for record in everything], indent=1) if options.json else table(everything))
    return 0


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

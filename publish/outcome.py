"""How the posts fared, told so that whoever reads it knows what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from publish import notebook, ours
from publish.options import Options
from publish.progress import span


@dataclass
class Result:
    """How a post fared: `status` is ok, failed or reused; a failure has its cell (from 1, all count) and error."""

    post: str
    status: str
    seconds: float = 0.0
    cells: int = 0
    facts: dict = field(default_factory=dict)
    cell: int | None = None
    line: str = ""
    error: str = ""
    traceback: str = ""
    warnings: list[str] = field(default_factory=list)
    claims: list[dict] = field(default_factory=list)

    def verdict(self) -> str:
        """Say it in a line."""
        if self.status == "failed":
            return f"FAILED{f' at cell {self.cell}' if self.cell else ''}: {self.error.splitlines()[0]}"
        if self.status == "reused":
            return "executed before, nothing has changed since"
        where = ", ".join(str(self.facts[key]) for key in ("budget", "device") if self.facts.get(key))
        warned = "".join(f"\n  warning: {warning}" for warning in self.warnings)
        return f"ok, {self.cells} cells in {span(self.seconds)}{f' ({where})' if where else ''}{warned}"


def summary(results: list[Result], options: Options) -> str:
    """Tell every failure by post, cell, line and error, with the command that reruns it alone."""
    failed = [result for result in results if result.status == "failed"]
    if not failed:
        return ""
    blocks = [f"{len(failed)} of {len(results)} posts failed"]
    for result in failed:
        where = f", cell {result.cell} of {result.cells} (from 1, prose counts too)" if result.cell else ""
        lines = [f"posts/{result.post}/index.ipynb{where}", *([f"    {result.line}"] if result.line else [])]
        lines += [f"  {line}" for line in result.error.splitlines()]
        if result.traceback and (log := _log(options.root, result)):
            lines.append(f"  traceback: {log}")
        place = " --in-place" if options.out is None else ""
        lines.append(f"  again: python -m publish run --only {result.post} --budget {options.budget}{place}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def claims(results: list[Result], options: Options) -> str:
    """Count the posts' claims by how they fared, and name each that did not hold or is inconclusive; empty without."""
    told = [(result.post, claim) for result in results for claim in result.claims]
    if not told:
        return ""
    if options.budget == "smoke":
        return f"{len(told)} claims, none judged: a smoke run is too small"
    counts = Counter(claim["state"] for _, claim in told)
    lines = [f"{len(told)} claims: " + ", ".join(f"{counts[state]} {state}" for state in notebook.CLAIM_STATES)]
    for post, claim in told:
        if claim["state"] != "held":
            seen = f" (seen: {claim['seen']})" if "seen" in claim else ""
            lines.append(f"  {post}, {claim['state']}: {claim['claim']}{seen}")
    return "\n".join(lines)


def _log(root: Path, result: Result) -> str | None:
    path = root / "_build" / "logs" / f"{result.post}.txt"
    try:
        ours.write(path, result.traceback.encode(), root)
    except (OSError, ours.NotOursError):
        return None
    return path.relative_to(root).as_posix()

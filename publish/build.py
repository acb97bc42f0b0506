"""Execute all posts into `_build/`, render `_site/`, and say what ran where, how long it took, and how to open it."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from publish import notebook, ours, runner
from publish.options import Options
from publish.outcome import Result, claims, summary
from publish.progress import span


def build(options: Options, site: Path, engine: str = "auto", stream: TextIO | None = None) -> int:
    """Build the site and return the exit status: 1 when a post failed, for which its committed outputs are shown."""
    from publish.render import render

    stream = stream or sys.stdout
    begun = time.monotonic()
    ours.check(site, ours.SITE, options.root)  # before minutes of work
    results = runner.run(replace(options, reuse=True), stream)
    _prune(options)
    print(file=stream)
    for result in results:
        print(_where(result, options), file=stream)
    if claimed := claims(results, options):
        print(f"\n{claimed}", file=stream)
    failed = [result.post for result in results if result.status == "failed"]
    if failed:
        print(
            f"\n{summary(results, options)}\n\nshown with their committed outputs: {', '.join(failed)}",
            file=stream,
        )
    rendering = time.monotonic()
    report = render(options.root, site, options.out, engine)
    print(
        f"{report}\nrendered in {span(time.monotonic() - rendering)}, all done in {span(time.monotonic() - begun)}",
        file=stream,
    )
    print(f"open it: make serve (or python -m publish serve), or {site / 'index.html'}", file=stream)
    return 1 if failed else 0


def _where(result: Result, options: Options) -> str:
    if result.status == "failed":
        return f"  {result.post}: failed"
    said = notebook.read(options.out / result.post / "index.ipynb")["metadata"]["provenance"]
    how = f"{said.get('budget')} on {said.get('device') or 'an unknown device'}"
    took = span(said.get("seconds") or result.seconds)
    data = "; ".join(f"{name}: {about.get('kind')}" for name, about in said.get("data", {}).items())
    kept = " (kept)" if result.status == "reused" else ""
    return f"  {result.post}: {how}, {took}{f', data {data}' if data else ''}{kept}"


def _prune(options: Options) -> None:
    """Remove executed copies of posts that are no more."""
    known = {path.parent.name for path in notebook.find(options.root)}
    for path in options.out.glob("*/index.ipynb"):
        if path.parent.name not in known:
            with suppress(ours.NotOursError):
                ours.discard(path, options.out)

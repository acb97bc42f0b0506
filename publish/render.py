"""Render the site: with Quarto where it is found, else with the preview renderer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from publish import address, notebook, ours, results

COPIED = ("_quarto.yml", address.LOCAL, address.FEED, "references.bib")


@dataclass(frozen=True)
class Report:
    """What was rendered, with what, where, and in how many seconds."""

    engine: str
    pages: int
    out: Path
    seconds: float

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.pages} pages in {self.out}, rendered with {self.engine} in {self.seconds:.1f} s"


def find_quarto() -> str | None:
    """Return Quarto's path: QUARTO_PATH, the PATH, or the `quarto-cli` package beside this Python."""
    places = (os.environ.get("QUARTO_PATH"), "quarto", str(Path(sys.executable).with_name("quarto")))
    return next((found for place in places if place and (found := shutil.which(place))), None)


def render(root: Path, out: Path, posts: Path | None = None, engine: str = "auto") -> Report:
    """Render a site into the place of `out`; `posts` holds executed copies to show in place of the committed outputs.

    Raises `preview.RenderError` when a page fails, which leaves `out` as it was, ValueError for an engine that is not
    there, and `ours.NotOursError` where `out` holds something else than a site of ours.
    """
    if engine not in ("auto", "quarto", "preview"):
        raise ValueError(f"engine must be auto, quarto or preview, got {engine!r}")
    begun = time.monotonic()
    ours.check(out, ours.SITE, root)
    quarto = find_quarto() if engine != "preview" else None
    if engine == "quarto" and not quarto:
        raise ValueError("Quarto is not found: install it from quarto.org, set QUARTO_PATH, or use --engine preview")
    address.write(root)
    with ours.replaced(out, ours.SITE, root) as site:
        if quarto:
            _with_quarto(quarto, root, site, posts)
            name, pages = "Quarto", len([*root.glob("*.qmd"), *notebook.find(root)])
        else:
            from publish import preview

            name, pages = "the preview renderer (Quarto is not used)", len(preview.render(root, site, posts))
    return Report(name, pages, out, time.monotonic() - begun)


def _with_quarto(quarto: str, root: Path, site: Path, posts: Path | None) -> None:
    from publish.preview import RenderError

    project = _copy(root, posts) if posts else root
    command = [quarto, "render", str(project), "--output-dir", os.path.relpath(site, project)]
    if subprocess.run(command, cwd=project).returncode:
        raise RenderError("Quarto failed; what it said is above")


def _copy(root: Path, posts: Path) -> Path:
    """Make a copy of the project under `_build/` that holds the executed notebooks, and return its folder."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    with ours.replaced(root / "_build" / "site", ours.COPY, root) as project:
        for name in [*COPIED, *(path.name for path in root.glob("*.qmd"))]:
            if (root / name).exists():
                shutil.copy(root / name, project)
        for name in ("assets", "lib", "publish", "bench", "posts"):
            if (root / name).exists():
                shutil.copytree(root / name, project / name, ignore=ignored)
        for path in notebook.find(root):
            shutil.copy(results.pick(path, posts), project / path.relative_to(root))
    return root / "_build" / "site"

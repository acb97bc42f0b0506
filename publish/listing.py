"""What state every post is in; standard library only, and instant."""

from __future__ import annotations

from pathlib import Path

from publish import notebook
from publish.provenance import Project, State

COLUMNS = ("post", "state", "budget", "device", "date")


def rows(root: Path) -> list[dict]:
    """Return each post, in reading order, with its title, state (and because of what), budget, device and date."""
    project = Project(root)
    return [_row(project, path) for path in notebook.find(root)]


def _row(project: Project, path: Path) -> dict:
    said, title = {}, ""
    try:
        nb = notebook.read(path)
        notebook.check(nb)
        title = notebook.front_matter(nb)["title"]
        said = nb.get("metadata", {}).get("provenance", {})
        state = project.state(nb, path)
    except notebook.NotebookError as error:
        state = State("broken", [str(error)])
    about = {key: said.get(key) for key in ("budget", "device", "machine", "date", "seconds")}
    return {"post": path.parent.name, "title": title, "state": state.name, "because": state.because} | about


def table(found: list[dict]) -> str:
    """Lay rows out as lines of text, with the reasons under each post."""
    cells = [[str(row[key] or "-") for key in COLUMNS] for row in found]
    widths = [max(len(line[i]) for line in [list(COLUMNS), *cells]) for i in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(COLUMNS, widths, strict=True)).rstrip()]
    for row, line in zip(found, cells, strict=True):
        lines.append("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        if row["because"]:
            lines.append(f"{' ' * (widths[0] + 2)}because of {', '.join(row['because'])}")
    return "\n".join(lines)

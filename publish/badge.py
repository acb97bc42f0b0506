"""What a page was computed on, from its notebook's provenance; standard library only.

Quarto reads it as metadata from a `_metadata.yml` beside the notebook: assets/post.lua puts it on top of the post, and
the list of posts shows it on the card. The preview asks `of` directly.
"""

from __future__ import annotations

import json
from pathlib import Path

from publish import notebook, ours

FILE = "_metadata.yml"
MARK = "# Derived from the notebook's provenance before each render; not committed.\n"


def of(nb: dict) -> dict[str, str]:
    """Return `computed` ("a CPU", "an NVIDIA H100") and `computed-by` (machine, budget and date), or nothing."""
    said = nb.get("metadata", {}).get("provenance", {})
    if not said.get("device"):
        return {}
    budget = f"budget {said['budget']}" if said.get("budget") else ""
    by = ", ".join(filter(None, (said.get("machine"), budget, said.get("date"))))
    return {"computed": _processor(said["device"], said.get("machine") or ""), "computed-by": by}


def write(root: Path) -> None:
    """Write each post's badge beside it; remove it where the notebook does not say what it ran on, or is broken."""
    for path in notebook.find(root):
        try:
            badge = of(notebook.read(path))
        except notebook.NotebookError:
            badge = {}
        if badge:
            lines = (f"{key}: {json.dumps(text, ensure_ascii=False)}\n" for key, text in badge.items())
            ours.put(path.with_name(FILE), MARK, "".join(lines), root)
        else:
            ours.remove(path.with_name(FILE), MARK, root)


def _processor(device: str, machine: str) -> str:
    """Name the GPU, which is the last part of the machine's description (see `measure.machine`)."""
    if device == "cpu":
        return "a CPU"
    name = machine.rpartition(", ")[2] if device == "cuda" else ""
    article = "an" if name[:1] in "AEIOU" or name.startswith("NVIDIA") else "a"
    return f"{article} {name}" if name else "a GPU"

"""Notebooks as plain JSON: find, read, check, and fill with outputs."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

LIMIT = 800_000  # bytes of stored outputs a post
CLAIM = "application/vnd.lib.claim+json"
CLAIM_STATES = ("held", "did not hold", "inconclusive")
COLOPHON = "application/vnd.lib.colophon+json"
NO_COLOPHON = "there is no colophon; end the post with `run.colophon()`"
ONLY_PART = "only a part of {} was at hand; set LIB_DATA or go online"
NAME = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
VIEW_STATE = ("papermill", "execution", "ExecuteTime", "collapsed", "scrolled", "colab", "outputId", "vscode")
ALLOWED = re.compile(r"text/(plain|markdown)|image/(png|jpeg|svg\+xml)|application/vnd\.lib\..*")


class NotebookError(ValueError):
    """A notebook that cannot be used; the message says what is wrong and what to do."""


def find(root: Path) -> list[Path]:
    """Return the notebooks of the posts under `root`, in reading order."""
    return sorted((root / "posts").glob("*/index.ipynb"))


def read(path: Path) -> dict:
    """Read a notebook; raises NotebookError if it is not JSON or not a notebook of format 4."""
    try:
        nb = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotebookError(f"not JSON ({error}); bring it back with: git checkout -- {_named(path)}") from error
    except OSError as error:
        raise NotebookError(f"cannot be read: {error.strerror}") from error
    if not isinstance(nb, dict) or nb.get("nbformat") != 4 or not isinstance(nb.get("cells"), list):
        raise NotebookError("not a notebook of format 4; open it in Jupyter and save it again")
    if not all(isinstance(cell, dict) and cell.get("cell_type") in ("raw", "markdown", "code") for cell in nb["cells"]):
        raise NotebookError("a cell is neither raw, Markdown nor code; open it in Jupyter and save it again")
    nb.setdefault("metadata", {})
    nb["cells"] = [cell for cell in nb["cells"] if "injected-parameters" not in tags(cell)]
    return nb


def check(nb: dict) -> None:
    """Raise NotebookError unless the notebook has front matter with a title, and a cell of parameters."""
    if not front_matter(nb).get("title"):
        raise NotebookError(
            "no front matter; the first cell must be raw and hold `title: ...` between two `---` lines"
            " (`python -m publish new` makes a post that has it)"
        )
    if not any(cell["cell_type"] == "code" and "parameters" in tags(cell) for cell in nb["cells"]):
        raise NotebookError(
            'no parameters cell; give the code cell with `budget = "auto"` and `seed = 42` the tag `parameters`'
        )


def front_matter(nb: dict) -> dict[str, str]:
    """Return the `key: value` lines at the top level of the first cell's front matter; empty if there is none."""
    first = source(nb["cells"][0]) if nb["cells"] else ""
    block = re.match(r"---\n(.*?)\n---\s*\Z", first.strip() + "\n", re.DOTALL)
    if not block:
        return {}
    lines = re.findall(r"^([\w-]+):[ \t]*(.*?)[ \t]*$", block[1], re.MULTILINE)
    return {key: value.strip("\"'") for key, value in lines}


def source(cell: dict) -> str:
    """Return a cell's source as one string."""
    return joined(cell.get("source", ""))


def tags(cell: dict) -> list[str]:
    """Return a cell's tags."""
    return cell.get("metadata", {}).get("tags", [])


def first_line(cell: dict) -> str:
    """Return the first line of a cell that is neither blank nor an option of the page (`#| ...`)."""
    lines = [line.strip() for line in source(cell).splitlines()]
    return next((line for line in lines if line and not line.startswith("#|")), "")


def code(nb: dict) -> list[dict]:
    """Return the cells that hold code."""
    return [cell for cell in nb["cells"] if cell["cell_type"] == "code"]


def fill(nb: dict, outputs: list[list[dict]]) -> dict:
    """Return the notebook with these outputs, a list for each code cell, and without traces of a run."""
    nb = copy.deepcopy(nb)
    count = 0
    waiting = iter(outputs)
    for number, cell in enumerate(nb["cells"], start=1):
        cell.setdefault("id", f"cell-{number}")
        cell["source"] = source(cell).splitlines(keepends=True)
        cell["metadata"] = {key: value for key, value in cell.get("metadata", {}).items() if key not in VIEW_STATE}
        if cell["cell_type"] == "code":
            ran = bool(source(cell).strip())
            count += ran
            cell["execution_count"] = count if ran else None
            cell["outputs"] = [_tidy(output, count) for output in _merged(next(waiting))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    kept = {key: value for key, value in nb["metadata"].items() if key == "provenance"}
    nb["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}} | kept
    return nb | {"nbformat_minor": max(5, nb.get("nbformat_minor", 5))}


def colophon(nb: dict) -> dict | None:
    """Return what the post's last colophon says, or None."""
    found = [data[COLOPHON] for _, output in outputs(nb) if COLOPHON in (data := output.get("data", {}))]
    return found[-1] if found else None


def claims(nb: dict) -> list[dict]:
    """Return the claims in a notebook's stored outputs, in order: `claim`, `state`, and `seen` where it was told."""
    return [data[CLAIM] for _, output in outputs(nb) if CLAIM in (data := output.get("data", {}))]


def outputs(nb: dict) -> list[tuple[int, dict]]:
    """Return (cell number from 1, output) for all outputs."""
    cells = enumerate(nb["cells"], start=1)
    return [(number, output) for number, cell in cells for output in cell.get("outputs", [])]


def oversize(nb: dict, limit: int = LIMIT) -> tuple[int, str] | None:
    """Return the cell with the largest outputs and a sentence, when the stored outputs are over `limit` bytes."""
    sizes: dict[int, int] = {}
    for number, output in outputs(nb):
        sizes[number] = sizes.get(number, 0) + len(json.dumps(output))
    if sum(sizes.values()) <= limit:
        return None
    largest = max(sizes, key=sizes.__getitem__)
    return largest, (
        f"stored outputs of {sum(sizes.values()) / 1000:,.0f} kB are over the limit of {limit / 1000:,.0f} kB;"
        f" this cell alone has {sizes[largest] / 1000:,.0f} kB"
    )


def unwanted(nb: dict) -> list[tuple[int, str]]:
    """Return (cell number, what is wrong) for outputs that must not be stored: stderr, HTML, scripts, widgets."""
    found = []
    for number, output in outputs(nb):
        if output.get("name") == "stderr":
            lines = joined(output["text"]).strip().splitlines() or [""]
            found.append((number, f"writes to stderr: {lines[-1][:120]}"))
        found += [(number, f"stores {mime}") for mime in output.get("data", {}) if not ALLOWED.fullmatch(mime)]
    return found


def partial_data(nb: dict) -> list[str]:
    """Return the data sets of which only a part was at hand."""
    data = (colophon(nb) or {}).get("data", {})
    return [name for name, about in data.items() if about.get("kind") == "part"]


def refusals(nb: dict) -> list[str]:
    """Return why a notebook must not be committed: unwanted outputs, no colophon, part of the data, failed claims."""
    found = [f"cell {number} {what}" for number, what in unwanted(nb)]
    if not colophon(nb):
        found.append(NO_COLOPHON)
    if parts := partial_data(nb):
        found.append(ONLY_PART.format(", ".join(parts)))
    return found + [
        f"did not hold: {claim['claim']} (seen: {claim.get('seen')})"
        for claim in claims(nb)
        if claim["state"] == CLAIM_STATES[1]
    ]


def encoded(nb: dict) -> bytes:
    """Return a notebook as the file that Jupyter would write, so that it diffs well."""
    return (json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def joined(text: str | list[str]) -> str:
    """Return a text that a notebook may hold as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def _named(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _merged(outputs: list[dict]) -> list[dict]:
    """Join streams that follow each other; of a line written over (carriage return) the last version stays."""
    merged: list[dict] = []
    for output in outputs:
        if output["output_type"] != "stream":
            merged.append(output)
            continue
        before = merged[-1] if merged else {}
        together = before.get("name") == output["name"]
        text = joined(before["text"]) + joined(output["text"]) if together else joined(output["text"])
        merged[len(merged) - together :] = [output | {"text": text}]
    for output in merged:
        if output["output_type"] == "stream":
            lines = output["text"].replace("\r\n", "\n").split("\n")
            output["text"] = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return merged


def _tidy(output: dict, count: int) -> dict:
    output = dict(output)
    if "execution_count" in output:
        output["execution_count"] = count
    if "text" in output:
        output["text"] = joined(output["text"]).splitlines(keepends=True)
    if "data" in output:
        output["data"] = {
            mime: value.splitlines(keepends=True) if mime.startswith("text/") and isinstance(value, str) else value
            for mime, value in output["data"].items()
        }
    return output

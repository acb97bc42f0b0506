"""A notebook as Pandoc Markdown: cells, options and stored outputs, by the rules by which Quarto reads them."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from publish import notebook

OPTIONS = {"label", "echo", "include", "output", "eval", "warning", "code-fold", "code-summary", "layout-ncol"}
OPTIONS |= {"fig-cap", "fig-alt", "fig-subcap", "tbl-cap"}
PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpeg"}
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class PageError(ValueError):
    """A page that cannot be rendered as it stands; the message names the cell."""


@dataclass
class Page:
    """What a source file says: front matter, body in Markdown, the pictures of its outputs by name, and its prose."""

    meta: dict
    markdown: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    prose: str = ""


def front_matter(text: str) -> tuple[dict, str]:
    """Split a text into the YAML between its leading `---` lines and the rest."""
    block = re.match(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", text, re.DOTALL)
    if not block:
        return {}, text
    try:
        return yaml.safe_load(block[1]) or {}, text[block.end() :]
    except yaml.YAMLError as error:
        raise PageError(f"the front matter is not YAML: {error}") from error


def from_qmd(path: Path) -> Page:
    """Read a page without code; `{{< include FILE >}}` on a line of its own is replaced by the file."""

    def included(found: re.Match) -> str:
        target = path.parent / found[1]
        if not target.exists():
            raise PageError(f"includes {found[1]}, which is missing")
        return target.read_text(encoding="utf-8")

    meta, body = front_matter(path.read_text(encoding="utf-8"))
    return Page(meta, re.sub(r"^\{\{< include (\S+) >\}\}$", included, body, flags=re.MULTILINE))


def from_notebook(nb: dict) -> Page:
    """Read a post; nothing is executed. Raises PageError naming the cell."""
    page = Page({}, "")
    parts, prose = [], []
    if not notebook.outputs(nb):
        raise PageError("holds no outputs: execute it first, with python -m publish run --in-place (or make site)")
    for number, cell in enumerate(nb["cells"], start=1):
        source = notebook.source(cell)
        if cell["cell_type"] == "raw":
            meta, rest = front_matter(source)
            page.meta |= meta
            prose.append(rest)
            parts.append(rest)
        elif cell["cell_type"] == "markdown":
            prose.append(source)
            parts.append(source)
        else:
            try:
                parts.append(_code(number, cell, page.pictures))
            except (PageError, yaml.YAMLError) as error:
                raise PageError(f"cell {number} ({notebook.first_line(cell)}): {error}") from error
    page.markdown, page.prose = "\n\n".join(parts), "\n\n".join(prose)
    return page


def options(source: str) -> tuple[dict, str]:
    """Split a cell into its leading `#| key: value` options and its code."""
    lines = source.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    return yaml.safe_load("".join(line[2:] for line in lines[:count])) or {}, "".join(lines[count:]).strip("\n")


def _code(number: int, cell: dict, pictures: dict[str, bytes]) -> str:
    chosen, code = options(notebook.source(cell))
    if unknown := chosen.keys() - OPTIONS:
        raise PageError(f"unknown option {', '.join(sorted(unknown))}; known: {', '.join(sorted(OPTIONS))}")
    if chosen.get("include") is False:
        return ""
    parts = []
    if chosen.get("echo", True) and code:
        folding = [f"{key}={_quoted(chosen[key])}" for key in ("code-fold", "code-summary") if key in chosen]
        parts.append(_fenced(code, " ".join([".python .cell-code", *folding])))
    outputs = cell.get("outputs", []) if chosen.get("output", True) else []
    shown = [output for output in outputs if output["output_type"] in ("display_data", "execute_result")]
    label = str(chosen.get("label", ""))
    if not re.fullmatch(r"[\w-]*", label):  # it names a file, too
        raise PageError(f"a label is made of letters, digits, - and _; got {label!r}")
    on_cell = bool(label) and (len(shown) != 1 or label.startswith("tbl-"))
    captions = _captions(chosen, len(shown), label)
    sub = 0
    for output in outputs:
        if output not in shown:
            parts.append(_stream(output))
            continue
        own = f"{label}-{sub + 1}" if on_cell else label
        caption = captions[sub] if sub < len(captions) else ""
        sub += 1
        name = f"{label or f'cell-{number}'}-output-{sub}"
        parts.append(_display(output, own, caption, name, chosen, pictures, sub - 1))
    if on_cell and isinstance(chosen.get("fig-cap"), str) and "fig-subcap" in chosen:
        parts.append(chosen["fig-cap"])
    attributes = [f"#{label}"] if on_cell else []
    attributes += [".cell"] + [f"{key}={_quoted(chosen[key])}" for key in ("tbl-cap", "layout-ncol") if key in chosen]
    return "::::: {" + " ".join(attributes) + "}\n" + "\n\n".join(parts) + "\n:::::" if parts else ""


def _captions(chosen: dict, count: int, label: str) -> list[str]:
    """Return the caption of each display output; the sub-captions where the cell as a whole has one."""
    caption, subs = chosen.get("fig-cap"), chosen.get("fig-subcap")
    if label.startswith("fig-") and count != 1 and not (isinstance(subs, list) and len(subs) == count):
        raise PageError(
            f"{label} has {count} outputs; a figure has one, or as many as there are captions in fig-subcap"
        )
    if subs is not None:
        return [str(sub) for sub in subs]
    return [caption] if isinstance(caption, str) else list(caption or [])


def _stream(output: dict) -> str:
    if output["output_type"] == "error":
        raise PageError(f"holds an error: {output['ename']}: {output['evalue']}")
    text = ANSI.sub("", notebook.joined(output["text"]))
    return f":::: {{.cell-output .cell-output-{output['name']}}}\n{_fenced(text)}\n::::"


def _display(output: dict, label: str, caption: str, name: str, chosen: dict, pictures: dict, index: int) -> str:
    data = output["data"]
    picture = next((kind for kind in PICTURES if kind in data), None)
    classes = ".cell-output .cell-output-display"
    if "text/markdown" in data:
        labelled = f"#{label} " if label and not label.startswith("tbl-") else ""
        body = notebook.joined(data["text/markdown"]) + (f"\n\n{caption}\n" if caption else "")
        return f":::: {{{labelled}{classes} .cell-output-markdown}}\n{body}\n::::"
    if picture:
        file = f"index_files/figure-html/{name}.{PICTURES[picture]}"
        text = notebook.joined(data[picture])
        pictures[file] = text.encode() if "<svg" in text else base64.b64decode(text)
        alt = chosen.get("fig-alt", "")
        alt = alt[index] if isinstance(alt, list) else alt
        attributes = [f"#{label}"] * bool(label) + [f"fig-alt={_quoted(alt)}"] * bool(alt)
        return f":::: {{{classes}}}\n![{caption}]({file}){{{' '.join(attributes)}}}\n::::"
    if "text/plain" in data:
        return f":::: {{{classes}}}\n{_fenced(ANSI.sub('', notebook.joined(data['text/plain'])))}\n::::"
    raise PageError(f"holds an output that cannot be shown: {', '.join(data)}")


def _fenced(text: str, attributes: str = "") -> str:
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{f' {{{attributes}}}' if attributes else ''}\n{text.rstrip(chr(10))}\n{ticks}"


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return '"' + " ".join(text.replace("\\", "\\\\").replace('"', '\\"').split()) + '"'

"""The results page and the front page's picture, from what posts and benchmarks left; standard library only."""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from publish import notebook, ours

RECORDS, FRONT = "results/records.md", "results/front.md"
MARK = "<!-- Derived from posts and benchmarks before each render; not committed. -->\n\n"
RECORD = "application/vnd.lib.record+json"
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
# A number as Python writes it, and no other behind it: of "2,048" nothing is judged, rather than "2".
TARGET = re.compile(r"\s*(<=|>=|<|>|=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\d.]|,\d)")
COLUMNS = {"What": 34, "Value": 12, "Spread": 14, "Against": 26, "Target": 14}  # and their widths
LOOKS = dict(zip(notebook.CLAIM_STATES, (".met", ".missed", ".inconclusive"), strict=True))


def write(root: Path, posts: Path | None = None) -> Path:
    """Write `results/records.md` and `results/front.md`, which assets/post.lua puts on their pages.

    `posts` is a folder of executed copies, shown in place of the committed notebooks of the same name.
    """
    notebooks = {path.parent.name: notebook.read(pick(path, posts)) for path in notebook.find(root)}
    front = next((text for name, nb in notebooks.items() if (text := _front(name, nb))), "")
    ours.put(root / FRONT, MARK, front, root)
    ours.put(root / RECORDS, MARK, _page(root, notebooks), root)
    return root / RECORDS


def pick(path: Path, posts: Path | None) -> Path:
    """Return the executed copy of a post where there is one, else the committed notebook."""
    copy = posts / path.parent.name / path.name if posts else path
    return copy if copy.exists() else path


def of_post(nb: dict) -> list[dict]:
    """Return the records in a notebook's stored outputs, in order."""
    return [data[RECORD] for _, output in notebook.outputs(nb) if RECORD in (data := output.get("data", {}))]


def met(target: str, value: float) -> bool | None:
    """Say whether a value meets a target such as `<= 2.2`; None when the target is not of that form."""
    found = TARGET.match(target)
    return COMPARE[found[1]](value, float(found[2])) if found else None


def _page(root: Path, notebooks: dict[str, dict]) -> str:
    sections = []
    for name, nb in notebooks.items():
        link = f"[{notebook.front_matter(nb)['title']}](posts/{name}/index.ipynb)"
        budget = nb["metadata"].get("provenance", {}).get("budget")
        about = f", budget {budget}" if budget else ""
        sections.append(_section(link, of_post(nb), notebook.claims(nb), about))
    measured = root / "bench" / "results"
    for path in [*sorted((measured / "gpu").glob("*.json")), *sorted(measured.glob("*.json"))]:
        records = json.loads(path.read_text(encoding="utf-8"))
        option = "" if path.parent == measured else " --gpu"
        sections.append(_section(f"`python -m bench {path.stem}{option}`", records, []))
    counts = _counts([claim for nb in notebooks.values() for claim in notebook.claims(nb)])
    body = "\n".join(section for section in [counts, *sections] if section)
    return f"::::: {{.records}}\n{body or 'Nothing has been recorded yet.'}\n:::::\n"


def _counts(claims: list[dict]) -> str:
    """Say how many claims there are, and how many of them held."""
    states = Counter(claim["state"] for claim in claims)
    each = ", ".join(f"{states[state]} {state}" for state in notebook.CLAIM_STATES)
    return f"**{len(claims)} claim{'s' * (len(claims) != 1)}**: {each}.\n" if claims else ""


def _section(title: str, records: list[dict], claims: list[dict], about: str = "") -> str:
    """Return a heading, and for each machine and day what was measured and what was claimed there."""
    groups: dict[str, tuple[list[dict], list[dict]]] = {}
    for kind, entries in enumerate((records, claims)):
        for entry in entries:
            groups.setdefault(_where(entry, about), ([], []))[kind].append(entry)
    parts = []
    for where, (measured, claimed) in groups.items():
        parts.append(f"::: {{.measured}}\n{_plain(where)}\n:::")
        parts += [_table(measured)] * bool(measured) + [_claims(claimed)] * bool(claimed)
    return f"## {title}\n\n" + "\n\n".join(parts) + "\n" if parts else ""


def _where(entry: dict, about: str) -> str:
    versions = ", ".join(f"{key} {value}" for key, value in entry.get("versions", {}).items())
    where = f"{entry.get('machine', 'an unnamed machine')}, {entry.get('date', 'undated')}{about}"
    return f"{where} · {versions}" if versions else where


def _claims(claims: list[dict]) -> str:
    lines = ["| Claim | Held |", f"|:{'-' * 80}|:{'-' * 20}|"]
    for claim in claims:
        look = LOOKS[claim["state"]]
        seen = f"<small>{_plain(claim['seen'])}</small>" if claim.get("seen") else ""
        lines.append(f"| {_prose(claim['claim'])}{seen} | [{_plain(claim['state'])}]{{{look}}} |")
    return "\n".join(lines)


def _table(records: list[dict]) -> str:
    """Return a table with the columns in which any of the records says something."""
    rows = [dict(zip(COLUMNS, _row(record), strict=True)) for record in records]
    used = [column for column in COLUMNS if any(row[column] for row in rows)]
    lines = [used, [":" + "-" * COLUMNS[column] for column in used], *([row[key] for key in used] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(record: dict) -> tuple[str, ...]:
    what = f"`{record['name']}`" + (f"<small>{_plain(record['note'])}</small>" if "note" in record else "")
    unit = record["unit"]
    value = f"{_number(record['value'])} {'×' if unit.endswith(' ratio') else unit}"
    value += f"<small>{unit}</small>" if unit.endswith(" ratio") else ""
    spread = (
        f"{_number(record['low'])}\u00a0to\u00a0{_number(record['high'])}"
        if "low" in record and "high" in record
        else ""
    )
    if "n" in record:
        spread += f"<small>{record['n']} pairs</small>" if "peer" in record else f"<small>n = {record['n']:,}</small>"
    return what, value, spread, _against(record), _target(record)


def _against(record: dict) -> str:
    return "; ".join(_peer(record)) + "".join(f"<small>{detail}</small>" for detail in _details(record))


def _peer(record: dict) -> Iterator[str]:
    if "peer" in record:
        yield _plain(record["peer"])
    if "reference" in record:
        yield f"{_number(record['reference'])}, {_plain(record['source'])}"


def _details(record: dict) -> Iterator[str]:
    if "ours" in record and "theirs" in record:
        unit = "s" if record["unit"] == "time ratio" else "MiB" if record["unit"] == "memory ratio" else ""
        yield f"ours {_quantity(record['ours'], unit)}, theirs {_quantity(record['theirs'], unit)}"
    if "same" in record:
        yield "same answer" if record["same"] else "another answer"


def _target(record: dict) -> str:
    if "target" not in record:
        return ""
    verdict = met(record["target"], record["value"])
    mark = {True: "[met]{.met}", False: "[not met]{.missed}", None: ""}[verdict]
    shown = record["target"].replace("<=", "≤").replace(">=", "≥")
    return f"{_plain(shown)} {mark}".strip()


def _quantity(value: float, unit: str) -> str:
    if unit != "s":
        return f"{_number(value)} {unit}".strip()
    scale, name = next((pair for pair in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")) if abs(value) >= pair[0]), (1e-9, "ns"))
    return f"{_number(value / scale)} {name}"


def _number(value: float) -> str:
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e9):
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.3g}"


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup, so that the text stays as it was recorded."""
    return _escaped(" ".join(str(text).split()))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|@$#~^])", r"\\\1", text)


def _prose(text: str) -> str:
    """Escape as `_plain` does, and leave what stands between backticks as code."""
    parts = re.split(r"(`[^`|]+`)", " ".join(str(text).split()))
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _front(name: str, nb: dict) -> str:
    """Return the first flip-book of a post with a line that links to the post, or nothing."""
    for _, output in notebook.outputs(nb):
        text = notebook.joined(output.get("data", {}).get("text/markdown", ""))
        if text.startswith('<figure class="flipbook"'):
            title = notebook.front_matter(nb)["title"]
            return f"{text}\n\n::: {{.measured}}\nFrom [{title}](posts/{name}/index.ipynb).\n:::\n"
    return ""

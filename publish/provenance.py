"""Where a post's results come from: digests of its code, of the library it uses, of pins, of what it read, of outputs.

The digest of code is taken from the syntax tree by a walk of our own, since `ast.dump` differs between versions of
Python: fields that are empty, contexts and docstrings are left out, texts are escaped to ASCII, and the pieces of
formatted strings are merged. Comments, prose and formatting therefore change nothing.

Which files of data/ a post depends on cannot be seen in code: its colophon tells which were read, each with its sha256.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from publish import notebook

PACKAGE = "lib"
DIGITS = 16  # of a SHA-256
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
DISTRIBUTIONS = {
    "PIL": ["pillow"],
    "numba": ["numba", "numba-cuda"],
    "skimage": ["scikit-image"],
    "sklearn": ["scikit-learn"],
}
FACTS = ("budget", "rehearsal", "device", "machine", "versions", "data", "seed", "seconds")
MAGIC = re.compile(r"^([ \t]*)((?:\w+[ \t]*=[ \t]*)?[%!].*|\?.*|[^#\n]*\?)$", re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """What matters of some code: its digest, and the dotted names it imports."""

    digest: str
    imports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """`name` is fresh, stale, unverified, never run or broken; `because` names the files (or says what is wrong)."""

    name: str
    because: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} because of {', '.join(self.because)}" if self.name == "stale" else self.name


def short(text: str) -> str:
    """Return the first digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


class _Walk:
    """One pass over a syntax tree: `pieces` are the same in every version of Python that can parse it."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.pieces: list[str] = []
        self.imports: set[str] = set()

    def visit(self, node: object) -> None:
        if isinstance(node, ast.AST):
            self.node(node)
        elif isinstance(node, list):
            self.pieces.append("[")
            for item in node:
                self.visit(item)
            self.pieces.append("]")
        else:
            self.pieces.append(f"{type(node).__name__}:{node!a}")

    def node(self, node: ast.AST) -> None:
        kind = type(node)
        self.pieces.append(f"({kind.__name__}")
        for name in _fields(kind):
            value = getattr(node, name, None)
            if name == "body" and kind in DEFINITIONS:
                value = value[_is_docstring(value) :]
            elif kind is ast.JoinedStr:
                value = _merged(value)
            if value is not None and value != []:
                self.pieces.append(name)
                self.visit(value)
        self.pieces.append(")")
        if kind is ast.Import:
            self.imports.update(alias.name for alias in node.names)
        elif kind is ast.ImportFrom:
            parts = self.package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            self.imports.update([base, *(f"{base}.{alias.name}" for alias in node.names)])


@functools.cache
def _fields(kind: type) -> list[str]:
    return sorted(set(kind._fields) - {"ctx", "kind", "type_comment", "type_ignores"})


def analyse(code: str, package: str = "") -> Code:
    """Return digest and imports of Python code; `package` is where its relative imports start."""
    tree = ast.parse(code)
    tree.body = tree.body[_is_docstring(tree.body) :]
    return of_tree(tree, package)


def of_tree(tree: ast.Module, package: str = "") -> Code:
    """As `analyse`, for code that is parsed already."""
    walk = _Walk(package)
    walk.visit(tree)
    return Code(short(" ".join(walk.pieces)), frozenset(walk.imports))


def analyse_post(nb: dict) -> Code:
    """Return digest and imports of a post's code cells; magics count as text."""
    parts = [_analyse_cell(notebook.source(cell)) for cell in nb["cells"] if cell["cell_type"] == "code"]
    parts = [part for part in parts if part is not None]
    return Code(
        short(" ".join(part.digest for part in parts)),
        frozenset().union(*(part.imports for part in parts)),
    )


class Project:
    """A project's library, pins and list of what ships in data/, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[Path, Code] = {}
        self._pins = dict(_pins(root / "requirements.txt"))
        self._files = _manifest(root / "data" / "manifest.json")

    def digests(self, nb: dict, read: Iterable[str] = ()) -> dict:
        """Return the digests of all that a post's results depend on, its own outputs and the files `read` included."""
        post = analyse_post(nb)
        modules = self.modules(post.imports)
        used = [post, *modules.values()]
        tops = {name.partition(".")[0] for code in used for name in code.imports}
        names = {pin for top in tops for pin in DISTRIBUTIONS.get(top, [top.lower().replace("_", "-")])}
        return {
            "code": post.digest,
            "modules": {path.relative_to(self.root).as_posix(): code.digest for path, code in sorted(modules.items())},
            "pins": {name: self._pins[name] for name in sorted(names & self._pins.keys())},
            "files": {name: self._files[name] for name in sorted(read) if name in self._files},
            "outputs": outputs_digest(nb),
        }

    def digest(self, path: Path) -> str:
        """Return the digest of a program of the project: its own code, and the modules of the library it imports."""
        code = self._module(path)
        return short(" ".join([code.digest, *(part.digest for _, part in sorted(self.modules(code.imports).items()))]))

    def modules(self, names: Iterable[str]) -> dict[Path, Code]:
        """Return the files of the library that these imports load, directly or not."""
        found: dict[Path, Code] = {}
        waiting = list(names)
        while waiting:
            parts = waiting.pop().split(".")
            if parts[0] != PACKAGE:
                continue
            for length in range(1, len(parts) + 1):
                path = self._file(parts[:length])
                if path and path not in found:
                    found[path] = self._module(path)
                    waiting += found[path].imports
        return found

    def state(self, nb: dict, path: Path) -> State:
        """Compare what the provenance of a notebook, that of the post at `path`, says with the project as it is now."""
        then = nb.get("metadata", {}).get("provenance", {}).get("digests")
        if not then:
            return State("unverified" if notebook.outputs(nb) else "never run")
        now = self.digests(nb, then.get("files", ()))
        if then.get("outputs") != now["outputs"]:
            return State("unverified")
        because = _changed(*(_flat(digests, path.relative_to(self.root).as_posix()) for digests in (then, now)))
        return State("stale", because) if because else State("fresh")

    def _file(self, parts: list[str]) -> Path | None:
        path = self.root.joinpath(*parts)
        return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)

    def _module(self, path: Path) -> Code:
        if path not in self._modules:
            package = ".".join(path.parent.relative_to(self.root).parts)
            text = path.read_text(encoding="utf-8")
            try:
                self._modules[path] = analyse(text, package)
            except SyntaxError:  # half-edited: it differs from what ran, and the run will say why
                self._modules[path] = Code(short(text))
        return self._modules[path]


def provenance(project: Project, nb: dict, asked: str, date: str) -> dict:
    """Return what goes into an executed notebook's metadata: the facts of its colophon, the date and the digests."""
    facts = notebook.colophon(nb) or {"budget": asked}
    read = {name: sha256[:DIGITS] for name, sha256 in sorted(facts.get("files", {}).items())}
    return {key: facts[key] for key in FACTS if key in facts} | {
        "asked": asked,
        "date": date,
        "digests": project.digests(nb) | {"files": read},  # as they were when they were read
    }


def outputs_digest(nb: dict) -> str:
    """Return the digest of the stored outputs: what they show, not how lines are split or cells counted."""
    cells = [[_shown(output) for output in cell.get("outputs", [])] for cell in nb["cells"]]
    return short(json.dumps([shown for shown in cells if shown], sort_keys=True))


def _shown(output: dict) -> list:
    data = {
        mime: "".join(value) if isinstance(value, list) else value for mime, value in output.get("data", {}).items()
    }
    return [output["output_type"], output.get("name"), "".join(output.get("text", [])), data, output.get("evalue")]


def _analyse_cell(code: str) -> Code | None:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        try:
            tree = ast.parse(MAGIC.sub(lambda match: f"{match[1]}{match[2].strip()!r}", code))
        except SyntaxError:  # a cell magic, or a language of its own
            return Code(short(code.strip()))
    return of_tree(tree) if tree.body else None


def _is_docstring(body: list) -> bool:
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return isinstance(first, ast.Constant) and isinstance(first.value, str)


def _merged(values: list) -> list:
    merged: list = []
    for value in values:
        if not isinstance(value, ast.Constant):
            merged.append(value)
        elif merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(merged[-1].value + value.value)
        elif value.value:
            merged.append(value)
    return merged


def _pins(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        pin = " ".join(line.partition("#")[0].split())
        if name := re.match(r"[A-Za-z0-9._-]+", pin):
            yield name[0].lower().replace("_", "-"), pin


def _manifest(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries = entries.get("files", entries)
    return {
        name: entry["sha256"][:DIGITS]
        for name, entry in entries.items()
        if isinstance(entry, dict) and "sha256" in entry
    }


def _flat(digests: dict, post: str) -> dict[str, str]:
    flat = {post: digests.get("code")} | digests.get("modules", {})
    flat |= {f"requirements.txt ({name})": pin for name, pin in digests.get("pins", {}).items()}
    return flat | {f"data/{name}": digest for name, digest in digests.get("files", {}).items()}


def _changed(then: dict, now: dict) -> list[str]:
    changed = {name for name in then.keys() & now.keys() if then[name] != now[name]}
    # What came or went did so because of a change elsewhere, unless there is none: then it is a file made or deleted.
    return sorted(changed or then.keys() ^ now.keys())

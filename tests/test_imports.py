"""The house's arrows go one way: imports, those for types and those inside functions too, read from the source."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("lib", "recipes", "bench", "publish")
# What a room must know nothing of.
FORBIDDEN = {
    "lib": ("recipes", "bench", "posts", "publish"),
    "lib.data": ("lib.learner", "lib.diffusion", "lib.plots", "lib.post"),
    "lib.plots": ("lib.learner", "lib.diffusion", "lib.data", "lib.post"),
    "lib.kernels": ("lib.learner", "lib.diffusion", "lib.post"),
    "lib.nn": ("lib.learner", "lib.diffusion", "lib.plots", "lib.post"),
    "recipes": ("bench", "posts", "publish"),
    "bench": ("recipes", "posts", "publish"),
    "publish": ("lib", "recipes", "bench", "posts"),
}


def name_of(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Give the dotted names that a module imports, each name of `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """Return which modules each module imports, and the packages on the way to them that are not its own."""
    files = {name_of(path, root): path for room in ROOMS for path in sorted((root / room).rglob("*.py"))}
    graph = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        graph[module] = set()
        for name in imported(ast.parse(path.read_text(encoding="utf-8")), package):
            parts = name.split(".")
            ways = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
            found = [way for way in ways if way in files]
            # A package whose module imports a sibling is being imported already: only the sibling counts.
            graph[module].update(way for way in found if way == found[-1] or not inside(module, way))
        graph[module] -= {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Return a shortest circle through each module that is on one, each circle once."""
    found = {}
    for start in sorted(graph):
        before, waiting = {}, [start]
        while waiting and start not in before:
            here = waiting.pop(0)
            for there in sorted(graph[here] - before.keys()):
                before[there] = here
                waiting.append(there)
        if start in before:
            way = [start, before[start]]
            while way[-1] != start:
                way.append(before[way[-1]])
            found.setdefault(frozenset(way), " -> ".join(reversed(way)))
    return list(found.values())


def wrong(graph: dict[str, set[str]]) -> list[str]:
    """Return the arrows that leave a room for one it must know nothing of."""
    return sorted(
        f"{module} -> {other}"
        for room, others in FORBIDDEN.items()
        for module in graph
        if inside(module, room)
        for other in graph[module]
        if any(inside(other, refused) for refused in others)
    )


def test_what_the_architecture_names_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60, "one screen"
    named = {name for name in re.findall(r"`([\w./-]+)`", text) if re.search(r"\.(py|json|md)$|/$", name)}
    places = [ROOT, ROOT / "lib", ROOT / "lib/diffusion", ROOT / "publish"]
    assert len(named) > 20
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def test_there_is_no_circle() -> None:
    assert circles(arrows()) == []


def test_no_room_knows_what_it_must_not() -> None:
    assert wrong(arrows()) == []


def test_a_circle_and_a_wrong_arrow_are_found(tmp_path) -> None:
    sources = {
        "lib/__init__.py": "",
        "lib/data/__init__.py": "from lib.data import files",
        "lib/data/files.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib.loaders import Loader",
        "lib/loaders.py": "def load():\n    from .data import files",
        "lib/nn/__init__.py": "",
        "lib/nn/hooks.py": "import lib.plots.style",
        "lib/plots/__init__.py": "",
        "lib/plots/style.py": "import numpy",
        "bench/run.py": "from lib import data\nfrom publish import page",
        "publish/page.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = arrows(tmp_path)
    assert graph["lib.loaders"] == {"lib.data", "lib.data.files"}
    assert sorted(circles(graph)) == [
        "lib.data -> lib.data.files -> lib.loaders -> lib.data",
        "lib.data.files -> lib.loaders -> lib.data.files",
    ]
    assert wrong(graph) == ["bench.run -> publish.page", "lib.nn.hooks -> lib.plots", "lib.nn.hooks -> lib.plots.style"]


@pytest.mark.parametrize("module", ["lib.nn.resnet", "lib.nn.hooks", "lib.learner"])
def test_what_trains_loads_nothing_that_draws(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('matplotlib', 'IPython', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"

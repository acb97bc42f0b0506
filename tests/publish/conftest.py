"""Small projects with real notebooks that need no torch."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

COLOPHON = """\
from IPython.display import display
facts = {"budget": "cpu" if budget == "auto" else budget, "device": "cpu", "machine": "a machine", "seed": seed,
         "seconds": 1.5, "versions": {"python": "3"}, "data": {}}
display({"text/markdown": "the end", "application/vnd.lib.colophon+json": facts}, raw=True)"""
FRONT = "---\ntitle: A post\norder: 1\n---"


def cell(kind: str, text: str, position: int) -> dict:
    made = {"cell_type": kind, "id": f"c{position}", "metadata": {}, "source": text}
    if text.startswith("budget ="):
        made["metadata"] = {"tags": ["parameters"]}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook_of(*codes: str, front: bool = True, parameters: bool = True, kernel: str = "python3") -> dict:
    """Return a notebook: front matter, parameters, a sentence, the given code cells, colophon."""
    texts = [("raw", FRONT)] if front else []
    texts += [("code", 'budget = "auto"\nseed = 42')] if parameters else []
    texts += [("markdown", "A sentence."), *(("code", code) for code in codes), ("code", COLOPHON)]
    cells = [cell(kind, text, position) for position, (kind, text) in enumerate(texts)]
    spec = {"kernelspec": {"name": kernel, "display_name": kernel}}
    return {"cells": cells, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="session")
def make_post() -> Callable[..., Path]:
    """Write a post of `notebook_of` into a project and return its notebook's path."""

    def make(root: Path, name: str, *codes: str, **options: object) -> Path:
        path = root / "posts" / name / "index.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook_of(*codes, **options)))
        return path

    return make


@pytest.fixture(scope="session")
def demo() -> object:
    """The module that makes a small project with every construct of a page."""
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).with_name("demo.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo_site(demo: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered pages of that project."""
    from publish import preview

    root = demo.make(tmp_path_factory.mktemp("demo"))
    preview.render(root, root / "_site")
    return root / "_site"

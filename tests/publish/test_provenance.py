"""Digests: the same for what changes no result, another for what does, and the same in every Python."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from publish import listing, notebook
from publish.provenance import Project, analyse, analyse_post, provenance

ROOT = Path(__file__).resolve().parents[2]
CODE = '''
def f(x: int, *, y=2) -> int:
    """Say something."""
    return x + y  # a comment

class A:
    "A docstring."
    z = f"{1:>{4}}"
'''
GOLDEN = '''
import os as o
from a.b import c
@d(1)
async def f(x, /, y: int = 1, *a, k=2, **b) -> list[int]:
    """Doc."""
    async with g() as h, i: yield await x
    match x:
        case {"a": 1, **r} | [_, *_]: pass
        case P(q=2) if x: return
    try: pass
    except* E as e: raise V from e
    return [lambda v: (v := 1.5e300 + 2j), b"\\xff", ..., -1, 1_000, "é\\u2028\\U0001fae8"]
class A(B, metaclass=M):
    x: int = f"a{z!r:>{w}.{p}}b" "c" f"{u=}" ""
'''


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("# a comment", "# another comment"),
        CODE.replace("Say something.", "Say something else."),
        CODE.replace("A docstring.", "Another.").replace("x + y", "(x   +\n        y)"),
        CODE.replace('"', "'").replace("'''", '"""'),
        "\n\n# heading\n'''A module.'''\n" + CODE,
    ],
)
def test_comments_docstrings_and_formatting_change_nothing(other: str) -> None:
    assert analyse(other).digest == analyse(CODE).digest


@pytest.mark.parametrize(
    "other",
    [CODE.replace("+", "-"), CODE.replace("y=2", "y=3"), CODE.replace(">{4}", "<{4}"), CODE.replace("*, ", ""), "pass"],
)
def test_code_changes_the_digest(other: str) -> None:
    assert analyse(other).digest != analyse(CODE).digest


def test_digest_is_pinned() -> None:
    assert analyse(GOLDEN).digest == "455b77be09d56ee2"


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13"])
def test_digest_is_the_same_in_other_pythons(name: str) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from publish.provenance import analyse;"
        "print(*[analyse(path.read_text()).digest for path in sorted(Path(sys.argv[1]).glob('lib/**/*.py'))])"
    )
    other = shutil.which(name)
    commands = [[python, "-I", "-B", "-c", script, str(ROOT)] for python in (sys.executable, other) if python]
    runs = [subprocess.run(command, capture_output=True, text=True) for command in commands]
    if other is None or runs[1].returncode:
        pytest.skip(f"{name} does not run here")
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout


def test_magics_are_text_and_operators_are_not_magics() -> None:
    def digest(code: str) -> str:
        return analyse_post({"cells": [{"cell_type": "code", "source": code}]}).digest

    assert digest("%matplotlib inline\nx = 1 # a") == digest("%matplotlib inline\nx = 1")
    assert digest("%matplotlib inline\nx = 1") != digest("%matplotlib widget\nx = 1")
    assert digest("if y:\n    !ls\n") != digest("if y:\n    !pwd\n")
    assert digest("%%bash\nls |") != digest("%%bash\npwd |")
    assert digest("x = (1\n% 2)") == digest("x = (1 % 2)")
    assert digest("") == digest("# nothing")


@pytest.fixture
def project(tmp_path: Path, make_post: Callable[..., Path]) -> Path:
    """A project with one executed post that uses `lib.a`, which uses `lib.pack.b` and sklearn, and a weight."""
    for name, text in {
        "lib/__init__.py": "",
        "lib/a.py": "from .pack import b\nfrom sklearn import svm\n",
        "lib/pack/__init__.py": "",
        "lib/pack/b.py": "from ..c import x\n",
        "lib/c.py": "x = 1\n",
        "lib/unused.py": "x = 1\n",
        "requirements.txt": "scikit-learn==1.9\ntorch==2.14  # the framework\n",
        "data/manifest.json": json.dumps(
            {"files": {"w.safetensors": {"sha256": "ab" * 32}, "v.bin": {"sha256": "cd" * 32}}}
        ),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = make_post(tmp_path, "01-one", "from lib import a", 'v = "v.bin"', "print(1)")
    execute(tmp_path, path, {"w.safetensors": "ab" * 32})
    return tmp_path


def execute(root: Path, path: Path, read: dict[str, str]) -> None:
    """Fill a post as the runner does, with a colophon that tells what was read of data/."""
    nb = notebook.read(path)
    stream = [{"output_type": "stream", "name": "stdout", "text": "1\n"}]
    facts = {notebook.COLOPHON: {"budget": "cpu", "files": read}}
    end = [{"output_type": "display_data", "metadata": {}, "data": facts}]
    sources = [notebook.source(cell) for cell in notebook.code(nb)]
    nb = notebook.fill(nb, [end if "facts" in code else stream if "print" in code else [] for code in sources])
    nb["metadata"]["provenance"] = provenance(Project(root), nb, "cpu", "2026-01-02")
    path.write_bytes(notebook.encoded(nb))


def state(root: Path) -> tuple[str, list[str]]:
    row = listing.rows(root)[0]
    return row["state"], row["because"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_fresh_whatever_changes_no_result(project: Path) -> None:
    assert state(project) == ("fresh", [])
    edit(project / "lib/c.py", "x = 1", "'''Doc.'''\n\nx = (\n    1)  # one")
    edit(project / "lib/unused.py", "1", "2")
    edit(project / "requirements.txt", "torch==2.14", "torch==2.15")
    edit(project / "posts/01-one/index.ipynb", "A sentence.", "Another.")
    assert state(project) == ("fresh", [])


@pytest.mark.parametrize(
    ("name", "old", "new", "because"),
    [
        ("lib/c.py", "x = 1", "x = 2", "lib/c.py"),
        ("lib/pack/b.py", "import x", "import y", "lib/pack/b.py"),
        ("lib/pack/b.py", "import x", "import (", "lib/pack/b.py"),
        ("requirements.txt", "scikit-learn==1.9", "scikit-learn==2.0", "requirements.txt (scikit-learn)"),
        ("data/manifest.json", "abab", "cdcd", "data/w.safetensors"),
        ("posts/01-one/index.ipynb", "print(1)", "print(1 + 0)", "posts/01-one/index.ipynb"),
    ],
)
def test_stale_because_of_a_file(project: Path, name: str, old: str, new: str, because: str) -> None:
    edit(project / name, old, new)
    assert state(project) == ("stale", [because])


def test_what_is_named_and_was_not_read_changes_nothing(project: Path) -> None:
    edit(project / "data/manifest.json", "cd" * 32, "ef" * 32)
    assert state(project) == ("fresh", [])


def test_a_page_made_with_data_from_elsewhere_is_fresh_whatever_ships(project: Path) -> None:
    execute(project, project / "posts/01-one/index.ipynb", {})
    edit(project / "data/manifest.json", "ab" * 32, "ef" * 32)
    assert state(project) == ("fresh", [])


def test_what_was_read_and_no_longer_ships_is_named(project: Path) -> None:
    (project / "data/manifest.json").write_text('{"files": {}}')
    assert state(project) == ("stale", ["data/w.safetensors"])


def test_the_digest_is_that_of_the_file_as_it_was_read(project: Path) -> None:
    execute(project, project / "posts/01-one/index.ipynb", {"w.safetensors": "cd" * 32})
    assert state(project) == ("stale", ["data/w.safetensors"]), "it changed between the run and its end"


def test_what_came_or_went_is_named_only_where_nothing_else_changed(project: Path) -> None:
    edit(project / "lib/c.py", "x = 1", "import lib.unused, torch\nx = 1")
    assert state(project) == ("stale", ["lib/c.py"])
    edit(project / "lib/c.py", "import lib.unused, torch\n", "")
    (project / "lib/c.py").unlink()
    assert state(project) == ("stale", ["lib/c.py"])


def test_outputs_edited_by_hand_are_unverified(project: Path) -> None:
    path = project / "posts/01-one/index.ipynb"
    edit(path, '"1\\n"', '"2\\n"')
    assert state(project)[0] == "unverified"
    nb = json.loads(path.read_text())
    del nb["metadata"]["provenance"]
    path.write_text(json.dumps(nb))
    assert state(project)[0] == "unverified"
    for cell in nb["cells"]:
        cell.pop("outputs", None)
    path.write_text(json.dumps(nb))
    assert state(project)[0] == "never run"


def test_outputs_saved_by_jupyter_in_its_own_way_are_verified(project: Path) -> None:
    path = project / "posts/01-one/index.ipynb"
    nb = json.loads(path.read_text())
    for cell in nb["cells"]:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = "".join(output["text"])
            cell["execution_count"] = 99
    path.write_text(json.dumps(nb))
    assert state(project)[0] == "fresh"


def test_a_pin_reaches_both_parts_of_numba(project: Path) -> None:
    (project / "requirements.txt").write_text("numba==1\nnumba-cuda[cu13]==2; sys_platform == 'linux'\nPillow==3\n")
    nb = {"cells": [{"cell_type": "code", "source": "import numba.cuda\nfrom PIL import Image"}]}
    pins = Project(project).digests(nb)["pins"]
    assert pins == {
        "numba": "numba==1",
        "numba-cuda": "numba-cuda[cu13]==2; sys_platform == 'linux'",
        "pillow": "Pillow==3",
    }


def test_empty_pieces_of_formatted_strings_do_not_count() -> None:
    plain = ast.parse('f"a{b}"')
    pieces = ast.parse('f"a{b}"')
    pieces.body[0].value.values = [ast.Constant(""), *pieces.body[0].value.values, ast.Constant("")]
    from publish.provenance import of_tree

    assert of_tree(pieces).digest == of_tree(plain).digest

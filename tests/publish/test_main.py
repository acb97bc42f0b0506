"""The command line: what it prints, how it ends, and how little it loads to do it."""

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from publish import notebook, ours, prerender
from publish.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def test_listing_loads_the_standard_library_only(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    make_post(tmp_path, "01-one", "import torch")
    script = (
        "import sys; before = set(sys.modules); from publish.__main__ import main; main(sys.argv[1:]);"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before} - {'publish', '__mp_main__'};"
        "print(sorted(name for name in names if name not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, "--root", str(tmp_path), "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_list(tmp_path: Path, make_post: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    make_post(tmp_path, "01-one")
    make_post(tmp_path, "02-two", front=False)
    assert main(["--root", str(tmp_path), "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["post", "state", "budget", "device", "date"]
    assert lines[1].split() == ["01-one", "never", "run", "-", "-", "-"]
    assert lines[3].strip().startswith("because of no front matter")
    assert main(["--root", str(tmp_path), "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["post"], row["title"], row["state"]) for row in rows] == [
        ("01-one", "A post", "never run"),
        ("02-two", "", "broken"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--budget", "cpuu"], "did you mean 'cpu'"),
        (["run", "--jobs", "0"], "--jobs must be at least 1"),
        (["run", "--only", "99"], "There are: 01-one"),
        (["run", "--in-place", "--out", "x"], "exclude each other"),
        (["run", "--in-place", "--budget", "smoke"], "never committed"),
        (["new", "name"], "NN-slug"),
    ],
)
def test_usage_errors_end_with_2(
    tmp_path: Path,
    make_post: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    make_post(tmp_path, "01-one")
    assert main(["--root", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_project_without_posts_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "run"]) == 2
    assert "`python -m publish new 01-slug` makes one" in capsys.readouterr().err


def test_a_build_folder_that_cannot_be_made(
    tmp_path: Path, make_post: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_post(tmp_path, "01-one")
    (tmp_path / "_build").write_text("in the way")
    assert main(["--root", str(tmp_path), "run", "--budget", "smoke"]) == 2
    assert "_build is a file where a folder is expected" in capsys.readouterr().err


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Stand in for the renderers, and keep what they were called with."""
    calls: list[tuple] = []

    def record(name: str) -> Callable:
        return lambda *arguments, **options: calls.append((name, *arguments, *options.values())) or f"{name} done"

    for module, function in [("render", "render"), ("serve", "serve"), ("results", "write"), ("address", "write")]:
        stand_in = types.ModuleType(f"publish.{module}")
        setattr(stand_in, function, record(module))
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
        monkeypatch.setattr(f"publish.{module}", stand_in, raising=False)
    return calls


def test_build_runs_all_renders_what_ran_and_does_it_once(
    tmp_path: Path,
    make_post: Callable[..., Path],
    rendered: list[tuple],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_post(tmp_path, "01-one", "print(1)")
    make_post(tmp_path, "02-two", "1 / 0")
    ours.claim(tmp_path / "_build" / "posts", ours.POSTS, tmp_path)
    ours.mark(tmp_path / "_build", ours.BUILD)
    gone = make_post(tmp_path / "_build", "00-gone")
    assert main(["--root", str(tmp_path), "build", "--budget", "smoke", "--jobs", "2", "--engine", "preview"]) == 1
    out = capsys.readouterr().out
    assert "  01-one: smoke on cpu" in out
    assert "shown with their committed outputs: 02-two" in out
    assert "--only 02-two --budget smoke\n" in out
    posts = tmp_path / "_build" / "posts"
    assert rendered == [("render", tmp_path, tmp_path / "_site", posts, "preview")]
    assert not gone.exists()
    assert [path.parent.name for path in posts.glob("*/index.ipynb")] == ["01-one"]

    make_post(tmp_path, "02-two", "print(2)")
    monkeypatch.setattr("publish.ours.write", pytest.fail)  # nothing is written a second time
    monkeypatch.setattr("subprocess.Popen", pytest.fail)
    (tmp_path / "posts/02-two/index.ipynb").unlink()
    assert main(["--root", str(tmp_path), "build", "--budget", "smoke"]) == 0
    out = capsys.readouterr().out
    assert "01-one: smoke on cpu, 2 s (kept)" in out
    assert "open it: make serve" in out


def test_the_renderers_are_called(tmp_path: Path, rendered: list[tuple], capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path)]
    assert [main([*root, *rest]) for rest in (["render"], ["serve", "--port", "1"], ["results"], ["address"])] == [
        0
    ] * 4
    assert rendered == [
        ("render", tmp_path, tmp_path / "_site", None, "auto"),
        ("serve", tmp_path / "_site", 1),
        ("results", tmp_path),
        ("address", tmp_path),
    ]


def test_new_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path), "new", "03-three"]) == 0
    assert "run --in-place --only 03-three" in capsys.readouterr().out
    assert notebook.front_matter(notebook.read(tmp_path / "posts/03-three/index.ipynb"))["order"] == "3"


def test_pre_render_never_fails(
    tmp_path: Path, make_post: Callable[..., Path], rendered: list[tuple], capsys: pytest.CaptureFixture[str]
) -> None:
    make_post(tmp_path, "01-one")
    prerender.main(tmp_path)
    assert "pre-render: 01-one is not run yet" in capsys.readouterr().out
    (tmp_path / "requirements.txt").mkdir()  # whatever goes wrong
    prerender.main(tmp_path)
    assert "going on" in capsys.readouterr().err
    assert rendered == [("address", tmp_path), ("results", tmp_path)] * 2


def test_pre_render_runs_as_a_plain_script(tmp_path: Path) -> None:
    copy = tmp_path / "publish"
    copy.mkdir()
    modules = ("prerender", "address", "badge", "listing", "notebook", "ours", "provenance")
    for name in ("__init__.py", *(f"{module}.py" for module in modules)):
        (copy / name).write_text((ROOT / "publish" / name).read_text())
    (tmp_path / "_quarto.yml").write_text("project:\n  type: website\n")
    (copy / "results.py").write_text("def write(root): (root / 'written').touch()")
    (tmp_path / "posts" / "01-one").mkdir(parents=True)
    (tmp_path / "posts" / "01-one" / "index.ipynb").write_text("{")
    command = [sys.executable, "-S", str(copy / "prerender.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert "pre-render: 01-one is broken because of not JSON" in done.stdout
    assert (tmp_path / "written").exists()
    assert not (tmp_path / "_quarto.yml.local").exists()
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={"GITHUB_REPOSITORY": "Ada/notes"})
    assert done.returncode == 0
    assert 'site-url: "https://ada.github.io/notes/"' in (tmp_path / "_quarto.yml.local").read_text()


def test_a_reader_of_the_list_who_leaves_early(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    make_post(tmp_path, "01-one")
    command = [sys.executable, "-m", "publish", "--root", str(tmp_path), "list"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    run.stdout.close()
    assert run.stderr.read() == b""
    assert run.wait() == 1

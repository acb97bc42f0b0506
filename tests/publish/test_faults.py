"""What can go wrong while posts run, injected; afterwards every notebook is as it was or wholly replaced."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from publish import notebook, ours, runner
from publish.options import Options, UsageError
from publish.outcome import summary

HERE = Path(__file__).resolve().parents[2]
KEEP_PIDS = """\
import json, os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("pids.tmp").write_text(json.dumps([os.getpid(), os.getppid(), child.pid]))
os.rename("pids.tmp", "pids")"""
MEET = """\
import pathlib, time
pathlib.Path("../{mine}").touch()
end = time.monotonic() + 60
while not pathlib.Path("../{other}").exists():
    assert time.monotonic() < end, "the other post does not run at the same time"
    time.sleep(0.05)"""


def alive(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def snapshot(root: Path) -> dict[str, bytes]:
    """Return every file under posts/, hidden ones included."""
    files = (
        path for path in (root / "posts").rglob("*") if path.is_file() and path.suffix in (".ipynb", ".publish-tmp")
    )
    return {path.relative_to(root / "posts").as_posix(): path.read_bytes() for path in files}


def command(root: Path, *arguments: str, before: str = "") -> subprocess.Popen:
    script = f"import sys\nfrom publish.__main__ import main\n{before}\nsys.exit(main())"
    parts = [sys.executable, "-c", script, "--root", str(root), *arguments]
    return subprocess.Popen(parts, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)


def without(cell: dict, key: str) -> dict:
    return {name: value for name, value in cell.items() if name != key}


class Many:
    """One run in place over posts with many faults, and what came of it."""

    def __init__(self, root: Path, make_post: Callable[..., Path]) -> None:
        def make(name: str, *codes: str, **options: object) -> None:
            make_post(root, name, *codes, **options)

        make("01-meets", MEET.format(mine="a", other="b"), "print(budget, seed)")
        make("02-meets", MEET.format(mine="b", other="a"), kernel="a-kernel-that-nobody-has")
        make("03-raises", "x = 1", "#| label: fig-x\n\n# divide\ny = x / 0\nz = 1")
        make("04-killed", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
        make("05-broken")
        (root / "posts/05-broken/index.ipynb").write_text('{"cells": [')
        make("06-no-parameters", parameters=False)
        make("07-no-front-matter", front=False)
        make("08-large", "print('x' * 10)", "print('x' * 900_000)")
        make("09-stderr", "import sys; print('careful', file=sys.stderr)")
        make("10-exits", "import sys", "sys.exit()", "1")
        make("11-invalid", "def (:")
        make("12-html", "display({'text/html': '<b>x</b>', 'text/plain': 'x'}, raw=True)")
        make("13-list")
        make("14-old", "print(1)")
        old = root / "posts/14-old/index.ipynb"  # format 4.4: no identifiers, and no metadata to speak of
        nb = json.loads(old.read_text())
        old.write_text(
            json.dumps({"cells": [without(cell, "id") for cell in nb["cells"]], "nbformat": 4, "nbformat_minor": 4})
        )
        (root / "posts/13-list/index.ipynb").write_text("[]")
        edit = "import json; nb = json.load(open('index.ipynb')); nb['cells'][{}]['source'] {}; "
        save = "json.dump(nb, open('index.ipynb', 'w'))"
        make("15-prose-edited", edit.format(2, "= 'New prose.'") + save, "print(1)")
        make("16-code-edited", edit.format(-2, "+= '2'") + save, "print(1)")
        self.root, self.before = root, snapshot(root)
        self.stream = io.StringIO()
        options = Options(root, None, "cpu", jobs=4)
        self.results = {result.post: result for result in runner.run(options, self.stream)}
        self.after = snapshot(root)
        self.summary = summary(list(self.results.values()), options)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, make_post: Callable[..., Path]) -> Many:
    return Many(tmp_path_factory.mktemp("many"), make_post)


def test_others_go_on_and_run_at_the_same_time(many: Many) -> None:
    assert list(many.results) == sorted(path.parent.name for path in notebook.find(many.root))
    ran = {name for name, result in many.results.items() if result.status == "ok"}
    assert ran == {"01-meets", "02-meets", "14-old", "15-prose-edited"}


def test_an_unknown_kernel_is_no_problem(many: Many) -> None:
    nb = json.loads(many.after["02-meets/index.ipynb"])
    assert nb["metadata"]["kernelspec"]["name"] == "python3"


def test_failed_posts_are_byte_for_byte_as_they_were(many: Many) -> None:
    assert many.before.keys() == many.after.keys()
    changed = {name.split("/")[0] for name in many.before if many.before[name] != many.after[name]}
    assert changed == {"01-meets", "02-meets", "14-old", "15-prose-edited", "16-code-edited"}


def test_what_ran_is_clean_and_has_its_provenance(many: Many) -> None:
    nb = json.loads(many.after["01-meets/index.ipynb"])
    assert set(nb["metadata"]) == {"kernelspec", "language_info", "provenance"}
    assert nb["metadata"]["language_info"] == {"name": "python"}
    assert {key: nb["metadata"]["provenance"][key] for key in ("budget", "device", "seed")} == {
        "budget": "cpu",
        "device": "cpu",
        "seed": 42,
    }
    assert [cell["metadata"] for cell in nb["cells"]] == [{}, {"tags": ["parameters"]}, *[{}] * 4]
    assert [cell["id"] for cell in nb["cells"]] == [f"c{i}" for i in range(6)]
    assert [cell["execution_count"] for cell in nb["cells"] if cell["cell_type"] == "code"] == [1, 2, 3, 4]
    assert nb["cells"][1]["source"] == ['budget = "auto"\n', "seed = 42"]
    assert nb["cells"][4]["outputs"][0]["text"] == ["cpu 42\n"]


def test_edits_made_while_a_post_runs_are_kept(many: Many) -> None:
    assert json.loads(many.after["15-prose-edited/index.ipynb"])["cells"][2]["source"] == ["New prose."]
    assert many.after["16-code-edited/index.ipynb"].endswith(b'"nbformat_minor": 5}')  # as the cell saved it
    assert "edited while it ran" in many.results["16-code-edited"].error


def test_an_old_format_is_brought_up_to_date(many: Many) -> None:
    nb = json.loads(many.after["14-old/index.ipynb"])
    assert nb["nbformat_minor"] == 5
    assert [cell["id"] for cell in nb["cells"]] == [f"cell-{number}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("post", "cell", "line", "error"),
    [
        ("03-raises", 5, "# divide", "ZeroDivisionError: division by zero"),
        (
            "04-killed",
            5,
            "os.kill(os.getpid(), signal.SIGKILL)",
            "the kernel was killed (SIGKILL; was the memory full?)",
        ),
        ("05-broken", None, "", "posts/05-broken/index.ipynb: not JSON"),
        ("06-no-parameters", None, "", "no parameters cell; give the code cell"),
        ("07-no-front-matter", None, "", "no front matter; the first cell"),
        ("08-large", 5, "print('x' * 900_000)", "over the limit of 800 kB; this cell alone has 900 kB"),
        ("09-stderr", 4, "import sys; print('careful', file=sys.stderr)", "writes to stderr: careful"),
        ("10-exits", 5, "sys.exit()", "SystemExit"),
        ("11-invalid", 4, "def (:", "SyntaxError"),
        ("12-html", 4, "display({'text/html'", "stores text/html"),
        ("13-list", None, "", "not a notebook of format 4"),
    ],
)
def test_a_failure_is_told_with_cell_line_error_and_command(
    many: Many, post: str, cell: int | None, line: str, error: str
) -> None:
    result = many.results[post]
    assert (result.status, result.cell) == ("failed", cell)
    assert result.line.startswith(line)
    assert error in result.error
    blocks = {block.split("/")[1]: block for block in many.summary.split("\n\n") if block.startswith("posts/")}
    assert all(part in blocks[post] for part in (line, error))
    assert f"python -m publish run --only {post} --budget cpu --in-place" in blocks[post]
    assert cell is None or f"cell {cell} of {result.cells} (from 1, prose counts too)" in blocks[post]


def test_the_traceback_is_kept(many: Many) -> None:
    text = (many.root / "_build/logs/03-raises.txt").read_text()
    assert "y = x / 0" in text
    assert "\x1b" not in text


def test_plain_lines_outside_a_terminal(many: Many) -> None:
    text = many.stream.getvalue()
    assert "\x1b" not in text
    assert "03-raises: FAILED at cell 5: ZeroDivisionError: division by zero" in text.splitlines()


def test_a_cell_that_never_ends(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    path = make_post(tmp_path, "01-endless", KEEP_PIDS, "while True: time.sleep(0.01)")
    before = path.read_bytes()
    (result,) = runner.run(Options(tmp_path, None, "cpu", timeout=4), io.StringIO())
    assert (result.status, result.cell, result.line) == ("failed", 5, "while True: time.sleep(0.01)")
    assert "still running after 4 s (--timeout)" in result.error
    assert path.read_bytes() == before
    pids = json.loads((path.parent / "pids").read_text())
    assert wait_for(lambda: not any(map(alive, pids)), 10)


def test_executed_copies_leave_the_post_alone(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    path = make_post(tmp_path, "01-one", "import os, sys", "print(os.environ['HF_HUB_OFFLINE'], file=sys.stderr)")
    (path.parent / "thumbnail.png").write_bytes(b"png")
    before = snapshot(tmp_path)
    out = tmp_path / "elsewhere"
    (result,) = runner.run(Options(tmp_path, out, "smoke"), io.StringIO())
    assert result.status == "ok"
    assert result.warnings == ["cell 5 writes to stderr: 1"]
    assert snapshot(tmp_path) == before
    assert (out / "01-one/thumbnail.png").read_bytes() == b"png"
    assert json.loads((out / "01-one/index.ipynb").read_text())["metadata"]["provenance"]["budget"] == "smoke"

    # Nothing has changed: it is not run again, and new prose is taken over.
    path.write_text(path.read_text().replace("A sentence.", "Another sentence."))
    (again,) = runner.run(Options(tmp_path, out, "smoke", reuse=True), io.StringIO())
    assert again.status == "reused"
    assert "Another sentence." in (out / "01-one/index.ipynb").read_text()
    # A failed run leaves no copy of what older code did.
    path.write_text(path.read_text().replace("import os, sys", "1 / 0"))
    (failed,) = runner.run(Options(tmp_path, out, "smoke", reuse=True), io.StringIO())
    assert failed.status == "failed"
    assert not (out / "01-one/index.ipynb").exists()


@pytest.fixture
def running(tmp_path: Path, make_post: Callable[..., Path]) -> Iterator[tuple[Path, subprocess.Popen, list[int]]]:
    """Two posts running in place in another process, and the processes of their kernels and workers."""
    for name in ("01-one", "02-two"):
        make_post(tmp_path, name, KEEP_PIDS, "while True: time.sleep(0.01)")
    run = command(tmp_path, "run", "--in-place", "--budget", "cpu", "--jobs", "2")
    marks = [tmp_path / "posts" / name / "pids" for name in ("01-one", "02-two")]
    pids: list[int] = []
    try:
        assert wait_for(lambda: all(mark.exists() for mark in marks) or run.poll() is not None)
        pids += [pid for mark in marks for pid in json.loads(mark.read_text())]
        yield tmp_path, run, pids
    finally:
        for pid in [run.pid, *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_runner_that_is_stopped_leaves_no_process(
    running: tuple[Path, subprocess.Popen, list[int]], number: signal.Signals
) -> None:
    root, run, pids = running
    before = snapshot(root)
    assert all(map(alive, pids))
    if number == signal.SIGINT:  # meanwhile a second run is told about the first
        second = command(root, "run")
        _, told = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"another run is at work here (process {run.pid})" in told
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert wait_for(lambda: not any(map(alive, pids)), 20)
    assert snapshot(root) == before
    if number != signal.SIGKILL:
        assert run.returncode == 128 + number
        assert "no kernel is left" in errors


KILL_AT = """\
import os
from publish import notebook
def struck(*arguments, original=os.{call}):
    os.kill(os.getpid(), {number:d})
    return original(*arguments)
os.{call} = struck
"""


@pytest.mark.parametrize(
    ("number", "call"),
    [(signal.SIGINT, "fsync"), (signal.SIGTERM, "replace"), (signal.SIGKILL, "fsync"), (signal.SIGKILL, "replace")],
)
def test_a_runner_struck_while_writing(tmp_path: Path, make_post: Callable[..., Path], number: int, call: str) -> None:
    path = make_post(tmp_path, "01-one", "print(1)")
    ours.claim(tmp_path / "_build", ours.BUILD, tmp_path)  # else its marker is the first to be written
    before = path.read_bytes()
    run = command(tmp_path, "run", "--in-place", "--budget", "cpu", before=KILL_AT.format(call=call, number=number))
    run.communicate(timeout=120)
    if number == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
        assert path.read_bytes() == before
        assert list(path.parent.glob(".*.publish-tmp"))
        ours.sweep(path.parent)  # as the next run does
    else:  # writing is not cut: the notebook is wholly replaced, then the run stops
        assert run.returncode == 128 + number
        assert json.loads(path.read_text())["metadata"]["provenance"]["budget"] == "cpu"
    assert list(snapshot(tmp_path)) == ["01-one/index.ipynb"]


def test_a_full_disk_and_a_read_only_folder(
    tmp_path: Path, make_post: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("01-one", "02-two", "03-three"):
        make_post(tmp_path, name, "print(1)")
    ours.claim(tmp_path / "_build", ours.BUILD, tmp_path)  # else its marker is the first to be written
    before = snapshot(tmp_path)
    faults = {0: (errno.ENOSPC, "free some space"), 1: (errno.EROFS, "make the folder writable")}
    original, seen = os.fsync, []

    def fail_twice(handle: int) -> None:
        seen.append(handle)
        if len(seen) <= len(faults):
            number, _ = faults[len(seen) - 1]
            raise OSError(number, os.strerror(number))
        original(handle)

    monkeypatch.setattr(os, "fsync", fail_twice)
    results = runner.run(Options(tmp_path, None, "cpu", jobs=3), io.StringIO())
    after = snapshot(tmp_path)
    failed = {result.post: result.error for result in results if result.status == "failed"}
    assert len(failed) == 2
    for _, remedy in faults.values():
        assert len([error for error in failed.values() if remedy in error]) == 1
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] == after[name]} == {f"{name}/index.ipynb" for name in failed}


@pytest.mark.parametrize(
    ("step", "number"),
    [("mkstemp", errno.EROFS), ("fdopen", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.ENOSPC)],
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    path = tmp_path / "index.ipynb"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ours.tempfile if step == "mkstemp" else ours.os, step, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        ours.write(path, b"new", tmp_path)
    monkeypatch.undo()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("index.ipynb", b"old")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "smke"}, "'smke'; did you mean 'smoke'"),
        ({"budget": "GPU"}, "'GPU'; did you mean 'gpu'"),
        ({"jobs": 0}, "--jobs.*1.* 0"),
        ({"timeout": 0.0}, "--timeout.* 0"),
        ({"only": ("07",)}, "--only '07'.*01-one"),
        ({"only": ("01", "nothing")}, "--only 'nothing'.*01-one"),
        ({"out": None, "budget": "smoke"}, "--budget.*--in-place"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, make_post: Callable[..., Path], options: dict, message: str
) -> None:
    path = make_post(tmp_path, "01-one")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message):
        runner.run(Options(**{"root": tmp_path, "out": tmp_path / "out"} | options), io.StringIO())
    assert path.read_bytes() == before

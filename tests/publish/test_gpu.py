"""Everything for a GPU in one command: its order, what it keeps, and how it goes on after a cut."""

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from publish import gpu, ours, provenance
from publish.__main__ import main
from publish.options import UsageError
from publish.process import Interrupted

BENCH = """
import json, pathlib, sys
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("--results") + 1]) / ("gpu" if "--gpu" in arguments else "")
folder.mkdir(parents=True, exist_ok=True)
(folder / f"{arguments[0]}.json").write_text(json.dumps([{"name": arguments[0], "value": 1, "unit": "s"}]))
"""
CLAIM = """\
from IPython.display import display
display({"application/vnd.lib.claim+json": {"claim": "Water is dry", "state": "did not hold", "seen": "wet"}}, raw=True)
"""


@pytest.fixture(autouse=True)
def card(monkeypatch):
    """Pretend that there is a GPU."""
    monkeypatch.delenv("LIB_GPU_SCALE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(gpu, "CARD", "print('NVIDIA Test')")


@pytest.fixture
def post(tmp_path, make_post) -> Callable[..., Path]:
    """Write a post whose colophon says that it ran on a GPU."""

    def write(name: str, *codes: str) -> Path:
        path = make_post(tmp_path / "project", name, *codes)
        path.write_text(path.read_text().replace('\\"device\\": \\"cpu\\"', '\\"device\\": \\"cuda\\"'))
        return path

    return write


@pytest.fixture
def bench(tmp_path) -> Path:
    """Write a bench whose measurements take no time."""
    folder = tmp_path / "project" / "bench"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text(BENCH)
    for name in ("matmul", "fashion", "style"):
        (folder / f"{name}.py").write_text("pairs = 3\n")
    return folder


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[int, str]]:
    """Run the command, and return its status and what it said."""

    def call(**options) -> tuple[int, str]:
        stream = io.StringIO()
        request = gpu.Request(tmp_path / "project", tmp_path / "out", **options)
        return gpu.run(request, stream), stream.getvalue()

    return call


def states(folder: Path) -> dict[str, str]:
    return {name: entry["state"] for name, entry in json.loads((folder / gpu.ACCOUNT).read_text()).items()}


def provenance_of(path: Path) -> dict:
    return json.loads(path.read_text())["metadata"].get("provenance", {})


def test_the_most_valuable_come_first_and_posts_before_measurements(post, bench, tmp_path):
    for name in ("01-one", "02-two", "99-new"):
        post(name, "1 + 1")
    campaign = gpu.Campaign(gpu.Request(tmp_path / "project", tmp_path / "out"), io.StringIO())
    tasks = list(campaign.tasks())
    assert [task.name for task in tasks] == ["02-two", "01-one", "99-new", "bench/matmul", "bench/fashion"]
    assert all(task.minutes > 0 for task in tasks)


def test_what_succeeds_is_published_and_what_does_not_is_accounted_for(post, bench, run, tmp_path):
    good, bad, wrong = post("01-good", "print('fine')"), post("02-bad", "1 / 0"), post("03-wrong", CLAIM)
    before = {path: path.read_bytes() for path in (bad, wrong)}
    status, said = run()
    assert status == 1
    assert provenance_of(good)["device"] == "cuda"
    assert provenance.Project(tmp_path / "project").state(json.loads(good.read_text()), good).name == "fresh"
    assert {path: path.read_bytes() for path in (bad, wrong)} == before
    out, project = tmp_path / "out", tmp_path / "project"
    expected = {"01-good": "done", "02-bad": "failed", "03-wrong": "not to be published"}
    expected |= {"bench/matmul": "done", "bench/fashion": "done"}
    assert states(out) == states(project) == expected
    assert (out / "posts/01-good/index.ipynb").read_bytes() == good.read_bytes()
    assert not (out / "posts/03-wrong").exists()
    assert provenance_of(out / "tried/posts/03-wrong/index.ipynb")["device"] == "cuda", "to be looked at"
    for name in ("gpu/matmul.json", "fashion.json"):
        assert (out / "bench/results" / name).read_bytes() == (bench / "results" / name).read_bytes()
    assert "ZeroDivisionError" in said
    assert "did not hold: Water is dry (seen: wet)" in said
    assert "3 done: 01-good, bench/matmul, bench/fashion" in said
    assert "02-bad" in (out / "logs/02-bad.txt").read_text()


def test_a_second_run_does_only_what_is_left_and_what_failed_last(post, bench, run, tmp_path):
    bad = post("02-bad", "1 / 0")
    post("03-good", "print(3)")
    run()
    post("05-new", "print(5)")
    (bench / "matmul.py").write_text("pairs = 4\n")
    bad.write_text(bad.read_text().replace("1 / 0", "1 / 1"))
    status, said = run()
    assert status == 0
    begun = [
        line.partition(":")[0] for line in said.splitlines() if ": about" in line and not line.startswith("NVIDIA")
    ]
    assert begun == ["05-new", "bench/matmul", "02-bad"]
    assert "3 of 5 to do" in said
    assert "0 of 5 to do, about 0 minutes" in run()[1]


def test_on_another_machine_it_goes_on_from_what_was_committed(post, bench, run, tmp_path):
    post("01-good", "print(1)")
    run()
    stream = io.StringIO()
    assert gpu.run(gpu.Request(tmp_path / "project", tmp_path / "elsewhere"), stream) == 0
    assert "0 of 3 to do" in stream.getvalue()


def test_a_page_from_a_cpu_is_done_again(make_post, run, tmp_path):
    path = make_post(tmp_path / "project", "01-good", "print(1)")
    run()
    assert provenance_of(path)["device"] == "cpu"
    assert "1 of 1 to do" in run()[1]


def test_nothing_begins_that_would_not_end_in_time(post, run, tmp_path):
    post("02-long", "print(1)")
    post("01-short", "print(1)")
    status, said = run(minutes=1.5)
    assert status == 1
    assert states(tmp_path / "out") == {"02-long": "no time", "01-short": "done"}
    assert "02-long: no time" in said


def test_what_is_running_when_the_time_is_up_is_cut_off(post, run, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "POSTS", {"01": 0.0})
    path = post("01-endless", "import os, time\nopen('../../pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    before = path.read_bytes()
    status, said = run(minutes=0.5)
    assert status == 1
    assert "01-endless: cut off" in said
    assert path.read_bytes() == before
    kernel = Path("/proc", (tmp_path / "project" / "pid").read_text())
    end = time.monotonic() + 60
    while kernel.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not kernel.exists()


def test_a_signal_stops_it_with_the_account_written(post, run, tmp_path):
    post("01-endless", "import time\ntime.sleep(600)")
    threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        run()
    assert time.monotonic() - started < 60
    assert states(tmp_path / "out") == {"01-endless": "cut off"}


def test_a_rehearsal_leaves_the_project_as_it_is_and_counts_for_nothing(post, bench, run, tmp_path, monkeypatch):
    path = post("01-good", "print(1)")
    before = path.read_bytes()
    monkeypatch.setenv("LIB_GPU_SCALE", "1000")
    status, _ = run()
    assert status == 0
    assert path.read_bytes() == before
    assert not (bench / "account.json").exists()
    assert not (bench / "results").exists()
    assert states(tmp_path / "out") == {"01-good": "done", "bench/matmul": "done"}, "the long ones are not rehearsed"
    assert "0 of 2 to do" in run()[1]
    monkeypatch.delenv("LIB_GPU_SCALE")
    assert "3 of 3 to do" in run()[1]


def test_patterns_choose_and_one_that_fits_nothing_is_told(post, bench, run, tmp_path):
    for name in ("01-one", "02-two"):
        post(name, "print(1)")
    assert "2 of 2 to do" in run(only=("02", "matmul"))[1]
    assert "1 of 1 to do" in run(only=("bench/*",), skip=("bench/matmul",))[1]
    with pytest.raises(UsageError, match=r"'07'.*02-two, 01-one, bench/matmul"):
        run(only=("07",))
    with pytest.raises(UsageError, match="'7'"):
        run(skip=("7",))


def test_outputs_of_other_code_are_not_kept_and_a_broken_notebook_stops_nothing(post, run, tmp_path):
    edited, broken = post("01-edited", "1 + 1"), post("05-broken", "2 + 2")
    assert run()[0] == 0
    edited.write_text(edited.read_text().replace("1 + 1", "1 + 2"))
    broken.write_text("{")
    before = edited.read_bytes()
    campaign = gpu.Campaign(gpu.Request(tmp_path / "project", tmp_path / "out"), io.StringIO())
    first, second = campaign.tasks()
    assert campaign.keep(first) == ["its code was edited while it ran; run it again"]
    assert "not JSON" in campaign.keep(second)[0]
    assert edited.read_bytes() == before
    assert broken.read_text() == "{"


def test_a_folder_that_is_not_ours_is_left_alone(post, run, tmp_path):
    post("01-one", "print(1)")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ours.NotOursError, match=f"{tmp_path}/out.*gpu.*{ours.MARKER}"):
        run()


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.delenv("LIB_GPU_SCALE", raising=False)
    monkeypatch.setattr(gpu, "CARD", "print('')")
    assert main(["--root", str(tmp_path), "gpu"]) == 2
    assert "there is no GPU here; LIB_GPU_SCALE=1000 rehearses" in capsys.readouterr().err
    monkeypatch.setattr(gpu, "CARD", "raise ImportError('no torch')")
    assert main(["--root", str(tmp_path), "gpu"]) == 2
    assert "not all is here that posts need: ImportError: no torch (WHEELS=folder" in capsys.readouterr().err

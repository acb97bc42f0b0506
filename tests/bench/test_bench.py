"""The command line of the measurements, with measurements that take no time."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import __main__ as command
from bench import matmul
from lib.kernels import naive
from lib.measure import Record

RECORD = Record("quick/one", 1.5, "time ratio", peer="torch", ours=3.0, theirs=2.0, low=1.4, high=1.6, same=True)


@pytest.fixture
def quick(monkeypatch):
    """Replace the one bench by one that yields RECORD at once."""

    def records(say):
        say("measuring quick/one")
        yield RECORD

    monkeypatch.setattr(matmul, "records", records)


@pytest.mark.usefixtures("quick")
def test_json_is_all_that_is_printed(capsys):
    assert command.main(["matmul", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [RECORD.as_dict()]
    assert "measuring quick/one" in err


@pytest.mark.usefixtures("quick")
def test_a_reader_gets_a_table(capsys):
    assert command.main(["matmul"]) == 0
    head, row, foot = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "value"]
    assert row.split()[:5] == ["quick/one", "1.5", "1.4", "to", "1.6"]
    assert RECORD.machine in foot


@pytest.mark.usefixtures("quick")
def test_save_writes_the_whole_file_or_leaves_the_old_one(tmp_path, monkeypatch):
    assert command.main(["matmul", "--save"], results=tmp_path / "results") == 0
    path = tmp_path / "results" / "matmul.json"
    assert json.loads(path.read_text()) == [RECORD.as_dict()]
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        command.main(["matmul", "--save"], results=tmp_path / "results")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_unknown_name_gets_the_nearest(capsys):
    assert command.main(["matmull"]) == 2
    assert "did you mean 'matmul'?" in capsys.readouterr().err


def test_with_no_name_all_but_the_long_ones_are_measured(monkeypatch, capsys):
    asked = []

    def module(path):
        return SimpleNamespace(records=lambda say: asked.append(path) or [RECORD])

    monkeypatch.setattr(command.importlib, "import_module", module)
    assert command.main([]) == 0
    assert asked == [command.BENCHES[name] for name in command.BENCHES if name not in command.LONG]
    assert set(command.LONG) < set(command.BENCHES)
    assert RECORD.name in capsys.readouterr().out


def test_list_runs_as_a_module():
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--list"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == list(command.BENCHES)


def test_a_case_is_compared_with_float64_and_timed():
    record = matmul.measure(matmul.Case("einsum/2x3x4", naive.einsum, (2, 3, 4), pairs=3))
    assert record.same
    assert record.unit == "time ratio"
    assert record.value > 0
    assert record.n == 3


def test_a_wrong_answer_shows():
    record = matmul.measure(matmul.Case("wrong/2x3x4", lambda a, b: a @ b + 1, (2, 3, 4), pairs=1))
    assert record.same is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a CUDA device nothing is left out")
def test_what_needs_a_gpu_is_left_out_and_said():
    said = []
    assert list(matmul.records(said.append, [case for case in matmul.CASES if case.device == "cuda"])) == []
    assert any("matmul/cuda-tiled/4096" in line and "needs a CUDA device" in line for line in said)


def test_every_name_is_measured_once():
    assert len({case.name for case in matmul.CASES}) == len(matmul.CASES)

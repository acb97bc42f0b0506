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


def test_without_a_gpu_it_says_how_to_rehearse(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("LIB_GPU_SCALE", raising=False)
    assert command.main(["matmul", "--gpu"]) == 2
    assert "LIB_GPU_SCALE=1000 rehearses" in capsys.readouterr().err


def test_what_has_nothing_for_a_gpu_is_told_apart(capsys):
    assert command.main(["loaders", "--gpu"]) == 2
    assert "unknown bench with measurements for a GPU 'loaders'" in capsys.readouterr().err
    for name in command.ON_GPU:
        assert hasattr(command.importlib.import_module(command.BENCHES[name]), "gpu_records")


def test_records_are_kept_beside_until_all_are_there(monkeypatch, tmp_path):
    def broken(say):
        yield RECORD
        raise RuntimeError("the GPU is gone")

    monkeypatch.setattr(matmul, "gpu_records", broken)
    monkeypatch.setattr(command.gpu, "present", lambda: True)
    monkeypatch.setattr(command.gpu, "simulate", lambda: None)
    with pytest.raises(RuntimeError, match="gone"):
        command.main(["matmul", "--gpu", "--save", "--results", str(tmp_path)])
    assert json.loads((tmp_path / "gpu/matmul.part").read_text()) == [RECORD.as_dict()]
    monkeypatch.setattr(matmul, "gpu_records", lambda say: [RECORD, RECORD])
    assert command.main(["matmul", "--gpu", "--save", "--results", str(tmp_path)]) == 0
    assert [path.name for path in (tmp_path / "gpu").iterdir()] == ["matmul.json"]
    assert len(json.loads((tmp_path / "gpu/matmul.json").read_text())) == 2


def test_every_name_is_measured_once():
    for cases in (matmul.CASES, matmul.GPU_CASES):
        assert len({case.name for case in cases}) == len(cases)

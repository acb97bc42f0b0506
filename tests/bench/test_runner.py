"""The measurement of how threads wait, with a post that takes no time."""

import itertools
from contextlib import nullcontext

import pytest

from bench import runner


@pytest.fixture
def executed(monkeypatch):
    """Runs that take 11, 10, 9, ... seconds where the runner chooses, and 20 where libgomp does."""
    seconds, asked = itertools.count(11, -1), []

    def execute(spin=None):
        asked.append(spin)
        return runner.Executed(20.0 if spin else float(next(seconds)), "pictures", {"torch": "2"})

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    return asked


def test_quiet_and_busy_are_compared_in_turn(executed):
    said = []
    quiet, busy = runner.records(said.append)
    assert executed == [None, None, runner.LIBGOMP, runner.LIBGOMP, None, None, runner.LIBGOMP, None, None, None]
    assert (quiet.name, quiet.ours, quiet.theirs, quiet.value) == ("runner/quiet", 9.0, 20.0, 0.45)
    assert (busy.name, busy.ours, busy.theirs) == ("runner/busy", 6.0, 9.0)
    assert quiet.same
    assert quiet.versions == {"torch": "2"}
    assert (quiet.target, busy.target) == ("<= 1.03", "<= 2")
    assert len(said) == runner.PAIRS + 1


@pytest.mark.parametrize("fault", [None, RuntimeError])
def test_loops_run_beside_it_and_end_with_it(monkeypatch, fault):
    started, popen = [], runner.subprocess.Popen

    def start(*arguments):
        started.append(popen(*arguments))
        return started[-1]

    monkeypatch.setattr(runner.subprocess, "Popen", start)
    with pytest.raises(fault) if fault else nullcontext(), runner.busy(2):
        assert [each.poll() for each in started] == [None, None]
        if fault:
            raise fault
    assert all(each.returncode is not None for each in started)


def test_other_pictures_show(monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda spin=None: runner.Executed(1.0, f"drawn with {spin}", {}))
    assert not next(runner.records(lambda _: None)).same

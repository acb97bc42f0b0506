"""Workers answer in order, carry errors, and are ended in every case: raising, hanging, killed or not needed."""

import multiprocessing.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lib.scratch import workers
from lib.scratch.workers import imap

JOBS = [(number, 0) for number in range(9)]


def double(number: int, seed: int) -> int:
    time.sleep(0.01 * (number % 3))  # a later job may be done before an earlier one
    return 2 * number


def where(number: int, seed: int) -> int:
    return os.getpid()


def tensors(number: int, seed: int) -> dict:
    return {"x": torch.full((3,), number), "threads": torch.get_num_threads()}


def killed(number: int, seed: int) -> int:
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hangs(number: int, seed: int) -> int:
    if number == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    return number


def hangs_on_exit(number: int, seed: int) -> int:
    multiprocessing.util.Finalize(None, time.sleep, (1000,), exitpriority=1)
    return number


class Stubborn(Exception):
    """One that pickles and cannot be read back."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"code {code}: {reason}")


def stubborn(number: int, seed: int) -> int:
    raise Stubborn(7, "as told")


def unsendable(number: int, seed: int) -> object:
    return lambda: number


@pytest.fixture(autouse=True)
def none_is_left():
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(num_workers, method):
    assert list(imap(double, iter(JOBS), num_workers, method)) == [2 * number for number, _ in JOBS]


def test_every_worker_works_and_none_is_this_one():
    pids = list(imap(where, JOBS, 3))
    assert pids[:3] == pids[3:6] == pids[6:]
    assert len(set(pids) - {os.getpid()}) == 3


def test_no_job_no_result():
    assert list(imap(double, [], 2)) == []


def test_jobs_are_asked_for_only_so_far_ahead():
    asked = []
    results = imap(double, ((asked.append(number), (number, 0))[1] for number in range(100)), 2)
    next(results)
    assert len(asked) == 2 * workers.AHEAD
    results.close()


def test_tensors_are_shared_and_workers_have_one_thread():
    for number, result in enumerate(imap(tensors, JOBS, 2)):
        assert result["x"].tolist() == [number] * 3
        assert result["x"].is_shared()
        assert result["threads"] == 1


def test_a_killed_worker_is_named_with_its_exit_code():
    results = imap(killed, JOBS, 2)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match=r"worker 0 \(process \d+\).*-9"):
        next(results)


def test_a_worker_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.1)
    results = imap(hangs, JOBS, 2)
    assert next(results) == 0
    time.sleep(0.3)  # until it no longer hears that it should end
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 30


def test_a_worker_that_hangs_on_exit_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.1)
    assert list(imap(hangs_on_exit, JOBS[:2], 2)) == [0, 1]


def test_a_loop_that_is_left_ends_the_workers():
    for result in imap(double, JOBS, 2):
        if result == 4:
            break
    with pytest.raises(ZeroDivisionError):
        sum(1 / result for result in imap(double, JOBS, 2))


def test_two_at_once_do_not_keep_each_other_alive(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 60.0)  # a worker that had to be told twice would take that long
    started = time.monotonic()
    first, second = imap(double, JOBS, 2), imap(double, JOBS, 2)
    assert next(first) == next(second) == 0
    first.close()
    assert list(second)[-1] == 16
    assert time.monotonic() - started < 30


def test_a_program_that_ends_in_the_middle_ends_quietly():
    program = "from lib.scratch.workers import imap; x = imap(pow, [(n, 1) for n in range(9)], 2); print(next(x))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whether a process runs")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_when_their_caller_is_killed(method):
    program = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from lib.scratch.workers import imap; from test_workers import where\n"
        "if __name__ == '__main__':\n"
        f"    x = imap(where, [(n, 1) for n in range(9)], 3, '{method}')\n"
        "    print(next(x), next(x), next(x), flush=True)\n"
        "    os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as caller:
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        assert len(pids) == 3
        caller.wait(60)
        until = time.monotonic() + 60
        while time.monotonic() < until and any(map(runs, pids)):
            time.sleep(0.05)
        left = [pid for pid in pids if runs(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_jobs_that_fail_end_the_workers():
    def jobs():
        yield from JOBS[:5]
        raise OSError("no more of them")

    with pytest.raises(OSError, match="no more of them"):
        list(imap(double, jobs(), 2))


def test_an_error_that_does_not_survive_the_way_is_told_in_words():
    with pytest.raises(RuntimeError, match="Stubborn: code 7: as told") as caught:
        list(imap(stubborn, JOBS, 1))
    assert "in stubborn" in " ".join(caught.value.__notes__)


def test_a_result_that_cannot_be_sent_is_an_error_here():
    with pytest.raises(Exception, match="lambda"):
        list(imap(unsendable, JOBS, 1))


def test_what_spawn_cannot_pickle_is_refused_with_the_remedy():
    with pytest.raises(Exception, match="lambda") as caught:
        list(imap(lambda number, seed: number, JOBS, 2, "spawn"))
    assert "spawn" in " ".join(caught.value.__notes__)
    assert list(imap(lambda number, seed: number, JOBS, 2, "fork"))[-1] == 8  # a fork pickles nothing


@pytest.mark.parametrize("method", ["threads", 3])
def test_an_unknown_way_to_start_is_named(method):
    with pytest.raises(ValueError, match=str(method)):
        list(imap(double, JOBS, 1, method))

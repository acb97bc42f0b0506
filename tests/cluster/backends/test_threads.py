"""Every row is done once, whatever the number of threads; what fails in one of them is raised."""

import threading

import pytest
import torch

from lib.cluster.backends.threads import PART, Threads


@pytest.fixture(params=[1, 2, 5])
def threads(request, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)
    return Threads()


@pytest.mark.parametrize("n", [0, 1, PART, PART + 1, 10 * PART + 3, 100 * PART])
def test_each_row_is_done_once(threads, n):
    done = torch.zeros(n, dtype=torch.int64)

    def kernel(first, last, out):
        out[first:last] += 1

    threads.over_rows(kernel, n, done)
    assert (done == 1).all()


def test_few_rows_stay_where_they_are(threads):
    where = []
    threads.over_rows(lambda *_: where.append(threading.current_thread()), PART)
    assert where == [threading.current_thread()]


def test_what_fails_is_raised(threads):
    def kernel(first, _last):
        if first > PART:
            raise ZeroDivisionError("in a part")

    if threads.count > 1:
        with pytest.raises(ZeroDivisionError, match="in a part"):
            threads.over_rows(kernel, 100 * PART)


def test_threads_end_with_their_object():
    before = threading.active_count()
    threads = Threads()
    threads.over_rows(lambda *_: None, 100 * PART)
    started = [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    del threads
    for thread in started:
        thread.join(timeout=5)
    assert threading.active_count() <= before

"""A function called in worker processes: jobs dealt in turn, results in the jobs' order, and every worker ended."""

from __future__ import annotations

import pickle
import random
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch import multiprocessing

AHEAD = 2  # jobs that each worker has before the first result is asked for
PATIENCE = 1.0  # seconds that a worker has to end by itself, and then to end when it is told to


def imap(function: Callable, jobs: Iterable[tuple], num_workers: int, method: str | None = None) -> Iterator[Any]:
    """Yield function(*job) for each job, in order, computed by `num_workers` processes.

    The last part of a job is a seed: a worker seeds Python's and NumPy's random numbers with it. Tensors in results
    come through shared memory; jobs and the rest of results through a pipe of some 64 kB, which each should fit. What a
    job raises is raised here, with the worker's traceback as a note. Workers are ended when the iterator is exhausted,
    closed, or fails. Raises RuntimeError when a worker dies.
    """
    workers: list[Worker] = []
    finish = partial(end, workers)
    results = _results(function, jobs, num_workers, method, workers, finish)
    weakref.finalize(results, finish)  # when a program ends in the middle, too, while there still are modules
    return results


def _results(
    function: Callable,
    jobs: Iterable[tuple],
    num_workers: int,
    method: str | None,
    workers: list[Worker],
    finish: Callable[[], None],
) -> Iterator[Any]:
    context = multiprocessing.get_context(method)
    asked: deque[Worker] = deque()
    try:
        for number in range(num_workers):
            workers.append(Worker(context, number, function))
        for worker, job in zip(cycle(workers), jobs, strict=False):
            worker.ask(job)
            asked.append(worker)
            if len(asked) == AHEAD * num_workers:
                yield asked.popleft().answer()  # the oldest job's: workers answer in the order that they were asked
        while asked:
            yield asked.popleft().answer()
    finally:
        finish()


def end(workers: list[Worker]) -> None:
    """End workers, each by itself where it can, and empty the list."""
    for worker in workers:
        worker.dismiss()
    for worker in workers:
        worker.end()
    workers.clear()


class Worker:
    """A process with a pipe to it."""

    def __init__(self, context: BaseContext, number: int, function: Callable) -> None:
        self.number = number
        self.connection, theirs = context.Pipe()
        copied = self.connection if context.get_start_method() == "fork" else None
        self.process = context.Process(target=work, args=(theirs, function, copied), daemon=True)
        try:
            self.process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            method = context.get_start_method()
            error.add_note(f"{method} pickles what a worker needs: define it in a module, and no lambda")
            raise
        finally:
            theirs.close()  # when the worker dies, no one else holds its end of the pipe, and reading fails at once

    def ask(self, job: tuple) -> None:
        """Send a job. That the worker has died is told when an answer of its is due, after those that are not lost."""
        with suppress(OSError):
            self.connection.send(job)

    def answer(self) -> Any:
        """Wait for the result of the oldest job, and return it or raise what was raised."""
        try:
            result, error = self.connection.recv()
        except (EOFError, OSError) as lost:
            self.process.join(PATIENCE)
            if self.process.exitcode is None:  # it lives, and its result could not be read: too many open files, say
                raise
            raise self.dead() from lost
        if error is not None:
            raise error
        return result

    def dead(self) -> RuntimeError:
        """Return the error that tells how the worker ended."""
        return RuntimeError(
            f"worker {self.number} (process {self.process.pid}) died, exit code {self.process.exitcode}: "
            "killed, or out of memory?"
        )

    def dismiss(self) -> None:
        """Let the worker end by itself after the job that it is at."""
        with suppress(OSError):
            self.connection.send(None)
        self.connection.close()

    def end(self) -> None:
        """Wait for the worker, and end it where it does not."""
        for force in (lambda: None, self.process.terminate, self.process.kill):
            force()
            self.process.join(PATIENCE)
            if self.process.exitcode is not None:
                return


def work(connection: Connection, function: Callable, copied: Connection | None = None) -> None:
    """Answer jobs with (result, None) or (None, error) until there is None instead of a job, or no one to answer.

    A fork has a copy of the caller's end of the pipe, too: it is closed, or the worker would outlive a killed caller.
    """
    if copied is not None:
        copied.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the caller ends this one
    torch.set_num_threads(1)  # the workers are the parallelism, and OpenMP's threads do not survive a fork
    with suppress(EOFError, OSError):
        while (job := connection.recv()) is not None:
            reply(connection, *attempt(function, job))


def reply(connection: Connection, result: Any, error: Exception | None) -> None:
    """Send a result or an error, or why that could not be sent: it does not pickle, or shared memory is full."""
    try:
        connection.send((result, error))
    except OSError:  # no one is there
        raise
    except Exception as unsent:
        connection.send((None, sendable(unsent)))


def attempt(function: Callable, job: tuple) -> tuple[Any, Exception | None]:
    """Call a function and return its result, or an exception that can be sent, with the traceback as a note."""
    random.seed(job[-1])
    np.random.seed(job[-1] % 2**32)  # noqa: NPY002 - after a fork all workers would draw alike
    try:
        return function(*job), None
    except Exception as error:
        error.add_note("".join(["in a worker process:\n", *traceback.format_tb(error.__traceback__)]))
        return None, sendable(error)


def sendable(error: Exception) -> Exception:
    """Return the exception, or where it does not survive pickling a RuntimeError that says as much."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.__notes__ = getattr(error, "__notes__", [])
        return plain

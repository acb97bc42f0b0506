"""Processes: a worker for each post, one run at a time in a project, and signals that cut nothing in the middle."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from publish import ours
from publish.options import Options, UsageError

WORKER = Path(__file__).with_name("worker.py")
GRACE = 5.0  # seconds a worker has to stop its kernel


class Interrupted(Exception):
    """The run was stopped by a signal, whose number is the argument."""


class Worker:
    """A worker process executing one post; its events are put into `events` as (worker, event), then (worker, None)."""

    def __init__(self, path: Path, nb: dict, options: Options, env: dict[str, str], events: SimpleQueue) -> None:
        self.path, self.nb, self.events = path, nb, events
        self.post = path.parent.name
        self.started = time.monotonic()
        self.kernel: int | None = None
        self.last: dict = {}
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the post is judged
        self.process = subprocess.Popen(
            [sys.executable, "-P", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=path.parent,
            env=env,
            start_new_session=True,  # Ctrl-C in the terminal is for us alone: we end the workers in order
        )
        job = {"notebook": nb, "folder": str(path.parent), "timeout": options.timeout}
        job["parameters"] = {"budget": options.budget}
        threading.Thread(target=self._talk, args=(json.dumps(job),), daemon=True).start()

    def _talk(self, job: str) -> None:
        with suppress(OSError):  # it died before it read the job: there will be no events
            self.process.stdin.write(job.encode() + b"\n")
            self.process.stdin.flush()
        with suppress(ValueError):  # it was killed in the middle of a line
            for line in self.process.stdout:
                self.events.put((self, json.loads(line)))
        self.events.put((self, None))

    def stop(self, grace: float = GRACE) -> None:
        """End the worker and its kernel; they are gone when this returns."""
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.returncode and self.kernel:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.kernel, signal.SIGKILL)

    def log_tail(self, lines: int = 5) -> str:
        """Return the last lines that the worker and its kernel wrote to stderr."""
        self.log.seek(0)
        return "\n".join(self.log.read()[-20_000:].decode(errors="replace").strip().splitlines()[-lines:])


@contextmanager
def locked(root: Path) -> Iterator[Path]:
    """Hold the lock of the project's `_build`, which is returned; the system frees it whatever happens.

    Raises UsageError when another run has it.
    """
    folder = ours.claim(root / "_build", ours.BUILD, root)
    with ours.inside(folder / ".lock", folder).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise UsageError(f"another run is at work here (process {who}); wait for it, or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield folder


@contextmanager
def signals() -> Iterator[SimpleQueue]:
    """Turn SIGINT, SIGTERM and SIGHUP into events (None, number), so that nothing is cut in the middle."""
    events: SimpleQueue = SimpleQueue()
    mine = threading.current_thread() is threading.main_thread()
    caught = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if mine else []
    before = [signal.signal(number, lambda number, _: events.put((None, number))) for number in caught]
    try:
        yield events
    finally:
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)

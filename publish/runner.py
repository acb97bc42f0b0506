"""Execute posts, several at a time, each in a worker process, and put their outputs where they belong."""

from __future__ import annotations

import datetime
import errno
import json
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TextIO

from publish import notebook, ours, provenance
from publish.environment import environment, hub_is_reachable, idle_cores, spinning, threads
from publish.options import Options, select
from publish.outcome import Result
from publish.process import Interrupted, Worker, locked, signals
from publish.progress import Progress, Task

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run(options: Options, stream: TextIO | None = None) -> list[Result]:
    """Execute posts as asked; one that fails does not stop the others.

    Raises UsageError for what makes no sense, and Interrupted after SIGINT, SIGTERM or SIGHUP, with all processes gone.
    """
    options.check()
    paths = select(options.root, options.only)
    with locked(options.root) as build, signals() as events:
        results = _Run(options, build, stream or sys.stdout, events).all(paths)
        while not events.empty():
            worker, event = events.get()
            if worker is None:  # it came while the last post was being written
                raise Interrupted(event)
        return results


class _Run:
    def __init__(self, options: Options, build: Path, stream: TextIO, events: SimpleQueue) -> None:
        self.options, self.stream, self.events = options, stream, events
        in_place = options.out is None
        self.place = options.root / "posts" if in_place else ours.claim(options.out, ours.POSTS, options.root)
        self.project = provenance.Project(options.root)
        self.results: list[Result] = []
        self.history = _History(build)
        self.workers: list[Worker] = []

    def all(self, paths: list[Path]) -> list[Result]:
        waiting = self._prepare(paths)
        if not waiting:
            return self.results
        budget, jobs = self.options.budget, self.options.jobs
        side_by_side = min(jobs, len(waiting))
        env = environment(
            self.options.root,
            hub=budget != "smoke" and hub_is_reachable(),
            jobs=side_by_side,
            committed=self.options.out is None,
        )
        tasks = [
            Task(path.parent.name, len(nb["cells"]), self.history.seconds(path.parent.name, budget, nb))
            for path, nb in waiting
        ]
        self.progress = Progress(self.stream, tasks, jobs)
        try:
            while waiting or self.workers:
                while waiting and len(self.workers) < jobs:
                    spin = spinning(idle_cores(), threads(side_by_side))
                    self.workers.append(Worker(*waiting.pop(0), self.options, env | spin, self.events))
                    self.progress.start(self.workers[-1].post)
                self._next_event()
        finally:
            self.progress.close()
            for worker in self.workers:
                with suppress(OSError):
                    worker.process.stdin.close()  # all at once, then one after the other
            for worker in self.workers:
                worker.stop()
        return sorted(self.results, key=lambda result: result.post)

    def _prepare(self, paths: list[Path]) -> list[tuple[Path, dict]]:
        ready = []
        for path in paths:
            try:
                nb = notebook.read(path)
                notebook.check(nb)
                ours.sweep(ours.inside(self._target(path), self.place).parent)
            except (notebook.NotebookError, ours.NotOursError) as error:
                self._note(Result(path.parent.name, "failed", error=f"{path.relative_to(self.options.root)}: {error}"))
                continue
            if self.options.stale and self.project.state(nb, path).name == "fresh":
                continue
            if self.options.reuse and self._reuse(path, nb):
                claims = notebook.claims(notebook.read(self._target(path)))
                self._note(Result(path.parent.name, "reused", claims=claims))
                continue
            ready.append((path, nb))
        return ready

    def _note(self, result: Result) -> None:
        self.results.append(result)
        print(f"{result.post}: {result.verdict()}", file=self.stream, flush=True)

    def _reuse(self, path: Path, nb: dict) -> bool:
        copy = self._target(path)
        try:
            old = notebook.read(copy)
            said = old["metadata"]["provenance"]
            outputs = [cell["outputs"] for cell in notebook.code(old)]
        except (notebook.NotebookError, KeyError):
            return False
        nb = dict(nb, metadata={"provenance": said})
        if self.options.budget not in (said.get("asked"), said.get("budget")) or len(outputs) != len(notebook.code(nb)):
            return False
        fresh = notebook.fill(nb, outputs)
        if self.project.state(fresh, path).name != "fresh":
            return False
        if fresh != old:  # the prose has changed: the outputs stay
            ours.write(copy, notebook.encoded(fresh), self.place)
        self._copy_beside(path, copy)
        return True

    def _target(self, path: Path) -> Path:
        return self.place / path.parent.name / path.name

    def _next_event(self) -> None:
        try:
            worker, event = self.events.get(timeout=0.25)
        except Empty:
            self.progress.tick()
            return
        if worker is None:
            raise Interrupted(event)
        if event is None:
            self._finish(worker)
        elif event["event"] == "cell":
            worker.last = event
            self.progress.cell(worker.post, event["index"], notebook.first_line(worker.nb["cells"][event["index"]]))
        elif event["event"] == "kernel":
            worker.kernel = event["pid"]
        elif worker.last.get("event") not in ("failed", "done"):
            worker.last = event | {"index": event.get("index", worker.last.get("index"))}

    def _finish(self, worker: Worker) -> None:
        worker.stop()
        self.workers.remove(worker)
        result = self._judge(worker)
        if result.status == "failed":
            result.traceback = "\n".join(filter(None, [result.traceback, worker.log_tail(50)]))
            if self.options.out is not None:  # what an older run left is not what this code does
                ours.discard(self._target(worker.path), self.place)
        worker.log.close()
        self.results.append(result)
        self.progress.end(worker.post, result.verdict())

    def _judge(self, worker: Worker) -> Result:
        event, seconds = worker.last, time.monotonic() - worker.started
        result = Result(worker.post, "failed", seconds, len(worker.nb["cells"]))
        index = event.get("index")
        if event.get("event") != "done":
            if index is not None:
                result.cell, result.line = index + 1, notebook.first_line(worker.nb["cells"][index])
            if event.get("event") == "failed":
                result.error = f"{event['name']}: {event['text']}" if event["text"] else event["name"]
                result.traceback = ANSI.sub("", event["traceback"])
            else:
                tail = worker.log_tail(1)
                result.error = f"the worker ended with exit status {worker.process.returncode}; {tail}".rstrip("; ")
            return result
        try:
            self._keep(worker, event["outputs"], result)
        except (notebook.NotebookError, ours.NotOursError) as error:
            result.error = str(error)
        except OSError as error:
            target = self._target(worker.path)
            result.error = f"{target} cannot be written: {error.strerror}{_remedy(error)}"
        return result

    def _keep(self, worker: Worker, outputs: list, result: Result) -> None:
        """Check the outputs, and write them if they may be kept."""
        nb = notebook.read(worker.path)  # its prose may have been edited meanwhile
        if [notebook.source(cell) for cell in notebook.code(nb)] != [
            notebook.source(cell) for cell in notebook.code(worker.nb)
        ]:
            raise notebook.NotebookError("its code was edited while it ran, so the results are not kept; run it again")
        nb = notebook.fill(nb, outputs)
        result.facts = notebook.colophon(nb) or {}
        wrong = notebook.unwanted(nb)
        if not result.facts:
            wrong.append((len(nb["cells"]), notebook.NO_COLOPHON))
        if self.options.out is None and (parts := notebook.partial_data(nb)):
            wrong.append((len(nb["cells"]), notebook.ONLY_PART.format(", ".join(parts))))
        if over := notebook.oversize(nb):
            wrong = [over]
        if over or (wrong and self.options.out is None):
            result.cell, result.error = wrong[0]
            result.line = notebook.first_line(nb["cells"][result.cell - 1])
            return
        result.warnings = [f"cell {number} {what}" for number, what in wrong]
        today = datetime.date.today().isoformat()
        nb["metadata"]["provenance"] = provenance.provenance(self.project, nb, self.options.budget, today)
        target = self._target(worker.path)
        ours.write(target, notebook.encoded(nb), self.place)
        self._copy_beside(worker.path, target)
        result.status, result.claims = "ok", notebook.claims(nb)
        self.history.note(worker.post, self.options.budget, result.seconds)

    def _copy_beside(self, path: Path, copy: Path) -> None:
        for file in path.parent.iterdir() if copy != path else ():
            if file.is_file() and file.name != path.name and not file.name.startswith("."):
                ours.write(copy.with_name(file.name), file.read_bytes(), self.place)


class _History:
    """Seconds that posts took, by budget; a convenience that may be lost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.entries = json.loads((folder / "history.json").read_text())
        except (OSError, ValueError):
            self.entries = {}

    def seconds(self, post: str, budget: str, nb: dict) -> float | None:
        said = nb.get("metadata", {}).get("provenance", {})
        committed = said.get("seconds") if budget in (said.get("asked"), said.get("budget")) else None
        return self.entries.get(post, {}).get(budget, committed)

    def note(self, post: str, budget: str, seconds: float) -> None:
        self.entries.setdefault(post, {})[budget] = round(seconds, 1)
        with suppress(OSError, ours.NotOursError):
            ours.write(self.folder / "history.json", json.dumps(self.entries, indent=1).encode(), self.folder)


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space and run it again"
    return "; make the folder writable" if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else ""

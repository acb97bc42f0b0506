"""All that is published from a GPU, in one command: posts at `gpu`, then measurements, the most valuable first.

What comes of it goes, each as it ends, to a folder: what may be published, laid out as the project is, all that was
tried, logs, and an account. What may be published goes to the project as well; what is done from the code as it is now
is not done again. LIB_GPU_SCALE rehearses all of this, also without a GPU, and leaves the project as it is.
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from publish import notebook, ours, provenance
from publish.options import UsageError
from publish.process import Interrupted, signals
from publish.progress import span

# Minutes expected on an H100, until a run has told. A post that is not named here comes after those that are.
POSTS = {
    "02": 2,
    "15": 3,
    "18": 2,
    "19": 3,
    "13": 3,
    "22": 3,
    "11": 2,
    "03": 2,
    "01": 1,
    "05": 1,
    "06": 2,
    "07": 3,
    "08": 3,
    "09": 2,
    "10": 3,
    "12": 3,
    "14": 3,
    "04": 3,
}
MEASURED_ON_GPU = {"matmul": 3, "cluster": 1, "learner": 1, "diffusion": 2, "stable": 2}
# Too long to be rehearsed on a CPU.
LONG = {"stable-full": 6, "board": 15, "diffusion-full": 8, "board-steps": 6, "fashion": 8}
UNKNOWN = 3
ACCOUNT = "bench/account.json"
DONE, FAILED, REFUSED, CUT, WAITING = "done", "failed", "not to be published", "cut off", "no time"
# Prints the card's name, when all is there that executing a post takes.
CARD = """
import datasets, diffusers, ipykernel, nbclient, nbformat, papermill, psutil, torch, torchvision, transformers
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")
"""
GRACE = 30.0  # seconds for a post or measurement to end when it is cut off


@dataclass(frozen=True)
class Task:
    """Something to execute: its command, and the file that comes of it, in the project and in the folder of results."""

    name: str
    minutes: float
    command: tuple[str, ...]
    result: str
    digest: str = ""


@dataclass(frozen=True)
class Request:
    """What is asked for; `minutes` are those after which nothing begins or goes on."""

    root: Path
    out: Path
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    minutes: float | None = None


def run(request: Request, stream: TextIO | None = None) -> int:
    """Execute what is not done yet; return 0 when all is done, else 1.

    Raises UsageError where there is no GPU and nothing is rehearsed, and for patterns that match nothing; Interrupted
    after SIGINT, SIGTERM or SIGHUP, when the account is written.
    """
    return Campaign(request, stream or sys.stdout).run()


class Campaign:
    """What is to be done and what was: it executes task after task, and keeps the account of them."""

    def __init__(self, request: Request, stream: TextIO) -> None:
        self.request, self.root, self.stream = request, request.root, stream
        self.scale = os.environ.get("LIB_GPU_SCALE")
        self.started = time.monotonic()
        self.card = _card(self.scale)
        self.out = ours.claim(request.out, ours.GPU, self.root)
        self.project = provenance.Project(self.root)
        entries = ({} if self.scale else _read(self.root / ACCOUNT)) | _read(self.out / ACCOUNT)
        self.account = {name: entry for name, entry in entries.items() if entry.get("scale") == self.scale}

    def run(self) -> int:
        tasks = self.chosen()
        waiting = [task for task in tasks if not self.is_done(task)]
        waiting.sort(key=lambda task: self.account.get(task.name, {}).get("state") in (FAILED, REFUSED))  # others first
        expected = sum(task.minutes for task in waiting)
        self.say(f"{self.card}: {len(waiting)} of {len(tasks)} to do, about {expected:.0f} minutes; into {self.out}")
        with signals() as events:
            for task in waiting:
                self.execute(task, events)
        self.say(self.told(tasks))
        return int(any(self.state(task) != DONE for task in tasks))

    def tasks(self) -> Iterator[Task]:
        """Give posts, then measurements, the most valuable first."""
        python, tried = sys.executable, self.out / "tried"
        paths = {path.parent.name: path for path in notebook.find(self.root)}
        order = list(POSTS)
        for name in sorted(paths, key=lambda name: order.index(name[:2]) if name[:2] in POSTS else len(order)):
            command = (python, "-m", "publish", "run", "--budget", "gpu", "--only", name, "--out", f"{tried}/posts")
            minutes = self.expected(name, POSTS.get(name[:2], UNKNOWN))
            yield Task(name, minutes, command, f"posts/{name}/index.ipynb")
        for name, minutes in (MEASURED_ON_GPU | LONG).items():
            path = self.root / "bench" / f"{name.replace('-', '_')}.py"
            if not path.exists() or (self.scale and name in LONG):
                continue
            special, folder = (("--gpu",), "gpu/") if name in MEASURED_ON_GPU else ((), "")
            command = (python, "-m", "bench", name, *special, "--save", "--results", f"{tried}/bench/results")
            minutes, result = self.expected(f"bench/{name}", minutes), f"bench/results/{folder}{name}.json"
            yield Task(f"bench/{name}", minutes, command, result, self.project.digest(path))

    def expected(self, name: str, minutes: float) -> float:
        entry = self.account.get(name, {})
        return entry["seconds"] / 60 if entry.get("state") == DONE else minutes

    def chosen(self) -> list[Task]:
        """Return the tasks that are asked for; raise UsageError for a pattern that fits none."""
        tasks, only, skip = list(self.tasks()), self.request.only, self.request.skip
        for pattern in (*only, *skip):
            if not any(_fits(task, pattern) for task in tasks):
                raise UsageError(f"{pattern!r} fits nothing. There are: {', '.join(task.name for task in tasks)}")
        asked = [task for task in tasks if not only or any(_fits(task, pattern) for pattern in only)]
        return [task for task in asked if not any(_fits(task, pattern) for pattern in skip)]

    def is_done(self, task: Task) -> bool:
        """Tell whether the result is there, made on a GPU (or rehearsed) by the code as it is now."""
        path = (self.out if self.scale else self.root) / task.result
        if task.digest:
            entry = self.account.get(task.name, {})
            return path.exists() and entry.get("state") == DONE and entry.get("digest") == task.digest
        try:
            nb = notebook.read(path)
        except notebook.NotebookError:
            return False
        said = nb["metadata"].get("provenance", {})
        made = said.get("budget") == "gpu" and (self.scale or said.get("device") == "cuda")
        return bool(made) and self.project.state(nb, self.root / task.result).name == "fresh"

    def execute(self, task: Task, events: SimpleQueue) -> None:
        left = self.left()
        if left < 60 * task.minutes:
            self.note(task, WAITING, 0, f"{task.minutes:.1f} minutes expected, {max(0, left) / 60:.1f} left")
            return
        self.say(f"{task.name}: about {task.minutes:.1f} minutes")
        log, started = self.out / "logs" / f"{task.name.replace('/', '-')}.txt", time.monotonic()
        status = self.call(task, log, events)
        seconds = time.monotonic() - started
        if status == CUT:
            self.note(task, CUT, seconds, "the time was up" if events.empty() else "stopped")
        elif status:
            self.note(task, FAILED, seconds, _tail(log))
        else:
            refusals = self.keep(task)
            self.note(task, REFUSED if refusals else DONE, seconds, "\n".join(refusals))
        if not events.empty():
            raise Interrupted(events.get()[1])

    def call(self, task: Task, log: Path, events: SimpleQueue) -> int | str:
        """Return the exit status of the task's command, or CUT when the time was up or a signal came."""
        ours.write(log, b"", self.out)
        with log.open("wb") as file:
            process = subprocess.Popen(
                task.command, cwd=self.root, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            while self.left() > 0 and events.empty():
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(0.2)
            process.terminate()  # the runner ends its kernels in order
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return CUT

    def left(self) -> float:
        """Return the seconds that are left."""
        limit = self.request.minutes
        return float("inf") if limit is None else 60 * limit - (time.monotonic() - self.started)

    def keep(self, task: Task) -> list[str]:
        """Put a result where it is taken from, and into the project unless this is a rehearsal; or return why not."""
        try:
            content = self.measured(task) if task.digest else self.executed(task)
            if isinstance(content, list):
                return content
            for place in (self.out,) if self.scale else (self.out, self.root):
                ours.write(place / task.result, content, place)
        except (notebook.NotebookError, ours.NotOursError, OSError) as error:  # the others go on
            return [str(error)]
        return []

    def measured(self, task: Task) -> bytes:
        return (self.out / "tried" / task.result).read_bytes()

    def executed(self, task: Task) -> bytes | list[str]:
        """Return the project's notebook with the outputs of its executed copy, or why these may not be published."""
        tried = notebook.read(self.out / "tried" / task.result)
        if refusals := notebook.refusals(tried):
            return refusals
        now = notebook.read(self.root / task.result)  # its prose may have been edited meanwhile, but not its code
        if list(map(notebook.source, notebook.code(now))) != list(map(notebook.source, notebook.code(tried))):
            return ["its code was edited while it ran; run it again"]
        now["metadata"]["provenance"] = tried["metadata"]["provenance"]
        return notebook.encoded(notebook.fill(now, [cell["outputs"] for cell in notebook.code(tried)]))

    def note(self, task: Task, state: str, seconds: float, why: str) -> None:
        entry = {"state": state, "seconds": round(seconds, 1), "date": datetime.date.today().isoformat()}
        entry |= {key: text for key, text in (("digest", task.digest), ("why", why)) if text}
        entry |= {"on": self.card} | ({"scale": self.scale} if self.scale else {})
        if state != WAITING or task.name not in self.account:  # what was seen of it is worth more
            self.account[task.name] = entry
        content = (json.dumps(self.account, indent=1, sort_keys=True) + "\n").encode()
        ours.write(self.out / ACCOUNT, content, self.out)
        if not self.scale:
            ours.write(self.root / ACCOUNT, content, self.root)
        self.say(f"{task.name}: {state}{f' after {span(seconds)}' if seconds else ''}")
        for line in why.splitlines():
            self.say(f"    {line}")

    def state(self, task: Task) -> str:
        said = self.account.get(task.name, {}).get("state", WAITING)
        return DONE if self.is_done(task) else WAITING if said == DONE else said

    def told(self, tasks: list[Task]) -> str:
        """Return the account for a reader."""
        counts = {}
        for task in tasks:
            counts.setdefault(self.state(task), []).append(task.name)
        return "\n".join(f"{len(names)} {state}: {', '.join(names)}" for state, names in counts.items())

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


def _card(scale: str | None) -> str:
    """Name the GPU, asking torch in a process of its own; raise UsageError, before any time is spent, if it cannot."""
    done = subprocess.run([sys.executable, "-c", CARD], capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1]
        raise UsageError(
            f"not all is here that posts need: {why} (WHEELS=folder brings packages to where no network is)"
        )
    name = done.stdout.strip().rpartition("\n")[2]
    if not name and not scale:
        raise UsageError("there is no GPU here; LIB_GPU_SCALE=1000 rehearses on the CPU what a GPU would do")
    return f"a rehearsal on {name or 'the CPU'}, sizes divided by {scale}" if scale else name


def _fits(task: Task, pattern: str) -> bool:
    """Say whether a pattern is a task's number, its name, or one with wildcards; `matmul` is bench/matmul, too."""
    short = task.name.removeprefix("bench/")
    return short.partition("-")[0] == pattern or any(fnmatch.fnmatchcase(name, pattern) for name in (task.name, short))


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:])

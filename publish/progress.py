"""What the runner shows while it works: a few live lines in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

BAR = 16
HEARTBEAT = 60.0  # seconds between plain lines while nothing else is said


@dataclass
class Task:
    """A post being executed or waiting: its cells, and how long it took last time (seconds, if known)."""

    name: str
    cells: int
    expected: float | None = None
    done: int = 0
    line: str = ""
    started: float | None = None
    ended: bool = False

    def left(self, now: float) -> float | None:
        """Estimate the seconds left: from earlier runs, else from the share of cells done; None when unknown."""
        if self.ended:
            return 0.0
        if self.started is None:
            return self.expected
        elapsed = now - self.started
        if self.expected is not None:
            return max(self.expected - elapsed, 0.0)
        return elapsed * (self.cells - self.done) / self.done if self.done else None


class Progress:
    """Live display over all posts; `width` and `clock` can be given for tests."""

    def __init__(
        self,
        stream: TextIO,
        tasks: list[Task],
        jobs: int = 1,
        *,
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream, self.tasks, self.jobs, self.clock = stream, {task.name: task for task in tasks}, jobs, clock
        self.live = stream.isatty()
        self.width = width
        self.begun = self.spoke = clock()
        self.shown = 0

    def start(self, name: str) -> None:
        """A post starts."""
        task = self.tasks[name]
        task.started = self.clock()
        if not self.live:
            self._say(f"{name}: started, {task.cells} cells")

    def cell(self, name: str, done: int, line: str) -> None:
        """`done` cells of a post are behind it; `line` is the first line of the one that runs now."""
        self.tasks[name].done, self.tasks[name].line = done, line
        self.tick()

    def end(self, name: str, verdict: str) -> None:
        """A post has ended; `verdict` stays on the screen."""
        self.tasks[name].ended = True
        self._clear()
        self._say(f"{name}: {verdict}")
        self.tick()

    def tick(self) -> None:
        """Draw again."""
        if self.live:
            self._clear()
            lines = [self._total(), *(self._running(task) for task in self._active())]
            width = self.width or shutil.get_terminal_size().columns
            self.stream.write("".join(f"{line[: width - 1]}\n" for line in lines))
            self.stream.flush()
            self.shown = len(lines)
        elif self.clock() - self.spoke > HEARTBEAT:
            self._say(self._total())
            for task in self._active():
                self._say(self._running(task))

    def close(self) -> None:
        """Take the live lines away."""
        self._clear()
        self.stream.flush()

    def _active(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.started is not None and not task.ended]

    def _clear(self) -> None:
        if self.shown:
            self.stream.write(f"\x1b[{self.shown}A\x1b[J")
            self.shown = 0

    def _say(self, line: str) -> None:
        self.spoke = self.clock()
        self.stream.write(line + "\n")
        self.stream.flush()

    def _total(self) -> str:
        tasks, now = self.tasks.values(), self.clock()
        ended = sum(task.ended for task in tasks)
        cells = sum(task.cells if task.ended else task.done for task in tasks)
        known = [left for task in tasks if (left := task.left(now)) is not None]
        sure = "about" if len(known) == len(tasks) else "more than"
        # With several jobs the longest post alone may decide.
        left = max(sum(known) / self.jobs, max(known, default=0.0))
        left_text = f"{sure} {span(left)} left" if known and left >= 1 else "time left not known yet"
        if ended == len(tasks) or (left < 1 and len(known) == len(tasks)):
            left_text = "almost done"
        return (
            f"{ended} of {len(tasks)} posts · {cells} of {sum(task.cells for task in tasks)} cells"
            f" · {span(now - self.begun)} · {left_text}"
        )

    def _running(self, task: Task) -> str:
        now = self.clock()
        full = round(BAR * task.done / max(task.cells, 1))
        left = task.left(now)
        name = task.name.ljust(max(map(len, self.tasks)))
        left_text = f" · {span(left)} left" if left is not None and left >= 1 else ""
        return (
            f"  {name} {'━' * full}{'╌' * (BAR - full)} {task.done}/{task.cells} cells"
            f" · {span(now - task.started)}{left_text} · {task.line or 'starting'}"
        )


def span(seconds: float) -> str:
    """Write seconds as 7 s, 1:05 or 2:03:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"

"""Progress of a fit: a live line in a terminal or a notebook, and in the end one table (and one plot)."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from lib.learner.callback import Callback, LearnerState
from lib.learner.callbacks.accelerate import first_process
from lib.learner.callbacks.recorder import Recorder

BAR = 20


class Progress(Callback):
    """Show how far a fit is, at most every `interval` seconds; leave a table with a row for each epoch.

    With `plot`, and a `Recorder` given, a notebook shows its plot below the table. An interrupted or failed fit leaves
    the rows that it had. In a terminal the line is drawn on standard error and wiped. Of several processes the first
    one prints.
    """

    order = 90
    whole_fit = True

    def __init__(self, interval: float = 0.5, plot: Recorder | None = None) -> None:
        if interval < 0:
            raise ValueError(f"interval must not be negative, got {interval} s")
        self.interval, self.recorder = interval, plot
        self._screen: _Notebook | _Terminal | None = None

    def before_fit(self, learn: LearnerState) -> None:
        self.rows: list[dict[str, float]] = []
        self._fit_started = self._shown = time.perf_counter()
        self._resumed_at: float | None = None
        if first_process():
            self._screen = _Notebook() if _in_notebook() else _Terminal(sys.stderr)

    def before_epoch(self, learn: LearnerState) -> None:
        self._started = time.perf_counter()
        if self._resumed_at is None:  # once a checkpoint has said how much was done before
            self._resumed_at = learn.progress

    def after_batch(self, learn: LearnerState) -> None:
        now = time.perf_counter()
        if self._screen is not None and now - self._shown >= self.interval:
            self._shown = now
            self._screen.show(self.rows, self._line(learn, now - self._fit_started, self._resumed_at))

    def after_epoch(self, learn: LearnerState) -> None:
        if self._screen is None:
            return
        self.rows.append({"epoch": learn.epoch, **learn.log, "seconds": time.perf_counter() - self._started})
        self._screen.row(self.rows)

    def cleanup_fit(self, learn: LearnerState) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.close(self.rows)
            if self.recorder is not None and self.recorder.losses and isinstance(screen, _Notebook):
                screen.plot(self.recorder)

    def state_dict(self) -> dict:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = list(state["rows"])

    @staticmethod
    def _line(learn: LearnerState, seconds: float, resumed_at: float = 0.0) -> str:
        part = learn.progress
        done = int(part * BAR)
        left = f"{seconds * (1 - part) / (part - resumed_at):.0f} s left" if part > resumed_at else ""
        batch = f"{learn.stage} {learn.batch_index + 1}/{len(learn.loader)}"
        return f"epoch {learn.epoch + 1}/{learn.epochs} {'█' * done}{'░' * (BAR - done)} {batch} · {left}"


def table(rows: list[dict[str, float]]) -> str:
    """Return the rows as a Markdown table: names as headings, figures with the digits they deserve."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[name.replace("_", " ") for name in names], ["--:"] * len(names)]
    lines += [[_figure(name, row.get(name)) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value}" if isinstance(value, int) else f"{value:.1f}" if name == "seconds" else f"{value:.4f}"


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:  # a plain program, which is not made to load it
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class _Notebook:
    """One output that is replaced: the table so far, with the live line below until it is closed."""

    def __init__(self) -> None:
        from IPython import display

        self.display, self.markdown = display.display, display.Markdown
        self.handle = self.display(self.markdown(""), display_id=True)

    def show(self, rows: list[dict], line: str = "") -> None:
        self.handle.update(self.markdown("\n\n".join([table(rows)] * bool(rows) + [line] * bool(line))))

    row = close = show

    def plot(self, recorder: Recorder) -> None:
        from lib.plots.training import plot_fit

        self.display(plot_fit(recorder.losses, recorder.lrs, recorder.momenta, recorder.history))


class _Terminal:
    """A line that is wiped in a terminal, and a row of text for each epoch everywhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()

    def show(self, rows: list[dict], line: str) -> None:
        if self.live:
            print(f"\r\033[K{line}", end="", file=self.stream, flush=True)

    def row(self, rows: list[dict]) -> None:
        line = " · ".join(f"{name.replace('_', ' ')} {_figure(name, value)}" for name, value in rows[-1].items())
        self.close()
        print(line, file=self.stream, flush=True)

    def close(self, rows: list[dict] = ()) -> None:
        if self.live:
            print("\r\033[K", end="", file=self.stream, flush=True)

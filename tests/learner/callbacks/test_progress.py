"""Progress: a line that is wiped in a terminal, rows of text elsewhere, one table in a notebook."""

import io
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lib.learner import Accuracy, Callback, Checkpoint, Metrics, Progress, Recorder
from lib.learner.callbacks.progress import table
from tests.learner.problem import learner, raising

WIPE = "\r\033[K"
ROW = r"epoch {} · train loss \d\.\d{{4}} · train accuracy [01]\.\d{{4}} · valid loss \d\.\d{{4}} · .* · seconds \d\.\d"


class Stream(io.StringIO):
    def __init__(self, live):
        super().__init__()
        self.live = live

    def isatty(self):
        return self.live


def shown(monkeypatch, live, *callbacks, interval=0.0, epochs=2):
    monkeypatch.setattr(sys, "stderr", stream := Stream(live))
    learn = learner([Progress(interval), Metrics(accuracy=Accuracy()), *callbacks])
    try:
        learn.fit(epochs)
    except OSError as error:
        assert str(error) == "broken"  # noqa: PT017 - what was shown is looked at
    return stream.getvalue()


def screen(text):
    """Return the lines that a terminal shows in the end."""
    lines = [""]
    for part in re.split(r"(\r\033\[K|\n)", text):
        if part == WIPE:
            lines[-1] = ""
        elif part == "\n":
            lines.append("")
        else:
            lines[-1] += part
    return lines


def test_in_a_terminal_the_line_is_live_and_wiped(monkeypatch):
    text = shown(monkeypatch, True)
    first, second, last = screen(text)
    assert re.fullmatch(ROW.format(0), first)
    assert re.fullmatch(ROW.format(1), second)
    assert last == ""
    assert "epoch 1/2 █░░░░░░░░░░░░░░░░░░░ train 1/7 · " in text
    assert "epoch 1/2 ██████████░░░░░░░░░░ valid 1/2 · " in text
    assert "epoch 2/2 ████████████████████ train 7/7 · 0 s left" in text
    assert text.count("/7 ·") == 14


def test_the_line_is_drawn_no_more_often_than_asked(monkeypatch):
    text = shown(monkeypatch, True, interval=1e6)
    assert "█" not in text
    assert len(screen(text)) == 3


def test_elsewhere_there_are_rows_only(monkeypatch):
    text = shown(monkeypatch, False)
    assert "\r" not in text
    assert [bool(re.fullmatch(ROW.format(i), line)) for i, line in enumerate(text.splitlines())] == [True, True]


@pytest.mark.parametrize("event", ["after_step", "before_valid", "after_epoch", "cleanup_batch"])
def test_an_error_leaves_no_line(monkeypatch, event):
    text = shown(monkeypatch, True, raising(event, OSError("broken"), order=-99))
    assert screen(text) == [""]


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match=r"interval.*-1"):
        Progress(-1)


def test_the_table_is_markdown():
    rows = [{"epoch": 0, "train_loss": 1.23456, "seconds": 2.55}, {"epoch": 1, "valid_loss": 0.5, "seconds": 61.0}]
    assert table(rows).splitlines() == [
        "| epoch | train loss | seconds | valid loss |",
        "| --: | --: | --: | --: |",
        "| 0 | 1.2346 | 2.5 |  |",
        "| 1 |  | 61.0 | 0.5000 |",
    ]


CODE = """\
from lib import plots
from lib.learner import Accuracy, Callback, Metrics, Progress, Recorder
from tests.learner.problem import learner, raising
plots.use_style()
recorder = Recorder()
"""
FIT = """\
learner([recorder, Progress(0, plot=recorder), Metrics(accuracy=Accuracy())]).fit(2);"""
PLAIN = "learner([Progress(0)]).fit(1);"
FAILING = """\
class Later(Callback):
    def after_step(self, learn):
        if learn.epoch == 1:
            raise OSError("broken")
learner([Progress(0), Later()]).fit(2);"""


@pytest.mark.slow
def test_a_notebook_keeps_one_table_and_one_plot(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    cells = [nbformat.v4.new_code_cell(code) for code in (CODE, FIT, PLAIN, FAILING)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.raises(CellExecutionError, match=r"broken(.|\n)*in Later.after_step, epoch 1, train batch 0"):
        NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    first, both, plain, failed = (cell.outputs for cell in notebook.cells)
    assert first == []
    text, plot = both
    lines = text.data["text/markdown"].splitlines()
    assert lines[0] == "| epoch | train loss | train accuracy | valid loss | valid accuracy | seconds |"
    assert [line[:5] for line in lines[2:]] == ["| 0 |", "| 1 |"]
    assert {"image/png", "image/svg+xml"} & plot.data.keys()
    (text,) = plain
    assert text.data["text/markdown"].count("\n") == 2
    text, error = failed
    lines = text.data["text/markdown"].splitlines()
    assert len(lines) == 3  # the epoch that was finished, and no live line
    assert lines[2].startswith("| 0 |")
    assert error.output_type == "error"


def test_a_recorder_is_not_drawn_in_a_terminal(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr("lib.plots.training.plot_fit", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(sys, "stderr", stream := Stream(False))
    learner([recorder, Progress(plot=recorder)]).fit(1)
    assert len(stream.getvalue().splitlines()) == 1


def test_time_left_counts_what_was_done_since_a_resume(monkeypatch, tmp_path):
    """Three of four epochs are done before; the one that is left takes a second for each of its seven batches."""
    path, now = tmp_path / "fit.pt", [0.0]
    with pytest.raises(OSError, match="broken"):
        learner([Progress(0), Checkpoint(path), LateFault()]).fit(4)
    monkeypatch.setattr(sys, "stderr", stream := Stream(True))
    monkeypatch.setattr("lib.learner.callbacks.progress.time.perf_counter", lambda: now[0])

    class Second(Callback):
        def after_step(self, learn):
            now[0] += 1

    learner([Progress(0), Checkpoint(path), Second()]).fit(4)
    assert re.findall(r"train (\d)/7 · (\d+) s left", stream.getvalue()) == [(str(i), str(7 - i)) for i in range(1, 8)]


class LateFault(Callback):
    """Raises in the fourth epoch."""

    def before_batch(self, learn):
        if learn.epoch == 3:
            raise OSError("broken")

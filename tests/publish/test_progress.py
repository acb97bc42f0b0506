"""The live display, on a terminal that is made up."""

import io
import re

import pytest

from publish.progress import Progress, Task, span


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Return the lines that a terminal would show."""
        lines = [""]
        for token in re.findall(r"\x1b\[\d*[AJ]|\n|[^\x1b\n]+", self.getvalue()):
            if token.endswith("A"):
                del lines[len(lines) - 1 - int(token[2:-1]) :]
                lines.append("")
            elif token == "\n":
                lines.append("")
            elif not token.startswith("\x1b"):
                lines[-1] += token
        return lines[:-1]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (3661, "1:01:01")])
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_live_lines_replace_each_other_and_verdicts_stay() -> None:
    now = [0.0]
    terminal = Terminal()
    tasks = [Task("01-one", 10, expected=20.0), Task("02-two-longer", 30, expected=40.0)]
    progress = Progress(terminal, tasks, width=70, clock=lambda: now[0])
    progress.start("01-one")
    now[0] = 5.0
    progress.cell("01-one", 4, "x = 1  # a long line " + "that goes on " * 10)
    total, line = terminal.screen()
    assert total == "0 of 2 posts · 4 of 40 cells · 5 s · about 55 s left"
    assert line.startswith("  01-one        ━━━━━━╌╌╌╌╌╌╌╌╌╌ 4/10 cells · 5 s · 15 s left · x = 1")
    assert len(line) == 69
    now[0] = 21.0
    progress.end("01-one", "ok")
    assert terminal.screen() == ["01-one: ok", "1 of 2 posts · 10 of 40 cells · 21 s · about 40 s left"]
    progress.start("02-two-longer")
    progress.tick()
    assert terminal.screen()[-1] == "  02-two-longer ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 0/30 cells · 0 s · 40 s left · start"
    progress.end("02-two-longer", "FAILED")
    progress.close()
    assert terminal.screen() == ["01-one: ok", "02-two-longer: FAILED"]


def test_time_left_without_earlier_runs() -> None:
    now = [0.0]
    terminal = Terminal()
    progress = Progress(terminal, [Task("01-one", 10), Task("02-two", 10)], jobs=2, width=200, clock=lambda: now[0])
    progress.start("01-one")
    progress.tick()
    assert terminal.screen()[0].endswith("time left not known yet")
    now[0] = 30.0
    progress.cell("01-one", 5, "x")
    assert terminal.screen()[0].endswith("more than 30 s left")
    progress.start("02-two")
    now[0] = 40.0
    progress.cell("02-two", 2, "x")
    assert terminal.screen()[0].endswith("about 40 s left")


def test_plain_lines_and_a_sign_of_life() -> None:
    now = [0.0]
    stream = io.StringIO()
    progress = Progress(stream, [Task("01-one", 3)], clock=lambda: now[0])
    progress.start("01-one")
    progress.cell("01-one", 1, "x = 1")
    assert stream.getvalue() == "01-one: started, 3 cells\n"
    now[0] = 61.0
    progress.tick()
    progress.end("01-one", "ok")
    assert "1/3 cells" in stream.getvalue()
    assert stream.getvalue().endswith("01-one: ok\n")

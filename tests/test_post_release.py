"""Memory after a failure in a notebook: what a traceback and the output history hold comes free."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from lib import post

ROOT = Path(__file__).parents[1]
SESSION = """
import gc, weakref
from IPython.core.interactiveshell import InteractiveShell
from lib import post

shell = InteractiveShell.instance()
cells = ["import torch, weakref", "shown = weakref.ref(torch.zeros(250_000)); torch.zeros(250_000)", '''
def fail():
    local = torch.zeros(500_000)
    global kept
    kept = weakref.ref(local)
    try:
        raise KeyError("first")
    except KeyError:
        raise ValueError("second")
fail()
''', "torch.ones(3)"]
for cell in cells:
    shell.run_cell(cell, store_history=True)
held = weakref.ref(shell.user_ns["_oh"][2])
assert held() is not None and shell.user_ns["kept"]() is not None
print("FREED", post.release(), held(), shell.user_ns["kept"](), len(shell.user_ns["Out"]), repr(shell.user_ns["_"]))
shell.run_cell("1 + 1", store_history=True)
print("AFTER", shell.user_ns["_"], shell.user_ns["Out"])
"""


def test_a_session_lets_go_of_its_error_and_its_outputs() -> None:
    done = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, cwd=ROOT, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    freed = next(line for line in lines if line[:1] == ["FREED"])
    assert int(freed[1]) >= 4 * 750_000
    assert freed[2:] == ["None", "None", "0", "''"]
    assert ["AFTER", "2", "{5:", "2}"] in lines


def test_what_the_cell_before_has_shown_comes_free() -> None:
    cells = ["import torch; from lib import post", "torch.ones(1_000_000)[:3]", "print('FREED', post.release())"]
    script = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell.instance()\n"
    script += "\n".join(f"shell.run_cell({cell!r}, store_history=True)" for cell in cells)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "FREED 4000000" in done.stdout


@pytest.mark.parametrize("chained", [False, True])
def test_the_frames_of_the_last_error_are_cleared(chained: bool) -> None:
    kept = []

    def fail() -> None:
        local = torch.zeros(1000)
        kept.append(weakref.ref(local))
        raise ValueError("no")

    try:
        try:
            fail()
        except ValueError as error:
            if chained:
                raise KeyError("after") from error
            raise
    except (KeyError, ValueError) as error:
        for name, value in zip(post.LAST_ERROR, (error, error, type(error), error.__traceback__), strict=True):
            setattr(sys, name, value)
    del value
    assert kept[0]() is not None
    assert post.release() >= 4000
    assert kept[0]() is None
    assert not [name for name in post.LAST_ERROR if hasattr(sys, name)]


def test_with_nothing_to_let_go_of_nothing_happens() -> None:
    mine = torch.zeros(1000)
    post.release()
    assert post.release() == 0
    assert mine.sum() == 0

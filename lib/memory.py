"""Let go of what a notebook holds after a failure."""

from __future__ import annotations

import gc
import sys
import traceback

import torch
from IPython import get_ipython

ERRORS = ("last_exc", "last_value", "last_type", "last_traceback")
SHOWN = ("_", "__", "___")


def release() -> int:
    """Drop the last error with the frames in its traceback, and the output history; return the bytes that came free.

    After an error Python keeps every frame of the traceback for a debugger, and so each tensor in a local variable;
    IPython keeps each value that a cell showed in `Out`, `_`, `__` and `_1`, `_2`, ... Both are let go of; on a GPU
    cached blocks are handed back, and the bytes are the GPU's. Without a GPU the bytes are those of torch's tensors.
    """
    before = _in_use()
    for name in ERRORS:
        error = vars(sys).pop(name, None)
        while isinstance(error, BaseException):
            traceback.clear_frames(error.__traceback__)
            error.__traceback__, error = None, error.__cause__ or error.__context__
        del error
    _forget_history(get_ipython())
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return max(0, before - _in_use())


def _forget_history(shell: object | None) -> None:
    if shell is None:
        return
    shown = shell.user_ns.get("_oh", {})
    for names in (shell.user_ns, shell.user_ns_hidden):
        for number in shown:
            names.pop(f"_{number}", None)
        names |= dict.fromkeys(SHOWN, "")  # what a fresh session has there
    shown.clear()
    for name in SHOWN:
        setattr(shell.displayhook, name, "")
    if shell.last_execution_result is not None:  # that of the cell before this one
        shell.last_execution_result.result = None
    shell.InteractiveTB.tb = shell.InteractiveTB.etype = shell.InteractiveTB.value = None


def _in_use() -> int:
    """Return the bytes that tensors hold on the GPU, or without one, those of the CPU tensors that are reachable."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, torch.nn.Parameter) and item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())

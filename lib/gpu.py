"""The GPU; and its rehearsal, in which every branch that is meant for one runs, sizes divided, also on a CPU.

`LIB_GPU_SCALE=100` asks for a rehearsal: no line then runs for the first time on a GPU that is rented by the minute. A
rehearsal on a CPU runs CUDA kernels in numba's simulator. What it measures means nothing, and is never published.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

SCALE = "LIB_GPU_SCALE"


def scale() -> int | None:
    """Return by how much sizes are divided; None where nothing is rehearsed. Raises ValueError for no whole number."""
    text = os.environ.get(SCALE, "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"{SCALE} must be a whole number from 1 on, by which sizes are divided, got {text!r}")
    return int(text) if text else None


def device() -> torch.device:
    """Return the current CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def present() -> bool:
    """Say whether the branches for a GPU run: there is one, or one is rehearsed."""
    return torch.cuda.is_available() or scale() is not None


def synchronize() -> None:
    """Wait until the GPU has done what was asked of it; without one there is nothing to wait for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def name() -> str:
    """Return the name of the GPU, or that it is rehearsed."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a rehearsed GPU"


def peak_memory(run: Callable[[], object]) -> int:
    """Return the most bytes that torch had allocated on the GPU during a second call of `run`; in a rehearsal 1."""
    run()  # what is kept between calls is there before the count
    if not torch.cuda.is_available():
        return 1
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def simulate() -> None:
    """Have numba run CUDA kernels in its simulator where there is no GPU; counts only before numba is imported."""
    if not torch.cuda.is_available():
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def scaled(size: Any, smallest: Any = 1) -> Any:
    """Divide a size by the scale of a rehearsal, not below `smallest`; without one return it as it is.

    Whole numbers are sizes, and so are sequences of them, if `smallest` is as long. All else stays as it is: a list of
    step counts or depths, a fraction, a name.
    """
    by = scale()
    if by is None:
        return size
    if _whole(size) and _whole(smallest):
        return min(size, max(smallest, size // by))
    sequences = isinstance(size, list | tuple) and isinstance(smallest, Sequence) and len(size) == len(smallest)
    return type(size)(map(scaled, size, smallest)) if sequences else size


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

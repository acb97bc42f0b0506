"""The rows of a table shared out among threads, for numba kernels that let go of the interpreter's lock.

numba's own `parallel=True` is as fast for many rows, and takes two or three times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch

PART = 512  # short rows for which a thread is worth waking


class Threads:
    """As many threads as torch takes; they end with this object."""

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.count)

    def over_rows(self, kernel: Callable[..., None], n: int, *arguments: Any, part: int = PART) -> None:
        """Call kernel(first, last, *arguments) for parts of n rows, four a thread as some take longer than others."""
        edges = np.linspace(0, n, 1 + min(4 * self.count, -(-n // part))).astype(np.int64).tolist()
        if len(edges) == 2 or self.count == 1:
            kernel(0, n, *arguments)
        else:
            list(self.pool.map(lambda edge: kernel(*edge, *arguments), pairwise(edges)))

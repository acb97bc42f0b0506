"""What a CUDA kernel makes of its GPU: the card's limits, its occupancy, and what Nsight Compute counts."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# float32 multiply-adds that a multiprocessor begins in a cycle, by compute capability (CUDA C++ Programming Guide,
# "Arithmetic Instructions").
LANES = {(7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128, (10, 0): 128, (12, 0): 128}
METRICS = {
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("busy", "%"),
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": ("memory-busy", "%"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("occupancy-achieved", "%"),
    "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_ld.ratio": ("sectors-per-load", "sectors"),
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Card:
    """What a GPU can do at most: float32 operations a second, bytes a second from its memory; and of what that is."""

    peak: float
    bandwidth: float
    about: str


def card() -> Card:
    """Return the limits of the current GPU, from its clocks and widths; those of no real one in a rehearsal.

    Raises ValueError for an architecture whose multiply-adds a cycle are not listed here.
    """
    if not torch.cuda.is_available():
        return Card(1e12, 1e11, "a rehearsed GPU")
    about = torch.cuda.get_device_properties()
    capability = (about.major, about.minor)
    if capability not in LANES:
        raise ValueError(f"compute capability {about.major}.{about.minor} is not in bench.profile.LANES: add it")
    peak = 2 * LANES[capability] * about.multi_processor_count * about.clock_rate * 1e3  # clocks are in kHz
    bandwidth = 2 * about.memory_clock_rate * 1e3 * about.memory_bus_width / 8  # twice a cycle
    return Card(peak, bandwidth, f"{about.name}: {peak / 1e12:.1f} TFLOP/s, {bandwidth / 1e9:,.0f} GB/s")


def occupancy(kernel: Any, threads: int) -> tuple[float, int]:
    """Return the warps that fit a multiprocessor at once, in per cent of the most, and the registers of a thread.

    `kernel` is one of numba's that has been launched, in blocks of `threads`; the driver says how many blocks fit.
    """
    compiled = next(iter(kernel.overloads.values()))
    about = torch.cuda.get_device_properties()
    blocks = compiled.max_cooperative_grid_blocks(threads) / about.multi_processor_count
    return 100 * blocks * threads / about.max_threads_per_multi_processor, compiled.regs_per_thread


def counted(name: str, command: Sequence[str], say: Say) -> dict[str, tuple[float, str]]:
    """Return what Nsight Compute counts of a kernel that a command launches; nothing where it cannot, said why.

    `name` is what the kernel's name begins with, before `_kernel`; each metric has a value and a unit.
    """
    profiler = shutil.which("ncu")
    if profiler is None:
        say(f"left out: the transactions of {name}, for which Nsight Compute (ncu) is needed")
        return {}
    options = ["--csv", "--metrics", ",".join(METRICS)]
    options += ["--kernel-name-base", "mangled", "--kernel-name", f"regex:{name}_kernel", "--launch-count", "1"]
    done = subprocess.run([profiler, *options, *command], capture_output=True, text=True)
    found = parsed(done.stdout)
    if not found:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("==ERROR==")]
        say(f"left out: the transactions of {name}: {(lines or ['ncu counted no launch'])[0]}")
    return found


def parsed(output: str) -> dict[str, tuple[float, str]]:
    """Return the metrics in what `ncu --csv` prints, among lines of other kinds."""
    lines = [line for line in output.splitlines() if line.startswith('"')]
    rows = csv.DictReader(io.StringIO("\n".join(lines)))
    return {
        METRICS[row["Metric Name"]][0]: (float(row["Metric Value"].replace(",", "")), METRICS[row["Metric Name"]][1])
        for row in rows
        if row.get("Metric Name") in METRICS
    }

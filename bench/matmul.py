"""The matrix products of `lib.kernels` against torch, which calls BLAS on the CPU and cuBLAS on a GPU.

`python -m bench.matmul tiled` launches one kernel, for the profiler to look at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from bench import profile
from lib import gpu
from lib.kernels import cpu, cuda, naive
from lib.measure import Record, compare

SEED = 0
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """One product on one shape [m, k, n]; `pairs` is what fits into the time."""

    name: str
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    shape: tuple[int, int, int]
    pairs: int = 25
    target: str | None = None


SQUARE, BATCH, IMAGES, LARGE = (1024,) * 3, (5, 784, 10), (50_000, 784, 10), (4096,) * 3
CASES = (
    Case("cpu-tiled/1024", cpu.numba_tiled, SQUARE, 41, target="<= 2.2"),
    Case("torch-against-torch/1024", naive.matmul, SQUARE, 41),
    Case("numba-parallel/1024", cpu.numba_parallel, SQUARE),
    Case("numba-plain/1024", cpu.numba_plain, SQUARE),
    Case("numba-ijk/1024", cpu.numba_ijk, SQUARE, 5),
    Case("python/5x784x10", naive.loops, BATCH, 9),
    Case("dot/5x784x10", naive.dot, BATCH),
    Case("broadcast/5x784x10", naive.broadcast, BATCH),
    Case("einsum/5x784x10", naive.einsum, BATCH),
    Case("cpu-tiled/5x784x10", cpu.numba_tiled, BATCH),
    Case("dot/50000x784x10", naive.dot, IMAGES, 3),
    Case("broadcast/50000x784x10", naive.broadcast, IMAGES, 9),
    Case("einsum/50000x784x10", naive.einsum, IMAGES),
    Case("numba-plain/50000x784x10", cpu.numba_plain, IMAGES),
    Case("cpu-tiled/50000x784x10", cpu.numba_tiled, IMAGES),
)
# First whether the best kernel reaches the library's, and how much of that is noise; then the steps on the way there.
GPU_CASES = (
    Case("cuda-tiled/4096", cuda.cuda_tiled, LARGE, 41, target="<= 1.18"),
    Case("cublas-against-cublas/4096", naive.matmul, LARGE, 41),
    Case("cuda-shared/4096", cuda.cuda_shared, LARGE),
    Case("cuda-plain/4096", cuda.cuda_plain, LARGE),
    Case("cuda-tiled/50000x784x10", cuda.cuda_tiled, IMAGES),
    Case("cuda-plain/50000x784x10", cuda.cuda_plain, IMAGES),
)
KERNELS = {  # and the threads of a block
    "tiled": (cuda.cuda_tiled, cuda.tiled_kernel, cuda.THREADS),
    "shared": (cuda.cuda_shared, cuda.shared_kernel(torch.float32), cuda.TILE**2),
    "plain": (cuda.cuda_plain, cuda.plain_kernel, cuda.TILE**2),
}


def records(say: Callable[[str], None], cases: tuple[Case, ...] = CASES) -> Iterator[Record]:
    """Measure case after case on the CPU; `say` tells which is measured, and what is left out and why."""
    say("left out: matmul/python/50000x784x10, three Python loops of 392 million steps, which would take an hour")
    for case in cases:
        say(f"measuring matmul/{case.name}, {case.pairs} pairs")
        yield measure(case)


def gpu_records(say: Callable[[str], None], cases: tuple[Case, ...] = GPU_CASES) -> Iterator[Record]:
    """Measure case after case on the GPU, then what each kernel makes of it."""
    ratios = {}
    for case in cases:
        pairs = gpu.scaled(case.pairs)
        say(f"measuring matmul/{case.name}, {pairs} pairs")
        ratios[case.name] = measure(replace(case, shape=gpu.scaled(case.shape, (2, 2, 2)), pairs=pairs), gpu.device())
        yield ratios[case.name]
    card = profile.card()
    for name in KERNELS:
        case = f"cuda-{name}/4096"
        yield from _shares(case, ratios[case].ours, card)
        yield from _inside(name, case, say)


def _shares(name: str, seconds: float, card: profile.Card) -> Iterator[Record]:
    m, k, n = gpu.scaled(LARGE, (2, 2, 2))
    work, bytes_moved = 2 * m * k * n / seconds, 4 * (m * k + k * n + m * n) / seconds
    note = f"of {card.about}"
    yield Record(f"matmul/{name}/peak", 100 * work / card.peak, "% of peak", seed=SEED, note=note)
    least = f"{note}; reading a and b and writing c once, the least that any product moves"
    yield Record(
        f"matmul/{name}/bandwidth", 100 * bytes_moved / card.bandwidth, "% of bandwidth", seed=SEED, note=least
    )


def _inside(name: str, case: str, say: Callable[[str], None]) -> Iterator[Record]:
    """Give the occupancy that the driver computes, and what the profiler counts."""
    if not cuda.SIMULATED:
        _, kernel, threads = KERNELS[name]
        share, registers = profile.occupancy(kernel, threads)
        note = f"warps that fit at once: blocks of {threads} threads, {registers} registers each, from the driver"
        yield Record(f"matmul/{case}/occupancy", share, "%", note=note)
    for metric, (value, unit) in profile.counted(name, [sys.executable, "-m", "bench.matmul", name], say).items():
        yield Record(f"matmul/{case}/{metric}", value, unit, note="counted by Nsight Compute over one launch")


def launch(name: str) -> None:
    """Multiply once on the GPU, for the profiler to look at; `name` is tiled, shared or plain."""
    KERNELS[name][0](*operands(gpu.scaled(LARGE, (2, 2, 2)), gpu.device()))
    gpu.synchronize()


def operands(shape: tuple[int, int, int], device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return random a [m, k] and b [k, n], float32."""
    m, k, n = shape
    generator = torch.Generator().manual_seed(SEED)
    a, b = (torch.randn(*size, generator=generator).to(device) for size in ((m, k), (k, n)))
    return a, b


def measure(case: Case, device: torch.device | None = None) -> Record:
    """Compare both answers with float64, then time ours and torch's in turn; with a `device`, against cuBLAS there."""
    a, b = operands(case.shape, device or "cpu")
    exact = a.double() @ b.double()
    errors = [((c - exact).abs().max() / exact.abs().max()).item() for c in (case.product(a, b), torch.matmul(a, b))]
    on_gpu = device is not None
    timing = compare(
        lambda: case.product(a, b),
        lambda: torch.matmul(a, b),
        pairs=case.pairs,
        warmup=2 if case.pairs >= 25 else 1,
        # On a GPU a queue of launches: what is measured is the GPU, not the way to it.
        shortest=0.1 if on_gpu and not gpu.scale() else 1e-3,
        sync=gpu.synchronize,
    )
    where = "one GPU, no TF32" if on_gpu else f"{torch.get_num_threads()} threads"
    return Record(
        f"matmul/{case.name}",
        timing.ratio,
        "time ratio",
        peer="cuBLAS" if on_gpu else "torch",
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=max(errors) <= TOLERANCE,
        target=case.target,
        n=timing.n,
        seed=SEED,
        note=f"float32, {where}; errors against float64 {errors[0]:.1e} and {errors[1]:.1e} of the largest value, "
        f"at most {TOLERANCE:.0e} asked",
    )


if __name__ == "__main__":
    launch(sys.argv[1])

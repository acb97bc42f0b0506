"""The matrix products of `lib.kernels` against torch, which calls BLAS on the CPU and cuBLAS on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

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
    device: str = "cpu"


SQUARE, BATCH, IMAGES, GPU = (1024,) * 3, (5, 784, 10), (50_000, 784, 10), (4096,) * 3
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
    Case("cuda-tiled/4096", cuda.cuda_tiled, GPU, 41, target="<= 1.18", device="cuda"),
    Case("cublas-against-cublas/4096", naive.matmul, GPU, 41, device="cuda"),
    Case("cuda-shared/4096", cuda.cuda_shared, GPU, device="cuda"),
    Case("cuda-plain/4096", cuda.cuda_plain, GPU, device="cuda"),
    Case("cuda-tiled/50000x784x10", cuda.cuda_tiled, IMAGES, device="cuda"),
)


def records(say: Callable[[str], None], cases: tuple[Case, ...] = CASES) -> Iterator[Record]:
    """Measure case after case; `say` tells which is measured, and what is left out and why."""
    say("left out: matmul/python/50000x784x10, three Python loops of 392 million steps, which would take an hour")
    for case in cases:
        if case.device == "cuda" and not torch.cuda.is_available():
            say(f"left out: matmul/{case.name}, which needs a CUDA device")
            continue
        say(f"measuring matmul/{case.name}, {case.pairs} pairs")
        yield measure(case)


def measure(case: Case) -> Record:
    """Compare both answers with float64, then time ours and torch's in turn."""
    m, k, n = case.shape
    generator = torch.Generator().manual_seed(SEED)
    a, b = (torch.randn(*size, generator=generator).to(case.device) for size in ((m, k), (k, n)))
    exact = a.double() @ b.double()
    errors = [((c - exact).abs().max() / exact.abs().max()).item() for c in (case.product(a, b), torch.matmul(a, b))]
    on_gpu = case.device == "cuda"
    timing = compare(
        lambda: case.product(a, b),
        lambda: torch.matmul(a, b),
        pairs=case.pairs,
        warmup=2 if case.pairs >= 25 else 1,
        shortest=0.1 if on_gpu else 1e-3,  # a queue of launches: what is measured is the GPU, not the way to it
        sync=torch.cuda.synchronize if on_gpu else lambda: None,
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

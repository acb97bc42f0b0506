"""DDIM from the weights that ship, against the scheduler of diffusers with the same network: time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import diffusers
import torch
from torch import Tensor, nn

from lib import gpu
from lib.diffusion.draw import draw
from lib.diffusion.fashion import CLASSES, REGIMES, load
from lib.diffusion.samplers import make_generators, randn_like
from lib.measure import Record, compare

SEED, STEPS = 0, 50
SCHEDULE, PREDICTION = REGIMES["unet"].schedule, REGIMES["unet"].prediction
PEAK = """
import sys
from bench import diffusion
getattr(diffusion, sys.argv[1])(diffusion.load("unet"), 64)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def labels(count: int) -> Tensor:
    """Return `count` labels, each class in turn."""
    return torch.arange(count) % CLASSES


def ours(net: nn.Module, count: int, steps: int = STEPS) -> Tensor:
    """Return images [count, 1, 32, 32] drawn with the library."""
    return draw(net, SCHEDULE, PREDICTION, labels(count), steps=steps, seed=SEED)


def theirs(net: nn.Module, count: int, steps: int = STEPS) -> Tensor:
    """Return the same images, drawn with diffusers as its documentation has it."""
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=True,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(steps)
    device = next(net.parameters()).device
    given, start = labels(count).to(device), torch.empty(count, 1, 32, 32, device=device)
    x = randn_like(start, make_generators(SEED, count))
    with torch.no_grad():
        for t in scheduler.timesteps:
            predicted = net(x, t.float().expand(count), given)
            x = scheduler.step(predicted, t, x, use_clipped_model_output=True).prev_sample
    return x


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure time and memory of both sides, and how long 64 images in 25 steps take."""
    net = load("unet")
    say("measuring diffusion/ddim-50, 45 pairs, and ours against ours")
    yield time_ratio(net)
    say("measuring diffusion/ddim-50/memory")
    yield memory()
    say("measuring diffusion/64-in-25")
    yield seconds_an_image(net)


def gpu_records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure on the GPU how long 64 images in 25 steps take, then time and memory of both sides."""
    net, count = load("unet").to(gpu.device()), gpu.scaled(64, 2)
    steps, pairs = gpu.scaled(STEPS, 2), gpu.scaled(45)
    say("measuring diffusion/64-in-25 on the GPU")
    yield seconds_an_image(net, count, gpu.scaled(25, 2), where="/gpu")
    say(f"measuring diffusion/ddim-50 on the GPU, {pairs} pairs, and ours against ours")
    yield time_ratio(net, count, pairs, steps, where="/gpu")
    say("measuring diffusion/ddim-50/memory on the GPU")
    mine, other = (gpu.peak_memory(lambda side=side: side(net, count, steps)) / 2**20 for side in (ours, theirs))
    note = (
        f"peak of what torch allocates on the GPU while {count} images are drawn in {steps} steps, the U-Net included"
    )
    yield Record(
        "diffusion/ddim-50/memory/gpu",
        mine / other,
        "memory ratio",
        peer="diffusers",
        ours=mine,
        theirs=other,
        target="<= 1.03",
        seed=SEED,
        note=note,
    )


def time_ratio(net: nn.Module, count: int = 8, pairs: int = 45, steps: int = STEPS, where: str = "") -> Record:
    mine, other = partial(ours, net, count, steps), partial(theirs, net, count, steps)
    apart = (mine() - other()).abs().max().item()
    timing = compare(mine, other, pairs=pairs, warmup=1, sync=gpu.synchronize)
    noise = compare(mine, mine, pairs=pairs, warmup=1, sync=gpu.synchronize)
    return Record(
        f"diffusion/ddim-50{where}",
        timing.ratio,
        "time ratio",
        peer="diffusers",
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=apart < 1e-3,
        target="<= 1.03",
        n=timing.n,
        seed=SEED,
        note=f"{count} images in {steps} steps, the same U-Net and noise; the images differ by at most {apart:.0e} "
        f"(range -1 to 1); ours against ours in the same way {noise.ratio:.3f} ({noise.low:.3f} to {noise.high:.3f})",
    )


def memory(repeats: int = 3) -> Record:
    """Measure the peaks of processes of their own (Linux counts it in KiB), each with both libraries imported."""

    def peak(side: str) -> float:
        command = [sys.executable, "-c", PEAK, side]
        return statistics.median(int(subprocess.check_output(command, text=True)) for _ in range(repeats)) / 2**10

    mine, other = peak("ours"), peak("theirs")
    return Record(
        "diffusion/ddim-50/memory",
        mine / other,
        "memory ratio",
        peer="diffusers",
        ours=mine,
        theirs=other,
        target="<= 1.03",
        n=repeats,
        seed=SEED,
        note=f"peak of a process that draws 64 images in {STEPS} steps, both libraries imported in each",
    )


def seconds_an_image(net: nn.Module, count: int = 64, steps: int = 25, repeats: int = 3, where: str = "") -> Record:
    taken = []
    if where:  # the first call on a GPU picks its kernels
        ours(net, count, steps)
    for _ in range(repeats):
        gpu.synchronize()
        start = time.perf_counter()
        ours(net, count, steps)
        gpu.synchronize()
        taken.append(time.perf_counter() - start)
    return Record(
        f"diffusion/64-in-25{where}",
        statistics.median(taken),
        "s",
        low=min(taken),
        high=max(taken),
        target=None if where else "<= 20",
        n=repeats,
        seed=SEED,
        note=f"{count} images of 32 x 32 in {steps} steps of DDIM; median, shortest and longest",
    )

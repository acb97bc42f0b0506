"""Text to image with Pocket Stable Diffusion, against diffusers' pipeline with the same parts: time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from lib import data, gpu
from lib.diffusion import latent
from lib.diffusion.latent import POCKET_FOLDER, Parts
from lib.diffusion.samplers import make_generators
from lib.measure import Record, compare

SEED, STEPS, GUIDANCE = 0, 25, 7.5
PROMPTS = ("a red circle on a white background", "a small blue star left of a pink ring on a striped background")
PEAK = """
import sys
from bench import stable
parts = stable.Parts.load()
getattr(stable, sys.argv[1])(parts)()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def start(parts: Parts) -> Tensor:
    """Return the noise that both begin with."""
    return latent.prepare_latents(parts, make_generators(SEED, len(PROMPTS)))


def ours(parts: Parts) -> Callable[[], Tensor]:
    """Return what draws the prompts with the library: [n, 3, 64, 64] in [0, 1]."""
    x = start(parts)
    return lambda: latent.text_to_image(parts, PROMPTS, guidance=GUIDANCE, steps=gpu.scaled(STEPS, 2), latents=x)


def theirs(parts: Parts) -> Callable[[], Tensor]:
    """Return what draws the same with the pipeline of diffusers."""
    pipe, x = pipeline(parts), start(parts)
    asked = {"num_inference_steps": gpu.scaled(STEPS, 2), "guidance_scale": GUIDANCE, "output_type": "pt"}
    return lambda: pipe(list(PROMPTS), latents=x, **asked).images


def pipeline(parts: Parts) -> StableDiffusionPipeline:
    """Return the pipeline of diffusers, made of the same parts."""
    pipe = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=DDIMScheduler.from_pretrained(data.MANIFEST.parent / POCKET_FOLDER / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure time and memory of both sides."""
    parts = Parts.load()
    say("measuring stable/text-to-image-25, 45 pairs, and ours against ours")
    yield time_ratio(parts)
    say("measuring stable/text-to-image-25/memory")
    yield memory_ratio()


def gpu_records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure time and memory of both sides on the GPU."""
    parts, pairs = Parts.load(device=gpu.device()), gpu.scaled(45)
    say(f"measuring stable/text-to-image-25 on the GPU, {pairs} pairs, and ours against ours")
    yield time_ratio(parts, pairs, where="/gpu")
    say("measuring stable/text-to-image-25/memory on the GPU")
    mine, other = (gpu.peak_memory(side(parts)) / 2**20 for side in (ours, theirs))
    yield Record(
        "stable/text-to-image-25/memory/gpu",
        mine / other,
        "memory ratio",
        peer="diffusers",
        ours=mine,
        theirs=other,
        target="<= 1.03",
        seed=SEED,
        note=f"peak of what torch allocates on the GPU while {len(PROMPTS)} images are drawn, the parts included",
    )


def time_ratio(parts: Parts, pairs: int = 45, where: str = "") -> Record:
    """Time both in turn, and as the noise of the machine ours against ours."""
    mine, other = ours(parts), theirs(parts)
    apart = (mine() - other()).abs().max().item()
    timing = compare(mine, other, pairs=pairs, warmup=1, sync=gpu.synchronize)
    noise = compare(mine, mine, pairs=pairs, warmup=1, sync=gpu.synchronize)
    return Record(
        f"stable/text-to-image-25{where}",
        timing.ratio,
        "time ratio",
        peer="diffusers",
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=apart < 1e-4,
        target="<= 1.03",
        n=timing.n,
        seed=SEED,
        note=f"{len(PROMPTS)} images, DDIM, {STEPS} steps, guidance {GUIDANCE}, the same parts and noise; they "
        f"differ by at most {apart:.0e} of 1; ours against ours in the same way {noise.ratio:.3f} "
        f"({noise.low:.3f} to {noise.high:.3f})",
    )


def memory_ratio(repeats: int = 3) -> Record:
    """Measure the peaks of processes of their own (Linux counts it in KiB), each with both libraries imported."""

    def peak(side: str) -> float:
        command = [sys.executable, "-c", PEAK, side]
        return statistics.median(int(subprocess.check_output(command, text=True)) for _ in range(repeats)) / 2**10

    mine, other = peak("ours"), peak("theirs")
    return Record(
        "stable/text-to-image-25/memory",
        mine / other,
        "memory ratio",
        peer="diffusers",
        ours=mine,
        theirs=other,
        target="<= 1.03",
        n=repeats,
        seed=SEED,
        note=f"peak of a process that draws {len(PROMPTS)} images in {STEPS} steps, both libraries imported in each",
    )

"""Train Pocket Stable Diffusion: `python -m lib.diffusion.pocket train`; a run that was cut off goes on."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import torch

from lib import measure
from lib.diffusion.pocket import models
from lib.diffusion.pocket.train import Pool, Recipe, Say, train_clip, train_unet, train_vae

COMMAND = "python -m lib.diffusion.pocket train"
RUNS = Path(__file__).resolve().parents[3] / "_build" / "pocket"
STAGES = ("clip", "vae", "unet")
RECIPES = {
    "clip": Recipe(minutes=10, batch_size=256, rate=1e-3),
    "vae": Recipe(minutes=60, batch_size=32, rate=2e-3, ema=0.998),
    "unet": Recipe(minutes=120, batch_size=64, rate=1e-3, ema=0.999),
}


def run(stage: str, recipe: Recipe, *, scenes: int, seed: int, folder: Path, start: Path | None, say: Say) -> dict:
    """Train one part on `scenes` drawn pictures; return its loss on a thousand fresh ones."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    tokens = models.tokenizer()
    pool = Pool.drawn(scenes, tokens, seed, device)
    fresh = Pool.drawn(min(1024, scenes), tokens, seed + 1_000_000, device)
    say(f"{stage}: {scenes:,} scenes drawn, {recipe.minutes:g} minutes in batches of {recipe.batch_size}")
    if stage == "clip":
        return train_clip(pool, fresh, recipe, folder, say, tokenizer=tokens)
    if stage == "vae":
        return train_vae(pool, fresh, recipe, folder, say, start=start)
    return train_unet(pool, fresh, recipe, folder, say, tokenizer=tokens, start=start)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.diffusion.pocket", description=__doc__)
    parser.add_argument("action", choices=("train",))
    parser.add_argument("--stage", choices=STAGES, action="append", help="only this (more than once: only these)")
    parser.add_argument("--scenes", type=int, default=200_000 if torch.cuda.is_available() else 30_000)
    told = ", ".join(f"{stage} {recipe.minutes:g}" for stage, recipe in RECIPES.items())
    parser.add_argument("--minutes", type=float, help=f"how long a stage learns; default: {told}")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=RUNS, help="where checkpoints and trained parts are kept")
    given = parser.parse_args(arguments)
    say = partial(print, flush=True)
    for stage in given.stage or STAGES:
        recipe = RECIPES[stage]
        recipe = recipe._replace(
            minutes=given.minutes or recipe.minutes, batch_size=given.batch_size or recipe.batch_size
        )
        began = time.monotonic()
        found = run(stage, recipe, scenes=given.scenes, seed=given.seed, folder=given.folder, start=None, say=say)
        say(f"{stage}: {found}, {time.monotonic() - began:.0f} s on {measure.machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

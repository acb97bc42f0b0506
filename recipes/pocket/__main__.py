"""Train Pocket Stable Diffusion and export it: `python -m recipes.pocket`.

Three parts learn, one after the other. One that is trained is not trained again, and one that was cut off goes on after
its last whole pass; when all are there, the folder is written, each file with its entry in the manifest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import torch

from lib import measure
from lib.data import files
from lib.diffusion.latent.parts import POCKET_COMMAND, POCKET_FOLDER, WEIGHTS
from recipes.pocket import folder, models
from recipes.pocket.train import Pool, Recipe, Say, train_clip, train_unet, train_vae

RUNS = Path(__file__).resolve().parents[2] / "recipes" / "runs" / "pocket"
RECIPES = {
    "clip": Recipe(minutes=10, batch_size=256, lr=1e-3),
    "vae": Recipe(minutes=60, batch_size=32, lr=2e-3, ema=0.998),
    "unet": Recipe(minutes=120, batch_size=64, lr=1e-3, ema=0.999),
}


def drawn(scenes: int, seed: int, say: Say) -> tuple[Pool, Pool]:
    """Draw scenes to learn from and others to try what was learnt, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens = models.tokenizer()
    pool = Pool.drawn(scenes, tokens, seed, device)
    say(f"{scenes:,} scenes drawn")
    return pool, Pool.drawn(min(1024, scenes), tokens, seed + 1_000_000, device)


def stage(
    name: str, recipe: Recipe, pools: tuple[Pool, Pool], *, seed: int, place: Path, from_shipped: bool, say: Say
) -> None:
    """Train one part on drawn images; leave its weights in `place`, and beside them how they were made."""
    began = time.monotonic()
    torch.manual_seed(seed)
    (pool, fresh), tokens, scenes = pools, models.tokenizer(), len(pools[0].tokens)
    say(f"{name}: {recipe.minutes:g} minutes in batches of {recipe.batch_size}")
    shipped = None
    if from_shipped and name != "clip":
        shipped = files.shipped(f"{POCKET_FOLDER}/{name}/{WEIGHTS[name]}", files.MANIFEST)
    if name == "clip":
        results = train_clip(pool, fresh, recipe, place, say, tokenizer=tokens)
    elif name == "vae":
        results = train_vae(pool, fresh, recipe, place, say, start=shipped)
    else:
        results = train_unet(pool, fresh, recipe, place, say, tokenizer=tokens, start=shipped)
    metadata = {
        "made_by": f"{POCKET_COMMAND} --stage {name} --minutes {recipe.minutes:g} --batch-size {recipe.batch_size}"
        f" --scenes {scenes} --seed {seed}" + " --from-shipped" * from_shipped,
        "data": f"lib.scenes, {scenes} scenes, none of a held-out triple",
        **results,
        "machine": measure.machine(),
        "seconds": round(time.monotonic() - began),
    }
    files.replace(place / f"{name}.json", json.dumps(metadata).encode())
    say(f"{name}: {metadata}")


def main(arguments: list[str] | None = None, runs: Path = RUNS) -> int:
    """Run the command line, keep checkpoints and trained parts in `runs`, and return the exit status."""
    parser = argparse.ArgumentParser(prog=POCKET_COMMAND, description=__doc__)
    parser.add_argument("--stage", choices=RECIPES, action="append", help="only this, anew (may be given twice)")
    parser.add_argument("--scenes", type=int, default=150_000 if torch.cuda.is_available() else 30_000)
    defaults = ", ".join(f"{name} {recipe.minutes:g}" for name, recipe in RECIPES.items())
    parser.add_argument("--minutes", type=float, help=f"how long a stage learns; default: {defaults}")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-shipped", action="store_true", help="vae and unet begin with the weights that ship")
    given = parser.parse_args(arguments)
    say = partial(print, flush=True)
    missing = [name for name in RECIPES if not (runs / f"{name}.json").exists()]
    pools = drawn(given.scenes, given.seed, say) if given.stage or missing else None
    for name in given.stage or missing:
        recipe = RECIPES[name]
        recipe = recipe._replace(
            minutes=given.minutes or recipe.minutes, batch_size=given.batch_size or recipe.batch_size
        )
        stage(name, recipe, pools, seed=given.seed, place=runs, from_shipped=given.from_shipped, say=say)
    if all((runs / f"{name}.json").exists() for name in RECIPES):
        say(f"wrote {folder.export(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

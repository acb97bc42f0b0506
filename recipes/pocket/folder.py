"""The folder that ships: what `StableDiffusionPipeline.from_pretrained` loads, each file listed with its sha256."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from lib import scenes
from lib.data import files
from lib.diffusion.latent.parts import POCKET_COMMAND, POCKET_FOLDER
from recipes.pocket import models
from recipes.pocket.train import load_text_encoder

LARGEST = 12 * 2**20  # bytes, of all files together
STAGES = {"text_encoder": "clip", "vae": "vae", "unet": "unet"}  # which stage of the training makes a part
CARD = """---
library_name: diffusers
pipeline_tag: text-to-image
license: mit
---

# Pocket Stable Diffusion

The architecture of Stable Diffusion 1 in small, trained from scratch on drawn scenes of 64 x 64 pixels, so that
everything that is done with a Stable Diffusion runs on a laptop and can be scored.

- **It draws** one or two things on a background: {shapes}; in {colours}; on {backgrounds}. It knows
  *small* and *large*, as in `a red circle on a white background` or `a small blue star on a striped background`.
- **It reads but does not obey** *left of*, *right of*, *above* and *below*: they were in its captions, and where both
  things come right, they are placed as the words say about as often as by chance.
- **It cannot** draw anything else. Other words are spelled letter by letter and mean nothing to it; three things,
  counting and negations in words were never seen.
- A fifth of all triples of colour, shape and background was kept out of its training, as a test of what it composes.

How each part was trained stands in `data/manifest.json`; what it scores, on the results page of the site.
"""


def pipeline(trained: Path) -> StableDiffusionPipeline:
    """Put the parts that a training left in a folder together, in single precision."""
    tokens = models.tokenizer()
    text, vae, unet = models.text_encoder(tokens), models.vae(), models.unet()
    load_text_encoder(text, trained / "text_encoder.safetensors")
    vae.load_state_dict(load_file(trained / "vae.safetensors"))
    unet.load_state_dict(load_file(trained / "unet.safetensors"))
    with safe_open(trained / "unet.safetensors", "pt") as opened:
        vae.register_to_config(scaling_factor=float(opened.metadata()["scaling_factor"]))
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokens,
        unet=unet.eval(),
        scheduler=models.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def card() -> str:
    """Return the model card: what it can and cannot do."""
    return CARD.format(
        shapes=", ".join(scenes.SHAPES), colours=", ".join(scenes.COLOURS), backgrounds=", ".join(scenes.BACKGROUNDS)
    )


def export(trained: Path, *, manifest: Path = files.MANIFEST) -> Path:
    """Write the folder in half precision beside the manifest and list its files; ValueError if it is too big."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pipeline(trained).to(torch.float16).save_pretrained(folder, safe_serialization=True)
        _single_precision(folder / "text_encoder" / "config.json")
        (folder / "README.md").write_text(card())
        written = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
    total = sum(map(len, written.values()))
    if total > LARGEST:
        raise ValueError(f"the folder has {total / 2**20:.1f} MiB, at most {LARGEST / 2**20:.0f} may ship")
    contents = {
        f"{POCKET_FOLDER}/{name}": (raw, {**_metadata(trained, name), **files.OURS}) for name, raw in written.items()
    }
    files.export(contents, manifest=manifest, replacing=POCKET_FOLDER)
    return manifest.parent / POCKET_FOLDER


def _metadata(trained: Path, name: str) -> dict:
    if not name.endswith(".safetensors"):
        return {"made_by": POCKET_COMMAND}
    return json.loads((trained / f"{STAGES[name.split('/')[0]]}.json").read_text())


def _single_precision(config: Path) -> None:
    """Let transformers load the text encoder as diffusers does the others, in float32 unless another is asked for."""
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "dtype": "float32"}, indent=2) + "\n")

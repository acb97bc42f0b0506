"""A checkpoint's folder as `diffusers` keeps it: every file and every tensor is there, whole, and of its model.

What is not is an error that names part, file or tensor, and the remedy: the readers of `diffusers` and `transformers`
fill what is missing with random numbers, and only warn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

WEIGHTS = {
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
}
CONFIGS = {  # of each part that is needed
    "tokenizer": "tokenizer_config.json",
    **dict.fromkeys(WEIGHTS, "config.json"),
    "scheduler": "scheduler_config.json",
}
NAMED = 3  # of tensors that are wrong: all of them may be


def check_part(folder: Path, part: str, index: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """Check that a part is in the folder with all of its files, each of them whole; return its configuration."""
    place = folder / part
    if index.get(part) in (None, [None, None]) or not place.is_dir():
        raise ValueError(f"{source}: the part {part!r} is missing; fetch the whole checkpoint again")
    config = place / CONFIGS[part]
    if not config.is_file():
        raise ValueError(f"{source}: {part} has no {config.name}; fetch it again")
    if part == "tokenizer":
        _check_vocabulary(place, source)
    if part in WEIGHTS:
        _check_weights(place / WEIGHTS[part], source)
    return read_json(config, source)


def _check_vocabulary(place: Path, source: str | Path) -> None:
    """Check that a tokenizer has its words: `transformers` makes one without, to which all words are alike."""
    whole, vocabulary, merges = (place / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    if not whole.is_file() and not (vocabulary.is_file() and merges.is_file()):
        raise ValueError(
            f"{source}: {place.name} has no {whole.name}, nor {vocabulary.name} with {merges.name}; fetch it again"
        )
    for path in (whole, vocabulary):
        if path.is_file():
            read_json(path, source)


def _check_weights(weights: Path, source: str | Path) -> None:
    """Check that a file of weights is there and a whole safetensors."""
    part = weights.parent.name
    if not weights.is_file():
        pickled = sorted(path.name for path in weights.parent.iterdir() if path.suffix in (".bin", ".ckpt", ".pt"))
        pickles = f" ({', '.join(pickled)} may run code when read, and is not)" if pickled else ""
        variants = sorted(weights.parent.glob(f"{weights.stem}.*{weights.suffix}"))
        if variants:
            names = ", ".join(path.stem.removeprefix(f"{weights.stem}.") for path in variants)
            raise ValueError(
                f"{source}: {part} has no {weights.name}, only the variant {names}{pickles}; "
                f"rename {variants[0].name} to {weights.name}, or use a revision that has it"
            )
        raise ValueError(f"{source}: {part} has no {weights.name}{pickles}; use a revision with safetensors")
    try:
        with safe_open(weights, "pt") as opened:
            opened.keys()
    except SafetensorError as error:
        raise ValueError(f"{source}: {part}/{weights.name} is broken ({error}); fetch it again") from error


def read_json(path: Path, source: str | Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"an object was expected, got {type(found).__name__}")
    except ValueError as error:
        name = path.name if path.name == "model_index.json" else f"{path.parent.name}/{path.name}"
        raise ValueError(f"{source}: {name} is broken ({error}); fetch it again") from error
    return found


def load_model(
    kind: type[PreTrainedModel | ModelMixin], folder: Path, part: str, source: str | Path, **options: Any
) -> PreTrainedModel | ModelMixin:
    """Return a part with its weights.

    Raises ValueError for tensors that are missing, extra or of another shape than the configuration says.
    """
    options |= {"use_safetensors": True, "local_files_only": True}
    model, found = kind.from_pretrained(
        folder / part, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    wrong = [f"{key} is missing" for key in sorted(found["missing_keys"])]
    wrong += [f"{key} is {list(seen)}, expected {list(own)}" for key, seen, own in sorted(found["mismatched_keys"])]
    wrong += [f"{key} is not one of its own" for key in sorted(found["unexpected_keys"])]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(
            f"{source}: {part}/{WEIGHTS[part]}: {', '.join(wrong[:NAMED])}{more}; "
            f"fetch the weights and the {CONFIGS[part]} of {part} again, from one revision"
        )
    return model


def load_tokenizer(folder: Path, text: CLIPTextModel, source: str | Path) -> CLIPTokenizer:
    """Return the tokenizer; raises ValueError for one of another text encoder than `text`."""
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the reader in Rust raises no narrower one
        raise ValueError(f"{source}: the tokenizer is broken ({error}); fetch it again") from error
    ours = (len(tokenizer), tokenizer.model_max_length)
    theirs = (text.config.vocab_size, text.config.max_position_embeddings)
    if any(have > room for have, room in zip(ours, theirs, strict=True)):
        raise ValueError(
            f"{source}: the tokenizer has {ours[0]:,} tokens and prompts of {ours[1]:,}, the text_encoder takes "
            f"{theirs[0]:,} and {theirs[1]:,}; fetch both again, from one revision"
        )
    return tokenizer

"""Weights that ship with the repository: safetensors in data/, each with an entry of data/manifest.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lib.data import files


def export(
    name: str,
    model: nn.Module,
    metadata: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float16,
    manifest: Path = files.MANIFEST,
) -> Path:
    """Write a model's weights and buffers to `name` beside the manifest, floats as `dtype`, and list it there.

    `metadata` says how they were made: data, steps, seed, machine, seconds. Raises ValueError, before anything is
    written, for weights that `dtype` does not hold (see `cast`).
    """
    try:
        state = cast(model.state_dict(), dtype)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    files.export({name: (safetensors.torch.save(state), {**metadata, **files.OURS})}, manifest=manifest)
    return manifest.parent / name


def cast(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """Return tensors by name on the CPU, floats as `dtype`, as they ship.

    Raises ValueError for a tensor that does not survive it: one that has NaN or infinity then (float16 ends at 65,504),
    or that was not all zero and is. Rounding, also to 0 of what is small beside the rest of its tensor, is no fault.
    """
    found = {}
    for key, value in state.items():
        kept = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        if not bool(kept.isfinite().all()) or (bool(value.any()) and not bool(kept.any())):
            largest = value.detach().abs().max().item()
            raise ValueError(
                f"{key} does not survive {dtype}: the largest magnitude is {largest:.3g}; pass a wider dtype"
            )
        found[key] = kept
    return found


def load(name: str, model: nn.Module, command: str, *, manifest: Path = files.MANIFEST) -> dict[str, Any]:
    """Load the weights of a listed file into a model, once its sha256 is checked; return the file's metadata.

    Raises ValueError for a file that is not listed, missing, broken, or of another model; it names the file and the
    `command` that makes it.
    """
    try:
        state = safetensors.torch.load(files.shipped(name, manifest).read_bytes())
        _check_state(state, model)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"no weights from {name}: {error}\nTo make them: {command}") from error
    model.load_state_dict(state)  # which casts each to the dtype of the model's own
    return json.loads(manifest.read_text())["files"][name]


def _check_state(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Check names and shapes before any weight is touched."""
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: list(value.shape) for key, value in state.items()}
    wrong = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if wrong:
        raise ValueError(f"another model's: {wrong[0]} is {theirs.get(wrong[0])}, the model's {ours.get(wrong[0])}")

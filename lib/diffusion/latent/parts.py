"""The parts of a Stable Diffusion: tokenizer, text encoder, autoencoder, U-Net, and the schedule they were trained on.

`Parts.load` takes the small one that ships, a folder, or an identifier on the hub; what is missing, broken or of
another family is named, with what to do about it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import CLIPTextModel, CLIPTokenizer

from lib.data import files
from lib.diffusion.denoise import check_prediction
from lib.diffusion.latent.checkpoint import CONFIGS, WEIGHTS, check_part, load_model, load_tokenizer, read_json
from lib.diffusion.schedule import SPACINGS, Schedule

POCKET = "pocket"
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PINNED = {STABLE_DIFFUSION: "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"}  # the revision where none is named
POCKET_FOLDER, POCKET_COMMAND = "models/pocket", "python -m recipes.pocket"
KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
REFUSED = ("clip_sample", "thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
PREDICTIONS = {"epsilon": "noise", "v_prediction": "v", "sample": "x0"}


@dataclass
class Parts:
    """The parts of a text-to-image model, on one device and in one dtype.

    `prediction` is what the U-Net predicts ("noise", "v" or "x0"); `spacing` and `offset` are those of the timesteps.
    """

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    schedule: Schedule
    prediction: str = "noise"
    offset: int = 1
    name: str = ""
    spacing: str = "leading"

    @classmethod
    def load(
        cls,
        source: str | Path = POCKET,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        network: bool = True,
    ) -> Parts:
        """Load the parts from "pocket", a folder, or an identifier on the hub ("owner/name", with its `revision`).

        `STABLE_DIFFUSION` is the identifier of Stable Diffusion 1.5, whose revision is pinned.

        Only safetensors are read. Raises ValueError that names the part, the file or the tensor, and the remedy, for
        what is missing, broken, pickled or not of this model, another family than Stable Diffusion 1 and 2, half
        precision on a CPU, no network, a revision that is not there, or a full disk.
        """
        if dtype != torch.float32 and torch.device(device).type == "cpu":
            raise ValueError(f"{dtype} is for GPUs: on a CPU, many of its operations are missing or slow; use float32")
        folder = _folder(source, revision, network)
        index = _index(folder, source)
        configs = {part: check_part(folder, part, index, source) for part in CONFIGS}
        scheduler = configs["scheduler"]
        schedule, prediction = schedule_from_config(scheduler), _prediction(scheduler)
        check_prediction(schedule, prediction)
        text = load_model(CLIPTextModel, folder, "text_encoder", source, dtype=dtype)
        tokenizer = load_tokenizer(folder, text, source)
        vae = load_model(AutoencoderKL, folder, "vae", source, torch_dtype=dtype)
        unet = load_model(UNet2DConditionModel, folder, "unet", source, torch_dtype=dtype)
        return cls(
            tokenizer,
            *(part.to(device).eval().requires_grad_(False) for part in (text, vae, unet)),
            schedule,
            prediction,
            int(scheduler.get("steps_offset", 0)),
            str(source),
            _spacing(scheduler),
        )

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the U-Net."""
        return self.unet.dtype

    @property
    def factor(self) -> int:
        """How many pixels, in each direction, one position of the latents stands for."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> int:
        """The side, in pixels, of the images that the U-Net was trained on."""
        return int(self.unet.config.sample_size) * self.factor

    def save_memory(self) -> Parts:
        """Decode images one at a time and in tiles, and attend in slices: slower, for small GPUs."""
        self.vae.enable_slicing()
        self.vae.enable_tiling()
        self.unet.set_attention_slice("auto")
        return self


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """Return the schedule that the configuration of a scheduler of `diffusers` describes.

    Raises ValueError for betas, and for settings, that are not understood here: none is read past.
    """
    if asked := [name for name in REFUSED if config.get(name)]:
        raise ValueError(f"the scheduler asks for {', '.join(asked)}, which is not done here: set it to false")
    kind = config.get("beta_schedule", "linear")
    if kind not in KINDS or config.get("trained_betas") is not None:
        raise ValueError(f"the scheduler's betas are {kind!r}, known are {', '.join(KINDS)}")
    schedule = Schedule.make(
        KINDS[kind],
        int(config.get("num_train_timesteps", 1000)),
        float(config.get("beta_start", 1e-4)),
        float(config.get("beta_end", 0.02)),
        set_alpha_to_one=bool(config.get("set_alpha_to_one", True)),
    )
    return schedule.rescaled() if config.get("rescale_betas_zero_snr") else schedule


def _spacing(config: Mapping[str, Any]) -> str:
    spacing = config.get("timestep_spacing", "leading")
    if spacing not in SPACINGS:
        raise ValueError(f"the scheduler's timestep_spacing is {spacing!r}, known are {', '.join(SPACINGS)}")
    return spacing


def _prediction(config: Mapping[str, Any]) -> str:
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"the scheduler predicts {kind!r}, known are {', '.join(PREDICTIONS)}")
    return PREDICTIONS[kind]


def _folder(source: str | Path, revision: str | None, network: bool) -> Path:
    """Return the folder of a source, fetched if it must be."""
    if str(source) == POCKET or Path(source) == files.MANIFEST.parent / POCKET_FOLDER:
        return _pocket()
    if Path(source).is_dir():
        return Path(source)
    if not isinstance(source, str) or source.count("/") != 1 or source.startswith((".", "/")):
        raise ValueError(f"no folder {str(source)!r}; pass a folder, {POCKET!r}, or owner/name on the hub")
    wanted = ["model_index.json", "tokenizer/*", "scheduler/*", *(f"{part}/config.json" for part in WEIGHTS)]
    wanted += [f"{part}/{name}" for part, name in WEIGHTS.items()]
    revision = revision or PINNED.get(source)
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=wanted, local_files_only=not network))
    except RevisionNotFoundError as error:
        raise ValueError(f"{source} has no revision {revision!r}: look it up on the hub") from error
    except RepositoryNotFoundError as error:
        raise ValueError(f"{source}: not on the hub, or behind a licence that has to be accepted there") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise ValueError(
            f"{source} is not in the cache and the hub is out of reach: pass a folder, or {POCKET!r}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ValueError(
                f"no room on the disk for {source}: some gigabytes are needed (HF_HOME says where)"
            ) from error
        raise


def _pocket() -> Path:
    """Return the folder that ships, each of its files checked, except for what is written for people."""
    names = json.loads(files.MANIFEST.read_text())["files"]
    listed = [name for name in names if name.startswith(f"{POCKET_FOLDER}/") and not name.endswith(".md")]
    try:
        if not listed:
            raise ValueError(f"{POCKET_FOLDER} is not in the manifest")
        for name in listed:
            files.shipped(name, files.MANIFEST)
    except ValueError as error:
        raise ValueError(f"no Pocket Stable Diffusion: {error}\nTo make it: {POCKET_COMMAND}") from error
    return files.MANIFEST.parent / POCKET_FOLDER


def _index(folder: Path, source: str | Path) -> dict[str, Any]:
    """Return what the folder says it holds; raises ValueError for another family."""
    path = folder / "model_index.json"
    if not path.is_file():
        raise ValueError(f"{source}: no model_index.json, so no pipeline of diffusers")
    index = read_json(path, source)
    if "text_encoder_2" in index or "transformer" in index:
        raise ValueError(
            f"{source}: a {index.get('_class_name')}; Stable Diffusion 1 and 2 are understood, with one text encoder"
        )
    return index

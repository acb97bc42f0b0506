"""Three trainings, one after the other: captions against images, images to latents and back, noise in latents.

Each keeps a checkpoint after every pass and leaves its weights in a folder, from where the next takes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import CLIPTokenizer

from lib import data, scenes
from lib.data import files, weights
from lib.diffusion.training import AddNoise
from lib.learner import (
    EMA,
    Callback,
    CancelFit,
    Checkpoint,
    ClipGradients,
    Learner,
    LearnerState,
    LogProgress,
    MixedPrecision,
    Scheduled,
    TerminateOnNaN,
    one_cycle,
)
from recipes.pocket import models

Say = Callable[[str], None]
PASSES = 10_000  # more than there is ever time for


class Recipe(NamedTuple):
    """How a part learns: minutes, batch size, the highest learning rate, and the decay of averaged weights."""

    minutes: float
    batch_size: int
    lr: float
    ema: float | None = None


class TimeLimit(Callback):
    """End a fit after so many seconds, including those before an interruption."""

    whole_fit, order = True, 96

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a fit needs more than 0 seconds, got {seconds}")
        self.seconds, self.start = seconds, time.monotonic()

    @property
    def progress(self) -> float:
        """The fraction of the time that has passed, from 0 to 1."""
        return min(1.0, (time.monotonic() - self.start) / self.seconds)

    def before_fit(self, learn: LearnerState) -> None:
        self.start = time.monotonic()

    def after_batch(self, learn: LearnerState) -> None:
        if learn.training and self.progress == 1:
            raise CancelFit

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"elapsed": time.monotonic() - self.start}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.start = time.monotonic() - state["elapsed"]


class Pool(NamedTuple):
    """Drawn images uint8 [n, 3, 64, 64], and the tokens of their captions [n, 24]."""

    images: Tensor
    tokens: Tensor

    @classmethod
    def drawn(cls, n: int, tokenizer: CLIPTokenizer, seed: int, device: torch.device, *, chunk: int = 2048) -> Pool:
        """Draw n scenes, none of a triple that is held out, with a caption each."""
        generator = torch.Generator().manual_seed(seed)
        many = scenes.sample(n, generator)
        said = scenes.sample_captions(many, generator)
        parts = (many.rows(slice(i, i + chunk)).to(device).pictures() for i in range(0, n, chunk))
        images = torch.cat([(part * 255).round().to(torch.uint8) for part in parts])
        return cls(images, tokenize(tokenizer, said).to(device))


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return the tokens of captions, padded or truncated to one length: [n, 24]."""
    return tokenizer(
        captions, padding="max_length", max_length=models.LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def scale_images(images: Tensor) -> Tensor:
    """Scale images from 0 to 255 to -1 to 1."""
    return images.float() / 127.5 - 1


class CLIPLogits(nn.Module):
    """CLIP's logits: images and tokens of captions -> how well each caption fits each image, [n, n]."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return logits, captions in rows."""
        return self.clip(input_ids=tokens, pixel_values=images).logits_per_text


def contrastive_loss(logits: Tensor, _: Any) -> Tensor:
    """Return the cross-entropy of matching captions to images, both ways (Radford et al. 2021, figure 3)."""
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class VAEWithKL(nn.Module):
    """Images [n, 3, h, w] -> the same, their reconstruction, and the KL divergence of each latent [n, 4, h/4, w/4]."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, reconstruction, and the divergence of each latent's posterior from a standard normal one."""
        posterior = self.vae.encode(images).latent_dist
        mean, variance = posterior.mean.float(), posterior.var.float()
        kl = (mean.square() + variance - 1 - variance.log()) / 2
        return images, self.vae.decode(posterior.sample()).sample, kl


def vae_loss(preds: tuple[Tensor, Tensor, Tensor], _: Any, weight: float = 3e-5) -> Tensor:
    """Return absolute and squared error, and a little of the KL divergence (Kingma and Welling 2014, equation 10)."""
    images, reconstructed, kl = preds
    error = reconstructed.float() - images
    return error.abs().mean() + 4 * error.square().mean() + weight * kl.mean()


class NoisePrediction(nn.Module):
    """Noisy latents, times, and encoded captions -> the noise."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the noise, shaped as x."""
        return self.unet(x, t, cond).sample


def fit(
    model: nn.Module, train: Any, valid: Any, loss: Callable, recipe: Recipe, kept: Path, say: Say, *more: Callback
) -> dict[str, float]:
    """Train with the learner, from the checkpoint if there is one; return steps, and the loss on fresh scenes."""
    limit, cycle = TimeLimit(60 * recipe.minutes), one_cycle(0.1)
    gpu = next(model.parameters()).is_cuda
    callbacks = [
        *more,
        ClipGradients(1.0),
        Scheduled(lr=lambda _: cycle(limit.progress)),
        TerminateOnNaN(),
        limit,
        LogProgress(say, every=50),
    ]
    callbacks += [EMA(recipe.ema)] if recipe.ema else []
    callbacks += [MixedPrecision()] if gpu else []
    optimiser = partial(torch.optim.AdamW, lr=recipe.lr, weight_decay=0.01, fused=True)
    learn = Learner(model, data.DataLoaders(train, valid), loss, optimiser, [*callbacks, Checkpoint(kept)])
    learn.fit(PASSES)
    kept.unlink(missing_ok=True)  # found again, it would end the next run before it began
    return {"steps": learn.step_count, "loss": learn.evaluate()["loss"]}


def train_clip(
    pool: Pool, fresh: Pool, recipe: Recipe, folder: Path, say: Say, *, tokenizer: CLIPTokenizer
) -> dict[str, float]:
    """Train both towers and keep the one for captions."""
    clip = models.clip(tokenizer).to(pool.tokens.device)
    loaders = [
        _batches(part.images, part.tokens, torch.zeros(len(part.tokens)), recipe=recipe) for part in (pool, fresh)
    ]
    results = fit(CLIPLogits(clip), *loaders, contrastive_loss, recipe, folder / "clip.pt", say)
    save_weights(clip.text_model, folder / "text_encoder.safetensors")
    return results


def train_vae(
    pool: Pool, fresh: Pool, recipe: Recipe, folder: Path, say: Say, *, start: Path | None = None
) -> dict[str, float]:
    """Train the autoencoder and keep it."""
    vae = models.vae().to(pool.tokens.device, memory_format=torch.channels_last)
    if start is not None:
        vae.load_state_dict(load_file(start))
    loaders = [_batches(part.images, recipe=recipe) for part in (pool, fresh)]
    results = fit(VAEWithKL(vae), *loaders, vae_loss, recipe, folder / "vae.pt", say)
    save_weights(vae, folder / "vae.safetensors")
    return results


def train_unet(
    pool: Pool,
    fresh: Pool,
    recipe: Recipe,
    folder: Path,
    say: Say,
    *,
    tokenizer: CLIPTokenizer,
    start: Path | None = None,
) -> dict[str, float]:
    """Train the U-Net on what the other parts, as they are, make of images and captions; keep it."""
    device = pool.tokens.device
    text, vae = models.text_encoder(tokenizer), models.vae()
    load_text_encoder(text, folder / "text_encoder.safetensors")
    vae.load_state_dict(load_file(folder / "vae.safetensors"))
    text, vae = text.to(device).eval(), vae.to(device, memory_format=torch.channels_last).eval()
    unet = models.unet().to(device)
    if start is not None:
        unet.load_state_dict(load_file(start))
    latents = [encode_images(vae, part.images) for part in (pool, fresh)]
    scale = 1 / latents[0].float().std().item()
    say(f"latents have a standard deviation of {1 / scale:.4f}")
    captions = [encode_captions(text, part.tokens) for part in (pool, fresh)]
    uncond = encode_captions(text, tokenize(tokenizer, [""]).to(device))[0]
    loaders = [
        data.FastLoader(z, cond, batch_size=recipe.batch_size, shuffle=i == 0, transform=lambda z: z.float() * scale)
        for i, (z, cond) in enumerate(zip(latents, captions, strict=True))
    ]
    add_noise = AddNoise(models.schedule(), "noise", null=uncond)
    results = fit(NoisePrediction(unet), *loaders, F.mse_loss, recipe, folder / "unet.pt", say, add_noise)
    save_weights(unet, folder / "unet.safetensors", scale)
    return results


@torch.no_grad()
def encode_images(vae: nn.Module, images: Tensor, batch_size: int = 512) -> Tensor:
    """Return latents of images in 0 to 255, drawn from the posterior, unscaled: bfloat16 [n, 4, 16, 16]."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        parts = (vae.encode(scale_images(part)).latent_dist.sample() for part in images.split(batch_size))
        return torch.cat([part.to(torch.bfloat16) for part in parts])


@torch.no_grad()
def encode_captions(text: nn.Module, tokens: Tensor, batch_size: int = 2048) -> Tensor:
    """Return the text encoder's hidden state of each token: [n, 24, 128]."""
    return torch.cat([text(part).last_hidden_state for part in tokens.split(batch_size)])


def save_weights(model: nn.Module, path: Path, scale: float | None = None) -> None:
    """Write weights in half precision, with the scale of latents that they were trained on."""
    state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    files.replace(path, save(weights.cast(state), None if scale is None else {"scaling_factor": repr(scale)}))


def load_text_encoder(text: nn.Module, path: Path) -> None:
    """Load a tower's weights into the text encoder; versions of transformers differ in where they keep it."""
    inner = getattr(text, "text_model", text)
    missing = inner.load_state_dict(load_file(path), strict=False)
    wrong = [key for key in (*missing.missing_keys, *missing.unexpected_keys) if "position_ids" not in key]
    if wrong:
        raise ValueError(f"{path}: not the weights of this text encoder, it differs in {wrong[0]}")


def _batches(images: Tensor, *rest: Tensor, recipe: Recipe) -> data.FastLoader:
    return data.FastLoader(
        images,
        *(part.to(images.device) for part in rest),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        transform=scale_images,
    )

"""Text to image from its parts: prompts become what is known of their words, pictures become latents, noise goes.

Loops to read: each is a start, a denoiser and a sampler. Pictures are [n, 3, h, w] in [0, 1], latents [n, 4, h/f, w/f]
with f the factor of the autoencoder. Noise comes from one generator a picture: it looks the same alone and in a batch.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.diffusion.denoise import Denoise, split
from lib.diffusion.parts import Parts
from lib.diffusion.samplers import Generators, Watch, normal, sample, seeded

Picture = Image.Image | np.ndarray | Tensor
LARGE_VOCABULARY = 10_000  # tokens, from which any word is made of pieces that mean something


@torch.no_grad()
def encode_prompt(parts: Parts, prompts: str | Sequence[str]) -> Tensor:
    """Return what the text encoder knows of each token of each prompt: [n, length, width].

    Prompts are filled up to the tokenizer's length, or cut, with a warning that says what was lost. A warning also
    names the words that a small vocabulary does not have.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts:
        raise ValueError("at least one prompt is needed")
    length = parts.tokenizer.model_max_length
    for prompt in prompts:
        pieces = parts.tokenizer.tokenize(prompt, verbose=False)  # longer ones are told below
        if len(pieces) > length - 2:
            lost = "".join(pieces[length - 2 :]).replace("</w>", " ").strip()
            warnings.warn(f"a prompt has {length - 2} tokens at most, this was cut off: {lost!r}", stacklevel=2)
        if strange := unknown_words(parts, prompt):
            warnings.warn(f"the model never saw these words: {', '.join(strange)}", stacklevel=2)
    tokens = parts.tokenizer(
        prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return parts.text_encoder(tokens.to(parts.device)).last_hidden_state


def unknown_words(parts: Parts, prompt: str) -> list[str]:
    """Return the words of a prompt that the tokenizer spells out, if its vocabulary is so small that none saw them.

    A large vocabulary, such as CLIP's, makes all words of pieces that it knows; for it none are unknown.
    """
    if len(parts.tokenizer) >= LARGE_VOCABULARY:
        return []
    known = parts.tokenizer.get_vocab()
    words = re.findall(r"[^\W\d_]+|\S", prompt)
    return list(dict.fromkeys(word for word in words if f"{word.lower()}</w>" not in known))


def as_pictures(parts: Parts, pictures: Picture) -> Tensor:
    """Turn a picture, or tensors and arrays of them, into [n, 3, h, w] in [-1, 1], where the parts are.

    Takes PIL images of any mode, uint8 arrays [h, w, 3] or [n, h, w, 3], and float tensors [3, h, w] or [n, 3, h, w]
    in [0, 1]. Raises ValueError for others, and for sides that the autoencoder cannot halve.
    """
    if isinstance(pictures, Image.Image):
        pictures = np.asarray(pictures.convert("RGB"))
    if isinstance(pictures, np.ndarray):
        if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or pictures.shape[-1] != 3:
            raise ValueError(f"an array must be uint8 [h, w, 3] or [n, h, w, 3], got {pictures.dtype} {pictures.shape}")
        pictures = torch.from_numpy(pictures.copy()).movedim(-1, -3).float() / 255
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
        raise ValueError(f"pictures must be float [n, 3, h, w], got {pictures.dtype} {list(pictures.shape)}")
    if not (pictures.min() >= -1e-3 and pictures.max() <= 1 + 1e-3):
        raise ValueError(f"pictures must be in [0, 1], got {pictures.min():.3g} to {pictures.max():.3g}")
    if any(side % (2 * parts.factor) for side in pictures.shape[2:]):
        raise ValueError(f"sides must be multiples of {2 * parts.factor} pixels, got {list(pictures.shape[2:])}")
    return pictures.to(parts.device, parts.dtype) * 2 - 1


@torch.no_grad()
def encode_image(parts: Parts, pictures: Picture) -> Tensor:
    """Return the latents of pictures, the mean of what the encoder says, scaled to a deviation of 1."""
    return parts.vae.encode(as_pictures(parts, pictures)).latent_dist.mean * parts.vae.config.scaling_factor


@torch.no_grad()
def decode(parts: Parts, latents: Tensor) -> Tensor:
    """Return the pictures [n, 3, h, w] in [0, 1] that latents stand for."""
    return (parts.vae.decode(latents / parts.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def conditioned(parts: Parts, known: Tensor, nothing: Tensor | None = None, guidance: float = 1.0) -> Denoise:
    """Return a denoiser of latents for what is known of prompts [n, length, width].

    With `guidance` w it goes from the prediction for `nothing` w times the way to that for `known` (Ho and Salimans
    2022, equation 6). `nothing` is what is known of the empty prompt, or of one that names what is *not* wanted: a
    negative prompt. Both predictions are one call of the U-Net. Raises ValueError for guidance below 0.
    """
    if not 0 <= guidance < math.inf:
        raise ValueError(f"guidance must be at least 0 and finite, got {guidance}")
    if guidance != 1 and nothing is None:
        raise ValueError(f"guidance {guidance:g} needs a prompt to go away from: pass `nothing`")
    both = known if guidance == 1 else torch.cat([nothing.expand_as(known), known])

    def denoise(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(x.device)
        if guidance == 1:
            predicted = parts.unet(x, t, both).sample
        else:
            away, to = parts.unet(torch.cat([x, x]), torch.cat([t, t]), both).sample.chunk(2)
            predicted = away + guidance * (to - away)
        return split(parts.prediction, parts.schedule, x, predicted, t)

    return denoise


def text_to_image(
    parts: Parts,
    prompts: str | Sequence[str],
    *,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    sampler: str = "ddim",
    steps: int = 25,
    seed: int = 0,
    first: int = 0,
    size: tuple[int, int] | None = None,
    latents: Tensor | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Draw a picture of each prompt: [n, 3, h, w] in [0, 1].

    The start is noise of `seed` (picture i has that of `first` + i), or `latents` if they are given.
    """
    known, nothing = encode_prompt(parts, prompts), encode_prompt(parts, negative)
    generators = seeded(seed, len(known), first)
    x = noise(parts, generators, size) if latents is None else latents.to(parts.device, parts.dtype)
    denoise = conditioned(parts, known, nothing, guidance)
    with torch.no_grad():
        x = sample(sampler, denoise, x, parts.schedule, times(parts, steps), generators, watch=watch)
    return decode(parts, x)


def image_to_image(
    parts: Parts,
    pictures: Picture,
    prompts: str | Sequence[str],
    *,
    strength: float = 0.8,
    negative: str | Sequence[str] = "",
    guidance: float = 7.5,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    first: int = 0,
    watch: Watch | None = None,
) -> Tensor:
    """Draw prompts over pictures: noise them so far (`strength`, 0 to 1), and walk the rest of the steps back.

    The idea of Meng et al. (2022, SDEdit, section 3): what the noise covers is drawn anew, what it leaves is kept.
    """
    left = part_of(times(parts, steps), strength)
    z, denoise = over(parts, pictures, prompts, negative, guidance)
    generators = seeded(seed, len(z), first)
    x = parts.schedule.noised(z, normal(z, generators), left[:1].expand(len(z)))
    with torch.no_grad():
        x = sample(sampler, denoise, x, parts.schedule, left, generators, watch=watch)
    return decode(parts, x)


def over(
    parts: Parts, pictures: Picture, prompts: str | Sequence[str], negative: str | Sequence[str], guidance: float
) -> tuple[Tensor, Denoise]:
    """Return the latents of pictures [n, 4, h/f, w/f] and a denoiser for prompts; one of either is for all."""
    z = encode_image(parts, pictures)
    known, nothing = encode_prompt(parts, prompts), encode_prompt(parts, negative)
    z = z.expand(max(len(z), len(known)), -1, -1, -1)
    return z, conditioned(parts, known.expand(len(z), -1, -1), nothing, guidance)


def times(parts: Parts, steps: int) -> Tensor:
    """Return the times of so many steps, as Stable Diffusion has them: leading, with the scheduler's offset."""
    return parts.schedule.times(steps, "leading", parts.offset)


def part_of(times: Tensor, strength: float) -> Tensor:
    """Return the last `strength` (above 0, at most 1) of the times, at least one of them."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    return times[len(times) - max(1, int(len(times) * strength)) :]


def noise(parts: Parts, generators: Generators, size: tuple[int, int] | None = None) -> Tensor:
    """Return the noise that pictures of `size` (h, w) begin with, by default of the size that was trained on."""
    height, width = (parts.size, parts.size) if size is None else size
    if height % (2 * parts.factor) or width % (2 * parts.factor):
        raise ValueError(f"height and width must be multiples of {2 * parts.factor}, got {height} and {width}")
    shape = (len(generators), parts.unet.config.in_channels, height // parts.factor, width // parts.factor)
    return normal(torch.empty(shape, device=parts.device, dtype=parts.dtype), generators)

"""The parts, made of the real classes in small: about 6 million parameters, where Stable Diffusion has a billion."""

from __future__ import annotations

import itertools
import string
from collections import Counter

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from lib import scenes
from lib.diffusion.schedule import Schedule
from lib.scenes.captions import ABOUT_ONE, ABOUT_TWO

LENGTH = 24  # tokens of a caption, first and last included
WIDTH = 128  # of each token's hidden state
LATENT = (4, scenes.SIZE // 4, scenes.SIZE // 4)
START, END = "<|startoftext|>", "<|endoftext|>"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # as Stable Diffusion has them


def words() -> list[str]:
    """Return the words of all captions."""
    said = " ".join((*ABOUT_ONE, *ABOUT_TWO, "left of right of above below an small large"))
    named = (*scenes.COLOURS, *scenes.SHAPES, *scenes.BACKGROUNDS)
    return sorted({word for word in said.split() if "{" not in word} | set(named))


def tokenizer() -> CLIPTokenizer:
    """Return a tokenizer that has a token for each word of the captions, and spells all others, letter by letter."""
    merges = byte_pairs(words())
    letters = [letter + end for end in ("", "</w>") for letter in string.ascii_lowercase]
    pieces = [*letters, *dict.fromkeys("".join(pair) for pair in merges), START, END]
    return CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )


def byte_pairs(words: list[str]) -> list[tuple[str, str]]:
    """Return the merges that make each word one piece, the commonest pair first (Sennrich et al. 2016, section 3.2)."""
    spelt = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for word in spelt for pair in itertools.pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = [_merged(word, best) for word in spelt]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    done: list[str] = []
    for piece in word:
        if done and (done[-1], piece) == pair:
            done[-1] += piece
        else:
            done.append(piece)
    return done


def text_config(tokens: CLIPTokenizer) -> CLIPTextConfig:
    """Return the shape of the text encoder."""
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=64,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )


def clip(tokens: CLIPTokenizer) -> CLIPModel:
    """Return a tower for captions and one for images, to be trained together (Radford et al. 2021)."""
    images = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=scenes.SIZE,
        patch_size=8,
        projection_dim=64,
    )
    config = CLIPConfig(text_config=text_config(tokens).to_dict(), vision_config=images.to_dict(), projection_dim=64)
    return CLIPModel(config)


def text_encoder(tokens: CLIPTokenizer) -> CLIPTextModel:
    """Return the text tower alone, as Stable Diffusion uses it."""
    return CLIPTextModel(text_config(tokens))


def vae() -> AutoencoderKL:
    """Return the autoencoder: [n, 3, 64, 64] to latents [n, 4, 16, 16], a twelfth of the numbers, and back."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT[0],
        norm_num_groups=16,
        sample_size=scenes.SIZE,
        mid_block_add_attention=False,
    )


def unet() -> UNet2DConditionModel:
    """Return the network that predicts noise in latents, given the time and the caption."""
    net = UNet2DConditionModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # their number, whatever it is called
        norm_num_groups=16,
    )
    return net.to(memory_format=torch.channels_last)


def scheduler() -> DDIMScheduler:
    """Return the scheduler that goes along, with Stable Diffusion's settings."""
    return DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def schedule() -> Schedule:
    """Return the same as a schedule of ours."""
    return Schedule.make("scaled_linear", 1000, BETAS["beta_start"], BETAS["beta_end"], set_alpha_to_one=False)

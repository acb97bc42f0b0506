"""Stable Diffusion from its parts: loading them, prompts, images and latents, generation, masks and editing."""

from lib.diffusion.latent.editing import Edit, diffedit, inpaint, invert, masked_ddim
from lib.diffusion.latent.generation import (
    image_to_image,
    prepare_image_to_image,
    prepare_latents,
    text_denoiser,
    text_to_image,
    timesteps,
    truncate_timesteps,
)
from lib.diffusion.latent.images import ImageInput, as_images, decode, encode_image
from lib.diffusion.latent.masks import (
    close_mask,
    difference,
    edit_mask,
    mask_from_difference,
    normalise_difference,
    prepare_mask,
    threshold_mask,
)
from lib.diffusion.latent.parts import POCKET_FOLDER, STABLE_DIFFUSION, Parts
from lib.diffusion.latent.text import encode_prompt, unknown_words

__all__ = [
    "POCKET_FOLDER",
    "STABLE_DIFFUSION",
    "Edit",
    "ImageInput",
    "Parts",
    "as_images",
    "close_mask",
    "decode",
    "diffedit",
    "difference",
    "edit_mask",
    "encode_image",
    "encode_prompt",
    "image_to_image",
    "inpaint",
    "invert",
    "mask_from_difference",
    "masked_ddim",
    "normalise_difference",
    "prepare_image_to_image",
    "prepare_latents",
    "prepare_mask",
    "text_denoiser",
    "text_to_image",
    "threshold_mask",
    "timesteps",
    "truncate_timesteps",
    "unknown_words",
]

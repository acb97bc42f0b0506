"""Stable Diffusion from its parts: loading them, prompts, pictures and latents, generation, masks and editing."""

from lib.diffusion.latent.editing import Edit, diffedit, inpaint, invert, masked_walk
from lib.diffusion.latent.generation import conditioned, image_to_image, noise, over, part_of, text_to_image, times
from lib.diffusion.latent.images import Picture, as_pictures, decode, encode_image
from lib.diffusion.latent.masks import closed, difference, edit_mask, found, normalised, on_grid, thresholded
from lib.diffusion.latent.parts import POCKET_FOLDER, STABLE_DIFFUSION, Parts
from lib.diffusion.latent.text import encode_prompt, unknown_words

__all__ = [
    "POCKET_FOLDER",
    "STABLE_DIFFUSION",
    "Edit",
    "Parts",
    "Picture",
    "as_pictures",
    "closed",
    "conditioned",
    "decode",
    "diffedit",
    "difference",
    "edit_mask",
    "encode_image",
    "encode_prompt",
    "found",
    "image_to_image",
    "inpaint",
    "invert",
    "masked_walk",
    "noise",
    "normalised",
    "on_grid",
    "over",
    "part_of",
    "text_to_image",
    "thresholded",
    "times",
    "unknown_words",
]

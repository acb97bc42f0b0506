"""Ten letters in many fonts, warped and noised: a data set that needs no download, the stand-in for Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CLASSES = tuple("ABCDEFGHIJ")
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmb10", "cmmi10", "cmr10", "cmss10", "cmsy10", "cmtt10"),
)
SIDE = 28


def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw n letters: images uint8 [n, 28, 28], labels int64 [n]; a smaller n gives the first of a larger n.

    The same on every run; another platform may differ by a grey level, as its floating point does.
    """
    if n < 1:
        raise ValueError(f"the number of glyphs must be at least 1, got {n}")
    letters = torch.from_numpy(_letters())
    chosen = torch.Generator().manual_seed(2 * seed)
    noise = torch.Generator().manual_seed(2 * seed + 1)
    choice = torch.rand(n, 12, generator=chosen)
    labels = (choice[:, 0] * len(CLASSES)).long()
    fonts = (choice[:, 1] * len(FONTS)).long()
    images = torch.empty(n, SIDE, SIDE, dtype=torch.uint8)
    for part in torch.arange(n).split(4096):
        warped = F.grid_sample(letters[labels[part], fonts[part], None], _warp(choice[part, 2:]), align_corners=False)
        ink = warped[:, 0] * (0.65 + 0.35 * choice[part, 10, None, None])
        grain = torch.rand(len(part), SIDE, SIDE, generator=noise) - 0.5
        grain *= 0.05 + 0.3 * choice[part, 11, None, None] ** 2
        images[part] = (ink + grain).clamp_(0, 1).mul_(255).round_().byte()
    return images, labels


def _warp(u: Tensor) -> Tensor:
    """Where each pixel looks in the drawn letter: scale, turn, slant, shift and a bend, from u in [0, 1) [n, 10]."""
    angle, slant, wide, tall, right, down, bend_x, bend_y = ((2 * u[:, i] - 1)[:, None, None] for i in range(8))
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = axis[None, :, None], axis[None, None, :]
    x, y = x - 0.16 * right, y - 0.16 * down
    x, y = x + 0.14 * bend_x * torch.sin(2.5 * y), y + 0.14 * bend_y * torch.sin(2.5 * x)
    turn = 0.3 * angle
    x, y = torch.cos(turn) * x + torch.sin(turn) * y, torch.cos(turn) * y - torch.sin(turn) * x
    x = x + 0.25 * slant * y
    return torch.stack([x * (1.1 + 0.2 * wide), y * (1.1 + 0.2 * tall)], dim=-1)


def _letters(side: int = 2 * SIDE) -> np.ndarray:
    """Draw each letter in each font, as large as fits and centred: float32 [10, fonts, side, side], ink 1."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fits = round(0.82 * side)
    pictures = np.zeros((len(CLASSES), len(FONTS), side, side), np.float32)
    for j, name in enumerate(FONTS):
        font = ImageFont.truetype(folder / f"{name}.ttf", 2 * side)
        for i, letter in enumerate(CLASSES):
            picture = Image.new("L", (6 * side, 6 * side))
            ImageDraw.Draw(picture).text((2 * side, 2 * side), letter, fill=255, font=font)
            ink = picture.crop(picture.getbbox())
            scale = fits / max(ink.size)
            ink = ink.resize([max(1, round(scale * length)) for length in ink.size], Image.Resampling.BOX)
            left, top = ((side - length) // 2 for length in ink.size)
            pictures[i, j, top : top + ink.height, left : left + ink.width] = np.asarray(ink)
    return pictures / 255

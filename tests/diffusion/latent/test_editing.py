"""Editing: what a mask keeps, inversion and the way back, and DiffEdit."""

import pytest
import torch

from lib.diffusion.latent import (
    decode,
    diffedit,
    edit_mask,
    encode_image,
    encode_prompt,
    inpaint,
    invert,
    mask_from_difference,
    masked_ddim,
    text_denoiser,
    timesteps,
)
from lib.diffusion.samplers import make_generators, randn_like, sample_ddim

SOURCE, TARGET = "a red circle on a white background", "a blue circle on a white background"


def image(n=1, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def left_half(*shape):
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    return mask


def test_the_walk_with_everything_inside_is_ddim(parts):
    cond, uncond = encode_prompt(parts, TARGET), encode_prompt(parts, "")
    denoise, ts = text_denoiser(parts, cond, uncond, 4.0), timesteps(parts, 7)
    x = randn_like(torch.empty(1, 4, 16, 16), make_generators(0, 1))
    with torch.no_grad():
        wanted = sample_ddim(denoise, x, parts.schedule, ts)
    walked = masked_ddim(parts, denoise, x, ts, torch.ones(1, 1, 16, 16), lambda step: torch.zeros(()))
    assert torch.allclose(walked, wanted, atol=1e-5)


def test_what_is_outside_of_an_inpainting_mask_keeps_its_latents(parts):
    kept, inside, walked = encode_image(parts, image()), left_half(32, 32), []
    drawn = inpaint(parts, image(), inside, TARGET, steps=5, callback=lambda step, t, x, x0: walked.append(x))
    assert drawn.shape == (1, 3, 32, 32)
    assert torch.allclose(walked[-1][..., 8:], kept[..., 8:], atol=1e-6)
    assert (walked[-1][..., :8] - kept[..., :8]).abs().max() > 0.1
    nothing_inside = inpaint(parts, image(), torch.zeros(32, 32), TARGET, steps=5)
    assert torch.allclose(nothing_inside, decode(parts, kept), atol=1e-5)


def test_inpainting_is_the_same_alone_and_in_a_batch(parts):
    many = inpaint(parts, image(3), left_half(32, 32), [TARGET, SOURCE, "a star"], steps=3, seed=2)
    alone = inpaint(parts, image(3)[2:], left_half(32, 32), "a star", steps=3, seed=2, first=2)
    assert (many[2] - alone[0]).abs().max() < 1 / 255


def test_inversion_and_sampling_return_the_nearer_the_more_steps(parts):
    z, cond = encode_image(parts, image()), encode_prompt(parts, SOURCE)
    off = []
    for steps in (10, 40, 160):
        hidden = invert(parts, image(), SOURCE, steps=steps)
        with torch.no_grad():
            back = sample_ddim(text_denoiser(parts, cond), hidden, parts.schedule, timesteps(parts, steps))
        off.append((back - z).square().mean().sqrt().item())
    assert off[0] > off[1] > off[2]
    assert off[2] < off[0] / 2, off


def test_diffedit_keeps_what_is_outside_of_its_mask(parts):
    walked = []
    how = {"quantile": 1.0, "threshold": 0.6}
    edit = diffedit(
        parts, image(), SOURCE, TARGET, steps=10, draws=2, **how, callback=lambda step, t, x, x0: walked.append(x)
    )
    kept = encode_image(parts, image())
    assert edit.images.shape == (1, 3, 32, 32)
    assert torch.equal(edit.mask, mask_from_difference(edit.difference, **how))
    assert 0 < edit.mask.mean() < 1
    outside = (edit.mask == 0)[:, None].expand_as(kept)
    assert torch.allclose(walked[-1][outside], kept[outside], atol=1e-6)
    assert len(walked) == 8
    assert torch.equal(edit.mask, edit_mask(parts, image(), SOURCE, TARGET, draws=2, **how))


def test_diffedit_takes_a_mask_and_an_empty_one_gives_the_picture_back(parts):
    given = left_half(32, 32)
    edit = diffedit(parts, image(), SOURCE, TARGET, mask=given, steps=6, draws=1)
    assert torch.equal(edit.mask[0], left_half(16, 16))
    nothing = diffedit(parts, image(), SOURCE, TARGET, mask=torch.zeros(16, 16), steps=6, draws=1)
    assert torch.allclose(nothing.images, decode(parts, encode_image(parts, image())), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: inpaint(p, image(), torch.ones(31, 32), "a"), r"mask.*\[32, 32\].*\[16, 16\].*31, 32\]"),
        (lambda p: inpaint(p, image(), torch.full((32, 32), 0.5), "a"), r"mask.*0 or 1.*0\.5"),
        (lambda p: inpaint(p, image(), torch.ones(32, 32), "a", strength=2), "strength.*0.*1.* 2"),
        (lambda p: diffedit(p, image(), "a", "b", strength=0.0), r"strength.*0.*1.*0\.0"),
    ],
)
def test_settings_out_of_range_are_named(parts, call, message):
    with pytest.raises(ValueError, match=message):
        call(parts)


def test_a_step_that_breaks_is_named_and_so_is_a_part(parts):
    ts, x = timesteps(parts, 4), torch.zeros(1, 4, 16, 16)
    calls = []

    def breaks(x, t):
        calls.append(t)
        return x * (float("nan") if len(calls) > 2 else 0), x

    with pytest.raises(FloatingPointError, match=r"NaN.*step 2.*time 251"):
        masked_ddim(parts, breaks, x, ts, torch.ones(1, 1, 16, 16), lambda step: x)
    with pytest.raises(FloatingPointError, match=r"NaN.*latents.*torch\.float32"):
        decode(parts, x * float("nan"))
    with pytest.raises(FloatingPointError, match=r"NaN.*decoder.*torch\.float32"):
        decode(parts, x + 3e38)

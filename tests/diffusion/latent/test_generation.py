"""The loops over latents against diffusers' pipelines, and what they are told."""

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from lib.diffusion.latent import (
    encode_image,
    encode_prompt,
    generation,
    image_to_image,
    prepare_latents,
    text_denoiser,
    text_to_image,
    timesteps,
    truncate_timesteps,
)
from lib.diffusion.samplers import make_generators

PROMPT, NEGATIVE = "a red circle on a white background", "a blue star"


def image(seed=0, n=1):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("guidance", "negative"), [(7.5, NEGATIVE), (3.0, ""), (1.0, "")])
def test_text_to_image_draws_what_the_pipeline_draws(parts, stable, guidance, negative):
    start = prepare_latents(parts, make_generators(3, 2))
    ours = text_to_image(parts, [PROMPT] * 2, negative=negative, guidance=guidance, steps=6, latents=start)
    theirs = stable(
        [PROMPT] * 2,
        negative_prompt=[negative] * 2,
        guidance_scale=guidance,
        num_inference_steps=6,
        latents=start,
        output_type="pt",
    ).images
    assert ours.shape == (2, 3, 32, 32)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_image_to_image_draws_what_the_pipeline_draws(parts, stable, monkeypatch):
    theirs = StableDiffusionImg2ImgPipeline(**stable.components, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    z, drawn = encode_image(parts, image()), prepare_latents(parts, make_generators(0, 1))
    monkeypatch.setattr(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor", lambda *_, **__: drawn
    )
    monkeypatch.setattr(theirs.vae, "encode", lambda _: type("", (), {"latents": z / parts.vae.config.scaling_factor}))
    wanted = theirs(PROMPT, image(), strength=0.5, num_inference_steps=8, guidance_scale=4.0, output_type="pt").images
    monkeypatch.setattr(generation, "randn_like", lambda *_: drawn)
    assert torch.allclose(
        image_to_image(parts, image(), PROMPT, strength=0.5, steps=8, guidance=4.0), wanted, atol=1e-4
    )


def test_a_picture_is_the_same_alone_and_in_a_batch(parts):
    prompts = [PROMPT, NEGATIVE, "a ring"]
    together = text_to_image(parts, prompts, steps=3, seed=5)
    for i, prompt in enumerate(prompts):
        alone = text_to_image(parts, prompt, steps=3, seed=5, first=i)
        assert (alone[0] - together[i]).abs().max() < 1 / 255
    over = image_to_image(parts, image(n=3), prompts, steps=4, strength=0.5)
    alone = image_to_image(parts, image(n=3)[1:2], prompts[1], steps=4, strength=0.5, first=1)
    assert (alone[0] - over[1]).abs().max() < 1 / 255


@pytest.mark.parametrize("sampler", ["ddpm", "euler", "heun", "dpm-solver"])
def test_any_sampler_draws(parts, sampler):
    seen = []
    found = text_to_image(parts, PROMPT, sampler=sampler, steps=3, callback=lambda i, *_: seen.append(i))
    assert found.isfinite().all()
    assert seen == [0, 1, 2]


def test_guidance_needs_something_to_go_away_from(parts):
    with pytest.raises(ValueError, match=r"guidance 3.*uncond"):
        text_denoiser(parts, encode_prompt(parts, "a"), None, 3.0)


@pytest.mark.parametrize("guidance", [-1.0, float("nan"), float("inf")])
def test_guidance_out_of_range_is_named(parts, guidance):
    with pytest.raises(ValueError, match=f"guidance.*0.*{guidance}"):
        text_to_image(parts, PROMPT, guidance=guidance, steps=1)


def test_strength_keeps_a_part_of_the_steps(parts):
    all_times = timesteps(parts, 10)
    assert len(truncate_timesteps(all_times, 0.5)) == 5
    assert torch.equal(truncate_timesteps(all_times, 1.0), all_times)
    assert len(truncate_timesteps(all_times, 0.01)) == 1
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"strength.*0.*1.*{wrong}"):
            truncate_timesteps(all_times, wrong)


@pytest.mark.parametrize(
    ("steps", "strength", "kept"), [(100, 0.29, 29), (100, 0.57, 57), (100, 0.58, 58), (50, 0.58, 29)]
)
def test_no_step_is_lost_to_rounding(steps, strength, kept):
    assert len(truncate_timesteps(torch.arange(steps).flip(0), strength)) == kept


@pytest.mark.parametrize("steps", [8, 30, 50, 1000])
def test_as_many_steps_are_kept_as_the_pipeline_keeps_but_for_its_rounding(steps):
    for percent in range(1, 101):
        kept = len(truncate_timesteps(torch.arange(steps).flip(0), percent / 100))
        assert kept == max(1, steps * percent // 100)


def test_odd_sizes_are_refused_and_others_drawn(parts):
    assert text_to_image(parts, PROMPT, steps=2, size=(32, 48)).shape == (1, 3, 32, 48)
    with pytest.raises(ValueError, match=r"height.*width.* 4.*33 and 32"):
        text_to_image(parts, PROMPT, steps=2, size=(33, 32))


def test_noise_on_the_way_is_not_that_of_the_next_seed(parts):
    one, other = (text_to_image(parts, PROMPT, sampler="ddpm", steps=2, seed=seed) for seed in (0, 1))
    start = prepare_latents(parts, make_generators(0, 1))
    given = text_to_image(parts, PROMPT, sampler="ddpm", steps=2, seed=1, latents=start)
    assert (one - other).abs().max() > 0.01
    assert (one - given).abs().max() > 0.01

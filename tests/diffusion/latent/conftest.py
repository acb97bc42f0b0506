"""A Stable Diffusion with random small weights, in a folder and in parts."""

import shutil

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from lib.diffusion.latent import Parts
from recipes.pocket import models


def small_pipeline(scheduler=None, seed=0):
    """Return a pipeline of the real classes, in seconds."""
    torch.manual_seed(seed)
    tokens = models.tokenizer()
    config = {
        **models.text_config(tokens).to_dict(),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
    }
    ends = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(
        **ends, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, sample_size=32, scaling_factor=0.7
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**config)).eval(),
        tokenizer=tokens,
        unet=unet.eval(),
        scheduler=scheduler or models.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def stable():
    """The pipeline."""
    return small_pipeline()


@pytest.fixture(scope="session")
def stable_folder(stable, tmp_path_factory):
    """The folder it is saved in."""
    folder = tmp_path_factory.mktemp("stable")
    stable.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def parts(stable_folder):
    """Its parts, loaded by the library."""
    return Parts.load(stable_folder)


@pytest.fixture
def copy(stable_folder, tmp_path):
    """A copy of the folder, to be spoilt."""
    return shutil.copytree(stable_folder, tmp_path / "copy")

"""Pocket Stable Diffusion at its smallest: the words, the trainings and how they resume, and the folder that ships."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from lib import scenes
from lib.data import files
from lib.diffusion.latent.parts import POCKET_COMMAND, WEIGHTS
from recipes.pocket import __main__ as command
from recipes.pocket import folder, models
from recipes.pocket import train as stages
from recipes.pocket.train import Pool, Recipe, TimeLimit, tokenize

TINY = Recipe(minutes=0.005, batch_size=8, lr=1e-3, ema=0.5)


@pytest.fixture(scope="module")
def tokenizer():
    return models.tokenizer()


@pytest.fixture(scope="module")
def trained(tokenizer, tmp_path_factory):
    """All three parts, trained for a blink."""
    place, said = tmp_path_factory.mktemp("pocket"), []
    pool = Pool.drawn(24, tokenizer, 0, torch.device("cpu"))
    stages.train_clip(pool, pool, TINY, place, said.append, tokenizer=tokenizer)
    stages.train_vae(pool, pool, TINY, place, said.append)
    found = stages.train_unet(pool, pool, TINY, place, said.append, tokenizer=tokenizer)
    assert found["steps"] >= 1
    assert found["loss"] > 0
    for name in command.RECIPES:
        (place / f"{name}.json").write_text(json.dumps({"steps": 3, "made_by": name}))
    return place


def test_every_word_of_a_caption_is_one_token(tokenizer):
    generator = torch.Generator().manual_seed(0)
    for caption in scenes.sample_captions(scenes.sample(200, generator), generator):
        assert tokenizer.tokenize(caption) == [f"{word}</w>" for word in caption.split()]
        assert len(caption.split()) + 2 <= models.LENGTH
    assert "".join(tokenizer.tokenize("zebra")) == "zebra</w>"
    assert len(tokenizer.tokenize("zebra")) > 1


def test_the_vocabulary_is_the_same_each_time(tokenizer):
    again = models.tokenizer()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert models.byte_pairs(["aab", "ab"]) == [("a", "b</w>"), ("a", "ab</w>")]


def test_tokens_are_of_one_length_and_begin_and_end_as_clip_has_them(tokenizer):
    tokens = tokenize(tokenizer, ["a red circle", ""])
    assert tokens.shape == (2, models.LENGTH)
    assert tokens[:, 0].eq(tokenizer.bos_token_id).all()
    assert tokens[0, 4:].eq(tokenizer.eos_token_id).all()
    assert tokens[1, 1:].eq(tokenizer.eos_token_id).all()


def test_a_pool_has_no_picture_of_what_is_held_out_and_its_captions_fit(tokenizer):
    pool = Pool.drawn(40, tokenizer, 3, torch.device("cpu"), chunk=16)
    generator = torch.Generator().manual_seed(3)
    many = scenes.sample(40, generator)
    assert torch.equal(pool.images, (many.pictures() * 255).round().to(torch.uint8))
    assert torch.equal(pool.tokens, tokenize(tokenizer, scenes.sample_captions(many, generator)))
    assert not scenes.held_out(many.colour, many.shape, many.background[:, None])[:, 0].any()


def test_the_parts_are_small_and_stable_diffusions():
    size = sum(
        p.numel()
        for m in (models.text_encoder(models.tokenizer()), models.vae(), models.unet())
        for p in m.parameters()
    )
    assert 2 * size < folder.LARGEST
    config = models.scheduler().config
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert not config.clip_sample
    assert not config.set_alpha_to_one
    theirs = models.scheduler().alphas_cumprod.double()
    assert torch.allclose(models.schedule().alpha_bar, theirs, atol=1e-6)
    assert models.schedule().final_alpha_bar == pytest.approx(theirs[0].item(), abs=1e-6)


def test_the_folder_is_loaded_by_the_pipeline_as_it_is(trained, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {"other": {}, "models/pocket/old.bin": {}}}')
    for name in ("old.bin", "notes.txt"):
        (tmp_path / "models/pocket" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models/pocket" / name).write_text("something")
    shipped = folder.export(trained, manifest=manifest)
    assert not (shipped / "old.bin").exists()
    (shipped / "notes.txt").unlink()  # which the manifest never listed, so it was left alone
    listed = json.loads(manifest.read_text())["files"]
    assert "other" in listed
    assert "models/pocket/old.bin" not in listed
    assert listed["models/pocket/unet/diffusion_pytorch_model.safetensors"]["made_by"] == "unet"
    assert listed["models/pocket/text_encoder/model.safetensors"]["made_by"] == "clip"
    assert "circle, square, triangle" in (shipped / "README.md").read_text()
    for path in shipped.rglob("*"):
        if path.is_file():
            assert files.shipped(path.relative_to(tmp_path).as_posix(), manifest) == path
    pipe = StableDiffusionPipeline.from_pretrained(shipped, safety_checker=None, local_files_only=True)
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}
    pipe.set_progress_bar_config(disable=True)
    start = torch.randn(1, *models.LATENT, generator=torch.Generator().manual_seed(0))
    asked = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt", "latents": start}
    ours = folder.pipeline(trained)
    ours.set_progress_bar_config(disable=True)
    one, other = (p("a red circle on a white background", **asked).images for p in (pipe, ours))
    assert one.shape == (1, 3, 64, 64)
    assert torch.allclose(one, other, atol=2e-3)
    weights = load_file(shipped / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert pipe.vae.config.scaling_factor == pytest.approx(ours.vae.config.scaling_factor)


def test_too_large_a_folder_is_not_written(trained, tmp_path, monkeypatch):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {}}')
    monkeypatch.setattr(folder, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"folder.* \d+\.\d MiB.* 0 "):
        folder.export(trained, manifest=manifest)
    assert list(tmp_path.iterdir()) == [manifest]


def test_weights_of_another_text_encoder_are_named(trained, tokenizer):
    with pytest.raises(ValueError, match=r"vae\.safetensors.*text encoder.*token_embedding\.weight"):
        stages.load_text_encoder(models.text_encoder(tokenizer), trained / "vae.safetensors")


def test_the_limit_counts_the_time_before_an_interruption():
    limit = TimeLimit(100)
    assert limit.progress < 0.1
    limit.load_state_dict({"elapsed": 50.0})
    assert 0.5 <= limit.progress < 0.6
    again = TimeLimit(100)
    again.load_state_dict(limit.state_dict())
    assert 0.5 <= again.progress < 0.6
    again.load_state_dict({"elapsed": 500.0})
    assert again.progress == 1
    with pytest.raises(ValueError, match=r"0 seconds.*-60"):
        TimeLimit(-60)


def test_the_command_trains_what_is_missing_and_ships_what_is_whole(tmp_path, capsys, monkeypatch):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {}}')
    export = folder.export
    monkeypatch.setattr(command.folder, "export", lambda place: export(place, manifest=manifest))
    options = ["--scenes", "16", "--minutes", "0.003", "--batch-size", "8"]
    runs = tmp_path / "runs"
    assert command.main(["--stage", "clip", *options], runs) == 0
    assert sorted(path.name for path in runs.iterdir()) == ["clip.json", "text_encoder.safetensors"]
    assert not (tmp_path / "models").exists()
    assert command.main([*options], runs) == 0
    said = capsys.readouterr().out
    assert said.count("clip: 0.003 minutes") == 1
    assert "unet: 0.003 minutes" in said
    assert said.count("16 scenes drawn") == 2
    listed = json.loads(manifest.read_text())["files"]
    assert listed[f"models/pocket/vae/{WEIGHTS['vae']}"]["made_by"].startswith(f"{POCKET_COMMAND} --stage vae")
    monkeypatch.setattr(command.files, "MANIFEST", manifest)
    assert command.main(["--stage", "unet", "--from-shipped", *options], runs) == 0
    again = json.loads(manifest.read_text())["files"]
    assert again[f"models/pocket/unet/{WEIGHTS['unet']}"]["made_by"].endswith("--from-shipped")

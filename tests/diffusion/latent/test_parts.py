"""Loading the parts: from a folder, the hub's edge, and what ships; each thing that can be wrong is named."""

import errno
import json
import shutil
from functools import partial

import huggingface_hub
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

from lib.diffusion import latent
from lib.diffusion.latent import parts as module
from lib.diffusion.latent import text_to_image, timesteps
from lib.diffusion.latent.parts import Parts, schedule_from_config
from tests.diffusion.latent.hub import serve


def test_a_folder_is_loaded_as_the_pipeline_has_it(parts, stable):
    ours, theirs = parts.unet.state_dict(), stable.unet.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.allclose(parts.schedule.alpha_bar, stable.scheduler.alphas_cumprod.double(), atol=1e-6)
    assert (parts.prediction, parts.offset, parts.factor, parts.size) == ("noise", 1, 2, 32)
    assert not any(p.requires_grad for part in (parts.unet, parts.vae, parts.text_encoder) for p in part.parameters())
    assert parts.device.type == "cpu"
    assert parts.dtype == torch.float32


def test_another_scheduler_of_the_same_model_gives_the_same_schedule(copy, parts):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    PNDMScheduler(**config, skip_prk_steps=True, steps_offset=1).save_pretrained(copy / "scheduler")
    again = Parts.load(copy)
    assert torch.equal(again.schedule.alpha_bar, parts.schedule.alpha_bar)
    assert again.schedule.final_alpha_bar == parts.schedule.final_alpha_bar
    assert again.offset == 1


@pytest.mark.parametrize(("kind", "ours"), [("epsilon", "noise"), ("v_prediction", "v")])
def test_what_is_predicted_is_read_from_the_scheduler(copy, kind, ours):
    DDIMScheduler(prediction_type=kind, clip_sample=False).save_pretrained(copy / "scheduler")
    assert Parts.load(copy).prediction == ours


def write(copy, **settings):
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_the_spacing_of_timesteps_is_the_schedulers(copy, spacing):
    write(copy, timestep_spacing=spacing, steps_offset=1 if spacing == "leading" else 0)
    scheduler = DDIMScheduler.from_pretrained(copy / "scheduler")
    scheduler.set_timesteps(7)
    assert timesteps(Parts.load(copy), 7).round().long().tolist() == scheduler.timesteps.tolist()


def test_zero_terminal_snr_is_the_schedulers(copy):
    write(
        copy, rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=0, prediction_type="v_prediction"
    )
    scheduler = DDIMScheduler.from_pretrained(copy / "scheduler")
    parts = Parts.load(copy)
    assert parts.schedule.zero_snr
    assert torch.allclose(parts.schedule.alpha_bar, scheduler.alphas_cumprod.double(), atol=1e-6)
    assert parts.schedule.final_alpha_bar == pytest.approx(scheduler.final_alpha_cumprod.item(), abs=1e-6)
    assert text_to_image(parts, "a star", steps=3).isfinite().all()
    write(copy, prediction_type="epsilon")
    with pytest.raises(ValueError, match=r"v or x0.*'noise'"):
        Parts.load(copy)


@pytest.mark.parametrize("setting", ["clip_sample", "thresholding", "use_karras_sigmas"])
def test_a_setting_that_is_not_obeyed_is_refused(copy, setting):
    write(copy, **{setting: True})
    with pytest.raises(ValueError, match=f"{setting}.*false"):
        Parts.load(copy)
    write(copy, **{setting: False}, timestep_spacing="random")
    with pytest.raises(ValueError, match=r"timestep_spacing.*'random'.*leading, linspace, trailing"):
        Parts.load(copy)


def test_unknown_betas_and_predictions_are_named(copy):
    with pytest.raises(ValueError, match=r"'sigmoid'.*linear, scaled_linear, squaredcos_cap_v2"):
        schedule_from_config({"beta_schedule": "sigmoid"})
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "flow"}))
    with pytest.raises(ValueError, match=r"'flow'.*epsilon, v_prediction, sample"):
        Parts.load(copy)


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "vae", "unet", "scheduler"])
def test_a_part_that_is_missing_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(ValueError, match=f"{copy}.*'{part}'.*fetch the whole checkpoint"):
        Parts.load(copy)


def test_broken_and_pickled_weights_are_named_and_not_read(copy):
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"vae/diffusion_pytorch_model\.safetensors.*fetch"):
        Parts.load(copy)
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(ValueError, match=r"vae.*safetensors.*diffusion_pytorch_model\.bin"):
        Parts.load(copy)


def test_another_family_is_named(copy):
    index = copy / "model_index.json"
    config = json.loads(index.read_text())
    index.write_text(json.dumps({**config, "_class_name": "StableDiffusionXLPipeline", "text_encoder_2": ["x", "y"]}))
    with pytest.raises(ValueError, match=r"StableDiffusionXLPipeline.*Stable Diffusion 1 and 2"):
        Parts.load(copy)
    index.unlink()
    with pytest.raises(ValueError, match=r"model_index\.json"):
        Parts.load(copy)


def test_half_precision_on_a_cpu_is_refused(stable_folder):
    with pytest.raises(ValueError, match=r"torch\.float16.*CPU.*float32"):
        Parts.load(stable_folder, dtype=torch.float16)


def test_what_is_neither_a_folder_nor_on_the_hub_is_named():
    with pytest.raises(ValueError, match=r"'\./nowhere'.*'pocket'"):
        Parts.load("./nowhere")


def test_the_hub_is_asked_for_safetensors_of_a_revision_only(stable_folder, monkeypatch):
    asked = {}

    def fetch(name, **options):
        asked.update(options, name=name)
        return str(stable_folder)

    monkeypatch.setattr(module, "snapshot_download", fetch)
    assert Parts.load("owner/name", revision="abc", network=False).name == "owner/name"
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("owner/name", "abc", True)
    assert not any(".bin" in pattern or ".ckpt" in pattern for pattern in asked["allow_patterns"])
    assert "unet/diffusion_pytorch_model.safetensors" in asked["allow_patterns"]


@pytest.fixture
def hub(stable_folder, tmp_path, monkeypatch):
    """The real client, asking a hub on this machine; yields the files that it fetched."""
    (stable_folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    with serve("owner/name", stable_folder) as (address, fetched):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        fetch = partial(huggingface_hub.snapshot_download, endpoint=address, cache_dir=tmp_path / "cache")
        monkeypatch.setattr(module, "snapshot_download", fetch)
        yield fetched
    (stable_folder / "unet" / "diffusion_pytorch_model.bin").unlink()


def test_a_checkpoint_is_fetched_once_and_without_its_pickles(hub, parts):
    ours, theirs = Parts.load("owner/name").unet.state_dict(), parts.unet.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert "unet/diffusion_pytorch_model.safetensors" in hub
    assert not any(file.endswith(".bin") for file in hub)
    assert len(hub) == len(set(hub))
    hub.clear()
    again = Parts.load("owner/name", network=False)
    assert torch.equal(again.unet.conv_in.weight, parts.unet.conv_in.weight)
    assert hub == []


def test_what_the_hub_does_not_have_is_named(hub):
    with pytest.raises(ValueError, match=r"owner/name.*'elsewhere'.*hub"):
        Parts.load("owner/name", revision="elsewhere")
    with pytest.raises(ValueError, match=r"owner/other.*hub.*licence"):
        Parts.load("owner/other")
    with pytest.raises(ValueError, match=r"owner/name.*cache.*hub.*'pocket'"):
        Parts.load("owner/name", network=False)
    assert hub == []


def test_stable_diffusion_is_pinned_and_another_revision_may_be_named(stable_folder, monkeypatch):
    asked = []

    def fetch(name, *, revision, **_):
        asked.append(revision)
        return str(stable_folder)

    monkeypatch.setattr(module, "snapshot_download", fetch)
    Parts.load(module.STABLE_DIFFUSION)
    Parts.load(module.STABLE_DIFFUSION, revision="other")
    Parts.load("owner/name")
    assert asked == [module.PINNED[module.STABLE_DIFFUSION], "other", None]
    assert len(asked[0]) == 40


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalEntryNotFoundError("x"), "owner/name.*cache.*hub.*'pocket'"),
        (ConnectionError("x"), "owner/name.*cache.*hub.*'pocket'"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk.*owner/name.*HF_HOME"),
    ],
)
def test_what_the_hub_may_answer_is_told(monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, "snapshot_download", fail)
    with pytest.raises(ValueError, match=message):
        Parts.load("owner/name")


def test_a_revision_that_is_not_there_is_told(monkeypatch):
    class Gone(RevisionNotFoundError):
        def __init__(self):
            Exception.__init__(self, "404")

    def fail(*_, **__):
        raise Gone

    monkeypatch.setattr(module, "snapshot_download", fail)
    with pytest.raises(ValueError, match=r"owner/name.*'abd'"):
        Parts.load("owner/name", revision="abd")


def test_the_pocket_that_ships_is_checked_and_its_command_is_told(monkeypatch, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"files": {}}')
    monkeypatch.setattr(module.files, "MANIFEST", manifest)
    with pytest.raises(ValueError, match=r"models/pocket.*manifest\n.*python -m recipes\.pocket"):
        Parts.load()


def test_saving_memory_changes_no_picture(stable_folder, parts):
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    saving = Parts.load(stable_folder).save_memory()
    with torch.no_grad():
        assert torch.allclose(saving.vae.decode(x).sample, parts.vae.decode(x).sample, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:the model never saw")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_gpu_half_precision_draws_and_edits_nearly_the_same(stable_folder, dtype):
    half, full = (Parts.load(stable_folder, device="cuda", dtype=d) for d in (dtype, torch.float32))
    image, mask = torch.rand(1, 3, 32, 32), torch.ones(32, 32)
    for draw in (
        lambda parts: text_to_image(parts, "a star", steps=4),
        lambda parts: latent.image_to_image(parts, image, "a star", steps=4),
        lambda parts: latent.inpaint(parts, image, mask, "a star", steps=4),
        lambda parts: latent.diffedit(parts, image, "a ring", "a star", mask=mask, steps=4, draws=1).images,
    ):
        assert (draw(half).float() - draw(full)).abs().mean() < 0.05

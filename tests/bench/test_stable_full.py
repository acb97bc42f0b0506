"""The long scores in small, with the model that ships: they go on where they were, and tell right from wrong."""

import pytest
import torch
import torch.nn.functional as F

from bench import stable_full as full
from lib import scenes
from lib.diffusion.latent import Parts, editing
from lib.measure import machine
from lib.scenes.tasks import edit_masks, sample_tasks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2 in diffusers


@pytest.fixture(scope="module")
def pocket():
    return Parts.load()


@pytest.fixture
def judged(pocket, tmp_path, monkeypatch):
    monkeypatch.setattr(full, "BATCH", 2)
    monkeypatch.setattr(full, "STEPS", 2)
    return full.Judged(pocket, lambda _: None, tmp_path, 4)


def test_an_interrupted_score_goes_on_and_ends_as_the_whole_one(judged):
    def judge(judged, first, n):
        asked.append(first)
        if stop and first:
            raise KeyboardInterrupt
        return {"right": torch.arange(first, first + n).float()}

    asked, stop = [], True
    with pytest.raises(KeyboardInterrupt):
        judged.scores("x", judge)
    stop = False
    seen = judged.scores("x", judge)
    assert asked == [0, 2, 2]
    assert seen["right"].tolist() == [0, 1, 2, 3]
    assert seen.mean("right") == 150
    assert seen.machine == machine()
    judged.scores("x", judge)
    assert asked == [0, 2, 2]


def test_other_questions_settings_and_weights_are_scored_anew(judged, pocket, tmp_path):
    names = {
        judged.digest("over", full.with_image_to_image, 0.5),
        judged.digest("over", full.with_image_to_image, 0.6),
        judged.digest("negative", full.negative),
        full.Judged(pocket, print, tmp_path, 4, weights="others").digest("over", full.with_image_to_image, 0.5),
    }
    assert len(names) == 4


def test_a_perfect_editor_is_right_and_in_place_and_one_that_does_nothing_is_not(judged, monkeypatch):
    def score(drawn):
        monkeypatch.setattr(full.latent, "image_to_image", lambda *_, **__: drawn)
        return full.with_image_to_image(judged, 0, 4, 0.5)

    wanted = scenes.stack([task.target for task in judged.edits]).pictures()
    there = scenes.stack([task.source for task in judged.edits]).pictures()
    assert judged.edits == sample_tasks(4, full.SEED)
    perfect, idle = score(wanted), score(there)
    assert perfect["success"].tolist() == perfect["near"].tolist() == [1] * 4
    assert perfect["outside"].eq(100).all()
    assert perfect["background"].gt(0).all()
    assert idle["success"].sum() == 0
    assert idle["outside"].eq(100).all()


def test_reconstructions_and_inversion_are_scored(judged, monkeypatch):
    seen = judged.scores("vae", full.reconstructed)
    assert seen["psnr"].min() > 25
    assert seen.mean("read") == 100
    monkeypatch.setattr(full.latent, "timesteps", lambda parts, steps: parts.schedule.timesteps(4, "leading", 1))
    monkeypatch.setattr(editing, "timesteps", full.latent.timesteps)
    assert full.inverted(judged, 0, 1)["psnr"][0] > 15


@pytest.fixture
def recorded(pocket, tmp_path, monkeypatch):
    """A function that gives all records by name, where `scored(name, n)` are the scores of n that were tried."""

    def call(scored):
        def scores(self, name, judge, *given, count=0):
            n = count or self.count
            others = {key: torch.ones(n) for key in ("psnr", "read", "right", "shown", "lost", "kept")}
            return full.Seen(others | scored(name, n), "other" if name.startswith("over-") else "a machine")

        monkeypatch.setattr(full.Judged, "scores", scores)
        return {record.name: record for record in full.records(lambda _: None, tmp_path, 4)}

    monkeypatch.setattr(Parts, "load", lambda **_: pocket)
    return call


def test_records_name_goal_machine_and_kinds(recorded):
    def scored(name, n):
        right = torch.tensor([1.0, 1.0, 0.0, 1.0])[:n]
        often = right * (name not in ("over-0.4", "over-1.0"))
        background = (-20 if name.startswith("over-") else -1) * right
        return {"success": often, "near": right, "iou": right, "background": background, "outside": 30 * right}

    found = recorded(scored)
    record = found["stable/edit-success"]
    assert (record.value, record.unit, record.n) == (75, "%", 4)
    assert (record.machine, record.target) == ("a machine", ">= 90")
    assert record.note == "colour 100, shape 100, background 0"
    assert (found["stable/edit-iou"].unit, found["stable/vae"].unit) == ("IoU", "dB")
    better = found["stable/edit-background/over-image-to-image"]
    assert better.value == pytest.approx(14.25)
    assert "at strength 0.5" in better.note  # the least that succeeds as often


def test_both_ways_are_compared_over_the_same_edits(recorded, monkeypatch):
    keys = ("success", "near", "iou", "background", "outside")
    monkeypatch.setattr(full, "FEWER", 2)
    every = recorded(lambda name, n: {key: torch.arange(n).float() for key in keys})
    found = {name: record for name, record in every.items() if "/strength/" in name}
    assert {record.n for record in found.values()} == {2}
    pair = (found[f"stable/strength/{way}/0.8/near"].value for way in ("image-to-image", "diffedit"))
    assert len(set(pair)) == 1


def test_the_peer_is_asked_as_it_comes(judged, monkeypatch):
    class Pipe:
        def generate_mask(self, image, target, *, source_prompt, generator):
            asked.append((target, source_prompt, image.shape[0]))
            return torch.ones(1, 16, 16).numpy()

        def invert(self, prompt, image, *, generator):
            return type("", (), {"latents": torch.zeros(1)})

        def __call__(self, target, mask, latents, *, negative_prompt, output_type):
            assert mask.shape == (2, 16, 16)
            return type("", (), {"images": scenes.stack([task.target for task in judged.edits[:2]]).pictures()})

    asked = []
    monkeypatch.setattr(full, "pipeline", lambda _: Pipe())
    found = full.theirs(judged, 0, 2)
    assert asked == [(*task.prompts[::-1], 1) for task in judged.edits[:2]]
    assert found["success"].tolist() == [1, 1]
    wanted = F.max_pool2d(edit_masks(judged.edits[:2])[:, None], 4)
    share = wanted.mean(dim=(1, 2, 3))  # of what is wanted, in a mask that lets all change
    assert found["iou"].tolist() == pytest.approx(share.tolist())

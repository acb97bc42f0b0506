"""Tasks are held-out edits of one thing, their masks hold what differs, and judging tells right from wrong."""

from dataclasses import replace

import pytest
import torch

from lib.scenes import Scene, Thing, held_out, render, stack
from lib.scenes.tasks import Task, edit_masks, iou, matches, psnr, sample_tasks, shows

MANY = sample_tasks(60, seed=3)


def test_each_kind_comes_in_turn_and_changes_one_thing_to_what_is_held_out():
    assert [task.kind for task in MANY[:4]] == ["colour", "shape", "background", "colour"]
    assert {len(task.source.things) for task in MANY} == {1, 2}
    for task in MANY:
        row = stack([task.target])
        assert held_out(row.colour[0, task.index], row.shape[0, task.index], row.background[0])
        before, after = task.source.things[task.index], task.target.things[task.index]
        changed = [name for name in ("shape", "colour") if getattr(before, name) != getattr(after, name)]
        changed += ["background"] * (task.source.background != task.target.background)
        assert changed == [task.kind]
        if len(task.source.things) == 2:
            assert task.source.things[1 - task.index] == task.target.things[1 - task.index]
            assert len({(thing.shape, thing.colour) for thing in task.target.things}) == 2


def test_tasks_hang_on_the_seed_alone():
    assert sample_tasks(9, seed=3) == MANY[:9]
    assert sample_tasks(9, seed=4) != MANY[:9]
    assert {len(task.source.things) for task in sample_tasks(9, seed=3, two=True)} == {2}
    with pytest.raises(ValueError, match=r"edit.* 0"):
        sample_tasks(0, seed=0)


def test_what_may_change_holds_each_pixel_that_does():
    before, after = (stack([getattr(task, side) for task in MANY]).pictures() for side in ("source", "target"))
    differs, may = (before - after).abs().amax(1) > 1e-6, edit_masks(MANY) == 1
    assert not (differs & ~may).any()
    for i, task in enumerate(MANY):
        other = stack([task.source]).masks()[0, 1 - task.index] if len(task.source.things) == 2 else torch.zeros(64, 64)
        assert not (may[i] & (other == 1)).any()
        if task.kind == "colour":
            assert torch.equal(may[i], stack([task.source]).masks()[0, task.index] > 0)


def test_prompts_say_what_there_is_and_what_is_wanted():
    scene = Scene((Thing("circle", "red"),), "sand")
    task = Task("colour", scene, replace(scene, things=(Thing("circle", "blue"),)))
    assert task.prompts == ("a red circle on a sand background", "a blue circle on a sand background")


def test_a_picture_shows_its_own_scene_and_no_other():
    for task in MANY[:12]:
        picture = render(task.target)[0]
        assert shows(picture, task.target)
        assert matches(task.target, task.target, max_distance=0)
        assert not shows(picture, task.source)
    two = Scene((Thing("star", "red", 9, 16, 30), Thing("ring", "blue", 9, 48, 30)), "white")
    swapped = Scene((Thing("star", "blue", 9, 16, 30), Thing("ring", "red", 9, 48, 30)), "white")
    away = Scene((Thing("star", "red", 9, 16, 40), Thing("ring", "blue", 9, 48, 30)), "white")
    assert not shows(render(two)[0], swapped)
    assert not shows(render(two)[0], Scene(two.things[:1], "white"))
    assert shows(render(two)[0], away)
    assert not matches(two, away, max_distance=4)
    assert matches(two, away, max_distance=10)
    assert not matches(None, two)
    assert not shows(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), two)


def test_noise_ratio_against_a_loop_and_only_where_it_counts():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 3, 8, 8, generator=generator)
    where = (torch.rand(3, 8, 8, generator=generator) < 0.5).float()
    for i in range(3):
        errors = [(one[i, :, r, c] - other[i, :, r, c]).double().square().mean() for r, c in where[i].nonzero()]
        wanted = -10 * (sum(errors) / len(errors)).log10()
        assert psnr(one, other, where)[i].item() == pytest.approx(wanted.item(), abs=1e-4)
    assert psnr(one, one).eq(100).all()


def test_iou_is_intersection_over_union():
    mask, wanted = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    mask[0, :2], wanted[0, 1:3] = 1, 1
    assert iou(mask, wanted).tolist() == pytest.approx([1 / 3, 0])
    assert iou(wanted[:1], wanted[:1]).tolist() == [1]

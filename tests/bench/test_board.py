"""The board in small: every entry with its range, its mirror images, and its nets together; and its steps."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from bench import board, board_steps, training
from lib import data

TINY = training.Recipe("tiny", "adamw", lr=0.01, weight_decay=1e-3, batch_size=20, epochs=2, seeds=(1, 2))


@pytest.fixture
def clothes(monkeypatch):
    loaded = data.load("fashion_mnist", sizes=(100, 40))
    monkeypatch.setitem(training.NETS, "tiny", lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    monkeypatch.setattr(training, "HELD_OUT", 30)
    monkeypatch.setattr(board_steps, "IMAGES", 50)
    monkeypatch.setattr(board, "BOARD", {"5": TINY, "20": dataclasses.replace(TINY, epochs=3), "50": TINY})
    monkeypatch.setattr(board_steps, "STEPS", {"flip": dataclasses.replace(TINY, changes=("flip",))})
    monkeypatch.setattr(board.data, "load", lambda name: loaded)
    return loaded


def test_the_board_has_each_entry_with_its_range(clothes, tmp_path):
    said = []
    found = {record.name: record for record in board.records(said.append, tmp_path)}
    assert [*found] == ["board/5", "board/5/mirrored", "board/5/together", "board/20", "board/20/mirrored"]
    assert said[-1] == "left out: board/50, for which a GPU is needed"
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("board-5-*.json")]
    last = [result["accuracy"][-1] for result in kept]
    five = found["board/5"]
    assert (five.value, five.low, five.high, five.n) == (pytest.approx(sum(last) / 2), min(last), max(last), 2)
    assert "7,850 parameters" in five.note
    assert five.target == ">= 94.2"
    assert found["board/20"].n == 1
    assert found["board/20/mirrored"].reference == 94.5
    mean = torch.from_numpy(sum(np.load(tmp_path / result["probabilities"])[0] for result in kept))
    right = 100 * (mean.argmax(1) == clothes.test.labels).double().mean().item()
    assert found["board/5/together"].value == pytest.approx(right)
    assert "10,000 test images" in five.note


def test_a_step_is_judged_by_training_images_put_aside(clothes, tmp_path):
    (flip,) = board_steps.records(lambda line: None, tmp_path)
    assert (flip.name, flip.n, flip.target) == ("board/steps/flip", 2, None)
    assert "the last 10,000 training images, trained on the first 50" in flip.note


def test_each_step_is_the_first_with_one_thing_changed():
    for name, recipe in board_steps.STEPS.items():
        values, whole = dataclasses.asdict(recipe), dataclasses.asdict(board_steps.SMALL)
        assert sum(values[key] != whole[key] for key in values) == (name != "none")

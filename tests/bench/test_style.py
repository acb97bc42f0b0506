"""Both sides lower the same loss, and what is recorded was measured."""

import subprocess

import pytest
import torch
from numpy.testing import assert_allclose

from bench import style
from lib.style import build_objective
from lib.style.extractors import Extractor, vgg


@pytest.fixture
def extractor():
    torch.manual_seed(0)
    net = vgg((2, 2, 1), (4, 6, 8), torch.nn.Conv2d(3, 3, 1), padding_mode="reflect").requires_grad_(False)
    return Extractor("small", net, "relu2_1", ("relu1_1", "relu2_1", "relu3_1"), None)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(style, "SIZE", 64)
    monkeypatch.setattr(style, "EVALUATIONS", 20)
    return style.pairs()


def test_the_recipe_and_ours_have_one_loss(extractor, small):
    pair = small[0]
    assert pair.content.shape == pair.style.shape == (1, 3, 64, 64)
    net, total = style.recipe(extractor, pair)
    options = {"content_layers": style.CONTENT, "style_layers": style.STYLE, "relative": False}
    weight = style.STYLE_WEIGHT * len(style.STYLE)
    objective = build_objective(extractor.net, content=pair.content, style=pair.style, style_weight=weight, **options)
    x = torch.rand_like(pair.content)
    net(x)
    assert_allclose(total(), objective(x), rtol=1e-4)


def test_the_record_is_of_both_sides_in_turn(extractor, small, monkeypatch):
    monkeypatch.setattr(style, "pairs", lambda: small[:1])
    record = style.time_ratio(extractor, repeats=2)
    assert (record.name, record.unit, record.n) == ("style/transfer-256", "time ratio", 2)
    assert record.same
    assert "the recipe's lowest loss" in record.note
    assert 0 < record.low <= record.value <= record.high


def test_a_picture_that_does_not_come_as_low_is_not_the_same(extractor, small, monkeypatch):
    monkeypatch.setattr(style, "pairs", lambda: small[:2])
    low, tried = style.ours, []

    def lazy(extractor, pair, target_loss):
        tried.append(pair.name)
        if pair.name == small[0].name:
            return style.Outcome(1.0, 0.0, 1.0, 0.0, 1), pair.content
        return low(extractor, pair, target_loss)

    monkeypatch.setattr(style, "ours", lazy)
    assert not style.time_ratio(extractor, repeats=1).same, "what ours says of its own loss does not count"
    assert set(tried) == {pair.name for pair in small[:2]}


def test_patches_are_compared_with_one_piece_and_memory_is_that_of_a_process(extractor, small, monkeypatch):
    loss, gradient = style.apart(extractor, size=96, tile=32)
    assert loss < 1e-4
    assert gradient < 1e-4
    asked = []

    def answer(command, text):
        asked.append(command[-1])
        return "2048" if command[-1] == str(style.TILE) else "4096"

    monkeypatch.setattr(subprocess, "check_output", answer)
    monkeypatch.setattr(style, "apart", lambda extractor: (loss, gradient))
    record = style.memory(extractor)
    assert (record.name, record.value, record.unit, record.same) == ("style/memory-2048", 2.0, "MiB", True)
    assert asked == [str(style.TILE), "0"]
    assert "in one piece 4 MiB" in record.note
    compile(style.PEAK, "PEAK", "exec")

"""Both sides draw the same images, and what is recorded was measured."""

import subprocess

import pytest
import torch

from bench import diffusion
from lib.nn.unet import UNet

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2 in diffusers


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = UNet(1, (8, 8), classes=10, attention=(False, True))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def test_both_sides_draw_the_same(net):
    ours, theirs = diffusion.ours(net, 3, 10), diffusion.theirs(net, 3, 10)
    assert ours.shape == (3, 1, 32, 32)
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_time_ratio_tells_the_noise_of_the_machine(net, monkeypatch):
    monkeypatch.setattr(diffusion, "STEPS", 2)
    monkeypatch.setattr(diffusion.ours, "__defaults__", (2,))
    monkeypatch.setattr(diffusion.theirs, "__defaults__", (2,))
    record = diffusion.time_ratio(net, count=2, pairs=1)
    assert record.same
    assert record.unit == "time ratio"
    assert "ours against ours" in record.note
    assert diffusion.seconds_an_image(net, count=2, steps=2, repeats=1).value > 0


def test_memory_is_that_of_a_process_for_each_side(monkeypatch):
    asked = []

    def answer(command, text):
        asked.append(command[-1])
        return str(2048 if command[-1] == "ours" else 4096)

    monkeypatch.setattr(subprocess, "check_output", answer)
    record = diffusion.memory(repeats=2)
    assert (record.value, record.ours, record.theirs) == (0.5, 2.0, 4.0)
    assert asked == ["ours", "ours", "theirs", "theirs"]
    assert "sys.argv[1]" in diffusion.PEAK

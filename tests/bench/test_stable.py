"""Both sides draw the same images, and what is recorded was measured."""

import subprocess

import pytest

from bench import stable
from lib.diffusion.latent import Parts

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2 in diffusers


@pytest.fixture(scope="module")
def pocket():
    return Parts.load()


def test_both_sides_draw_the_same_and_a_ratio_tells_the_noise(pocket, monkeypatch):
    monkeypatch.setattr(stable, "STEPS", 4)
    mine, other = stable.ours(pocket)(), stable.theirs(pocket)()
    assert mine.shape == (2, 3, 64, 64)
    assert mine.std() > 0.05
    assert (mine - other).abs().max() < 1e-4
    record = stable.time_ratio(pocket, pairs=1)
    assert record.same
    assert record.unit == "time ratio"
    assert "ours against ours" in record.note


def test_memory_is_that_of_a_process_for_each_side(monkeypatch):
    asked = []

    def answer(command, text):
        asked.append(command[-1])
        return str(2048 if command[-1] == "ours" else 4096)

    monkeypatch.setattr(subprocess, "check_output", answer)
    record = stable.memory_ratio(repeats=2)
    assert (record.value, record.ours, record.theirs) == (0.5, 2.0, 4.0)
    assert asked == ["ours", "ours", "theirs", "theirs"]
    compile(stable.PEAK, "PEAK", "exec")

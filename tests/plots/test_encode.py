"""Figures become small files that look the same."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lib import plots
from lib.plots.encode import encode
from tests.plots.figures import decode


@settings(deadline=None, max_examples=8)
@given(colours=st.integers(2, 256), seed=st.integers(0, 99))
def test_quantising_keeps_size_and_the_commonest_colours(colours, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    pixels[:20] = (0xFC, 0xFC, 0xFA)
    reduced = decode(encode(pixels, colours))
    assert reduced.size == (30, 40)
    assert len(reduced.getcolors()) <= colours
    assert (np.asarray(reduced.convert("RGB"))[:20] == (0xFC, 0xFC, 0xFA)).all()


def test_few_colours_are_kept_exactly():
    pixels = np.random.default_rng(0).choice(np.array([[0, 0, 0], [9, 200, 1], [255, 255, 255]], np.uint8), (20, 20))
    assert np.array_equal(np.asarray(decode(encode(pixels, 3)).convert("RGB")), pixels)


def test_what_does_not_change_is_transparent():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for changed in (np.eye(9, 7, dtype=bool), np.zeros((9, 7), bool), np.ones((9, 7), bool)):
        packed = np.asarray(decode(encode(pixels, 100, changed)).convert("RGBA"))
        assert np.array_equal(packed[..., 3] == 255, changed)
        assert np.array_equal(packed[changed][:, :3], pixels[changed])


def test_a_quantised_figure_looks_the_same_in_a_third_of_the_bytes():
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    for i in range(6):
        ax.plot(np.sin(np.linspace(0, 9, 300) + i))
    full = io.BytesIO()
    figure.savefig(full, dpi=144, bbox_inches="tight")
    small = plots.png(figure)
    before, after = (np.asarray(decode(data).convert("RGB"), int) for data in (full.getvalue(), small))
    assert before.shape == after.shape
    assert abs(before - after).mean() < 0.5
    assert len(small) < len(full.getvalue()) / 2
    seen = {tuple(colour) for colour in after.reshape(-1, 3)}
    assert {tuple(round(255 * part) for part in to_rgb(colour)) for colour in plots.PALETTE} <= seen


@pytest.mark.parametrize("colours", [1, 257])
def test_a_palette_has_2_to_256_colours(colours):
    with pytest.raises(ValueError, match=f"colours.*2.*256.*{colours}"):
        plots.png(Figure(), colours=colours)


def test_a_figure_becomes_a_jpeg_that_a_cell_shows():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    figure = plots.image_grid(np.repeat(np.repeat(rgb, 20, 0), 20, 1)[None], ["a title"], size=2)
    shown = plots.jpeg(figure)
    kind, (data, _) = "image/jpeg", shown._repr_mimebundle_()
    assert set(data) == {kind}
    image = Image.open(io.BytesIO(base64.b64decode(data[kind])))
    assert image.format == "JPEG"
    assert 200 < image.width < 240
    assert len(plots.jpeg(figure, quality=20).data) < len(shown.data)

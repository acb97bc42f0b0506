"""Figures: what is on them, that they read with any eye, and that they stay small."""

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from lib import flipbook as flip
from lib import plots

ASSETS = Path(__file__).parent.parent / "assets"
# What people without one kind of cone see of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
SIGHTS = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plots.use_style()
        yield
    assert plt.get_fignums() == [], "every figure is closed"


def linear(colour):
    colour = np.asarray(to_rgb(colour))
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05 for colour in (one, other))
    return high / low


def decode(png):
    return Image.open(io.BytesIO(png))


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


# Colours


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_palette_is_told_apart(sight):
    seen = np.clip([linear(colour) @ np.transpose(SIGHTS[sight]) for colour in plots.PALETTE], 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(lab, 2)) > 15


def test_ink_and_palette_stand_out_from_paper():
    assert contrast(plots.INK, plots.PAPER) > 12
    assert min(contrast(colour, plots.PAPER) for colour in plots.PALETTE) > 3


def test_colour_maps_go_one_way_in_lightness():
    light = [rgb2lab(plots.SEQUENTIAL(x)[:3])[0] for x in np.linspace(0, 1, 64)]
    assert (np.diff(light) < 0).all()
    light = [rgb2lab(plots.DIVERGING(x)[:3])[0] for x in np.linspace(0, 1, 65)]
    assert (np.diff(light[:33]) > 0).all()
    assert (np.diff(light[32:]) < 0).all()


def test_figures_are_opaque_paper():
    figure = Figure()
    figure.subplots().plot([1, 2])
    with decode(plots.png(figure)) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGBA").getpixel((0, 0)) == (0xFC, 0xFC, 0xFA, 255)


# Small PNGs


@settings(deadline=None, max_examples=8)
@given(colors=st.integers(2, 256), seed=st.integers(0, 99))
def test_quantising_keeps_size_and_the_commonest_colours(colors, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    pixels[:20] = (0xFC, 0xFC, 0xFA)
    reduced = decode(flip._encode(pixels, colors))
    assert reduced.size == (30, 40)
    assert len(reduced.getcolors()) <= colors
    assert (np.asarray(reduced.convert("RGB"))[:20] == (0xFC, 0xFC, 0xFA)).all()


def test_few_colours_are_kept_exactly():
    pixels = np.random.default_rng(0).choice(np.array([[0, 0, 0], [9, 200, 1], [255, 255, 255]], np.uint8), (20, 20))
    assert np.array_equal(np.asarray(decode(flip._encode(pixels, 3)).convert("RGB")), pixels)


def test_what_does_not_change_is_transparent():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for changed in (np.eye(9, 7, dtype=bool), np.zeros((9, 7), bool), np.ones((9, 7), bool)):
        packed = np.asarray(decode(flip._encode(pixels, 100, changed)).convert("RGBA"))
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


@pytest.mark.parametrize("colors", [1, 257])
def test_a_palette_has_2_to_256_colours(colors):
    with pytest.raises(ValueError, match=f"from 2 to 256, got {colors}"):
        plots.png(Figure(), colors=colors)


def test_in_a_notebook_figures_become_small_pngs(monkeypatch):
    registered = {}

    class Formatter:
        def for_type(self, kind, function):
            registered[kind] = function

    class Shell:
        display_formatter = type("", (), {"formatters": {"image/png": Formatter()}})

    monkeypatch.setattr(plots, "get_ipython", Shell)
    plots.use_style()
    assert registered == {Figure: plots.png}


# Image grids

SHAPES = [(5, 8, 6), (5, 1, 8, 6), (5, 3, 8, 6), (5, 8, 6, 3), (5, 8, 6, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["uint8", "float", "bfloat16", "numpy", "list"])
def test_grids_show_every_image(shape, kind):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    shown = {
        "uint8": images,
        "float": images / 255,
        "bfloat16": (images / 255).bfloat16(),
        "numpy": images.numpy(),
        "list": list(images),
    }[kind]
    figure = plots.image_grid(shown, titles=list("abcde"), columns=2)
    pictures = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(pictures) == 5
    assert len(figure.axes) == 6, "the last place of three rows of two stays empty"
    expected = images[3].numpy() / 255
    expected = np.moveaxis(expected, 0, -1) if shape[1] in (1, 3) else expected
    picture = pictures[3]
    got = picture.norm(picture.get_array()) if picture.get_array().ndim == 2 else picture.get_array()
    np.testing.assert_allclose(got, expected.squeeze(), atol=4e-3)
    assert texts(figure) == list("abcde")


def test_floats_beyond_0_to_1_span_their_range_unless_one_is_given():
    images = torch.linspace(-2, 2, 50).view(2, 5, 5)
    assert plots.image_grid(images).axes[0].images[0].get_clim() == (-2, 2)
    assert plots.image_grid(images, value_range=(-1, 1)).axes[1].images[0].get_clim() == (-1, 1)
    assert plots.image_grid(images.clamp(0, 1)).axes[0].images[0].get_clim() == (0, 1)
    assert plots.image_grid(torch.full((1, 3, 3), 7.0)).axes[0].images[0].get_array().max() == 7


@pytest.mark.parametrize(
    ("images", "options", "fault"),
    [
        (torch.zeros(0, 8, 8), {}, "must not be empty"),
        ([], {}, "must not be empty"),
        (torch.zeros(8, 8), {}, r"\[n, h, w\].*got \(8, 8\)"),
        (torch.zeros(2, 4, 8, 8), {}, r"got \(2, 4, 8, 8\)"),
        (torch.full((1, 2, 2), float("nan")), {}, "finite, got 4 NaN"),
        (torch.zeros(1, 2, 2, dtype=torch.complex64), {}, "real numbers, got dtype complex64"),
        (["a"], {}, "real numbers"),
        (torch.zeros(3, 8, 8), {"titles": ["a"]}, "3 images need as many titles, got 1"),
        (torch.zeros(3, 8, 8), {"columns": -1}, "columns must be at least 1, got -1"),
        (torch.zeros(3, 8, 8), {"size": 0}, "size must be positive, got 0"),
    ],
)
def test_what_is_no_grid_of_images_is_refused(images, options, fault):
    with pytest.raises(ValueError, match=fault):
        plots.image_grid(images, **options)


# Heat maps


def test_heat_maps_write_each_value_legibly():
    values = np.array([[-2.5, 0.0, 123.4], [1.0, 2.5, -0.001]])
    figure = plots.heatmap(values, row_labels="ab", column_labels=range(3), title="A title", highlight=[(0, 2)])
    [ax] = figure.axes
    assert [text.get_text() for text in ax.texts] == ["−2.5", "0.0", "123.4", "1.0", "2.5", "0.0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_title(loc="left") == "A title"
    assert [patch.get_xy() for patch in ax.patches] == [(1.5, -0.5)]
    assert ax.images[0].get_clim() == (-123.4, 123.4)


@pytest.mark.parametrize("cmap", [None, "gray", "viridis", plots.DIVERGING])
def test_values_stand_out_from_their_cells(cmap):
    values = np.linspace(0, 1, 60).reshape(6, 10)
    [ax] = plots.heatmap(values, cmap=cmap).axes
    cells = ax.images[0].to_rgba(values).reshape(-1, 4)
    assert min(contrast(text.get_color(), cell[:3]) for text, cell in zip(ax.texts, cells, strict=True)) > 3.5


def test_whole_numbers_and_truths_are_written_as_such():
    assert texts(plots.heatmap(torch.tensor([[1, -20], [300, 4]]))) == ["1", "−20", "300", "4"]
    assert texts(plots.heatmap([[True, False]])) == ["1", "0"]
    assert texts(plots.heatmap([[0.123, 4.0]], fmt=".1f")) == ["0.1", "4.0"]
    assert texts(plots.heatmap(torch.ones(2, 2), annotate=False)) == []


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1.0, -3.0], ["1", "−3"]),
        ([0.5, -2.25], ["0.50", "−2.25"]),
        ([0.5, 2000.0], ["0", "2000"]),
        ([1e-4, 2e-3], ["1.0e−04", "2.0e−03"]),
        (np.array([1e6, 2.0], np.float32), ["1.0e+06", "2.0e+00"]),
        (np.array([0.25, -0.001], np.float32), ["0.25", "0.00"]),
    ],
)
def test_a_heat_map_writes_all_its_values_alike(values, written):
    assert texts(plots.heatmap([values])) == written


def test_heat_maps_and_histograms_draw_on_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plots.heatmap(torch.eye(2), ax=left, value_range=(0, 4)) is None
    assert plots.histogram([1.0, 2.0], ax=right) is None
    assert left.images[0].get_clim() == (0, 4)
    assert right.patches


@pytest.mark.parametrize(
    ("values", "options", "fault"),
    [
        (torch.zeros(3), {}, r"matrix.*got shape \(3,\)"),
        (torch.zeros(0, 3), {}, "must not be empty"),
        ([[1.0, float("inf")]], {}, "finite, got 1 NaN or infinite"),
        (torch.zeros(2, 3), {"row_labels": "abc"}, "row_labels must be 2, got 3"),
        (torch.zeros(2, 3), {"column_labels": "ab"}, "column_labels must be 3, got 2"),
        (torch.zeros(2, 3), {"highlight": [(2, 0)]}, r"a 2 x 3 matrix, got \[\(2, 0\)\]"),
    ],
)
def test_what_is_no_matrix_is_refused(values, options, fault):
    with pytest.raises(ValueError, match=fault):
        plots.heatmap(values, **options)


# Histograms


def test_histograms_count():
    values = torch.randn(500, generator=torch.Generator().manual_seed(0))
    [ax] = plots.histogram(values.view(5, 100), bins=12, xlabel="value", title="Normal").axes
    counts, edges = np.histogram(values.numpy(), 12)
    outline = ax.patches[1].get_xy()
    assert set(outline[:, 1]) == {0, *counts}
    np.testing.assert_allclose([outline[:, 0].min(), outline[:, 0].max()], edges[[0, -1]], rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("value", "count", "Normal")


def test_sets_share_their_bins_and_are_named():
    [ax] = plots.histogram([[0.0, 1.0], [5.0]], labels=["ours", "theirs"], bins=5, density=True).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours", "theirs"]
    spans = [patch.get_xy()[:, 0] for patch in ax.patches]
    assert all((span.min(), span.max()) == (0, 5) for span in spans)
    assert ax.get_ylabel() == "density"
    assert [text.get_text() for text in plots.histogram([1, 2], labels="all").axes[0].get_legend().get_texts()] == [
        "all"
    ]


@pytest.mark.parametrize(
    ("values", "labels", "fault"),
    [([], None, "must not be empty"), ([1, float("nan")], None, "finite"), ([[1], [2]], ["a"], "2 sets.*got 1")],
)
def test_what_cannot_be_counted_is_refused(values, labels, fault):
    with pytest.raises(ValueError, match=fault):
        plots.histogram(values, labels=labels)


# Animations and flip-books


def line(figure, i):
    figure.subplots().plot([0, i])


def test_an_animation_saves_every_frame(tmp_path):
    film = plots.animate(line, 4, interval=250, size=(2, 1.5))
    film.save(tmp_path / "film.gif", writer="pillow", dpi=50)
    with Image.open(tmp_path / "film.gif") as picture:
        assert (picture.n_frames, picture.size) == (4, (100, 75))


@pytest.mark.parametrize(("frames", "interval"), [(0, 100), (3, 0)])
def test_an_animation_needs_frames_and_time(frames, interval):
    with pytest.raises(ValueError, match=f"frames={frames}, interval={interval}"):
        plots.animate(line, frames, interval=interval)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(flip, "display", outputs.append)
    return outputs


def pages(shown):
    [output] = shown
    assert output._repr_markdown_() == output.data
    assert not hasattr(output, "_repr_html_")
    (tag, figure), *images = Tags(output.data).tags
    assert (tag, figure["class"]) == ("figure", "flipbook")
    assert all(tag == "img" for tag, _ in images)
    return figure, [attributes for _, attributes in images]


def test_a_flip_book_is_one_markdown_output_of_labelled_pages(shown):
    returned = plots.flipbook(
        line, 3, alt='A "line" <rises>\n\nslowly', labels=["flat", "up & up", 2], interval=250, still=-1
    )
    assert returned is None, "a cell may end with it"
    figure, images = pages(shown)
    assert figure["data-interval"] == "250"
    assert [image["data-label"] for image in images] == ["flat", "up & up", "2"]
    assert images[1]["alt"] == 'A "line" <rises> slowly (up & up)'
    assert ["hidden" in image for image in images] == [True, True, False]
    pictures = [decode(base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))) for image in images]
    assert {picture.size for picture in pictures} == {(int(images[0]["width"]), int(images[0]["height"]))}
    base = pictures[2].convert("RGBA")
    pixels = [np.asarray(Image.alpha_composite(base, picture.convert("RGBA"))) for picture in pictures]
    figures = [Figure(figsize=(6.5, 3.6), layout="constrained") for _ in range(3)]
    for i, page in enumerate(figures):
        line(page, i)
        expected = flip._pixels(page, 110, page.bbox_inches.padded(0.08)).astype(int)
        assert abs(pixels[i][..., :3] - expected).mean() < 0.5
    assert len({picture.tobytes() for picture in pixels}) == 3


def test_figures_of_pyplot_are_pages_too_and_are_closed(shown):
    def figures():
        for i in range(3):
            figure, ax = plt.subplots()
            ax.plot([0, i])
            yield figure

    plots.flipbook(list(figures()), alt=["one", "two", "three"])
    _, images = pages(shown)
    assert [image["alt"] for image in images] == ["one", "two", "three"]
    assert [image["data-label"] for image in images] == ["1 of 3", "2 of 3", "3 of 3"]


def test_twenty_pages_with_a_matrix_and_two_curves_stay_small(shown):
    def draw(figure, i):
        left, right = figure.subplots(1, 2)
        plots.heatmap(np.arange(24).reshape(4, 6), ax=left, highlight=[(i // 6, i % 6)])
        for phase in (2, 3):
            right.plot(np.sin(np.linspace(0, 6, 200) + i / phase))

    plots.flipbook(draw, 20, alt="Waves", size=(6.5, 3.2))
    _, images = pages(shown)
    assert sum(len(base64.b64decode(image["src"].partition(",")[2])) for image in images) < 150_000
    assert len(shown[0].data) < 200_000


def test_pandoc_reads_a_flip_book_as_html_with_its_caption_last(shown):
    pypandoc = pytest.importorskip("pypandoc")
    plots.flipbook(line, 2, alt="$a_b$ *not* Markdown @x")
    text = f"::: {{#fig-x}}\n{shown[0].data}\n\nThe caption\n:::\n"
    [div] = json.loads(pypandoc.convert_text(text, "json", format="markdown"))["blocks"]
    assert [block["t"] for block in div["c"][1]] == ["RawBlock", "Plain", "RawBlock", "Para"]
    assert {inline["t"] for inline in div["c"][1][1]["c"]} == {"RawInline", "SoftBreak"}


@pytest.mark.parametrize(
    ("frames", "options", "fault"),
    [
        ([], {"alt": "x"}, "at least one frame"),
        (line, {"alt": "x"}, "pass how many as `count`"),
        ([Figure(), Figure()], {"alt": ["x"]}, "2 frames need as many labels and alt texts, got 2 and 1"),
        ([Figure(), Figure()], {"alt": "x", "labels": "abc"}, "got 3 and 3"),
        ([Figure()], {"alt": " "}, "alt must say in words"),
        ([Figure()], {"alt": "x", "still": 1}, "still must be one of 1 frames"),
        ([Figure()], {"alt": "x", "interval": 0}, "interval positive"),
        ([Figure(figsize=(1, 1)), Figure(figsize=(2, 1))], {"alt": "x"}, "frames must be of one size"),
    ],
)
def test_what_is_no_flip_book_is_refused(shown, frames, options, fault):
    with pytest.raises(ValueError, match=fault):
        plots.flipbook(frames, **options)
    assert shown == []


def test_the_player_reads_what_the_flip_book_writes_and_asks_no_other_host(shown):
    script, style = ((ASSETS / name).read_text() for name in ("flipbook.js", "flipbook.css"))
    plots.flipbook(line, 2, alt="x")
    figure, images = pages(shown)
    written = {name for attributes in (figure, *images) for name in attributes if name.startswith("data-")}
    assert written == {f"data-{name}" for name in re.findall(r"dataset\.(\w+)", script)}
    assert ".hidden" in script
    assert "img[hidden] { display: none" in style
    assert not re.search(r"https?:|import\s|fetch\(|@import|url\(", script + style)

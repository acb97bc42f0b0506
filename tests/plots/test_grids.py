"""Grids, heat maps and histograms show every value, legibly."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from lib import plots
from tests.plots.figures import contrast, texts

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
        (torch.zeros(0, 8, 8), {}, r"images.*\(0, 8, 8\)"),
        ([], {}, r"images.*\(0,\)"),
        (torch.zeros(8, 8), {}, r"images.*\[n, h, w\].*\(8, 8\)"),
        (torch.zeros(2, 4, 8, 8), {}, r"images.*\[n, 3, h, w\].*\(2, 4, 8, 8\)"),
        (torch.full((1, 2, 2), float("nan")), {}, "images.* 4 NaN"),
        (torch.zeros(1, 2, 2, dtype=torch.complex64), {}, "images.*complex64"),
        (["a"], {}, "images.*<U1"),
        (torch.zeros(3, 8, 8), {"titles": ["a"]}, "3 images.*titles.* 1"),
        (torch.zeros(3, 8, 8), {"columns": -1}, "columns.*1.*-1"),
        (torch.zeros(3, 8, 8), {"size": 0}, "size.* 0"),
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
        (torch.zeros(3), {}, r"values.*\[rows, columns\].*\(3,\)"),
        (torch.zeros(0, 3), {}, r"values.*\(0, 3\)"),
        ([[1.0, float("inf")]], {}, "values.* 1 NaN or inf"),
        (torch.zeros(2, 3), {"row_labels": "abc"}, "row_labels.* 2.* 3"),
        (torch.zeros(2, 3), {"column_labels": "ab"}, "column_labels.* 3.* 2"),
        (torch.zeros(2, 3), {"highlight": [(2, 0)]}, r"highlight.*2 x 3.*\[\(2, 0\)\]"),
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
    [([], None, r"values.*\(0,\)"), ([1, float("nan")], None, "values.* 1 NaN"), ([[1], [2]], ["a"], "2 .*labels.* 1")],
)
def test_what_cannot_be_counted_is_refused(values, labels, fault):
    with pytest.raises(ValueError, match=fault):
        plots.histogram(values, labels=labels)

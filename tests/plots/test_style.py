"""Colours can be distinguished with any colour vision, and figures are paper."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.color import deltaE_ciede2000, rgb2lab

from lib import plots
from tests.plots.figures import contrast, decode, linear

# What people without one kind of cone see of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
SIGHTS = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_palette_can_be_distinguished(sight):
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


def test_in_a_notebook_figures_become_small_pngs(monkeypatch):
    registered = {}

    class Formatter:
        def for_type(self, kind, function):
            registered[kind] = function

    class Shell:
        display_formatter = type("", (), {"formatters": {"image/png": Formatter()}})

    monkeypatch.setattr("lib.plots.style.get_ipython", Shell)
    plots.use_style()
    assert registered == {Figure: plots.png}

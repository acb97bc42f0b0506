"""What tests read from figures and pictures."""

import io

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image


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

"""Small networks and pictures for the tests of style transfer."""

import pytest
import torch
from torch import nn

from lib.style.extractors import Preprocess, vgg


@pytest.fixture
def net():
    """A VGG of two stages, strides 1 and 2, in float64 with weights of its own."""
    torch.manual_seed(0)
    made = vgg((2, 2), (4, 6), Preprocess((2.0,) * 3, (-1.0,) * 3), padding_mode="reflect")
    return made.double().eval().requires_grad_(False)


@pytest.fixture
def shallow():
    """One convolution and a smooth bend, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh()).double().requires_grad_(False)

"""What a feature likes is found: a colour where it is a colour, more of the feature in any case, and the same again."""

import re

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from lib.style import hook_features, visualise_channels
from lib.style.visualise import FourierPicture
from tests.style.helpers import hooked


def test_a_feature_that_is_a_colour_likes_that_colour():
    net = nn.Conv2d(3, 2, 1, bias=False).requires_grad_(False)
    net.weight[:] = torch.tensor([[1.0, -1, -1], [-1.0, -1, 1]])[..., None, None]
    red, blue = visualise_channels(nn.Sequential(net), "0", [0, 1], size=32, steps=60, lr=0.05)
    assert red.shape == (3, 32, 32)
    assert (red.mean((1, 2)) > torch.tensor([0.6, 0, 0])).all()
    assert red[1:].mean() < 0.3
    assert blue[2].mean() > 0.6
    assert blue[:2].mean() < 0.4


def test_a_feature_grows_and_pictures_are_seen_on_the_way(net):
    net.float()
    frames = []
    before = FourierPicture(2, 32)().detach()
    found = visualise_channels(net, "conv2_2", [1, 4], size=32, steps=30, callback=lambda step, x: frames.append(x))
    extract = hook_features(net, "conv2_2")
    for i, channel in enumerate((1, 4)):
        mean = [extract(x)["conv2_2"][i, channel].mean() for x in (before, found)]
        assert mean[1] > mean[0] + 0.01
    assert len(frames) == 30
    assert torch.equal(frames[-1], found)
    assert 0 <= found.min() < found.max() <= 1
    assert torch.equal(found, visualise_channels(net, "conv2_2", [1, 4], size=32, steps=30))
    assert hooked(net) == 0


def test_waves_are_as_strong_at_every_frequency_as_in_photographs():
    picture = FourierPicture(64, 64, std=1e-4)()
    power = torch.fft.rfft2(picture.detach() - 0.5).abs().square().mean((0, 1))
    assert_allclose(power[8, 8] / power[2, 2], (2 / 8) ** 2, rtol=0.3)
    assert_allclose(picture.detach(), 0.5, atol=0.2)


def test_a_channel_that_is_not_there_is_named(net):
    for channels in ([6], [-1], []):
        with pytest.raises(ValueError, match=rf"'conv2_1'.*0 to 5.*{re.escape(str(channels))}"):
            visualise_channels(net.float(), "conv2_1", channels, size=32)

"""The models for Fashion-MNIST: what they see, how they learn, and what ships of them."""

import pytest
import torch

from lib.diffusion import Schedule, fashion
from lib.diffusion.draw import draw
from lib.diffusion.fashion import features, preprocess
from lib.nn.resnet import ResNet


def test_the_two_regimes_differ_in_all_that_is_compared():
    best, plain = fashion.REGIMES["unet"], fashion.REGIMES["plain"]
    torch.testing.assert_close(plain.schedule.alpha_bar, Schedule.make("linear").alpha_bar)
    assert (plain.prediction, plain.weighted, plain.ema) == ("noise", False, None)
    assert (best.prediction, best.weighted, best.ema) == ("v", False, 0.999)
    weighed = fashion.REGIMES["min-snr"]
    assert weighed._replace(weighted=False, schedule=best.schedule) == best
    assert torch.equal(weighed.schedule.alpha_bar, best.schedule.alpha_bar)
    assert weighed.weighted


def test_pictures_are_padded_with_black():
    found = preprocess(torch.ones(2, 1, 28, 28))
    assert found.shape == (2, 1, 32, 32)
    assert (found[:, :, 2:-2, 2:-2] == 1).all()
    assert found.sum() == 2 * (28 * 28 - (32 * 32 - 28 * 28))
    with pytest.raises(ValueError, match=r"images.*\[n, 1, 28, 28\].*\[2, 1, 32, 32\]"):
        preprocess(found)


def test_features_are_what_the_head_sees():
    torch.manual_seed(0)
    net = ResNet((8, 16), stem=4).eval()
    x = torch.randn(7, 1, 32, 32)
    found = features(net, x, batch_size=3)
    assert found.shape == (7, 16)
    torch.testing.assert_close(net.head(found), net(x))


def test_the_models_that_ship_fit_into_four_megabytes():
    sizes = {name: sum(p.numel() for p in make().parameters()) for name, make in fashion.MODELS.items()}
    assert 2 * sum(sizes[name] for name in fashion.SHIPPED) < 4 * 2**20, sizes  # at two bytes a weight


def test_the_classifier_that_ships_can_be_loaded_and_tells_pictures_apart():
    net = fashion.load("classifier")
    assert not net.training
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = features(net, preprocess(images))
    assert found.shape == (4, 96)
    assert torch.pdist(found).min() > 0


def test_the_unet_that_ships_takes_noise_away_and_knows_the_classes():
    net, schedule = fashion.load("unet"), fashion.REGIMES["unet"].schedule
    drawn = draw(net, schedule, "v", torch.tensor([1, 8, 9]), sampler="dpm-solver", steps=6, guidance=2.0)
    with torch.no_grad():
        assert fashion.load("classifier")(drawn).argmax(1).tolist() == [1, 8, 9]

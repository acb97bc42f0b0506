"""Transfer goes from small to large, ends nearer to its style, and keeps colours where it is told to."""

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from lib.data.images import resize
from lib.style import build_objective, transfer, transfer_style
from lib.style.colours import luminance
from lib.style.extractors import Extractor
from tests.style.helpers import picture


@pytest.fixture
def extractor(net):
    return Extractor("small", net, "relu2_1", ("relu1_1", "relu2_2"), None)


def test_it_goes_through_the_sizes_and_lowers_the_loss_at_each(extractor):
    content, style, sizes = picture(48, 64, 1), picture(70, 50, 2), []

    def callback(step, x, loss):
        sizes.append(tuple(x.shape[2:]))

    found = transfer_style(extractor, content, style, sizes=(24, 48), steps=(15, 25), callback=callback)
    assert found.picture.shape == (1, 3, 36, 48)
    assert list(dict.fromkeys(sizes)) == [(18, 24), (36, 48)]
    assert [len(losses) for losses in found.losses] == [15, 25]
    assert all(min(losses) < 0.7 * losses[0] for losses in found.losses)
    options = {"content": resize(content, 48), "content_layers": "relu2_1", "style": resize(style, 48)}
    objective = build_objective(extractor.net, **options, style_layers=extractor.style, style_weight=10.0)
    assert_allclose(objective(found.picture).item(), min(found.losses[-1]), rtol=1e-6)


def test_the_second_size_begins_where_the_first_ended(extractor):
    content, style = picture(40, 40, 1), picture(40, 40, 2)
    small = transfer_style(extractor, content, style, sizes=20, steps=20).picture
    first = []
    transfer_style(
        extractor,
        content,
        style,
        sizes=(20, 40),
        steps=(20, 1),
        callback=lambda step, x, loss: first.append(x) if x.shape[-1] == 40 else None,
    )
    assert_allclose(first[0], resize(small, 40), atol=0.006)


def test_without_content_it_is_a_texture_from_noise_as_the_seed_says(extractor):
    style = picture(40, 32, 2)
    one, same, other = (transfer_style(extractor, None, style, sizes=40, steps=30, seed=seed) for seed in (1, 1, 2))
    assert one.picture.shape == (1, 3, 40, 32)
    assert torch.equal(one.picture, same.picture)
    assert not torch.equal(one.picture, other.picture)
    assert one.losses[0][-1] < 0.1 * one.losses[0][0]


@pytest.mark.parametrize(
    ("layers", "at_first"),
    [(("relu1_1", "relu2_2"), {"relu1_1"}), (("relu2_2",), {"relu2_2"})],  # relu2_2 looks at 14x14
)
def test_a_style_layer_that_sees_more_than_the_small_picture_waits_unless_it_is_alone(
    extractor, monkeypatch, layers, at_first
):
    asked = []

    def build(net, **options):
        asked.append(set(options["style_layers"]))
        return build_objective(net, **options)

    monkeypatch.setattr(transfer, "build_objective", build)
    extractor = Extractor("small", extractor.net, "relu1_1", layers, None)
    transfer_style(extractor, picture(40, 40, 1), picture(40, 40, 2), sizes=(12, 24), steps=3)
    assert asked == [at_first, set(layers)]


def test_layers_behind_a_norm_over_the_whole_picture_take_part_at_every_size():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Tanh()).requires_grad_(False)
    extractor = Extractor("normed", net.double().eval(), "0", ("2",), None)
    found = transfer_style(extractor, picture(30, 30, 1), picture(30, 30, 2), sizes=(12, 24), steps=15)
    assert all(min(losses) < 0.7 * losses[0] for losses in found.losses)
    with pytest.raises(ValueError, match=r"'2'.*2048"):
        transfer_style(extractor, picture(30, 30, 1), picture(30, 30, 2), sizes=24, steps=1, tile=8)


def test_colours_of_the_content_can_stay(extractor):
    content, style = picture(32, 32, 1) * 0.3 + 0.3, picture(32, 32, 2)
    kept = transfer_style(extractor, content, style, sizes=32, steps=20, colours="luminance").picture
    assert_allclose(kept - luminance(kept), content - luminance(content), atol=0.02)
    matched, plain = (
        transfer_style(extractor, content, style, sizes=32, steps=40, style_weight=100.0, colours=colours).picture
        for colours in ("matched", "style")
    )
    mean = lambda x: x.mean((0, 2, 3))  # noqa: E731
    assert (mean(matched) - mean(content)).norm() < 0.5 * (mean(plain) - mean(content)).norm()


def test_large_pictures_go_by_tiles(extractor):
    content, style = picture(40, 44, 1), picture(40, 40, 2)
    whole, tiled = (transfer_style(extractor, content, style, sizes=44, steps=8, tile=tile) for tile in (None, 16))
    assert_allclose(tiled.picture, whole.picture, atol=1e-6)


def test_what_cannot_be_is_refused(extractor):
    style = picture(32, 32)
    with pytest.raises(ValueError, match=r"'mached'.*'matched'"):
        transfer_style(extractor, style, style, colours="mached")
    with pytest.raises(ValueError, match="start 'noisy'"):
        transfer_style(extractor, style, style, start="noisy")
    with pytest.raises(ValueError, match=r"colours='matched'.*content"):
        transfer_style(extractor, None, style, colours="matched")
    with pytest.raises(ValueError, match=r"2 sizes.*steps.*3"):
        transfer_style(extractor, style, style, sizes=(16, 32), steps=(1, 2, 3))

"""Images by name of sampler: the same alone and in a batch, with a class and without, guided and not."""

import pytest
import torch

from lib.diffusion import Schedule, clipped, denoiser, guided, samplers
from lib.diffusion.draw import class_denoiser, draw
from lib.diffusion.samplers import SAMPLERS, make_generators, randn_like, sample
from lib.nn.unet import UNet
from tests.diffusion.models import exact, start

COSINE = Schedule.make("cosine")


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = UNet(1, (8, 8), classes=3, attention=(False, True))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def images(net, labels, **options):
    return draw(net, COSINE, "v", labels, (1, 8, 8), **{"steps": 4, "seed": 3, **options})


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_name_stands_for_its_sampler(name):
    schedule, x = Schedule.make("linear"), start()
    given = (make_generators(5, 3),) if name in samplers.STOCHASTIC else ()
    function = getattr(samplers, f"sample_{name.replace('-', '_')}")
    expected, path = function(exact(schedule), x, schedule, 7, *given), []
    found = sample(name, exact(schedule), x, schedule, 7, make_generators(5, 3), callback=lambda *a: path.append(a))
    assert torch.equal(found, expected)
    assert len(path) == 7


def test_an_unknown_sampler_is_refused_and_the_nearest_named(net):
    with pytest.raises(ValueError, match="sampler 'ddimm'; did you mean 'ddim'"):
        images(net, None, count=1, sampler="ddimm")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_does_not_hang_on_the_batch(net, sampler):
    labels = torch.tensor([0, 1, 2, 1, 0])
    options = {"sampler": sampler, "steps": COSINE.karras(4, sigma_max=80.0)}  # Heun's slopes at 1e4 enlarge rounding
    whole = images(net, labels, **options)
    parts = images(net, labels, batch_size=2, **options)
    last = images(net, labels[3:], first=3, **options)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last, whole[3:], atol=1e-4, rtol=1e-4)


def test_it_is_the_sampler_on_the_wrapped_network(net):
    labels = torch.tensor([2, 0])
    x = randn_like(torch.empty(2, 1, 8, 8), make_generators(3, 2))
    with torch.no_grad():
        with_class = denoiser(net, COSINE, "v", labels)
        toward = clipped(guided(with_class, denoiser(net, COSINE, "v"), 3.0), COSINE)
        expected = samplers.sample_heun(toward, x, COSINE, 4)
    assert torch.equal(images(net, labels, sampler="heun", guidance=3.0), expected)
    net.double()  # Heun begins with noise of 1e4, whose rounding in float32 shows in the fifth digit
    with torch.no_grad():
        assert samplers.sample_heun(toward, x.double(), COSINE, 4).abs().max() <= 1 + 1e-9


def test_guidance_of_0_and_1_asks_the_network_once(net):
    calls, labels, x, t = [], torch.tensor([2, 0]), torch.randn(2, 1, 8, 8), torch.tensor([10.0, 900.0])

    def counted(*given):
        calls.append(len(given))
        return net(*given)

    def at(labels, guidance):
        return class_denoiser(counted, COSINE, "v", labels, guidance)(x, t)[0]

    free = at(labels, 0)
    assert calls == [2]
    assert torch.equal(at(None, 5.0), free)
    bound = at(labels, 1)
    assert calls == [2, 2, 3]
    torch.testing.assert_close(at(labels, 2), 2 * bound - free)
    assert calls == [2, 2, 3, 3, 2]


def test_without_a_class_the_count_is_given(net):
    assert images(net, None, count=3).shape == (3, 1, 8, 8)
    for nothing in ({}, {"count": 0}):
        with pytest.raises(ValueError, match=r"labels.*count"):
            images(net, None, **nothing)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": torch.tensor([0, 4])}, r"labels.*0.*2.*3.*\[0, 4\]"),
        ({"steps": 1001}, "steps.*1.*1000.*1001"),
        ({"shape": (1, 7, 8)}, r"\[n, 1, h, w\].* 2.*\[2, 1, 7, 8\]"),
        ({"prediction": "vee"}, "prediction 'vee'; did you mean 'v'"),
    ],
)
def test_what_does_not_fit_is_refused(net, options, words):
    given = {"prediction": "v", "labels": torch.tensor([0, 1]), "shape": (1, 8, 8), "steps": 2, **options}
    with pytest.raises(ValueError, match=words):
        draw(net, COSINE, **given)


def test_nan_in_a_step_is_named(net):
    torch.nn.init.constant_(net.last[-1].bias, float("nan"))
    with pytest.raises(FloatingPointError, match=r"step 0.*time 999"):
        images(net, None, count=1, clip=False)


def test_karras_may_begin_below_the_last_time():
    times = COSINE.karras(5, sigma_max=80.0)
    assert COSINE.level(times[0].item()).sigma == pytest.approx(80, rel=1e-5)
    assert COSINE.level(times[-1].item()).sigma == pytest.approx(COSINE.sigmas[0].item(), rel=1e-5)
    for wrong in (1e9, 0.0):
        with pytest.raises(ValueError, match=f"sigma_max.*{wrong}"):
            COSINE.karras(5, sigma_max=wrong)

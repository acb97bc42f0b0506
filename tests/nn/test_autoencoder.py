"""Shapes of pictures and codes; both ways up learn; what does not halve is refused."""

import pytest
import torch
from torch import nn

from lib.nn.autoencoder import UP, Autoencoder


@pytest.mark.parametrize("up", UP)
def test_a_code_is_a_vector_or_small_pictures(up):
    x = torch.rand(3, 1, 28, 28)
    flat = Autoencoder((4, 8), 32, up=up)
    assert flat.encoder(x).shape == (3, 32)
    assert flat(x).shape == x.shape
    spatial = Autoencoder((4, 8), 4, flat=False, up=up, pad=2)
    assert spatial.encoder(x).shape == (3, 4, 8, 8)
    assert spatial(x).shape == x.shape
    deep = Autoencoder((4, 8, 8, 16), 5, up=up, c_in=3, size=64)
    assert deep(torch.rand(2, 3, 64, 64)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("up", UP)
@pytest.mark.parametrize("flat", [True, False])
def test_it_learns_to_give_back_what_it_was_given(up, flat):
    torch.manual_seed(0)
    place = torch.rand(64, 2, 1, 1) * 4 + 2
    axis = torch.arange(8.0)
    x = torch.exp(-((axis - place[:, :1]) ** 2 + (axis[:, None] - place[:, 1:]) ** 2) / 4)
    model = Autoencoder((8, 8), 4, flat=flat, up=up, size=8)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        loss = nn.functional.mse_loss(model(x), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * x.var()


def test_transposed_convolutions_lay_down_evenly_and_activations_end_before_the_last():
    decoder = Autoencoder((4, 8), 2, flat=False).decoder
    kernels = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.kernel_size[0] % m.stride[0], m.out_channels) for m in kernels] == [(0, 4), (0, 1)]
    assert isinstance(decoder[-2][-1], nn.ConvTranspose2d)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": (4, 4, 4)}, "28 pixels and 0 of padding on both sides cannot be halved 3 times"),
        ({"channels": ()}, "cannot be halved 0 times"),
        ({"up": "nearst"}, "unknown way up 'nearst'; did you mean 'nearest'"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Autoencoder(**options)

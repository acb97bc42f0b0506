"""What a feature would like to see: pictures that make it as large as they can.

After Olah, Mordvintsev and Schubert 2017, "Feature visualization", Distill, doi 10.23915/distill.00007.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lib.style.features import hook_features

# How the colours of photographs go together: the root of their covariance, as that paper's code has it.
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
CONTRAST = 2.0  # of the colours, before a sigmoid brings them into [0, 1]


class FourierPicture(nn.Module):
    """Pictures [n, 3, size, size] in [0, 1] whose parameters are waves and colours that do not go together.

    A step of gradient descent on pixels changes what is fine most, and a network is easily fooled there. Waves are
    scaled by 1 / frequency as they are in photographs, so that a step changes all sizes alike.
    """

    def __init__(self, n: int, size: int, *, seed: int = 0, std: float = 0.01) -> None:
        super().__init__()
        down, across = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
        frequency = (down**2 + across**2).sqrt().clamp(min=1 / size)
        generator = torch.Generator().manual_seed(seed)
        waves = torch.randn(n, 3, *frequency.shape, 2, generator=generator) * std
        self.size = size
        self.waves = nn.Parameter(waves)
        self.register_buffer("scale", size / frequency)
        self.register_buffer("colours", torch.tensor(COLOURS) / torch.tensor(COLOURS).norm(dim=0).max())

    def forward(self) -> Tensor:
        """Return the pictures."""
        waves = torch.view_as_complex(self.waves) * self.scale
        values = torch.fft.irfft2(waves, s=(self.size, self.size))
        return torch.sigmoid(CONTRAST * torch.einsum("ij,njhw->nihw", self.colours, values))


def visualise_channels(
    model: nn.Module,
    layer: str,
    channels: Sequence[int],
    *,
    size: int = 160,
    steps: int = 48,
    lr: float = 0.02,
    jitter: int = 8,
    seed: int = 0,
    callback: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    """Return for each of some channels of a layer a picture that makes its mean large: [n, 3, size, size] in [0, 1].

    Each is a `FourierPicture` under Adam at `lr`, shown at every step shifted by up to `jitter` pixels, round its
    edges, so that nothing counts that hangs on a pixel. Take a layer before its ReLU: behind it a channel that is off
    has no gradient to start with. `callback(step, pictures)` is called after each step. Raises ValueError as
    `hook_features` does, and for a channel that the layer does not have.
    """
    extract = hook_features(model, layer)
    like = next(model.parameters(), torch.empty(()))
    pictures = FourierPicture(max(1, len(channels)), size, seed=seed).to(like.device)
    with torch.no_grad():
        count = extract(pictures().to(like.dtype))[layer].shape[1]
    if not channels or not all(0 <= channel < count for channel in channels):
        raise ValueError(f"layer {layer!r} has channels 0 to {count - 1}, got {list(channels)}")
    optimiser = torch.optim.Adam(pictures.parameters(), lr)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        found = extract(pictures().roll(shift, (2, 3)).to(like.dtype))[layer]
        strength = found[range(len(channels)), list(channels)].mean((1, 2)).sum()
        (pictures.waves.grad,) = torch.autograd.grad(-strength, pictures.waves)
        optimiser.step()
        if callback is not None:
            callback(step, pictures().detach())
    return pictures().detach()

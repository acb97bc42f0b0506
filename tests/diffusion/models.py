"""What the tests of diffusion share: a fixed model, and the exact denoiser of standard normal data."""

import torch

from lib.diffusion.denoise import target, weights


def fixed(schedule, prediction):
    """Return a network whose guess at the picture is smooth, within (-1, 1), and hangs on neighbours and time."""

    def model(x, t, *_):
        mixed = x + 0.3 * x.roll(1, -1) - 0.2 * x.roll(1, -2)
        x0 = torch.tanh(mixed * (0.6 + 0.3 * torch.cos(t.to(x) / 300)).reshape(-1, *[1] * (x.ndim - 1)))
        signal, level = weights(schedule, x, t)
        return target(prediction, schedule, x0, (x - signal * x0) / level, t)

    return model


def exact(schedule):
    """Return the denoiser of data that are themselves standard normal: the best guess of x0 is signal * x."""

    def denoise(x, t):
        signal, level = weights(schedule, x, t)
        return signal * x, level * x

    return denoise


def start(n=3, seed=0, dtype=torch.float64):
    return torch.randn(n, 1, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)

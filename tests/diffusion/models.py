"""What the tests of diffusion share: a fixed model, and the exact denoiser of standard normal data."""

import torch

from lib.diffusion.denoise import alpha_sigma, target


def fixed(schedule, prediction):
    """Return a network whose guess at the image is smooth, within (-1, 1), and depends on neighbours and time."""

    def model(x, t, *_):
        mixed = x + 0.3 * x.roll(1, -1) - 0.2 * x.roll(1, -2)
        x0 = torch.tanh(mixed * (0.6 + 0.3 * torch.cos(t.to(x) / 300)).reshape(-1, *[1] * (x.ndim - 1)))
        alpha_t, sigma_t = alpha_sigma(schedule, x, t)
        return target(schedule, prediction, x0, (x - alpha_t * x0) / sigma_t, t)

    return model


def exact(schedule):
    """Return the denoiser of data that are themselves standard normal: the best guess of x0 is alpha_t * x."""

    def denoise(x, t):
        alpha_t, sigma_t = alpha_sigma(schedule, x, t)
        return alpha_t * x, sigma_t * x

    return denoise


def start(n=3, seed=0, dtype=torch.float64):
    return torch.randn(n, 1, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)

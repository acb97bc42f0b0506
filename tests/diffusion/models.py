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


def mixture(schedule, prediction, spread=0.15):
    """Return the best network for independent values from three normal distributions of this standard deviation.

    It computes in float64 and answers in x's dtype, so that only a sampler's own arithmetic is in that.
    """
    means, weights = (torch.tensor(values, dtype=torch.float64) for values in ([-1.0, 0.2, 1.0], [0.3, 0.3, 0.4]))

    def model(x, t, *_):
        exact = x.double()[..., None]
        alpha_t, sigma_t = (weight[..., None] for weight in alpha_sigma(schedule, x.double(), t))
        variance = (alpha_t * spread) ** 2 + sigma_t**2
        off = exact - alpha_t * means
        share = (weights.log() - off.square() / (2 * variance)).softmax(-1)
        x0 = (share * (means + alpha_t * spread**2 / variance * off)).sum(-1)
        noise = (share * (sigma_t / variance * off)).sum(-1)
        return target(schedule, prediction, x0, noise, t).to(x.dtype)

    return model


def start(n=3, seed=0, dtype=torch.float64):
    return torch.randn(n, 1, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)

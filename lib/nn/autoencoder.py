"""The autoencoder of the posts: convolutions that stride down to a small code, and a way back up.

Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 2006.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lib.checks import check_choice
from lib.nn.layers import conv_block

UP = ("nearest", "transposed")


class Autoencoder(nn.Module):
    """Pictures to codes and back: [n, c_in, size, size] -> code -> [n, c_in, size, size].

    Each of `channels` is a convolution that halves the sides. Then the code is a vector of `code` numbers, or with
    `flat=False` it is small pictures of `code` channels, where each number sees only a part of the picture. `pad` zeros
    are put around the picture and cut off at the end, for sizes that do not halve well. `up` says how the decoder
    doubles sides: "nearest" repeats each pixel and then convolves; "transposed" is a transposed convolution of 4 x 4,
    which a stride of 2 divides, so that every pixel gets the same number of contributions.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        code: int = 32,
        *,
        flat: bool = True,
        up: str = "transposed",
        c_in: int = 1,
        size: int = 28,
        pad: int = 0,
    ) -> None:
        super().__init__()
        check_choice("way up", up, UP)
        side, cut = divmod(size + 2 * pad, 2 ** len(channels))
        if cut or not channels:
            raise ValueError(
                f"Autoencoder: {size} pixels and {pad} of padding on both sides cannot be halved {len(channels)} times"
            )
        sizes = [c_in, *channels]
        down = [conv_block(a, b, stride=2) for a, b in itertools.pairwise(sizes)]
        back = [_doubled(b, a, up, last=i == 0) for i, (a, b) in enumerate(itertools.pairwise(sizes))][::-1]
        shape = (channels[-1], side, side)
        if flat:
            numbers = channels[-1] * side**2
            into = nn.Sequential(nn.Flatten(), nn.Linear(numbers, code))
            out = nn.Sequential(nn.Linear(code, numbers), nn.ReLU(), nn.Unflatten(1, shape))
        else:
            into, out = conv_block(channels[-1], code, act=None), conv_block(code, channels[-1])
        self.encoder = nn.Sequential(nn.ZeroPad2d(pad), *down, into)
        self.decoder = nn.Sequential(out, *back, nn.ZeroPad2d(-pad))

    def forward(self, x: Tensor) -> Tensor:
        """Return the decoded code of x."""
        return self.decoder(self.encoder(x))


def _doubled(c_in: int, c_out: int, up: str, last: bool) -> nn.Sequential:
    """Return what doubles the sides, with an activation unless it is the last."""
    if up == "nearest":
        steps: list[nn.Module] = [nn.Upsample(scale_factor=2.0), nn.Conv2d(c_in, c_out, 3, padding=1)]
    else:
        steps = [nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1)]
    return nn.Sequential(*steps) if last else nn.Sequential(*steps, nn.ReLU())

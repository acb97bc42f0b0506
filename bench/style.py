"""Style transfer against the recipe of PyTorch's tutorial: time to the same loss; and the memory of a large picture."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from skimage import data as photographs
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from lib.data import images
from lib.measure import Record, in_turn, quartiles
from lib.style import Extractor, Objective, build_objective, load, optimise_image, transfer_style

SIZE, EVALUATIONS = 256, 300
CONTENT = "conv2_2"  # the tutorial's conv_4, and its conv_1 to conv_5:
STYLE = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
# The tutorial's million is for inputs of standard deviation 1. This network's are 255 x 0.226 times as large, and so
# are its features: the square of that brings style and content back into the tutorial's proportion.
STYLE_WEIGHT = 1e6 / (255 * 0.226) ** 2
LARGE, SHOWN, TILE = 2048, 512, 256
PEAK = """
import sys
from bench import style
style.steps_on_large_picture(int(sys.argv[1]) or None)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


class Pair(NamedTuple):
    """Two pictures, [1, 3, 256, 256] in [0, 1]."""

    name: str
    content: Tensor
    style: Tensor


class Outcome(NamedTuple):
    """What a transfer came to: seconds, the lowest loss, when, and the loss at the end."""

    seconds: float
    lowest: float
    after: float
    last: float
    evaluations: int


def pairs() -> list[Pair]:
    """Return three pairs of photographs that ship with scikit-image and scikit-learn, cut square."""
    named = {
        "a cat in flowers": (photographs.chelsea(), load_sample_image("flower.jpg")),
        "an astronaut in gravel": (photographs.astronaut(), photographs.gravel()),
        "a palace in galaxies": (load_sample_image("china.jpg"), photographs.hubble_deep_field()),
    }
    return [Pair(name, _square(content), _square(style)) for name, (content, style) in named.items()]


def _square(photograph) -> Tensor:
    height, width = photograph.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images.load(photograph[top : top + side, left : left + side], SIZE)


class _Compare(nn.Module):
    """A layer of the recipe: it passes on what it gets, and keeps how far that is from its target."""

    def __init__(self, view: Callable[[Tensor], Tensor], target: Tensor) -> None:
        super().__init__()
        self.view, self.target = view, view(target).detach()

    def forward(self, x: Tensor) -> Tensor:
        self.loss = nn.functional.mse_loss(self.view(x), self.target)
        return x


def _flat_gram(x: Tensor) -> Tensor:
    rows = x.reshape(x.shape[0] * x.shape[1], -1)
    return rows @ rows.t() / x.numel()


def recipe(extractor: Extractor, pair: Pair) -> tuple[nn.Sequential, Callable[[], Tensor]]:
    """Return the network of the tutorial, cut after its last layer of loss, and what sums these after a pass."""
    net, contents, styles = nn.Sequential(), [], []
    with torch.no_grad():
        for name, layer in extractor.net.named_children():
            net.append(layer)
            if name == CONTENT:
                contents.append(_Compare(nn.Identity(), net(pair.content)))
                net.append(contents[-1])
            if name in STYLE:
                styles.append(_Compare(_flat_gram, net(pair.style)))
                net.append(styles[-1])
            if name == STYLE[-1]:
                break
    return net, lambda: sum(each.loss for each in contents) + STYLE_WEIGHT * sum(each.loss for each in styles)


def theirs(extractor: Extractor, pair: Pair) -> Outcome:
    """Run the tutorial's recipe: torch's L-BFGS, from the content, cut to [0, 1] before each of 300 evaluations."""
    started = time.perf_counter()
    net, total = recipe(extractor, pair)
    picture = pair.content.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([picture])
    losses: list[tuple[float, float]] = []

    def closure() -> Tensor:
        with torch.no_grad():
            picture.clamp_(0, 1)
        optimiser.zero_grad()
        net(picture)
        loss = total()
        loss.backward()
        losses.append((loss.item(), time.perf_counter() - started))
        return loss

    while len(losses) <= EVALUATIONS:
        optimiser.step(closure)
    return Outcome(losses[-1][1], *min(losses), losses[-1][0], len(losses))


def ours(extractor: Extractor, pair: Pair, target_loss: float) -> tuple[Outcome, Tensor]:
    """Lower the same loss with the library, at 128 and then at 256 pixels, until it is no more than `target_loss`."""
    started = time.perf_counter()
    picture, losses = transfer_style(
        extractor,
        pair.content,
        pair.style,
        sizes=(SIZE // 2, SIZE),
        steps=(60, 2 * EVALUATIONS),
        style_weight=STYLE_WEIGHT * len(STYLE),
        content_layers=CONTENT,
        style_layers=STYLE,
        relative=False,
        callback=lambda step, picture, loss: picture.shape[-1] == SIZE and loss <= target_loss,
    )
    seconds = time.perf_counter() - started
    return Outcome(seconds, min(losses[-1]), seconds, losses[-1][-1], sum(map(len, losses))), picture


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure time and memory."""
    extractor = load("vgg19-slim")
    say("measuring style/transfer-256, three pairs of pictures, three times")
    yield time_ratio(extractor)
    say("measuring style/memory-2048")
    yield memory(extractor)


def time_ratio(extractor: Extractor, repeats: int = 3) -> Record:
    """Time both in turn, the recipe for its 300 evaluations and ours until it is as low as the recipe ever was."""
    samples: tuple[list[float], list[float]] = ([], [])
    notes, reached = [], True
    for pair in pairs():
        peer = theirs(extractor, pair)
        outcome, picture = ours(extractor, pair, peer.lowest)
        net, total = recipe(extractor, pair)
        with torch.no_grad():
            net(picture)
        reached &= total().item() <= peer.lowest * (1 + 1e-4)
        notes.append(
            f"{pair.name}: the recipe's lowest loss {peer.lowest:.4g}, after {peer.after / peer.seconds:.0%} of its "
            f"time, at its end {peer.last:.4g}; ours that low after {outcome.evaluations} evaluations, 60 of them at "
            f"128x128, in {outcome.seconds / peer.seconds:.2f} of its time"
        )
        timed = in_turn(
            lambda pair=pair, target_loss=peer.lowest: ours(extractor, pair, target_loss),
            lambda pair=pair: theirs(extractor, pair),
            pairs=repeats,
            warmup=0,
        )
        for side, seconds in zip(samples, timed, strict=True):
            side.extend(seconds)
    low, ratio, high = quartiles([a / b for a, b in zip(*samples, strict=True)])
    return Record(
        "style/transfer-256",
        ratio,
        "time ratio",
        peer="tutorial recipe",
        ours=statistics.median(samples[0]),
        theirs=statistics.median(samples[1]),
        low=low,
        high=high,
        same=reached,
        target="<= 0.5",
        n=len(samples[0]),
        note=f"slim VGG-19, {SIZE}x{SIZE}, three pairs of pictures, to the lowest loss that the recipe saw in "
        f"{EVALUATIONS} evaluations, which is no higher than that it ends at; same says that the recipe's own loss of "
        f"our pictures is as low. {'; '.join(notes)}",
    )


def large_objective(extractor: Extractor, size: int, tile: int | None) -> Objective:
    """Return what a large picture is to become."""
    pair = pairs()[1]
    return build_objective(
        extractor.net,
        content=images.resize(pair.content, size),
        content_layers=extractor.content,
        style=images.resize(pair.style, size),
        style_layers=extractor.style,
        style_weight=10.0,
        variation_weight=0.1,
        tile=tile,
    )


def steps_on_large_picture(tile: int | None, steps: int = 3) -> Tensor:
    """Take steps of Adam on a picture of 2048x2048."""
    objective = large_objective(load("vgg19-slim"), LARGE, tile)
    return optimise_image(objective, images.resize(pairs()[1].content, LARGE), steps, method="adam").picture


def apart(extractor: Extractor, size: int = SHOWN, tile: int = TILE // 2) -> tuple[float, float]:
    """Return how far loss and gradient in patches are from those in one piece, relative to these."""
    picture = images.resize(pairs()[0].content, size).requires_grad_()
    found = []
    for each in (tile, None):
        loss = large_objective(extractor, size, each)(picture)
        found.append((loss.item(), torch.autograd.grad(loss, picture)[0]))
    (loss, gradient), (whole, its) = found
    return abs(loss / whole - 1), ((gradient - its).norm() / its.norm()).item()


def memory(extractor: Extractor) -> Record:
    """Measure the peaks of processes of their own (Linux counts them in KiB), in patches and in one piece."""

    def peak(tile: int) -> float:
        return int(subprocess.check_output([sys.executable, "-c", PEAK, str(tile)], text=True)) / 2**10

    loss, gradient = apart(extractor)
    patched, whole = peak(TILE), peak(0)
    return Record(
        "style/memory-2048",
        patched,
        "MiB",
        same=max(loss, gradient) <= 1e-4,
        target="<= 2048",
        note=f"peak of a process that takes 3 steps of Adam on {LARGE}x{LARGE} in patches of {TILE}, with all that it "
        f"imports; in one piece {whole:.0f} MiB. At {SHOWN}x{SHOWN} in patches of {TILE // 2} the loss is {loss:.0e} "
        f"and the gradient {gradient:.0e} from those in one piece, relative to them",
    )

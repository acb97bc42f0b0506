"""How good the drawn clothes are: FID, KID and classes read over thousands of images; hours on two cores, resumable.

What is kept in `bench/runs` are the classifier's features of each batch drawn, under a digest of what drew them: an
interrupted measurement goes on from there, and other weights or settings start anew.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib import data, gpu
from lib.diffusion import fashion
from lib.diffusion.draw import draw
from lib.diffusion.scores import fid, kid
from lib.measure import Record

RUNS = Path(__file__).parent / "runs"
BATCH, BATCH_ON_GPU = 128, 1024
Say = Callable[[str], None]


@dataclass(frozen=True)
class Drawing:
    """What draws how many images, each class as often as the others: a model, a sampler, and its settings.

    With `sigma_max` the steps are Karras's from that sigma on, otherwise even.
    """

    model: str = "unet"
    sampler: str = "ddim"
    steps: int = 50
    sigma_max: float | None = None
    guidance: float = 1.0
    clip: bool = True
    count: int = 2048
    seed: int = 0

    def __str__(self) -> str:
        spaced = "even steps" if self.sigma_max is None else f"Karras's steps from sigma {self.sigma_max:g}"
        guided = "" if self.guidance == 1 else f", guidance {self.guidance:g}"
        loose = "" if self.clip else ", guesses not clipped"
        return f"{self.sampler}, {self.steps} {spaced}{guided}{loose}, {self.count:,} images, {self.calls} calls each"

    @property
    def calls(self) -> int:
        """How often the network is called for an image."""
        once = 2 * self.steps - 1 if self.sampler == "heun" else self.steps
        return once if self.guidance in (0, 1) else 2 * once


def long(count: int) -> tuple[Drawing, Drawing, Drawing, Drawing]:
    """Return those of a thousand steps: as a first DDPM is made, its guesses clipped, with min-SNR, and what ships."""
    return (
        Drawing("plain", "ddpm", 1000, clip=False, count=count),
        Drawing("plain", "ddpm", 1000, count=count),
        Drawing("min-snr", "ddpm", 1000, count=count),
        Drawing("unet", "ddpm", 1000, count=count),
    )


STEPS = (5, 10, 20, 50)
SWEEP = {
    "ddpm": Drawing(sampler="ddpm"),
    "ddim": Drawing(sampler="ddim"),
    "euler-ancestral": Drawing(sampler="euler-ancestral", sigma_max=80.0),
    "heun": Drawing(sampler="heun", sigma_max=80.0),
    "lms": Drawing(sampler="lms", sigma_max=80.0),
    "dpm-solver": Drawing(sampler="dpm-solver"),
}
GUIDANCE = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)


class Judge:
    """The shipped classifier, what it sees in the test images, and the floor: as many training images against them."""

    def __init__(self, loaded: data.Dataset) -> None:
        self.net = fashion.load("classifier")
        self.test = self.features(loaded.test.images)
        self.training = self.features(loaded.train.images)
        self.right = {
            name: 100 * (self.read(features) == split.labels).float().mean().item()
            for name, features, split in (
                ("test", self.test, loaded.test),
                ("training", self.training, loaded.train),
            )
        }
        self.floors: dict[int, list[float]] = {}

    def features(self, images: Tensor) -> Tensor:
        """Return the features [n, 96] of images [n, 28, 28] in [0, 255]."""
        return fashion.features(self.net, fashion.preprocess(images[:, None].float() / 255))

    def floor(self, count: int, most: int = 20) -> list[float]:
        """Return the FID of each of up to `most` sets of training images, none in two of them."""
        if count not in self.floors:
            order = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(0))
            sets = [self.training[part] for part in order.split(count)[:most] if len(part) == count]
            self.floors[count] = [fid(part, self.test) for part in sets]
        return self.floors[count]

    def excess(self, features: Tensor) -> float:
        """Return by how much the FID of drawn images is above that of as many real ones."""
        return fid(features, self.test) - statistics.mean(self.floor(len(features)))

    def read(self, features: Tensor) -> Tensor:
        """Return the class that is read in each image."""
        with torch.no_grad():
            return self.net.head(features).argmax(dim=1)


def records(say: Say, runs: Path = RUNS) -> Iterator[Record]:
    """Train what is missing for comparison, draw, and score."""
    loaded = data.load("fashion_mnist")
    if loaded.source.kind == "part":
        raise ValueError(f"diffusion-full needs all the images, got {loaded.source}: set LIB_DATA to their folder")
    for name in ("plain", "min-snr"):
        if not _entry(name):
            _train(name, **{key: _entry("unet")[key] for key in ("epochs", "batch_size")})
    judge = Judge(loaded)
    seen = partial(drawn, judge=judge, say=say, runs=runs)
    plain, within, weighed, ddpm = long(2048 if gpu.present() else 512)
    most = judge.excess(seen(plain)) / 2
    yield excess("plain", plain, seen(plain), judge)
    yield excess("plain-clipped", within, seen(within), judge)
    yield excess("min-snr", weighed, seen(weighed), judge)
    fewer = replace(weighed, steps=50, count=1024, seed=1)
    yield excess("min-snr-50", fewer, seen(fewer), judge)
    yield excess("ddpm", ddpm, seen(ddpm), judge, f"<= {most:.3g}, half of plain")
    ddim, above = Drawing(), judge.excess(seen(ddpm))
    yield excess("ddim-50", ddim, seen(ddim), judge, f"<= {1.25 * above:.3g}, 1.25 times ddpm")
    swept = {drawing: seen(drawing) for drawing in sweep()}
    best = min((d for d in swept if d.calls <= 10), key=lambda d: judge.excess(swept[d]))
    best = replace(best, count=2048, seed=0)  # drawn anew: the one that was chosen flatters itself
    yield excess("best-10", best, seen(best), judge, f"<= {2 * above:.3g}, twice ddpm")
    for drawing, features in swept.items():
        yield excess(f"{drawing.sampler}/{drawing.calls}-calls", drawing, features, judge)
    yield from guidance(judge, seen)


def sweep(count: int = 1024) -> Iterator[Drawing]:
    """Return each sampler at each number of calls of the network, or one less."""
    for drawing in SWEEP.values():
        for calls in STEPS:
            steps = (calls + 1) // 2 if drawing.sampler == "heun" else calls
            yield replace(drawing, steps=steps, count=count, seed=1)


def excess(name: str, drawing: Drawing, features: Tensor, judge: Judge, target: str | None = None) -> Record:
    """Return the record of an excess FID; its note has all that it was made of."""
    floor = judge.floor(len(features))
    spread = f"{min(floor):.3f} to {max(floor):.3f}"
    return Record(
        f"diffusion/excess-fid/{name}",
        judge.excess(features),
        "FID",
        target=target,
        n=len(features),
        seed=drawing.seed,
        note=f"{drawing}; FID {fid(features, judge.test):.3f} against the 10,000 test images, that of as many training "
        f"images {statistics.mean(floor):.3f} ({spread} of {len(floor)} sets); KID {kid(features, judge.test):.2e}; "
        "on 96 features of the classifier trained here, so no figure of a paper can be set beside it",
    )


def guidance(judge: Judge, seen: Callable[[Drawing], Tensor]) -> Iterator[Record]:
    """Record at each scale how many images are read as their class, how varied they are, and their excess FID."""
    rows = {}
    for scale in GUIDANCE:
        drawing = Drawing(guidance=scale, count=1024, steps=25)
        features = seen(drawing)
        wanted = torch.arange(len(features)) % fashion.CLASSES
        right = 100 * (judge.read(features) == wanted).float().mean().item()
        rows[scale] = (right, variety(features, wanted), judge.excess(features))
    best = max(rows, key=lambda scale: rows[scale][0])
    summary = "; ".join(f"{s:g}: {right:.1f} %, {v:.3f}, {e:.2f}" for s, (right, v, e) in rows.items())
    real = " and ".join(f"{right:.1f} % of the {name} images" for name, right in judge.right.items())
    note = f"ddim, 25 steps; scale: read as their class, variety, excess FID: {summary}; of real images {real} are"
    yield Record("diffusion/class-read", rows[best][0], "%", target=">= 95", n=1024, seed=0, note=note)
    for scale, (right, spread, above) in rows.items():
        yield Record(f"diffusion/guidance/{scale:g}/class-read", right, "%", n=1024, seed=0)
        yield Record(f"diffusion/guidance/{scale:g}/variety", spread, "mean distance", n=1024, seed=0)
        yield Record(f"diffusion/guidance/{scale:g}/excess-fid", above, "FID", n=1024, seed=0)


def variety(features: Tensor, labels: Tensor) -> float:
    """Return the mean distance of two images of one class, over the classes."""
    return statistics.mean(torch.pdist(features[labels == k]).mean().item() for k in labels.unique())


def drawn(drawing: Drawing, judge: Judge, say: Say, runs: Path = RUNS) -> Tensor:
    """Draw, batch by batch, and return the classifier's features [count, 96]; batches that are kept are read.

    On a CPU as many batches are drawn side by side as torch takes threads, each on one: twice as fast as one after the
    other on all.
    """
    folder = runs / f"diffusion-{digest(drawing)}"
    folder.mkdir(parents=True, exist_ok=True)
    before, on_gpu = torch.get_num_threads(), gpu.present()
    size = BATCH_ON_GPU if on_gpu else BATCH
    batches = [(first, min(size, drawing.count - first)) for first in range(0, drawing.count, size)]
    kept = {batch: folder / "{}-{}.pt".format(*batch) for batch in batches}
    missing = [batch for batch, path in kept.items() if not path.exists()]
    net = fashion.load(drawing.model) if missing else None

    def one(batch: tuple[int, int]) -> None:
        images = draw_images(net, drawing, *batch)
        part = kept[batch].with_suffix(".part")
        torch.save(fashion.features(judge.net, images), part)
        part.replace(kept[batch])
        say(f"{drawing.model}, {drawing}: those from {batch[0]} on drawn")

    torch.set_num_threads(before if on_gpu else 1)
    try:
        with ThreadPoolExecutor(1 if on_gpu else before) as pool:
            for job in [pool.submit(one, batch) for batch in missing]:
                job.result()
    finally:
        torch.set_num_threads(before)
    return torch.cat([torch.load(path, weights_only=True) for path in kept.values()])


def draw_images(net: nn.Module, drawing: Drawing, first: int, count: int) -> Tensor:
    """Draw images `first` to `first + count - 1` of a drawing: [count, 1, 32, 32], on the CPU."""
    regime = fashion.REGIMES[drawing.model]
    net = net.to(gpu.device())
    schedule = regime.schedule
    steps = drawing.steps if drawing.sigma_max is None else schedule.karras(drawing.steps, sigma_max=drawing.sigma_max)
    return draw(
        net,
        schedule,
        regime.prediction,
        torch.arange(first, first + count) % fashion.CLASSES,
        sampler=drawing.sampler,
        steps=steps,
        guidance=drawing.guidance,
        clip=drawing.clip,
        seed=drawing.seed,
        first=first,
        batch_size=count,
    ).cpu()


def digest(drawing: Drawing) -> str:
    """Return what tells one drawing from another: its settings but for the count, and the weights of both models."""
    sums = [_entry(name)["sha256"] for name in (drawing.model, "classifier")]
    values = {key: value for key, value in asdict(drawing).items() if key != "count"}
    return hashlib.sha256(json.dumps([values, sums], sort_keys=True).encode()).hexdigest()[:12]


def _train(name: str, epochs: int, batch_size: int) -> None:
    """Let the recipe train a model as long as the one that ships; what it says goes where no records do."""
    options = ["--epochs", str(epochs), "--batch-size", str(batch_size)]
    subprocess.run([sys.executable, *fashion.COMMAND.split()[1:], name, *options], check=True, stdout=sys.stderr)


def _entry(name: str) -> dict[str, Any]:
    """Return what the manifest says of a model's weights; nothing where there are none."""
    return json.loads(fashion.manifest_of(name).read_text())["files"].get(f"models/fashion/{name}.safetensors", {})

"""What the learner's events cost: against a loop written by hand, fastai and Lightning, and in an epoch of a ResNet."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import gpu
from lib.data.loaders import DataLoaders, FastLoader
from lib.learner import Accuracy, ActivationStats, Learner, Metrics, Recorder, Scheduled, momentum_cycle, one_cycle
from lib.measure import Record, compare, in_turn, quartiles
from lib.nn.resnet import ResNet

SEED = 0
BATCHES, ITEMS, CLASSES = 400, 64, 10
MICRO = 1e6
SHOWN = "{} batches of {} of the ResNet of post 13, AdamW, one-cycle"


class Idle(nn.Module):
    """A model that answers at once: the same scores [64, 10] for every batch, and a loss that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        self.register_buffer("scores", torch.randn(ITEMS, CLASSES, generator=generator))
        self.cost = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scores

    def loss(self, preds: Tensor, targets: Tensor) -> Tensor:
        return self.cost


class Still(torch.optim.SGD):
    """An optimiser whose step does nothing."""

    def step(self, closure: Callable | None = None) -> None:
        if closure is not None:
            closure()


class Batches(list):
    """A list of batches that fastai and Lightning take for a loader."""

    dataset = range(BATCHES * ITEMS)
    batch_size, bs, device, num_workers = ITEMS, ITEMS, torch.device("cpu"), 0

    def to(self, device: torch.device) -> Batches:
        return self


def batches() -> Batches:
    """Return the batches of a pass: inputs [64, 1] and labels [64]."""
    generator = torch.Generator().manual_seed(SEED)
    return Batches(
        (torch.zeros(ITEMS, 1), torch.randint(CLASSES, (ITEMS,), generator=generator)) for _ in range(BATCHES)
    )


def ours(loader: Batches) -> Callable[[], dict[str, float]]:
    """Return a pass with the learner: metrics, recorder and schedule on."""
    model, recorder = Idle(), Recorder()
    learn = Learner(
        model,
        DataLoaders(loader),
        model.loss,
        partial(Still, lr=1e-2, momentum=0.9),
        [Metrics(accuracy=Accuracy()), recorder, Scheduled(lr=one_cycle(), momentum=momentum_cycle())],
    )

    def run() -> dict[str, float]:
        learn.fit(1)
        return {"loss": learn.log["train_loss"], "accuracy": learn.log["train_accuracy"]}

    return run


def by_hand(loader: Batches) -> Callable[[], dict[str, float]]:
    """Return a pass written out: the same averages, the same record of each batch, the same schedule."""
    model = Idle()
    lr, momentum = one_cycle(), momentum_cycle()

    def run() -> dict[str, float]:
        optimiser = Still(model.parameters(), lr=1e-2, momentum=0.9)
        total, correct, count = 0.0, 0, 0
        losses, lrs, momenta = [], [], []
        model.train()
        for i, (x, y) in enumerate(loader):
            for group in optimiser.param_groups:
                group["lr"] = 1e-2 * lr(i / len(loader))
                group["momentum"] = momentum(i / len(loader))
            preds = model(x)
            loss = model.loss(preds, y)
            losses.append(loss.detach())
            lrs.append(optimiser.param_groups[0]["lr"])
            momenta.append(optimiser.param_groups[0]["momentum"])
            total = total + loss.detach() * len(x)
            correct = correct + (preds.detach().argmax(1) == y).sum()
            count += len(x)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        losses = [loss.item() for loss in losses]
        return {"loss": float(total) / count, "accuracy": float(correct) / count}

    return run


def with_fastai(loader: Batches) -> Callable[[], dict[str, float]]:
    """Return a pass with fastai: its recorder, metrics on the training batches, its one-cycle schedule, no bar."""
    from fastai.basics import CancelValidException, OptimWrapper, accuracy
    from fastai.basics import DataLoaders as FastaiLoaders
    from fastai.basics import Learner as FastaiLearner
    from fastai.callback import schedule  # noqa: F401 - adds fit_one_cycle to its learner
    from fastai.callback.core import Callback
    from fastai.callback.progress import ProgressCallback

    class TrainOnly(Callback):
        def before_validate(self) -> None:
            raise CancelValidException

    model = Idle()
    learn = FastaiLearner(
        FastaiLoaders(loader, loader),
        model,
        loss_func=model.loss,
        opt_func=partial(OptimWrapper, opt=Still),
        metrics=accuracy,
        cbs=[TrainOnly()],
    )
    learn.remove_cb(ProgressCallback)
    learn.recorder.train_metrics = True
    learn.logger = lambda values: None

    def run() -> dict[str, float]:
        learn.fit_one_cycle(1, 1e-2)
        _, loss, accuracy = learn.recorder.log[:3]
        return {"loss": float(loss), "accuracy": float(accuracy)}

    return run


def with_lightning(loader: Batches) -> Callable[[], dict[str, float]]:
    """Return a pass with Lightning: the same averages in its hooks, torch's one-cycle schedule; no logger, no bar."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.accuracy = Idle(), Accuracy()

        def on_train_epoch_start(self) -> None:
            self.accuracy.reset()
            self.total, self.count, self.losses = 0.0, 0, []

        def training_step(self, batch: tuple[Tensor, Tensor], i: int) -> Tensor:
            x, y = batch
            preds = self.model(x)
            loss = self.model.loss(preds, y)
            self.accuracy.update(preds.detach(), y)
            self.losses.append(loss.detach())
            self.total, self.count = self.total + loss.detach() * len(x), self.count + len(x)
            return loss * 1  # Lightning closes over a loss that is no leaf

        def configure_optimizers(self) -> dict:
            optimiser = Still(self.parameters(), lr=1e-2, momentum=0.9)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=BATCHES + 1)
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def run() -> dict[str, float]:
        module = Module()
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)
        return {"loss": float(module.total) / module.count, "accuracy": module.accuracy.compute()}

    return run


def quietly(run: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """Keep what a peer prints and warns of away from the results."""

    def quiet() -> dict[str, float]:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return quiet


def records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure the overhead a batch against each peer, then an epoch of the ResNet."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    loader = batches()
    say("measuring learner/overhead against a loop written by hand, 41 pairs")
    yield microseconds(loader)
    for name, peer, share in (("fastai", with_fastai, 0.1), ("lightning", with_lightning, 0.25)):
        say(f"measuring learner/overhead against {name}, 25 pairs")
        yield _against(name, loader, quietly(peer(loader)), share)
    say("measuring learner/epoch, 31 pairs, and a loop written by hand against itself")
    yield from epoch()
    say("measuring learner/statistics, 25 pairs")
    yield statistics()


def gpu_records(say: Callable[[str], None]) -> Iterator[Record]:
    """Measure an epoch of the ResNet on the GPU, where a batch takes as long as it takes to launch its kernels."""
    say("measuring learner/epoch on the GPU, 31 pairs, and a loop written by hand against itself")
    with torch.backends.cudnn.flags(deterministic=True):
        yield from epoch(gpu.scaled(31), gpu.scaled(12_800, 64), gpu.scaled(64, 32), gpu.device(), "/gpu")


def microseconds(loader: Batches) -> Record:
    mine, hand = ours(loader), by_hand(loader)
    samples = in_turn(mine, hand, pairs=41)
    low, more, high = quartiles([(a - b) / BATCHES * MICRO for a, b in zip(*samples, strict=True)])
    return Record(
        "learner/overhead",
        more,
        "us",
        peer="hand-written loop",
        ours=quartiles(samples[0])[1] / BATCHES * MICRO,
        theirs=quartiles(samples[1])[1] / BATCHES * MICRO,
        low=low,
        high=high,
        same=mine() == hand(),
        target="<= 10",
        n=41,
        seed=SEED,
        note="microseconds more a batch; a step that does nothing, with accuracy, recorder and one-cycle schedule (the "
        "learner adds up 64 losses at a time, the loop each at once); "
        f"ours and theirs are microseconds a batch over {BATCHES} batches of {ITEMS}",
    )


def _against(name: str, loader: Batches, peer: Callable[[], dict[str, float]], share: float, pairs: int = 25) -> Record:
    """Compare a pass with a peer's; `share` of its time is the goal."""
    mine = ours(loader)
    a, b = mine(), peer()
    timing = compare(mine, peer, pairs=pairs, warmup=1)
    return Record(
        "learner/overhead",
        timing.ratio,
        "time ratio",
        peer=name,
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=all(math.isclose(a[key], b[key], rel_tol=1e-5) for key in a),
        target=f"<= {share}",
        n=timing.n,
        seed=SEED,
        note=f"a pass of {BATCHES} batches whose step does nothing; mean loss and accuracy compared to 1e-5",
    )


def resnet(images: int, device: torch.device | str = "cpu") -> tuple[nn.Module, Tensor, Tensor]:
    """Return the ResNet as it starts, and random images [n, 1, 28, 28] with labels [n]."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(images, 1, 28, 28, generator=generator).to(device)
    y = torch.randint(CLASSES, (images,), generator=generator).to(device)
    torch.manual_seed(SEED)
    return ResNet().to(device), x, y


def trained(start: nn.Module, x: Tensor, y: Tensor, batch_size: int, watch: bool = False) -> nn.Module:
    """Train a copy for an epoch with the learner; `watch` takes statistics of each layer's outputs at each batch."""
    model = copy.deepcopy(start)
    loaders = DataLoaders(FastLoader(x, y, batch_size=batch_size, device=x.device))
    callbacks = [Metrics(accuracy=Accuracy()), Recorder(), Scheduled(lr=one_cycle())]
    if watch:
        callbacks.append(ActivationStats(layers(model)))
    Learner(model, loaders, F.cross_entropy, partial(torch.optim.AdamW, lr=1e-3), callbacks).fit(1)
    return model


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the named modules that have no modules inside."""
    return [(name, module) for name, module in model.named_modules() if not any(module.children())]


def statistics(pairs: int = 25, images: int = 640, batch_size: int = 64) -> Record:
    """Train the ResNet with statistics of every layer, and without."""
    start, x, y = resnet(images)
    watched, plain = (partial(trained, start, x, y, batch_size, watch) for watch in (True, False))
    same = equal(watched(), plain())
    timing = compare(watched, plain, pairs=pairs, warmup=1)
    return Record(
        "learner/statistics",
        timing.ratio,
        "time ratio",
        peer="no statistics",
        ours=timing.ours,
        theirs=timing.theirs,
        low=timing.low,
        high=timing.high,
        same=same,
        target="<= 1.3",
        n=timing.n,
        seed=SEED,
        note=f"{SHOWN.format(images // batch_size, batch_size)}; mean, deviation, histogram and share near zero of the "
        f"outputs of all {len(layers(start))} layers at every batch; weights afterwards equal bit for bit",
    )


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Tell whether two models have the same weights, bit for bit."""
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def epoch(
    pairs: int = 31, images: int = 640, batch_size: int = 64, device: torch.device | str = "cpu", where: str = ""
) -> Iterator[Record]:
    """Train the ResNet on a few batches, with the learner and by hand, from the same weights."""
    start, x, y = resnet(images, device)

    def learner() -> nn.Module:
        return trained(start, x, y, batch_size)

    def by_hand() -> nn.Module:
        model, lr, accuracy, losses = copy.deepcopy(start), one_cycle(), Accuracy(), []
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        steps = images // batch_size
        for i in range(steps):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 * lr(i / steps)
            preds = model(x[rows])
            loss = F.cross_entropy(preds, y[rows])
            losses.append(loss.detach())
            accuracy.update(preds.detach(), y[rows])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        return model

    same = equal(learner(), by_hand())
    shown = SHOWN.format(images // batch_size, batch_size)
    for name, run, target in (("epoch", learner, "<= 1.03"), ("epoch-noise", by_hand, None)):
        timing = compare(run, by_hand, pairs=pairs, warmup=1, sync=gpu.synchronize)
        yield Record(
            f"learner/{name}{where}",
            timing.ratio,
            "time ratio",
            peer="hand-written loop",
            ours=timing.ours,
            theirs=timing.theirs,
            low=timing.low,
            high=timing.high,
            same=same,
            target=target,
            n=timing.n,
            seed=SEED,
            note=f"{shown}; weights afterwards equal bit for bit"
            if target
            else "the loop written by hand against itself: the noise of the machine",
        )

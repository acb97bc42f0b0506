"""What Pocket Stable Diffusion can do, scored on drawn scenes: pictures of held-out prompts, and held-out edits.

What is kept in `bench/runs` are the scores of each batch, under a digest of what was asked and of the weights: an
interrupted measurement goes on from there, and other weights or settings start anew. A GPU is used if there is one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import data, reader, scenes
from lib.diffusion import editing, latent
from lib.diffusion.parts import POCKET_FOLDER, Parts
from lib.diffusion.samplers import sample_ddim
from lib.edits import Task, agree, allowed, overlap, psnr, shows, tasks
from lib.measure import Record

RUNS = Path(__file__).parent / "runs"
SEED, COUNT = 2026, 200
BATCH, BATCH_ON_GPU = 20, 100
STEPS, GUIDANCE = 25, 7.5
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Say = Callable[[str], None]


@dataclass
class Judged:
    """Scores by name, each [n], of one thing that was tried; batches that are kept are read."""

    parts: Parts
    say: Say
    runs: Path = RUNS
    count: int = COUNT
    weights: str = field(default_factory=lambda: _weights())

    def scores(self, name: str, judge: Callable[..., Mapping[str, Tensor]], *given: Any, count: int = 0) -> dict:
        """Score `judge(first, count, *given)` batch by batch."""
        count, size = count or self.count, BATCH if self.parts.device.type == "cpu" else BATCH_ON_GPU
        asked = json.dumps([name, repr(given), inspect.getsource(judge), self.weights, SEED])
        folder = self.runs / f"stable-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for first in range(0, count, size):
            n = min(size, count - first)
            kept = folder / f"{first}-{n}.pt"
            if not kept.exists():
                part = kept.with_suffix(f".{os.getpid()}")
                torch.save({key: value.cpu() for key, value in judge(self, first, n, *given).items()}, part)
                part.replace(kept)
                self.say(f"{name}: {first + n} of {count}")
            found.append(torch.load(kept, weights_only=True))
        return {key: torch.cat([part[key] for part in found]) for key in found[0]}

    @cached_property
    def edits(self) -> list[Task]:
        """The held-out edits."""
        return tasks(self.count, SEED)

    def some(self, first: int, n: int) -> tuple[Tensor, list[str], list[str], Tensor]:
        """Return pictures, what is said of them, what is wanted, and where they may change, of edits."""
        chosen = self.edits[first : first + n]
        pictures = scenes.of([task.source for task in chosen]).pictures()
        source, target = (list(side) for side in zip(*[task.prompts for task in chosen], strict=True))
        return pictures.to(self.parts.device), source, target, allowed(chosen).to(self.parts.device)


def records(say: Say, runs: Path = RUNS, count: int = COUNT) -> Iterator[Record]:
    """Score what ships: reconstruction, held-out and negative prompts, inversion, and edits against three others."""
    warnings.filterwarnings("ignore", message="the model never saw")
    judged = Judged(Parts.load(device="cuda" if torch.cuda.is_available() else "cpu"), say, runs, count)
    drawing = f"DDIM, {STEPS} steps, guidance {GUIDANCE}"
    seen = judged.scores("vae", reconstructed)
    yield _record("vae", seen["psnr"].mean(), "dB", ">= 31", seen, f"{_share(seen['read']):.1f} % still read right")
    one, two = (judged.scores(f"held-out-{word}", held_out, word == "two") for word in ("one", "two"))
    yield _record("held-out", _share(one["right"]), "%", ">= 95", one, f"one thing on a background; {drawing}")
    yield _record("held-out/two-things", _share(two["right"]), "%", None, two, f"both things right; {drawing}")
    yield from _negative(judged.scores("negative", negative), drawing)
    seen = judged.scores("inversion", inverted, count=min(40, count))
    yield _record(
        "inversion",
        seen["psnr"].mean(),
        "dB",
        ">= 35",
        seen,
        "200 steps to noise and back without guidance and prompt, against the autoencoder's own reconstruction",
    )
    yield from _edits(judged)


def reconstructed(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Encode and decode fresh scenes."""
    many = _fresh(first, n, None, None)
    pictures = many.pictures().to(judged.parts.device)
    again = latent.decode(judged.parts, latent.encode_image(judged.parts, pictures))
    return {"psnr": psnr(again, pictures), "read": _right(again, [many[i] for i in range(n)])}


def held_out(judged: Judged, first: int, n: int, two: bool) -> dict[str, Tensor]:
    """Draw prompts whose triples were never seen."""
    many = _fresh(first, n, True, two)
    prompts = [scenes.caption(many[i]) for i in range(n)]
    drawn = latent.text_to_image(judged.parts, prompts, guidance=GUIDANCE, steps=STEPS, seed=SEED, first=first)
    return {"right": _right(drawn, [many[i] for i in range(n)])}


def negative(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Name a thing and no background; then, with the same seed, the background that came as what is not wanted."""
    many = _fresh(first, n, None, False)
    prompts = [scenes.caption(many[i], 1) for i in range(n)]
    draw = partial(latent.text_to_image, judged.parts, prompts, guidance=GUIDANCE, steps=STEPS, seed=SEED, first=first)
    before = [reader.read(picture) for picture in draw()]
    unwanted = [f"a {scene.background if scene else 'white'} background" for scene in before]
    after = [reader.read(picture) for picture in draw(negative=unwanted)]
    things = [(many[i].things[0].shape, many[i].things[0].colour) for i in range(n)]
    shown, kept = (
        torch.tensor([float(_named(scene) == [thing]) for scene, thing in zip(side, things, strict=True)])
        for side in (before, after)
    )
    pairs = zip(before, after, strict=True)
    lost = [float(now is not None and was is not None and now.background != was.background) for was, now in pairs]
    return {"shown": shown, "lost": torch.tensor(lost), "kept": kept}


def inverted(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Go to noise and back, 200 steps each way."""
    parts = judged.parts
    pictures = _fresh(first, n, None, None).pictures().to(parts.device)
    hidden = editing.invert(parts, pictures, steps=200)
    empty = latent.encode_prompt(parts, "").expand(n, -1, -1)
    with torch.no_grad():
        z = sample_ddim(latent.conditioned(parts, empty), hidden, parts.schedule, latent.times(parts, 200))
    wanted = latent.decode(parts, latent.encode_image(parts, pictures))
    return {"psnr": psnr(latent.decode(parts, z), wanted)}


def edited(judged: Judged, first: int, n: int, _defaults: str) -> dict[str, Tensor]:
    """Edit with DiffEdit at its defaults, which are named so that others are measured anew."""
    pictures, source, target, _ = judged.some(first, n)
    edit = editing.diffedit(judged.parts, pictures, source, target, seed=SEED, first=first)
    return {**_judged(judged, first, edit.pictures), "iou": _iou(judged, first, edit.mask)}


def with_true_mask(judged: Judged, first: int, n: int, _defaults: str) -> dict[str, Tensor]:
    """Edit with DiffEdit inside of the true mask."""
    pictures, source, target, mask = judged.some(first, n)
    edit = editing.diffedit(judged.parts, pictures, source, target, mask=mask, draws=1, seed=SEED, first=first)
    return _judged(judged, first, edit.pictures)


def over(judged: Judged, first: int, n: int, strength: float) -> dict[str, Tensor]:
    """Edit by drawing over the whole picture."""
    pictures, _, target, _ = judged.some(first, n)
    drawn = latent.image_to_image(judged.parts, pictures, target, strength=strength, seed=SEED, first=first)
    return _judged(judged, first, drawn)


def theirs(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Edit with the pipeline of diffusers at its defaults; masks one by one, as it cuts all by their common mean."""
    pictures, source, target, _ = judged.some(first, n)
    pipe, masks = pipeline(judged.parts), []
    for i in range(n):
        generator = torch.Generator().manual_seed(SEED + first + i)
        masks.append(pipe.generate_mask(pictures[i : i + 1], target[i], source_prompt=source[i], generator=generator))
    mask = np.concatenate(masks)
    hidden = pipe.invert(source, pictures, generator=torch.Generator().manual_seed(SEED + first)).latents
    edit = pipe(target, mask, hidden, negative_prompt=source, output_type="pt").images
    return {**_judged(judged, first, edit), "iou": _iou(judged, first, torch.from_numpy(mask).to(pictures))}


def pipeline(parts: Parts) -> diffusers.StableDiffusionDiffEditPipeline:
    """Return the peer, made of our parts."""
    scheduler = diffusers.DDIMScheduler.from_pretrained(data.MANIFEST.parent / POCKET_FOLDER / "scheduler")
    pipe = diffusers.StableDiffusionDiffEditPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=scheduler,
        inverse_scheduler=diffusers.DDIMInverseScheduler.from_config(scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _negative(seen: Mapping[str, Tensor], drawing: str) -> Iterator[Record]:
    shown = seen["shown"] == 1
    note = f"{_share(seen['shown']):.1f} % of the pictures show the thing without it, and these count; {drawing}"
    yield _record("negative", _share(seen["lost"][shown]), "%", ">= 90", seen, f"the background is gone: {note}")
    yield _record("negative/keep", _share(seen["kept"][shown]), "%", ">= 80", seen, f"the thing is still there: {note}")


def _edits(judged: Judged) -> Iterator[Record]:
    defaults = str(inspect.signature(editing.diffedit))
    ours = judged.scores("edits", edited, defaults)
    true = judged.scores("edits-true-mask", with_true_mask, defaults)
    peer = judged.scores("edits-diffusers", theirs)
    kinds = [task.kind for task in judged.edits]
    goals = {"success": ">= 90", "iou": ">= 0.75", "background": ">= -1"}
    for key, unit in (("success", "%"), ("iou", "IoU"), ("background", "dB")):
        mean = _share if unit == "%" else Tensor.mean
        for name, seen in (("", ours), ("/true-mask", true), ("/diffusers", peer)):
            if key in seen:
                by_kind = {kind: seen[key][[k == kind for k in kinds]] for kind in dict.fromkeys(kinds)}
                told = ", ".join(f"{kind} {mean(part):.3g}" for kind, part in by_kind.items())
                about = "" if key != "background" else f"; the edit itself {seen['outside'].mean():.1f} dB"
                goal = None if name else goals[key]
                yield _record(f"edit-{key}{name}", mean(seen[key]), unit, goal, seen, f"{told}{about}")
        if key == "success":
            yield _record("edit-success/in-place", _share(ours["near"]), "%", None, ours, "and within 4 pixels")
    plain = {strength: judged.scores(f"over-{strength}", over, strength) for strength in STRENGTHS}
    yield _against_plain(ours, plain)


def _against_plain(ours: Mapping[str, Tensor], plain: Mapping[float, Mapping[str, Tensor]]) -> Record:
    """Compare backgrounds with image-to-image at the least strength that succeeds as often, or at the best there is."""
    wanted = _share(ours["success"])
    enough = [strength for strength, seen in plain.items() if _share(seen["success"]) >= wanted]
    strength = min(enough) if enough else max(plain, key=lambda s: _share(plain[s]["success"]))
    told = "; ".join(
        f"{s:g}: {_share(seen['success']):.1f} %, {seen['background'].mean():.1f} dB" for s, seen in plain.items()
    )
    better = ours["background"].mean() - plain[strength]["background"].mean()
    note = (
        f"at strength {strength:g} ({'as many' if enough else 'fewer'} succeed); strength: success, background: {told}"
    )
    return _record("edit-background/over-image-to-image", better, "dB", ">= 3", ours, note)


def _judged(judged: Judged, first: int, edited: Tensor) -> dict[str, Tensor]:
    """Score edited pictures: is the target read, and in place; and what is left of the rest, by itself and at best."""
    n = len(edited)
    pictures, _, _, mask = judged.some(first, n)
    again = latent.decode(judged.parts, latent.encode_image(judged.parts, pictures))
    targets = [task.target for task in judged.edits[first : first + n]]
    outside = psnr(edited, pictures, 1 - mask)
    found = list(zip([reader.read(picture) for picture in edited], targets, strict=True))
    return {
        "success": torch.tensor([float(agree(scene, target)) for scene, target in found]),
        "near": torch.tensor([float(agree(scene, target, moved=4)) for scene, target in found]),
        "outside": outside,
        "background": outside - psnr(again, pictures, 1 - mask),
    }


def _iou(judged: Judged, first: int, mask: Tensor) -> Tensor:
    wanted = judged.some(first, len(mask))[3]
    return overlap(mask, F.max_pool2d(wanted[:, None], judged.parts.factor)[:, 0])


def _right(pictures: Tensor, wanted: list[scenes.Scene]) -> Tensor:
    return torch.tensor([float(shows(picture, scene)) for picture, scene in zip(pictures, wanted, strict=True)])


def _named(scene: scenes.Scene | None) -> list[tuple[str, str]]:
    return [] if scene is None else [(thing.shape, thing.colour) for thing in scene.things]


def _fresh(first: int, n: int, held: bool | None, two: bool | None) -> scenes.Scenes:
    """Return scenes `first` to `first + n - 1` of the seed; they hang on how many are drawn, so all are."""
    many = scenes.sample(COUNT, torch.Generator().manual_seed(SEED), held=held, two=two)
    return many.rows(slice(first, first + n))


def _share(right: Tensor) -> float:
    return 100 * right.mean().item()


def _record(name: str, value: Any, unit: str, goal: str | None, seen: Mapping[str, Tensor], note: str) -> Record:
    n = len(next(iter(seen.values())))
    return Record(f"stable/{name}", float(value), unit, target=goal, n=n, seed=SEED, note=note)


def _weights() -> str:
    listed = json.loads(data.MANIFEST.read_text())["files"]
    return json.dumps({name: entry["sha256"] for name, entry in listed.items() if name.startswith(POCKET_FOLDER)})

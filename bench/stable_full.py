"""What Pocket Stable Diffusion can do, scored on drawn scenes: images of held-out prompts, and held-out edits.

What is kept in `bench/runs` are the scores of each batch, under a digest of what was asked and of the weights: an
interrupted measurement goes on from there, and other weights or settings start anew. A change of the library does not:
remove the folder after one. A GPU is used if there is one.
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

from lib import data, gpu, scenes
from lib.diffusion import latent
from lib.diffusion.latent import POCKET_FOLDER, Parts
from lib.diffusion.samplers import sample_ddim
from lib.measure import Record, machine
from lib.scenes.read import read_scene
from lib.scenes.tasks import Task, edit_masks, iou, matches, psnr, sample_tasks, shows

RUNS = Path(__file__).parent / "runs"
SEED, COUNT = 2026, 200
BATCH = 20
STEPS, GUIDANCE, NEGATIVE = 25, 7.5, 6.0
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SHARES = ("right", "read", "shown", "lost", "kept", "success", "near")
FEWER = 60  # edits at each strength, of both ways
Say = Callable[[str], None]


@dataclass(frozen=True)
class Seen:
    """Scores by name, each [n], and the machine that drew."""

    scores: Mapping[str, Tensor]
    machine: str

    def __getitem__(self, name: str) -> Tensor:
        return self.scores[name]

    def __contains__(self, name: str) -> bool:
        return name in self.scores

    def first(self, n: int) -> Seen:
        """Return the scores of the first n."""
        return Seen({name: score[:n] for name, score in self.scores.items()}, self.machine)

    def mean(self, name: str) -> float:
        """The mean of a score; of what is right or wrong, the share in per cent."""
        return self[name].mean().item() * (100 if name in SHARES else 1)


@dataclass
class Judged:
    """Scores by name, each [n], of one thing that was tried; batches that are kept are read."""

    parts: Parts
    say: Say
    runs: Path = RUNS
    count: int = COUNT
    weights: str = field(default_factory=lambda: _weights())

    def scores(self, name: str, judge: Callable[..., dict[str, Tensor]], *given: Any, count: int = 0) -> Seen:
        """Score `judge(first, count, *given)` batch by batch."""
        folder, count = self.runs / self.digest(name, judge, *given), count or self.count
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for first in range(0, count, BATCH):
            n = min(BATCH, count - first)
            kept = folder / f"{first}-{n}.pt"
            if not kept.exists():
                part = kept.with_suffix(f".{os.getpid()}")
                values = {key: value.cpu() for key, value in judge(self, first, n, *given).items()}
                torch.save({**values, "machine": machine()}, part)
                part.replace(kept)
                self.say(f"{name}: {first + n} of {count}")
            found.append(torch.load(kept, weights_only=True))
        machines = dict.fromkeys(part.pop("machine") for part in found)
        return Seen({key: torch.cat([part[key] for part in found]) for key in found[0]}, " and ".join(machines))

    def digest(self, name: str, judge: Callable[..., Any], *given: Any) -> str:
        """Return what tells these scores from others: what was asked, how, of which weights."""
        asked = json.dumps([name, repr(given), inspect.getsource(judge), self.weights, SEED])
        return f"stable-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"

    @cached_property
    def edits(self) -> list[Task]:
        """The held-out edits."""
        return sample_tasks(self.count, SEED)

    def some(self, first: int, n: int) -> tuple[Tensor, list[str], list[str], Tensor]:
        """Return images, what is said of them, what is wanted, and where they may change, of edits."""
        chosen = self.edits[first : first + n]
        images = scenes.stack([task.source for task in chosen]).pictures()
        source, target = (list(side) for side in zip(*[task.prompts for task in chosen], strict=True))
        return images.to(self.parts.device), source, target, edit_masks(chosen).to(self.parts.device)


def records(say: Say, runs: Path = RUNS, count: int = COUNT) -> Iterator[Record]:
    """Score what ships: reconstruction, held-out and negative prompts, inversion, and edits against three others."""
    warnings.filterwarnings("ignore", message="the model never saw")
    judged = Judged(Parts.load(device=gpu.device()), say, runs, count)
    drawing = f"DDIM, {STEPS} steps, guidance {GUIDANCE}"
    seen = judged.scores("vae", reconstructed)
    yield _record("vae", "psnr", seen, ">= 31", f"{seen.mean('read'):.1f} % still read right")
    one, two = (judged.scores(f"held-out-{word}", held_out, word == "two") for word in ("one", "two"))
    yield _record("held-out", "right", one, ">= 95", f"one thing on a background; {drawing}")
    yield _record("held-out/two-things", "right", two, None, f"both things right; {drawing}")
    seen = judged.scores("negative", negative)
    shown = Seen({key: value[seen["shown"] == 1] for key, value in seen.scores.items()}, seen.machine)
    note = f"{seen.mean('shown'):.1f} % of {count} show the thing without it, and these count; guidance {NEGATIVE:g}"
    yield _record("negative", "lost", shown, ">= 90", f"the background is gone: {note}")
    yield _record("negative/keep", "kept", shown, ">= 80", f"the thing is still there: {note}")
    seen = judged.scores("inversion", inverted, count=min(40, count))
    note = "200 steps to noise and back without guidance and prompt, against the autoencoder's own reconstruction"
    yield _record("inversion", "psnr", seen, ">= 35", note)
    yield from _edits(judged)


def reconstructed(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Encode and decode fresh scenes."""
    many = _fresh(first, n, None, None)
    images = many.pictures().to(judged.parts.device)
    again = latent.decode(judged.parts, latent.encode_image(judged.parts, images))
    return {"psnr": psnr(again, images), "read": _right(again, [many[i] for i in range(n)])}


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
    draw = partial(latent.text_to_image, judged.parts, prompts, guidance=NEGATIVE, steps=STEPS, seed=SEED, first=first)
    before = [read_scene(image) for image in draw()]
    unwanted = [f"a {scene.background if scene else 'white'} background" for scene in before]
    after = [read_scene(image) for image in draw(negative=unwanted)]
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
    images = _fresh(first, n, None, None).pictures().to(parts.device)
    hidden = latent.invert(parts, images, steps=200)
    empty = latent.encode_prompt(parts, "").expand(n, -1, -1)
    with torch.no_grad():
        z = sample_ddim(latent.text_denoiser(parts, empty), hidden, parts.schedule, latent.timesteps(parts, 200))
    wanted = latent.decode(parts, latent.encode_image(parts, images))
    return {"psnr": psnr(latent.decode(parts, z), wanted)}


def edited(judged: Judged, first: int, n: int, _defaults: str) -> dict[str, Tensor]:
    """Edit with DiffEdit at its defaults, which are named so that others are measured anew."""
    images, source, target, _ = judged.some(first, n)
    edit = latent.diffedit(judged.parts, images, source, target, seed=SEED, first=first)
    return {**_judged(judged, first, edit.images), "iou": _iou(judged, first, edit.mask)}


def edited_to(judged: Judged, first: int, n: int, strength: float, _defaults: str) -> dict[str, Tensor]:
    """Edit with DiffEdit at another strength."""
    images, source, target, _ = judged.some(first, n)
    edit = latent.diffedit(judged.parts, images, source, target, strength=strength, seed=SEED, first=first)
    return {**_judged(judged, first, edit.images), "iou": _iou(judged, first, edit.mask)}


def with_true_mask(judged: Judged, first: int, n: int, _defaults: str) -> dict[str, Tensor]:
    """Edit with DiffEdit inside of the true mask."""
    images, source, target, mask = judged.some(first, n)
    edit = latent.diffedit(judged.parts, images, source, target, mask=mask, draws=1, seed=SEED, first=first)
    return _judged(judged, first, edit.images)


def with_image_to_image(judged: Judged, first: int, n: int, strength: float) -> dict[str, Tensor]:
    """Edit by drawing over the whole image."""
    images, _, target, _ = judged.some(first, n)
    drawn = latent.image_to_image(judged.parts, images, target, strength=strength, seed=SEED, first=first)
    return _judged(judged, first, drawn)


def theirs(judged: Judged, first: int, n: int) -> dict[str, Tensor]:
    """Edit with the pipeline of diffusers at its defaults; masks one by one, as it cuts all by their common mean."""
    images, source, target, _ = judged.some(first, n)
    pipe, masks = pipeline(judged.parts), []
    for i in range(n):
        generator = torch.Generator().manual_seed(SEED + first + i)
        masks.append(pipe.generate_mask(images[i : i + 1], target[i], source_prompt=source[i], generator=generator))
    mask = np.concatenate(masks)
    hidden = pipe.invert(source, images, generator=torch.Generator().manual_seed(SEED + first)).latents
    edit = pipe(target, mask, hidden, negative_prompt=source, output_type="pt").images
    return {**_judged(judged, first, edit), "iou": _iou(judged, first, torch.from_numpy(mask).to(images))}


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


def _edits(judged: Judged) -> Iterator[Record]:
    defaults = str(inspect.signature(latent.diffedit))
    ours = judged.scores("edits", edited, defaults)
    true = judged.scores("edits-true-mask", with_true_mask, defaults)
    peer = judged.scores("edits-diffusers", theirs)
    for key, goal in (("success", ">= 90"), ("iou", ">= 0.75"), ("background", ">= -1"), ("near", None)):
        yield _record(f"edit-{key}", key, ours, goal, _by_kind(judged, ours, key))
        yield _record(f"edit-{key}/diffusers", key, peer, None, _by_kind(judged, peer, key))
        if key in true:
            yield _record(f"edit-{key}/true-mask", key, true, None, _by_kind(judged, true, key))
    plain = {strength: judged.scores(f"over-{strength}", with_image_to_image, strength) for strength in STRENGTHS}
    yield _against_plain(ours, plain)
    fewer = min(FEWER, judged.count)
    masked = {s: judged.scores(f"edits-{s}", edited_to, s, defaults, count=fewer) for s in STRENGTHS}
    for way, tried in (("image-to-image", plain), ("diffedit", masked)):
        for strength, seen in tried.items():
            for key in ("success", "near", "background"):
                same = seen.first(fewer)  # both ways are compared over the same edits
                yield _record(f"strength/{way}/{strength:g}/{key}", key, same, None, f"{way} at strength {strength:g}")


def _by_kind(judged: Judged, seen: Seen, key: str) -> str:
    kinds = [task.kind for task in judged.edits]
    parts = {
        kind: Seen({key: seen[key][[k == kind for k in kinds]]}, seen.machine).mean(key)
        for kind in dict.fromkeys(kinds)
    }
    summary = ", ".join(f"{kind} {value:.3g}" for kind, value in parts.items())
    about = {
        "near": "as edit-success, and every thing within 4 pixels of where it was: ",
        "background": f"outside of the true mask, less encode and decode's; the edit's {seen.mean('outside'):.1f}: ",
    }
    return about.get(key, "") + summary


def _against_plain(ours: Seen, plain: Mapping[float, Seen]) -> Record:
    """Compare backgrounds with image-to-image at the least strength that succeeds as often, or at the best there is."""
    enough = [strength for strength, seen in plain.items() if seen.mean("success") >= ours.mean("success")]
    strength = min(enough) if enough else max(plain, key=lambda s: plain[s].mean("success"))
    gained = {"background": ours["background"] - plain[strength]["background"]}
    shares = f"{plain[strength].mean('success'):.1f} % succeed, here {ours.mean('success'):.1f} %"
    note = f"image-to-image at strength {strength:g}, where {shares}"
    return _record("edit-background/over-image-to-image", "background", Seen(gained, ours.machine), ">= 3", note)


def _judged(judged: Judged, first: int, edited: Tensor) -> dict[str, Tensor]:
    """Score edited images: is the target read, and in place; and what is left of the rest, by itself and at best."""
    n = len(edited)
    images, _, _, mask = judged.some(first, n)
    again = latent.decode(judged.parts, latent.encode_image(judged.parts, images))
    targets = [task.target for task in judged.edits[first : first + n]]
    outside = psnr(edited, images, 1 - mask)
    found = list(zip([read_scene(image) for image in edited], targets, strict=True))
    return {
        "success": torch.tensor([float(matches(scene, target)) for scene, target in found]),
        "near": torch.tensor([float(matches(scene, target, max_distance=4)) for scene, target in found]),
        "outside": outside,
        "background": outside - psnr(again, images, 1 - mask),
    }


def _iou(judged: Judged, first: int, mask: Tensor) -> Tensor:
    wanted = judged.some(first, len(mask))[3]
    return iou(mask, F.max_pool2d(wanted[:, None], judged.parts.factor)[:, 0])


def _right(images: Tensor, wanted: list[scenes.Scene]) -> Tensor:
    return torch.tensor([float(shows(image, scene)) for image, scene in zip(images, wanted, strict=True)])


def _named(scene: scenes.Scene | None) -> list[tuple[str, str]]:
    return [] if scene is None else [(thing.shape, thing.colour) for thing in scene.things]


def _fresh(first: int, n: int, held: bool | None, two: bool | None) -> scenes.Scenes:
    """Return scenes `first` to `first + n - 1` of the seed; they hang on how many are drawn, so all are."""
    many = scenes.sample(COUNT, torch.Generator().manual_seed(SEED), held=held, two=two)
    return many.rows(slice(first, first + n))


def _record(name: str, key: str, seen: Seen, goal: str | None, note: str) -> Record:
    unit = "%" if key in SHARES else "IoU" if key == "iou" else "dB"
    return Record(
        f"stable/{name}",
        seen.mean(key),
        unit,
        target=goal,
        n=len(seen[key]),
        seed=SEED,
        note=note,
        machine=seen.machine,
    )


def _weights() -> str:
    listed = json.loads(data.MANIFEST.read_text())["files"]
    return json.dumps({name: entry["sha256"] for name, entry in listed.items() if name.startswith(POCKET_FOLDER)})

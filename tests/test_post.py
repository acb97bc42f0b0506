"""A post's account of itself: budget, seed, device, data, records, sources, colophon."""

import json
import random
import re

import numpy as np
import pytest
import torch

from lib import data, measure, plots, post
from lib.diffusion import fashion
from lib.diffusion.latent import Parts
from lib.style import extractors
from publish import provenance

BOTH = pytest.mark.parametrize(
    ("gpu", "budget", "chosen", "device"),
    [
        (False, "auto", "cpu", "cpu"),
        (False, "smoke", "smoke", "cpu"),
        (False, "gpu", "gpu", "cpu"),
        (True, "auto", "gpu", "cuda"),
        (True, "cpu", "cpu", "cpu"),
        (True, "smoke", "smoke", "cpu"),
    ],
)


@pytest.fixture(autouse=True)
def plain_figures(monkeypatch):
    monkeypatch.setattr(plots, "use_style", lambda: None)


@pytest.fixture
def shown(monkeypatch):
    """A function that calls another, and returns the data of each output that it displayed."""

    def call(function, *args, **kwargs):
        outputs = []
        monkeypatch.setattr(
            post, "display", lambda item, raw=False: outputs.append(item if raw else {"text/markdown": item.data})
        )
        assert function(*args, **kwargs) is None, "a value would be shown below, were this a cell's last line"
        return outputs

    return call


@BOTH
def test_the_budget_and_the_device_follow_what_is_there(monkeypatch, capsys, gpu, budget, chosen, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    run = post.start(budget, 1)
    assert (run.budget, run.device.type) == (chosen, device)
    printed = capsys.readouterr().out
    assert printed.startswith(f"budget {chosen} · device {device} · seed 1 · torch {torch.__version__}")
    assert ("warning" in printed) == (budget == "gpu" and not gpu)
    assert run.pick(smoke="smoke", cpu="cpu", gpu="gpu") == chosen


@pytest.mark.parametrize(("wrong", "near"), [("smok", "smoke"), ("GPU", "gpu"), ("cpus", "cpu"), ("automatic", "auto")])
def test_an_unknown_budget_gets_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"budget {wrong!r}; did you mean {near!r}"):
        post.start(wrong)


@pytest.mark.parametrize("wrong", ["", None, 3])
def test_any_other_budget_is_a_value_error(wrong):
    with pytest.raises(ValueError, match=f"budget {wrong!r}.*auto, smoke, cpu, gpu"):
        post.start(wrong)


def test_the_seed_seeds_everything():
    def draws(seed):
        post.start("smoke", seed)
        return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002 - the state under test

    assert draws(7) == draws(7)
    assert all(a != b for a, b in zip(draws(7), draws(8), strict=True))


def test_a_gpu_computes_in_full_float32():
    torch.backends.cudnn.allow_tf32 = True
    post.start("smoke")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_pick_wants_all_three():
    with pytest.raises(TypeError):
        post.start("smoke").pick(smoke=1, cpu=2)


def test_data_is_noted_and_a_smoke_run_stays_off_the_network(monkeypatch, capsys):
    asked = []
    load = data.load

    def spy(name, *, network, **options):
        asked.append(network)
        return load(name, network=network, **options)

    monkeypatch.delenv("LIB_DATA", raising=False)
    monkeypatch.setattr(data, "load", spy)
    for budget in ("smoke", "cpu"):
        run = post.start(budget)
        assert len(run.load("fashion_mnist", sizes=(20, 10)).train) == 20
        assert run.sources["fashion_mnist"].kind == "shipped"
        assert f"data fashion_mnist: {run.sources['fashion_mnist']}" in capsys.readouterr().out
    assert asked == [False, True]


def test_a_record_is_markdown_beside_its_fields(shown):
    run = post.start("cpu", 5)
    [bundle] = shown(run.record, "accuracy", 91.25, unit="%", note="3 epochs")
    assert set(bundle) == {"text/markdown", post.RECORD}
    assert bundle["text/markdown"] == "**accuracy**: 91.25 % · 3 epochs"
    about = json.loads(json.dumps(bundle[post.RECORD]))
    assert (about["name"], about["value"], about["unit"], about["seed"]) == ("accuracy", 91.25, "%", 5)
    assert about["machine"] == measure.machine()
    assert about["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_comparison_fills_a_record(shown):
    comparison = measure.Comparison(ours=2e-3, theirs=1e-3, ratio=2.0, low=1.9, high=2.2, n=25)
    run = post.start("cpu", 5)
    options = {"unit": "time ratio", "peer": "torch", "comparison": comparison, "same": True, "seed": 9}
    [bundle] = shown(run.record, "matmul", comparison.ratio, **options)
    about = bundle[post.RECORD]
    fields = ("value", "ours", "theirs", "low", "high", "n", "peer", "same", "seed")
    assert [about[key] for key in fields] == [2.0, 2e-3, 1e-3, 1.9, 2.2, 25, "torch", True, 9]
    assert bundle["text/markdown"] == "**matmul**: 2 times the time of torch (1.9 to 2.2)"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (116_765.3, "time ratio", "117,000 times the time of torch"),
        (0.00012345, "time ratio", "0.000123 times the time of torch"),
        (1_303_123.0, "images", "1,303,000 images"),
        (91.25, "%", "91.25 %"),
    ],
)
def test_figures_have_the_digits_they_deserve(shown, value, unit, text):
    [bundle] = shown(post.start("cpu").record, "x", value, unit=unit, peer="torch", same=True)
    assert bundle["text/markdown"] == f"**x**: {text}"


def test_a_record_that_says_nothing_is_refused():
    run = post.start("cpu")
    for wrong in (
        {"value": float("nan"), "unit": "%"},
        {"value": 1.0, "unit": ""},
        {"value": 1.0, "unit": "time ratio"},
    ):
        with pytest.raises(ValueError, match="'x'"):
            run.record("x", **wrong)


# Claims


@pytest.mark.parametrize(
    ("holds", "state", "text"),
    [
        (True, "held", "✓ It is fast. *(seen: 2.35)*"),
        (False, "did not hold", "✗ It is fast: **did not hold on this run** *(seen: 2.35)*"),
        (None, "inconclusive", "– It is fast: inconclusive *(too wide a spread; seen: 2.35)*"),
        (np.bool_(True), "held", "✓ It is fast. *(seen: 2.35)*"),
        (torch.tensor(False), "did not hold", "✗ It is fast: **did not hold on this run** *(seen: 2.35)*"),
    ],
)
def test_a_claim_says_how_it_fared_and_leaves_it(shown, holds, state, text):
    [bundle] = shown(post.start("cpu").claim, "It is fast.", holds, seen=2.3456)
    assert bundle["text/markdown"] == text
    about = json.loads(json.dumps(bundle[post.CLAIM]))
    assert (about["claim"], about["state"], about["seen"]) == ("It is fast.", state, "2.35")
    assert about["machine"] == measure.machine()
    assert {"versions", "date"} <= set(about)


def test_a_smoke_run_judges_nothing(shown):
    [bundle] = shown(post.start("smoke").claim, "It is fast", False, seen=2.0)
    assert bundle[post.CLAIM]["state"] == "inconclusive"
    assert "so small a run judges nothing" in bundle["text/markdown"]


@pytest.mark.parametrize("wrong", ["yes", 1, 0.0, torch.tensor([True, False]), [True]])
def test_a_claim_wants_a_truth_value(wrong):
    with pytest.raises(TypeError, match=rf"'It is fast'.*True, False or None.*{re.escape(repr(wrong))}"):
        post.start("cpu").claim("It is fast", wrong)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ("as is", "as is"),
        (3, "3"),
        (0.123456, "0.123"),
        ([1.0, 2.34567], "1, 2.35"),
        (torch.tensor([0.5, 0.25]), "0.5, 0.25"),
        ({"plain": 0.5, "residual:": [1, 2]}, "plain: 0.5; residual: 1, 2"),
        (measure.Comparison(1.0, 2.0, 0.5, 0.45, 0.61234, 25), "0.5, quartiles 0.45 to 0.612"),
    ],
)
def test_what_was_seen_is_told_in_words(shown, seen, words):
    [bundle] = shown(post.start("cpu").claim, "So", True, seen=seen)
    assert bundle[post.CLAIM]["seen"] == words


def claims_of_a_run(shown, *holds):
    run = post.start("cpu")
    for i, value in enumerate(holds):
        shown(run.claim, f"claim {i}", value, seen=i)
    return run


def test_a_reader_is_told_and_goes_on(shown, monkeypatch):
    monkeypatch.delenv("LIB_WILL_BE_COMMITTED", raising=False)
    [bundle] = shown(claims_of_a_run(shown, True, False, None, True).colophon)
    assert "| Claims | 2 held, 1 did not hold, 1 inconclusive |" in bundle["text/markdown"]


def test_what_will_be_committed_must_hold(shown, monkeypatch):
    monkeypatch.setenv("LIB_WILL_BE_COMMITTED", "1")
    shown(claims_of_a_run(shown, True, None).colophon)
    with pytest.raises(post.ClaimError) as caught:
        shown(claims_of_a_run(shown, True, False, None, False).colophon)
    assert str(caught.value).splitlines() == [
        "2 of 4 claims did not hold",
        "claim 1 (seen: 1)",
        "claim 3 (seen: 3)",
    ]


# The rest


def test_source_shows_the_live_code(shown):
    first, second = shown(post.start("cpu").source, measure.machine, measure.Comparison)
    text = first["text/markdown"]
    assert text.startswith('```{.python filename="lib/measure.py"}\ndef machine() -> str:\n')
    assert text.endswith("\n```")
    assert "class Comparison:" in second["text/markdown"]


def test_source_finds_what_a_compiler_wraps(shown):
    class Compiled:
        py_func = staticmethod(measure.versions)

    [output] = shown(post.start("cpu").source, Compiled())
    assert "def versions()" in output["text/markdown"]


def test_the_colophon_tells_all_and_names_no_folder(shown, monkeypatch):
    monkeypatch.delenv("LIB_DATA", raising=False)
    run = post.start("smoke", 11)
    run.load("digits", sizes=(5, 5))
    [bundle] = shown(run.colophon)
    assert set(bundle) == {"text/markdown", post.COLOPHON}
    facts = json.loads(json.dumps(bundle[post.COLOPHON]))
    assert (facts["budget"], facts["device"], facts["seed"]) == ("smoke", "cpu", 11)
    assert facts["data"]["digits"] == json.loads(json.dumps(run.sources["digits"].as_dict()))
    assert facts["seconds"] >= 0
    for expected in ("smoke, cpu", str(run.sources["digits"]), "| Seed | 11 |", facts["machine"]):
        assert expected in bundle["text/markdown"]
    rows = bundle["text/markdown"].splitlines()
    assert all(row.count("|") == 3 for row in rows), "a table of two columns"


READERS = {
    "the data": (lambda: data.load("fashion_mnist", network=False), "fashion-mnist/"),
    "a classifier": (lambda: fashion.load("classifier"), "models/fashion/classifier.safetensors"),
    "Pocket": (Parts.load, "models/pocket/"),
    "Pocket by its folder": (lambda: Parts.load(data.MANIFEST.parent / "models/pocket"), "models/pocket/"),
    "the slim VGG": (lambda: extractors.load("vgg19-slim"), "models/vgg19-slim/"),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_colophon_tells_which_shipped_files_were_read_since_the_start(shown, monkeypatch, reader):
    monkeypatch.delenv("LIB_DATA", raising=False)
    read, folder = READERS[reader]
    listed = json.loads(data.MANIFEST.read_text())["files"]
    wanted = {name: about["sha256"] for name, about in listed.items() if name.startswith(folder)}
    wanted.pop("models/pocket/README.md", None)  # which changes no result
    fashion.load("unet")  # before the start
    run = post.start("smoke")
    read()
    [bundle] = shown(run.colophon)
    assert json.loads(json.dumps(bundle[post.COLOPHON]))["files"] == wanted
    assert (
        f"| Read of data/ | {folder.rstrip('/').removesuffix('/classifier.safetensors')} (" in bundle["text/markdown"]
    )
    nb = {"cells": [{"cell_type": "code", "source": "", "outputs": [{"output_type": "display_data", "data": bundle}]}]}
    kept = provenance.provenance(provenance.Project(data.MANIFEST.parents[1]), nb, "smoke", "2026-01-02")
    assert kept["digests"]["files"] == {name: sha256[:16] for name, sha256 in wanted.items()}


def test_data_from_another_folder_is_nothing_read_of_what_ships(shown):
    run = post.start("smoke")
    run.load("digits")
    [bundle] = shown(run.colophon)
    assert bundle[post.COLOPHON]["files"] == {}
    assert "Read of data/" not in bundle["text/markdown"]


def test_a_post_without_data_says_so(shown):
    [bundle] = shown(post.start("smoke").colophon)
    assert "made in the post" in bundle["text/markdown"]

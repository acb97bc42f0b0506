"""The GPU, and its rehearsal on a CPU."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lib import gpu, post

FAKE = SimpleNamespace(source=SimpleNamespace(as_dict=dict))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(gpu.SCALE, raising=False)


@pytest.fixture
def rehearsal(monkeypatch):
    monkeypatch.setenv(gpu.SCALE, "100")


def test_without_a_rehearsal_sizes_are_as_asked_and_no_gpu_is_there():
    assert gpu.scale() is None
    assert not gpu.present()
    assert gpu.device() == torch.device("cpu")
    assert gpu.scaled(60_000, 10) == 60_000
    assert gpu.scaled((60_000, 10_000), (10, 10)) == (60_000, 10_000)


@pytest.mark.usefixtures("rehearsal")
@pytest.mark.parametrize(
    ("size", "smallest", "expected"),
    [
        (60_000, 10, 600),
        (250, 40, 40),
        (3, 40, 3),
        (5, 1, 1),
        ((60_000, 10_000), (320, 260), (600, 260)),
        ([400, 20_000], [1, 1], [4, 200]),
        ((8, 18, 28, 56), (6, 8), (8, 18, 28, 56)),
        ((0.5, 200.0), (0.1, 0.2), (0.5, 200.0)),
        (("vgg19", "slim"), "slim", ("vgg19", "slim")),
        (("vgg19", "slim"), ("a", "b"), ("vgg19", "slim")),
        (0.25, 0.5, 0.25),
        (None, 2, None),
        (True, False, True),
    ],
)
def test_a_rehearsal_divides_sizes_and_nothing_else(size, smallest, expected):
    assert gpu.scaled(size, smallest) == expected
    assert type(gpu.scaled(size, smallest)) is type(expected)


@pytest.mark.usefixtures("rehearsal")
def test_in_a_rehearsal_a_gpu_seems_to_be_there():
    assert gpu.present()
    assert gpu.device() == torch.device("cpu")
    assert gpu.name() == "a rehearsed GPU"
    gpu.synchronize()


@pytest.mark.parametrize("wrong", ["0", "-3", "1.5", "many"])
def test_a_scale_that_divides_nothing_is_refused(monkeypatch, wrong):
    monkeypatch.setenv(gpu.SCALE, wrong)
    with pytest.raises(ValueError, match=f"LIB_GPU_SCALE.*1.*'{wrong}'"):
        gpu.scale()


@pytest.mark.usefixtures("rehearsal")
def test_a_post_rehearses_only_what_the_gpu_would_run(capsys):
    run = post.start("gpu")
    assert "a rehearsal: every branch of the GPU's run, sizes divided by 100" in capsys.readouterr().out
    assert (run.rehearsal, run.on_gpu, run.tiny, run.device.type) == (True, True, True, "cpu")
    assert run.pick(smoke=10, cpu=100, gpu=60_000) == 600
    assert run.pick(smoke=(1,), cpu=(1, 2), gpu=(1, 2, 4)) == (1, 2, 4)
    run.synchronize()
    for budget in ("smoke", "cpu"):
        run = post.start(budget)
        assert (run.rehearsal, run.on_gpu, run.tiny) == (False, False, budget == "smoke")
        assert run.pick(smoke=10, cpu=100, gpu=60_000) == {"smoke": 10, "cpu": 100}[budget]


@pytest.mark.usefixtures("rehearsal")
def test_a_rehearsal_judges_nothing_stays_off_the_network_and_says_so(monkeypatch):
    shown, asked = [], []
    monkeypatch.setattr(post, "display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr(post.data, "load", lambda name, *, network: asked.append(network) or FAKE)
    run = post.start("gpu")
    run.claim("Water is dry", False)
    run.load("anything")
    run.colophon()
    assert [claim.state for claim in run.claims] == ["inconclusive"]
    assert asked == [False]
    assert shown[-1][post.COLOPHON]["rehearsal"] == 100
    assert "gpu (rehearsed), cpu" in shown[-1]["text/markdown"]


def test_where_there_is_no_gpu_kernels_are_simulated():
    code = "from lib import gpu; gpu.simulate(); from lib.kernels import cuda; print(cuda.SIMULATED)"
    env = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"} | {
        "CUDA_VISIBLE_DEVICES": ""
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == ["True"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_peak_is_that_of_the_call(monkeypatch):
    monkeypatch.undo()
    size = 64 * 2**20
    assert size <= gpu.peak_memory(lambda: torch.empty(size, dtype=torch.uint8, device="cuda")) < 1.1 * size + 2**22

"""What a kernel makes of its GPU, from a card and a profiler that are not there."""

import sys
from types import SimpleNamespace

import pytest
import torch

from bench import matmul, profile
from lib.measure import Record

HEAD = ("ID", "Kernel Name", "Block Size", "Metric Name", "Metric Unit", "Metric Value")
ROWS = (
    ("0", "plain_kernel", "(16, 16, 1)", "sm__throughput.avg.pct_of_peak_sustained_elapsed", "%", "91.25"),
    ("0", "plain_kernel", "(16, 16, 1)", next(reversed(profile.METRICS)), "sector", "1,002.5"),
    ("0", "plain_kernel", "(16, 16, 1)", "gpu__time.sum", "ns", "3"),
)
PRINTED = "\n".join(
    [
        '==PROF== Profiling "_ZN3lib7kernels4cuda12plain_kernel" - 0: 0%....50%....100% - 1 pass',
        *(",".join(f'"{value}"' for value in row) for row in (HEAD, *ROWS)),
    ]
)


@pytest.fixture
def h100(monkeypatch):
    """Pretend that the GPU is an H100, with what its driver says of it."""
    about = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3",
        major=9,
        minor=0,
        multi_processor_count=132,
        clock_rate=1_980_000,
        memory_clock_rate=2_619_000,
        memory_bus_width=5120,
        max_threads_per_multi_processor=2048,
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: about)
    return about


def test_the_limits_of_an_h100_are_those_of_its_data_sheet(h100):
    card = profile.card()
    assert card.peak == pytest.approx(66.9e12, rel=1e-3)
    assert card.bandwidth == pytest.approx(3.35e12, rel=2e-3)
    assert card.about == "NVIDIA H100 80GB HBM3: 66.9 TFLOP/s, 3,352 GB/s"


def test_an_unknown_architecture_is_named(h100):
    h100.major, h100.minor = 13, 7
    with pytest.raises(ValueError, match=r"13\.7.*bench\.profile\.LANES"):
        profile.card()


def test_occupancy_is_that_of_the_blocks_that_fit(h100):
    asked = []
    compiled = SimpleNamespace(
        regs_per_thread=128, max_cooperative_grid_blocks=lambda threads: asked.append(threads) or 2 * 132
    )
    share, registers = profile.occupancy(SimpleNamespace(overloads={"float32": compiled}), 256)
    assert (share, registers, asked) == (25.0, 128, [256])


def test_what_the_profiler_prints_is_read_among_other_lines():
    assert profile.parsed(PRINTED) == {"busy": (91.25, "%"), "sectors-per-load": (1002.5, "sectors")}
    assert profile.parsed("==ERROR== no permission\n") == {}


def test_the_profiler_is_asked_for_one_launch_of_one_kernel(tmp_path, monkeypatch):
    program = tmp_path / "ncu"
    asked = tmp_path / "asked"
    note = f"import sys\nopen({str(asked)!r}, 'w').write(' '.join(sys.argv[1:]))\nprint({PRINTED!r})\n"
    program.write_text(f"#!{sys.executable}\n{note}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert profile.counted("plain", ["python", "-m", "x"], print)["busy"] == (91.25, "%")
    assert "--kernel-name regex:plain_kernel --launch-count 1 python -m x" in asked.read_text()
    program.write_text(f"#!{sys.executable}\nprint('==ERROR== ERR_NVGPUCTRPERM: no permission')\n")
    said = []
    assert profile.counted("plain", [], said.append) == {}
    assert "ERR_NVGPUCTRPERM" in said[0]
    program.write_text(f"#!{sys.executable}\n")
    assert profile.counted("plain", [], said.append) == {}
    assert "ncu counted no launch" in said[1]
    program.unlink()
    assert profile.counted("plain", [], said.append) == {}
    assert "Nsight Compute (ncu) is needed" in said[2]


@pytest.fixture
def on_a_card(monkeypatch):
    """Give by name what is recorded on a card that is not there, where each product takes half a second."""
    about = {"peer": "cuBLAS", "ours": 0.5, "theirs": 0.5, "same": True}
    monkeypatch.setattr(matmul, "measure", lambda case, device: Record(case.name, 1.0, "time ratio", **about))
    monkeypatch.setattr(matmul, "LARGE", (1000, 2000, 500))
    monkeypatch.setattr(matmul.cuda, "SIMULATED", False)
    monkeypatch.setattr(profile, "card", lambda: profile.Card(1e12, 1e11, "a card"))
    monkeypatch.setattr(profile, "occupancy", lambda kernel, threads: (50.0, 64))
    monkeypatch.setattr(profile, "counted", lambda name, command, say: {"busy": (91.0, "%")})
    return {record.name: record for record in matmul.gpu_records(lambda _: None)}


@pytest.mark.parametrize("kernel", matmul.KERNELS)
def test_shares_are_of_work_and_of_the_least_that_moves(on_a_card, kernel):
    peak, bandwidth = (on_a_card[f"matmul/cuda-{kernel}/4096/{share}"] for share in ("peak", "bandwidth"))
    assert peak.value == pytest.approx(100 * 2 * 1e9 / 0.5 / 1e12)
    assert bandwidth.value == pytest.approx(100 * 4 * (2e6 + 1e6 + 0.5e6) / 0.5 / 1e11)
    assert "a card" in peak.note


@pytest.mark.parametrize(("kernel", "threads"), [("plain", 256), ("shared", 256), ("tiled", matmul.cuda.THREADS)])
def test_a_kernel_is_looked_at_from_the_inside(on_a_card, kernel, threads):
    occupancy, busy = (on_a_card[f"matmul/cuda-{kernel}/4096/{what}"] for what in ("occupancy", "busy"))
    assert (occupancy.value, busy.value) == (50, 91)
    assert f"blocks of {threads} threads, 64 registers each" in occupancy.note


def test_the_kernels_are_numbas_own():
    from numba.cuda.dispatcher import CUDADispatcher

    for _, kernel, _ in matmul.KERNELS.values():
        assert isinstance(kernel, CUDADispatcher)
        assert kernel.overloads == {}

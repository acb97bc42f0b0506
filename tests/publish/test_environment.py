"""What kernels are told, and a hub that answers, refuses, is slow, or is not there."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from publish.environment import environment, hub_is_reachable, idle_cores, spinning

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], str]]:
    """Start a hub that answers with these bytes, or takes the question and never answers; returns its address."""
    for name in (*PROXIES, *map(str.upper, PROXIES), "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    sockets: list[socket.socket] = []

    def answer(server: socket.socket, content: bytes | None) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            sockets.append(connection)
            connection.recv(1000)
            if content is not None:
                connection.sendall(content)
                connection.close()

    def start(content: bytes | None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)
        threading.Thread(target=answer, args=(server, content), daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        return address

    yield start
    for item in sockets:
        item.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", False),
        (b"nonsense\r\n\r\n", False),
        (b"", False),
    ],
)
def test_hub_that_answers(serve: Callable[[bytes | None], str], content: bytes, expected: bool) -> None:
    serve(content)
    assert hub_is_reachable() is expected


def test_hub_that_never_answers_does_not_stall(serve: Callable[[bytes | None], str]) -> None:
    serve(None)
    assert hub_is_reachable(patience=0.3) is False


def test_hub_that_is_not_there(serve: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(b"")
    for address in ("http://127.0.0.1:9", "http://no.such.host.invalid", "not an address"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert hub_is_reachable(patience=5) is False


def test_proxy_is_respected(serve: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("HF_ENDPOINT", "http://no.such.host.invalid")
    assert hub_is_reachable(patience=5) is False
    monkeypatch.setenv("http_proxy", proxy)
    assert hub_is_reachable(patience=5) is True


def test_nobody_is_asked_when_told_to_stay_offline(
    serve: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub_is_reachable() is False


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", "before")
    online, offline = environment(Path("/here"), hub=True), environment(Path("/here"), hub=False, jobs=10_000)
    assert "HF_HUB_OFFLINE" not in online
    assert offline["HF_HUB_OFFLINE"] == "1"
    assert "LIB_WILL_BE_COMMITTED" not in online
    assert environment(Path("/here"), hub=True, committed=True)["LIB_WILL_BE_COMMITTED"] == "1"
    assert "inline" in online["MPLBACKEND"]
    assert online["PYTHONPATH"].startswith("/here")
    assert online["PYTHONPATH"].endswith("before")
    assert "OMP_NUM_THREADS" not in online
    assert offline["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(Path("/here"), hub=True, jobs=2)["OMP_NUM_THREADS"] == "3"


def test_threads_spin_long_only_where_cores_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    counts = {idle: int(spinning(idle, threads=2)["GOMP_SPINCOUNT"]) for idle in (0.0, 0.9, 1.4, 1.6, 2.0, 8.0)}
    assert counts[0.0] == counts[0.9] == counts[1.4] < 1000
    assert counts[1.6] == counts[2.0] == counts[8.0] > 10_000
    assert spinning(0.6, threads=1) == spinning(2.0, threads=2), "one thread waits for no other"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert spinning(0.0, threads=2) == {"GOMP_SPINCOUNT": "7"}


def test_idle_cores_are_counted_whatever_the_shares_add_up_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    shares = namedtuple("Shares", "user idle iowait")(30.0, 25.0, 5.0)
    monkeypatch.setattr("psutil.cpu_times_percent", lambda interval: shares)
    assert idle_cores(0.01) == pytest.approx(2.0)


def test_a_busy_loop_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        time.sleep(0.2)
        beside = idle_cores()
        loop.kill()
    assert beside <= (os.cpu_count() or 1) - 0.5


def test_a_kernel_ignores_what_says_nothing_about_the_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:mine")
    monkeypatch.delenv("LIB_GPU_SCALE", raising=False)
    texts = ("IProgress not found. Please", "the model never saw these", "mine", "other")
    code = f"import warnings\nfor text in {texts}:\n    warnings.warn(text)"

    def warned() -> str:
        env = environment(tmp_path, hub=False)
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stderr

    said = warned()
    assert [text in said for text in ("IProgress", "the model", "mine", "other")] == [False, True, False, True]
    monkeypatch.setenv("LIB_GPU_SCALE", "1000")
    assert "the model" not in warned()

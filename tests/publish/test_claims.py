"""Claims of a post: told to a reader, demanded of what is committed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from publish import build
from publish.options import Options
from publish.outcome import Result, claims

CODE = """\
from lib import post
run = post.start(budget, seed)
run.claim("Two is more than one.", 2 > 1, seen=2)
run.claim("Two is more than three.", 2 > 3, seen=2)"""


def publish(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "publish", "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_claim_that_fails_stops_what_would_be_committed_and_nothing_else(
    tmp_path: Path, make_post: Callable[..., Path]
) -> None:
    path = make_post(tmp_path, "01-claims", CODE, "run.colophon()")
    before = path.read_bytes()
    told = publish(tmp_path, "run", "--budget", "cpu")
    assert told.returncode == 0, told.stderr
    assert "2 claims: 1 held, 1 did not hold, 0 inconclusive" in told.stdout
    assert "  01-claims, did not hold: Two is more than three. (seen: 2)" in told.stdout
    executed = json.loads((tmp_path / "_build/posts/01-claims/index.ipynb").read_text())
    assert "did not hold on this run" in json.dumps(executed)
    refused = publish(tmp_path, "run", "--budget", "cpu", "--in-place")
    assert refused.returncode == 1
    assert "ClaimError: 1 of 2 claims did not hold" in refused.stdout
    assert "Two is more than three. (seen: 2)" in refused.stderr
    assert path.read_bytes() == before
    smoke = publish(tmp_path, "run", "--budget", "smoke")
    assert smoke.returncode == 0, smoke.stderr
    assert "2 claims, none judged" in smoke.stdout


def test_a_build_tells_of_claims_that_did_not_hold_and_succeeds(
    tmp_path: Path, make_post: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(tmp_path, tmp_path / "_build" / "posts", "cpu")
    executed = make_post(tmp_path / "_build", "01-a")
    nb = json.loads(executed.read_text())
    nb["metadata"]["provenance"] = {"budget": "cpu", "device": "cpu", "seconds": 1}
    executed.write_text(json.dumps(nb))
    make_post(tmp_path, "01-a")
    monkeypatch.setattr(build.runner, "run", lambda *_: [result("01-a", "held", "did not hold")])
    monkeypatch.setattr("publish.render.render", lambda *_: "rendered")
    stream = io.StringIO()
    assert build.build(options, tmp_path / "_site", stream=stream) == 0
    assert "2 claims: 1 held, 1 did not hold, 0 inconclusive\n  01-a, did not hold: Claim 1." in stream.getvalue()


def result(post: str, *states: str) -> Result:
    return Result(post, "ok", claims=[{"claim": f"Claim {i}.", "state": state} for i, state in enumerate(states)])


def test_claims_are_counted_over_all_posts(tmp_path: Path) -> None:
    results = [result("01-a", "held", "inconclusive"), result("02-b"), result("03-c", "did not hold")]
    assert claims(results, Options(tmp_path, None, "cpu")).splitlines() == [
        "3 claims: 1 held, 1 did not hold, 1 inconclusive",
        "  01-a, inconclusive: Claim 1.",
        "  03-c, did not hold: Claim 0.",
    ]
    assert claims([result("02-b")], Options(tmp_path, None, "cpu")) == ""

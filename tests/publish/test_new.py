"""A new post is one that runs; and the hidden cell for Colab, with a made-up Colab around it."""

import datetime
import io
import json
import os
import subprocess
import urllib.request
from importlib import util
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from publish import colab, listing, notebook, runner
from publish.new import COLAB_CELL, new, thumbnail
from publish.options import Options

ROOT = Path(__file__).resolve().parents[2]


def test_a_new_post_runs_and_is_fresh(tmp_path: Path) -> None:
    for name in ("lib", "requirements.txt", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = new(tmp_path, "07-my-post", datetime.date(2026, 1, 2))
    assert listing.rows(tmp_path)[0]["state"] == "never run"
    (result,) = runner.run(Options(tmp_path, None, "cpu"), io.StringIO())
    assert (result.status, result.error) == ("ok", "")
    row = listing.rows(tmp_path)[0]
    assert (row["state"], row["title"], row["budget"], row["device"]) == ("fresh", "My post", "cpu", "cpu")
    nb = notebook.read(path)
    assert "lib/post.py" in nb["metadata"]["provenance"]["digests"]["modules"]
    assert "torch" in nb["metadata"]["provenance"]["digests"]["pins"]
    kinds = {mime for _, output in notebook.outputs(nb) for mime in output.get("data", {})}
    assert {"image/png", "application/vnd.lib.record+json"} <= kinds
    assert [notebook.source(cell) for cell in nb["cells"]].count(COLAB_CELL.rstrip("\n")) == 1
    as_jupyter = nbformat.read(path, as_version=4)
    nbformat.validate(as_jupyter)
    assert f"{nbformat.writes(as_jupyter)}\n" == path.read_text()


@pytest.mark.parametrize("name", ["one", "1-one", "01_one", "01-One", "01-", "01-a/b"])
def test_names_of_another_form_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"NN-slug.*'{name}'"):
        new(tmp_path, name)


def test_a_number_is_taken_once(tmp_path: Path) -> None:
    new(tmp_path, "01-one")
    with pytest.raises(ValueError, match=r"01 .*01-one.* 02"):
        new(tmp_path, "01-two")


def test_thumbnail_is_a_picture_of_its_own() -> None:
    first, second = (Image.open(io.BytesIO(thumbnail(number))) for number in (1, 2))
    assert first.size == (600, 340)
    assert not np.array_equal(np.asarray(first), np.asarray(second))


class Colab:
    """What the hidden cell meets on Colab: no `lib`, a server that knows the address, and a shell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        self.asked: list[str] = []
        self.ran: list[list[str]] = []
        self.folder = ""
        self.installed = 0
        monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
        monkeypatch.setattr(util, "find_spec", lambda name: None)
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: self.answer(url, path))
        monkeypatch.setattr(subprocess, "run", lambda command, check: self.ran.append(command))
        monkeypatch.setattr(os, "chdir", lambda folder: setattr(self, "folder", folder))
        monkeypatch.setattr(colab, "install", lambda: setattr(self, "installed", self.installed + 1))

    def answer(self, url: str, path: str) -> io.StringIO:
        self.asked.append(url)
        return io.StringIO(json.dumps([{"path": path}]))


OPENED = "fileId=https%3A//github.com/owner/name/blob/a/branch/posts/01-one/index.ipynb"


def test_colab_cell_is_idle_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Colab(monkeypatch, OPENED)
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    exec(COLAB_CELL, {})
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(util, "find_spec", lambda name: object())  # installed already
    exec(COLAB_CELL, {})
    assert (there.asked, there.ran, there.folder, there.installed) == ([], [], "", 0)


def test_colab_cell_clones_what_the_page_was_opened_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIB_REPOSITORY", raising=False)
    monkeypatch.delenv("COLAB_JUPYTER_IP", raising=False)
    monkeypatch.delenv("KMP_TARGET_PORT", raising=False)
    there = Colab(monkeypatch, OPENED)
    exec(COLAB_CELL, {})
    assert there.asked == ["http://172.28.0.12:9000/api/sessions"]
    address = ["https://github.com/owner/name", "/content/site"]
    assert there.ran == [["git", "clone", "-q", "--depth", "1", "--branch", "a/branch", *address]]
    assert (there.folder, there.installed) == ("/content/site", 1)


def test_colab_cell_takes_the_repository_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Colab(monkeypatch, "")
    monkeypatch.setenv("LIB_REPOSITORY", "someone/fork")
    exec(COLAB_CELL, {})
    assert there.asked == []
    assert there.ran[0][-2:] == ["https://github.com/someone/fork", "/content/site"]


def test_colab_cell_says_what_to_do_when_it_cannot_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIB_REPOSITORY", raising=False)
    there = Colab(monkeypatch, "fileId=1a2b3c")
    with pytest.raises(AssertionError, match="LIB_REPOSITORY"):
        exec(COLAB_CELL, {})
    assert there.ran == []


def test_colab_installs_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = "# pins\nnumpy==1.0\nno-such-thing[x]==2.0; python_version > '3'  # why\njupyter==9\n\n"
    (tmp_path / "requirements.txt").write_text(pins)
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command[1:]))
    assert colab.install(tmp_path) == ["no-such-thing[x]==2.0"]
    pip = ["-m", "pip", "install", "-q"]
    assert ran == [[*pip, "--no-deps", "-e", str(tmp_path)], [*pip, "no-such-thing[x]==2.0"]]

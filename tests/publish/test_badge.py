"""The badge says what a page was computed on, where its provenance says so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from publish import badge
from publish.clean import clean


def post(path: Path, **said: str) -> None:
    nb = json.loads(path.read_text())
    nb["metadata"]["provenance"] = said
    path.write_text(json.dumps(nb))


@pytest.mark.parametrize(
    ("device", "machine", "expected"),
    [
        ("cpu", "AMD EPYC, 2 cores", "a CPU"),
        ("cuda", "AMD EPYC, 16 cores, NVIDIA H100 80GB HBM3", "an NVIDIA H100 80GB HBM3"),
        ("cuda", "Xeon, 8 cores, Tesla T4", "a Tesla T4"),
        ("cuda", "", "a GPU"),
        ("mps", "arm, 8 cores", "a GPU"),
    ],
)
def test_it_names_the_processor(device: str, machine: str, expected: str) -> None:
    nb = {"metadata": {"provenance": {"device": device, "machine": machine, "date": "2026-01-02"}}}
    assert badge.of(nb)["computed"] == expected


def test_without_provenance_there_is_none() -> None:
    assert badge.of({}) == badge.of({"metadata": {"provenance": {"budget": "cpu"}}}) == {}


def test_quarto_reads_it_beside_the_post(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    path = make_post(tmp_path, "01-one")
    post(path, device="cpu", budget="smoke", machine='A "machine": fast, 2 cores', date="2026-01-02")
    badge.write(tmp_path)
    written = path.with_name("_metadata.yml")
    assert yaml.safe_load(written.read_text()) == {
        "computed": "a CPU",
        "computed-by": 'A "machine": fast, 2 cores, budget smoke, 2026-01-02',
    }
    post(path)
    badge.write(tmp_path)
    assert not written.exists()


def test_an_author_s_own_metadata_is_left_alone(tmp_path: Path, make_post: Callable[..., Path], capsys) -> None:
    path = make_post(tmp_path, "01-one")
    own = path.with_name("_metadata.yml")
    own.write_text("toc: false\n")
    post(path, device="cpu")
    badge.write(tmp_path)
    assert own.read_text() == "toc: false\n"
    assert "_metadata.yml in" in capsys.readouterr().out
    post(path)
    badge.write(tmp_path)
    assert own.exists()


def test_a_linked_post_costs_no_other_its_badge(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    post(make_post(tmp_path / "elsewhere", "01-one"), device="cpu")
    root = tmp_path / "project"
    second = make_post(root, "02-two")
    post(second, device="cpu")
    (root / "posts/01-one").symlink_to(tmp_path / "elsewhere/posts/01-one")
    badge.write(root)
    assert second.with_name("_metadata.yml").exists()
    linked = tmp_path / "elsewhere/posts/01-one/_metadata.yml"
    assert not linked.exists()
    linked.write_text(badge.MARK)
    clean(root)
    assert linked.exists(), "what lies outside is another project's"


def test_a_broken_post_costs_no_other_its_badge(tmp_path: Path, make_post: Callable[..., Path]) -> None:
    make_post(tmp_path, "01-one").write_text("{")
    second = make_post(tmp_path, "02-two")
    post(second, device="cpu")
    badge.write(tmp_path)
    assert second.with_name("_metadata.yml").exists()

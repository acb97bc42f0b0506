"""Every post runs at smoke, offline, and its committed notebook is fit to be published."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib import data, post
from publish.new import COLAB_CELL
from tests import names

ROOT = Path(__file__).parent.parent
POSTS = sorted((ROOT / "posts").glob("*/index.ipynb"))
by_name = pytest.mark.parametrize("path", POSTS, ids=lambda path: path.parent.name)
NO_NETWORK = "http://127.0.0.1:9"
# Names of open code still born in folded or hidden cells. The list only shrinks; a new post has no entry.
HIDDEN: dict[str, set[str]] = {
    "01-einsum": {"data", "garments", "heads", "judge", "patches", "scores", "small_a", "small_b", "small_c"},
    "02-cuda-matmul": {"bars", "operations"},
    "03-mean-shift": {"answer", "clusters", "draw", "draw_frame", "middles", "points", "shown"},
    "05-backpropagation": {
        "b1",
        "b2",
        "data",
        "device",
        "flat",
        "labels",
        "mean",
        "std",
        "t",
        "w1",
        "w2",
        "weights",
        "x",
    },
    "11-initialisation": {"generator_for", "standardise"},
    "13-resnets": {"seeded", "trained", "x_test", "x_train", "y_test", "y_train"},
    "15-ddpm": {"best", "clothes", "drawn", "prepared", "real", "real_labels", "shipped", "wanted"},
    "18-stable-diffusion": {"STEPS", "parts", "prompts", "strip"},
    "19-diffedit": {
        "STEPS",
        "count",
        "may_change",
        "parts",
        "pictures",
        "result",
        "source",
        "target",
        "tasks",
        "truth",
    },
    "22-style-transfer": {"bricks", "cat", "cup", "extract", "extractor", "layer", "noise", "square", "steps"},
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Return every post as executed at smoke with no network and no data folder, by name."""
    out = tmp_path_factory.mktemp("smoke")
    unset = ("LIB_DATA", "GITHUB_REPOSITORY")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NO_NETWORK)
    command = [sys.executable, "-m", "publish", "run", "--budget", "smoke", "--jobs", "2", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.parent.name: read(path) for path in out.rglob("index.ipynb")}


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict) -> list[dict]:
    return [output for cell in code(notebook) for output in cell["outputs"]]


def test_there_are_posts_in_reading_order() -> None:
    numbers = [int(path.parent.name[:2]) for path in POSTS]
    assert numbers[:2] == [1, 2]
    assert len(numbers) == len(set(numbers))


@by_name
def test_runs_at_smoke(path: Path, smoke: dict[str, dict]) -> None:
    executed = smoke[path.parent.name]
    assert executed["metadata"]["provenance"]["budget"] == "smoke"
    assert len(code(executed)) >= len(code(read(path)))
    assert all(cell["execution_count"] for cell in code(executed) if source(cell).strip())
    assert not [output for output in outputs(executed) if output["output_type"] == "error"]


@by_name
def test_opens_and_closes_as_a_post(path: Path) -> None:
    cells = read(path)["cells"]
    assert cells[0]["cell_type"] == "raw"
    assert cells[1]["metadata"]["tags"] == ["parameters"]
    assert source(cells[1]).split("\n")[:2] == ['budget = "auto"', "seed = 42"]
    assert [source(cell) for cell in cells].count(COLAB_CELL.rstrip("\n")) == 1
    assert source(cells[-1]).rstrip().endswith("run.colophon()")
    front = source(cells[0])
    for key in ("title", "description", "date", "order", "categories", "image", "image-alt", "bibliography"):
        assert re.search(rf"^{key}: *\S|^{key}:$", front, flags=re.MULTILINE), key
    assert (path.parent / "thumbnail.png").stat().st_size < 100_000


@by_name
def test_stored_outputs_can_be_published(path: Path) -> None:
    notebook = read(path)
    stored = outputs(notebook)
    assert stored
    kinds = {kind for output in stored for kind in output.get("data", {})}
    assert not kinds & {"text/html", "application/javascript"}
    assert not [output for output in stored if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert len(json.dumps(stored)) <= 800_000
    assert notebook["metadata"]["provenance"]["budget"] in ("cpu", "gpu")
    assert set(notebook["metadata"]) == {"kernelspec", "language_info", "provenance"}
    assert not [cell for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", [])]


@by_name
def test_what_was_computed_on_a_cpu_needs_no_more_than_what_ships(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images from every source, so the same page: the digest of what ships is that of what was used."""
    provenance = read(path)["metadata"]["provenance"]
    used = provenance.get("data", {}).get("fashion_mnist")
    if used and provenance["budget"] == "cpu":
        monkeypatch.delenv("LIB_DATA", raising=False)
        shipped = data.load("fashion_mnist", network=False, sizes=tuple(used["sizes"]))
        assert shipped.source.kind == "shipped"
        assert shipped.source.sha256 == used["sha256"]


@by_name
def test_leaves_a_record_and_claims_that_held(path: Path) -> None:
    stored = [output.get("data", {}) for output in outputs(read(path))]
    claims = [bundle[post.CLAIM] for bundle in stored if post.CLAIM in bundle]
    assert claims
    assert {claim["state"] for claim in claims} <= {"held", "inconclusive"}
    assert [bundle for bundle in stored if post.RECORD in bundle]


@by_name
def test_claims_and_records_stand_apart_from_floats(path: Path) -> None:
    """All that a cell with a figure's or a table's label emits becomes part of the float."""
    for cell in code(read(path)):
        if re.search(r"^#\| label: (fig|tbl)-", source(cell), flags=re.MULTILINE):
            kinds = {kind for output in cell["outputs"] for kind in output.get("data", {})}
            assert not kinds & {post.CLAIM, post.RECORD}, source(cell)[:100]


@by_name
def test_figures_have_label_caption_and_alternative_text(path: Path) -> None:
    for cell in code(read(path)):
        shows = any({"image/png", "image/jpeg"} & output.get("data", {}).keys() for output in cell["outputs"])
        if shows and "#| include: false" not in source(cell):
            for option in ("label: fig-", "fig-cap:", "fig-alt:"):
                assert f"#| {option}" in source(cell), f"no {option} in: {source(cell)[:200]}"


@by_name
def test_no_name_in_open_code_is_born_in_a_folded_or_hidden_cell(path: Path) -> None:
    """Data, sizes and helpers are defined open, before use: a reader can rebuild the page from what it shows."""
    found = names.born_hidden(read(path))
    listed = HIDDEN.get(path.parent.name, set())
    new = {name: where for name, where in found.items() if name not in listed}
    assert not new, "bind these in an open cell before their use (cells counted from 1)"
    mended = listed - found.keys()
    assert not mended, "no longer born hidden: take these off HIDDEN"


def test_the_list_of_names_born_hidden_names_posts() -> None:
    assert HIDDEN.keys() <= {path.parent.name for path in POSTS}
    assert all(HIDDEN.values()), "take off the posts that have no such names"


@by_name
def test_only_cells_say_what_is_folded_or_hidden(path: Path) -> None:
    """A default of the site or of a post would fold cells that say nothing."""
    for text in ((ROOT / "_quarto.yml").read_text(), source(read(path)["cells"][0])):
        assert not re.search(r"^ *(code-fold|echo|include):", text, flags=re.MULTILINE)


@by_name
def test_ends_with_summary_exercises_and_references(path: Path) -> None:
    prose = "\n".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    assert re.search(r"^## .*[Ss]ummary", prose, flags=re.MULTILINE)
    assert len(re.findall(r'^::: *\{\.callout-\w+ .*collapse="?true', prose, flags=re.MULTILINE)) >= 3
    assert "{#refs}" in prose


def test_the_tree_travels() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    sizes = [(ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).exists()]
    assert sum(sizes) < 41 * 2**20

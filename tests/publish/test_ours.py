"""No command changes what is not ours: each way in which one could, then any commands in any order among canaries."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from publish import install, notebook, ours, preview, process, render, runner
from publish.__main__ import main

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, demo: object, make_post: Callable[..., Path]) -> Path:
    """A project with two posts, the second of which fails when it is executed, in a folder with a bystander."""
    root = tmp_path / "project"
    root.mkdir()
    demo.make(root, demo.code("1", "1"))
    for name in ("01-first", "02-second"):
        path = root / "posts" / name / "index.ipynb"
        nb = json.loads(path.read_text())
        extra = make_post(tmp_path / "spare", name, *(["1 / 0"] if name == "02-second" else []))
        spare = json.loads(extra.read_text())
        nb["cells"] += spare["cells"][1:]
        path.write_text(json.dumps(nb))
    for name in ("lib/mine.py", "../bystander/thesis.txt", "../above.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("years of work")
    return root


def snapshot(folder: Path) -> dict[str, object]:
    """Return every file below a folder with its content, and every link with what it points to."""
    found = {}
    for place, folders, names in os.walk(folder):
        for path in (Path(place) / name for name in [*folders, *names]):
            if path.is_symlink():
                found[str(path)] = path.readlink()
            elif path.is_file():
                found[str(path)] = path.read_bytes()
    return found


# Files and folders


def test_what_is_derived_is_replaced_only_where_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "made"
    assert ours.put(path, "# mark\n", "one", tmp_path)
    before = path.stat().st_mtime_ns
    assert ours.put(path, "# mark\n", "one", tmp_path)
    assert path.stat().st_mtime_ns == before
    assert ours.put(path, "# mark\n", "two", tmp_path)
    assert path.read_text() == "# mark\ntwo"
    ours.remove(path, "# another mark\n", tmp_path)
    assert path.exists()
    ours.remove(path, "# mark\n", tmp_path)
    ours.remove(path, "# mark\n", tmp_path)
    assert not path.exists()


def test_a_derived_file_replaces_nobodys_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    before = snapshot(tmp_path)
    for name in ("file", "folder", "link", "dangling"):
        assert not ours.put(tmp_path / name, "# mark\n", "text", tmp_path)
        ours.remove(tmp_path / name, "# mark\n", tmp_path)
        assert f"{name} in {tmp_path} is not one that we made" in capsys.readouterr().out
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../beside", "beside.*{folder}"),
        ("out/file", "out/file.*{folder}"),
        ("link", "{folder}/link.*kept"),
        ("folder", "{folder}/folder.*file"),
    ],
)
def test_a_file_is_written_inside_its_folder_and_through_no_link(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "place"
    (folder / "folder").mkdir(parents=True)
    (folder / "kept").write_text("old")
    (folder / "link").symlink_to("kept")
    (folder / "out").symlink_to(tmp_path)
    before = snapshot(tmp_path)
    for change in (lambda: ours.write(folder / name, b"new", folder), lambda: ours.discard(folder / name, folder)):
        with pytest.raises(ours.NotOursError, match=message.format(folder=folder)):
            change()
    assert snapshot(tmp_path) == before


def test_a_folder_becomes_ours_when_it_is_absent_or_empty(tmp_path: Path) -> None:
    root = tmp_path / "a" / "project"
    (root / "empty").mkdir(parents=True)
    (root / "link").symlink_to("empty")
    for name in ("absent/deep", "empty", "link"):
        folder = ours.claim(root / name, ours.POSTS, root)
        assert (folder / ours.MARKER).is_file()
        assert ours.claim(root / name, ours.POSTS, root) == folder, "and stays ours"
    with pytest.raises(ours.NotOursError, match=f"{root}/empty.*site.*{ours.MARKER}"):
        ours.claim(root / "empty", ours.SITE, root)
    for above in (root, root.parent, tmp_path):
        ours.mark(above, ours.SITE)
        with pytest.raises(ours.NotOursError, match=f"{above} .*project"):
            ours.claim(above, ours.SITE, root)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, site = tmp_path / "project", tmp_path / "site"
    root.mkdir()
    with ours.replaced(site, ours.SITE, root) as new:
        (new / "page").write_text("one")
    before = snapshot(tmp_path)

    with pytest.raises(FileNotFoundError), ours.replaced(site, ours.SITE, root) as new:
        (new / "nowhere" / "page").write_text("two")
    assert snapshot(tmp_path) == before

    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"), ours.replaced(site, ours.SITE, root):
        pass
    assert snapshot(tmp_path) == before

    monkeypatch.undo()
    with ours.replaced(site, ours.SITE, root) as new:
        (new / "other").write_text("three")
    assert {path.name for path in site.iterdir()} == {ours.MARKER, "other"}
    with pytest.raises(ours.NotOursError), ours.replaced(site, ours.SITE, root):
        (site / ours.MARKER).unlink()  # somebody took it over meanwhile
    assert (site / "other").exists()


def test_only_temporary_files_of_ours_are_swept(tmp_path: Path) -> None:
    kept = {".index.ipynb.backup.tmp", ".index.ipynb.old.publish-tmp", "index.ipynb.abcdefgh.publish-tmp"}
    for name in (*kept, ".index.ipynb.a1_cdefg.publish-tmp"):
        (tmp_path / name).touch()
    ours.sweep(tmp_path)
    ours.sweep(tmp_path / "absent")
    assert {path.name for path in tmp_path.iterdir()} == kept


# Commands


@pytest.mark.parametrize(
    "out", ["posts", ".", "..", "posts/01-first", "lib", "../bystander", "../bystander/thesis.txt"]
)
@pytest.mark.parametrize("command", ["run --budget smoke", "render --engine preview", "build --budget smoke"])
def test_a_folder_that_is_not_ours_is_refused_before_anything_is_done(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, out: str
) -> None:
    monkeypatch.setattr(runner, "Worker", pytest.fail)
    monkeypatch.setattr(preview, "find_pandoc", pytest.fail)
    before = snapshot(project.parent)
    assert main(["--root", str(project), *command.split(), "--out", str(project / out)]) == 2
    assert str((project / out).resolve()) in capsys.readouterr().err
    after = snapshot(project.parent)
    assert {path: after.get(path) for path in before} == before
    assert {Path(path).relative_to(project).parts[0] for path in after.keys() - before.keys()} <= {"_build"}


def test_a_failing_post_is_taken_from_the_copies_and_from_nowhere_else(project: Path) -> None:
    source = project / "posts/02-second/index.ipynb"
    before = source.read_bytes()
    assert main(["--root", str(project), "run", "--budget", "smoke", "--out", str(project / "copies")]) == 1
    assert source.read_bytes() == before
    assert sorted(path.parent.name for path in (project / "copies").glob("*/index.ipynb")) == ["01-first"]


def test_a_label_names_no_path(demo, project: Path) -> None:
    path = project / "posts/01-first/index.ipynb"
    nb = demo.post("First", 1, demo.code("#| label: ../../../../victim\n#| fig-cap: x\nplot()", demo.picture()))
    path.write_text(json.dumps(nb))
    with pytest.raises(preview.RenderError, match=r"cell 2 \(plot\(\)\).*'\.\./"):
        render.render(project, project / "_site", engine="preview")
    assert not list(project.parent.rglob("*victim*"))


def test_a_linked_notebook_is_executed_into_a_copy_and_not_in_place(project: Path) -> None:
    notebook_of = project / "posts/01-first/index.ipynb"
    notebook_of.rename(project.parent / "shared.ipynb")
    notebook_of.symlink_to("../../../shared.ipynb")
    before = snapshot(project.parent)
    options = ["--root", str(project), "run", "--only", "01", "--budget", "cpu"]
    assert main([*options, "--in-place"]) == 1
    assert main(options) == 0
    after = snapshot(project.parent)
    assert {path: after[path] for path in before} == before
    assert (project / "_build/posts/01-first/index.ipynb").is_file()


def test_a_linked_folder_of_copies_is_not_written_into(project: Path) -> None:
    copies = ours.claim(project / "_build/posts", ours.POSTS, project)
    ours.mark(project / "_build", ours.BUILD)
    (copies / "01-first").symlink_to(project.parent / "bystander")
    before = snapshot(project.parent / "bystander")
    assert main(["--root", str(project), "run", "--budget", "smoke", "--only", "01"]) == 1
    assert snapshot(project.parent / "bystander") == before


def test_a_linked_lock_is_not_written_through(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ours.claim(project / "_build", ours.BUILD, project) / ".lock").symlink_to(project.parent / "bystander/thesis.txt")
    assert main(["--root", str(project), "run", "--budget", "smoke"]) == 2
    assert "nothing is written through a link" in capsys.readouterr().err
    assert (project.parent / "bystander/thesis.txt").read_text() == "years of work"


def test_clean_takes_what_was_made_and_leaves_the_rest(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/notes")
    (project / "results").mkdir()
    (project / "results/notes.txt").write_text("mine")
    before = snapshot(project)
    assert main(["--root", str(project), "build", "--budget", "smoke", "--engine", "preview"]) == 1
    assert {"_build", "_site", "_quarto.yml.local"} <= {path.name for path in project.iterdir()}
    assert main(["--root", str(project), "clean"]) == 0
    assert snapshot(project) == before
    (project / "_site").mkdir()
    (project / "_site/mine").touch()
    assert main(["--root", str(project), "clean"]) == 0
    assert "it stays as it is" in capsys.readouterr().out
    assert (project / "_site/mine").exists()


def test_make_clean_waits_for_no_run_and_disturbs_none(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with process.locked(project) as build:
        (build / "kept").touch()
        assert main(["--root", str(project), "clean"]) == 2
        assert "another run is at work here" in capsys.readouterr().err
        assert (build / "kept").exists()
    recipe = subprocess.run(["make", "-n", "clean"], cwd=HERE, capture_output=True, text=True, check=True).stdout
    assert "-m publish clean" in recipe
    assert not any(word in recipe.split() for word in ("rm", "mv", "find"))


def test_no_recipe_of_the_makefile_removes_anything_by_itself() -> None:
    assert not [line for line in (HERE / "Makefile").read_text().splitlines() if "rm -" in line or "mv " in line]


def test_an_environment_of_ones_own_is_left_alone(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "call", pytest.fail)
    for name in install.PINS:
        (project / name).touch()
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").touch()
    assert install.main(["--root", str(project), "--venv", str(project / ".venv")]) == 1
    assert ".venv is not empty and is no environment folder of ours" in capsys.readouterr().err


# Any command in any order


class Executed:
    """A worker that is done at once: posts named ...bad fail, the others print a colophon."""

    def __init__(self, path: Path, nb: dict, options: object, env: dict, events: object) -> None:
        self.path, self.nb, self.post, self.started = path, nb, path.parent.name, time.monotonic()
        self.kernel, self.last, self.log = None, {}, io.BytesIO()
        if "bad" in self.post:
            event = {"event": "failed", "index": 0, "name": "ValueError", "text": "no", "traceback": "a traceback"}
        else:
            facts = {"budget": "cpu", "device": "cpu", "seconds": 1.0, "data": {}, "seed": 42, "versions": {}}
            said = {"text/markdown": "the end", notebook.COLOPHON: facts}
            outputs = [[] for _ in notebook.code(nb)[1:]]
            outputs.append([{"output_type": "display_data", "metadata": {}, "data": said}])
            event = {"event": "done", "outputs": outputs}
        events.put((self, event))
        events.put((self, None))

    def stop(self) -> None:
        """Nothing to stop."""

    def log_tail(self, lines: int) -> str:
        """Nothing was said."""
        return ""


QUARTO = """#!/bin/sh
cd "$2" || exit 1
case "$4" in ../*) ;; *) rm -rf "./$4" ;; esac
mkdir -p "$4" && echo page > "$4/index.html"
"""
PATHS = """
    . .. ../.. posts posts/01-good posts/01-good/index.ipynb posts/new assets lib _build _build/posts _build/site
    _build/logs _site _site/posts results .venv ../bystander ../bystander/thesis.txt ../link to-posts ../other/posts
    ../other/_site ../fresh fresh/deep ../empty feed.xml
""".split()  # noqa: SIM905 - a list that fits on the screen
PLANTED = """
    _site/mine.txt _build/mine.txt _build/posts/mine/index.ipynb _build/posts/01-good/index.ipynb
    _build/logs/02-bad.txt results/records.md results/front.md results/notes.txt results feed.xml _quarto.yml.local
    .venv/mine posts/01-good/_metadata.yml posts/01-good/.index.ipynb.backup.tmp posts/07-new
    posts/07-new/thumbnail.png fresh ../fresh/mine.txt _build _site
""".split()  # noqa: SIM905 - a list that fits on the screen
LINKED = """
    _site _build results feed.xml _quarto.yml.local _build/.lock _build/history.json _build/posts _build/posts/01-good
    _build/posts/01-good/index.ipynb _build/posts/01-good/thumbnail.png _build/posts/gone _build/logs
    _build/logs/02-bad.txt _build/site _site/index.html posts/01-good/_metadata.yml posts/01-good/index.ipynb
    posts/03-linked posts/07-new results/records.md .venv .venv/installed.json fresh
""".split()  # noqa: SIM905 - a list that fits on the screen
TARGETS = [
    "../bystander",
    "../bystander/thesis.txt",
    "../other/posts/01-good",
    "../nothing",
    "posts",
    "posts/01-good/index.ipynb",
]

path = st.sampled_from(PATHS)
engine = st.sampled_from(["--engine preview", "--engine quarto"])
command = st.one_of(
    st.just("run --in-place --budget cpu"),
    st.just("run --budget smoke"),
    st.just("run --stale --budget cpu --jobs 2"),
    st.builds("run --budget smoke --out {}".format, path),
    st.builds("render {}".format, engine),
    st.builds("render {} --out {}".format, engine, path),
    st.builds("render {} --out {} --posts {}".format, engine, path, path),
    st.builds("build --budget cpu {}".format, engine),
    st.builds("build --budget cpu {} --out {}".format, engine, path),
    st.builds("new {}".format, st.sampled_from(["07-new", "../07-new", "01-good", "07-new/../../x"])),
    st.sampled_from(["results", "address", "clean", "list", "links"]),
    st.builds("install {}".format, path),
)
plant = st.builds("plant {}".format, st.sampled_from(PLANTED))
first = st.sampled_from([[], ["build --budget cpu --engine preview"]])
link = st.builds("link {} {}".format, st.sampled_from(LINKED), st.sampled_from(TARGETS))


FRAME = [f"assets/preview/{name}" for name in preview.FRAME]
FRONT = "---\ntitle: {}\ndescription: d\ndate: 2026-01-02\norder: {}\nimage: thumbnail.png\nimage-alt: a\n---\n"


def scratch(folder: Path, make_post: Callable[..., Path], demo: object) -> Path:
    """Make a project, another clone of it and a bystander below `folder`; return the project."""
    for name in ("project", "other"):
        root = folder / "home" / name
        for post in ("01-good", "02-bad"):
            notebook_of = make_post(root, post)
            nb = json.loads(notebook_of.read_text())
            nb["cells"][0]["source"] = FRONT.format(post, int(post[:2]))
            nb["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "an older run"}]
            notebook_of.write_text(json.dumps(nb))
            (root / "posts" / post / "thumbnail.png").write_bytes(b"a picture")
        (root / "_quarto.yml").write_text("website:\n  title: T\n  description: D\n")
        for made in ("index.qmd", *FRAME, "lib/a.py", "references.bib", *install.PINS):
            (root / made).parent.mkdir(parents=True, exist_ok=True)
            (root / made).write_text("---\ntitle: A\n---\n" if made.endswith("qmd") else "")
    for mine in ("home/bystander/thesis.txt", "home/bystander/index.ipynb", "above.txt"):
        (folder / mine).parent.mkdir(exist_ok=True)
        (folder / mine).write_text("years of work")
    (folder / "home/empty").mkdir()
    (folder / "home/link").symlink_to("bystander")
    (folder / "home/project/to-posts").symlink_to("posts")
    return folder / "home/project"


def in_ours(path: Path) -> bool:
    """Tell whether a path lies in a folder that the commands have marked as theirs."""
    return any((folder / ours.MARKER).exists() for folder in path.parents)


def add(root: Path, name: str, target: str | None = None) -> Path | None:
    """Put a file, or a link to `target`, of the person's own somewhere where nothing is; return its path."""
    path = Path(os.path.normpath(root / name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not (in_ours(path) and target):
            return None
        if path.is_dir() and not path.is_symlink():  # a person may put a link in the place of what was made
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if target is None:
            path.write_text("years of work")
        else:
            path.symlink_to(os.path.relpath(root / target, path.parent))
    except OSError:  # a file where a folder would have to be
        return None
    return None if in_ours(path) else path


def obey(root: Path, asked: str) -> None:
    """Carry out a command as its process would; whatever status it ends with."""
    name, *rest = asked.split()
    arguments = [
        str(root / word) if word in PATHS and rest[i - 1].startswith("--") else word for i, word in enumerate(rest)
    ]
    if name == "install":
        install.main(["--root", str(root), "--venv", str(root / rest[0])])
    else:
        main(["--root", str(root), name, *arguments])


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let posts execute, pages render and packages install in no time; return a folder for what that needs."""
    folder = tmp_path_factory.mktemp("quick")
    (folder / "quarto").write_text(QUARTO)
    (folder / "quarto").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours.os, "fsync", lambda handle: None)
        patch.setattr(runner, "Worker", Executed)
        patch.setattr(runner, "idle_cores", lambda: 2)
        patch.setattr(runner, "hub_is_reachable", lambda: False)
        patch.setattr(render, "find_quarto", lambda: str(folder / "quarto"))
        patch.setattr(preview, "_page", lambda pandoc, root, site, source, *_: (site / source.url).touch() or [])
        patch.setattr(preview, "_index", lambda site: None)
        patch.setattr(preview.links, "check", lambda site: [])
        patch.setattr(install, "call", lambda command: None)
        patch.setattr(install, "check_disk", lambda folder: None)
        patch.setattr(install, "quarto_found", lambda venv: True)
        patch.setenv("GITHUB_REPOSITORY", "ada/notes")
        yield folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.builds(list.__add__, first, st.lists(st.one_of(command, plant, link), min_size=1, max_size=8)))
def test_nothing_that_is_not_ours_has_changed(quick: Path, demo, make_post, steps: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=quick) as folder:
        root = scratch(Path(folder), make_post, demo)
        canaries = snapshot(Path(folder))
        for step in steps:
            kind, *words = step.split()
            if kind in ("plant", "link"):
                path = add(root, *words)
                canaries |= {str(path): snapshot(path.parent)[str(path)]} if path else {}
                continue
            obey(root, step)
            now = snapshot(Path(folder))
            changed = {path for path, was in canaries.items() if now.get(path) != was}
            if "--in-place" in step:  # which asks for it
                executed = str(root / "posts/01-good/index.ipynb")
                assert changed <= ({executed} if isinstance(canaries[executed], bytes) else set())
                canaries[executed] = now[executed]
            else:
                assert not changed, step


def test_the_commands_of_that_test_do_what_they_are_for(quick: Path, demo, make_post) -> None:
    with tempfile.TemporaryDirectory(dir=quick) as folder:
        root = scratch(Path(folder), make_post, demo)
        for step in ("build --budget cpu --engine quarto", "render --engine preview --out ../fresh", "install .venv"):
            obey(root, step)
        made = [root / "_build/posts/01-good/index.ipynb", root / "_site/index.html", root / "feed.xml"]
        made += [root.parent / "fresh/posts/01-good/index.html", root / ".venv" / ours.MARKER]
        assert [path for path in made if not path.exists()] == []
        before = (root / "posts/01-good/index.ipynb").read_bytes()
        obey(root, "run --in-place --budget cpu")
        assert (root / "posts/01-good/index.ipynb").read_bytes() != before
        obey(root, "clean")
        assert not (root / "_build").exists()


def test_quarto_marks_only_a_site_that_it_has_emptied_before(tmp_path: Path) -> None:
    script = HERE / "publish/postrender.py"
    site = tmp_path / "site"
    site.mkdir()
    for env in ({}, {"QUARTO_PROJECT_RENDER_ALL": "1"}):
        env |= {"QUARTO_PROJECT_OUTPUT_DIR": str(site)}
        subprocess.run([sys.executable, "-S", str(script)], check=True, env=env)
        assert not (site / ours.MARKER).exists(), "a site outside of the project is not emptied by Quarto"

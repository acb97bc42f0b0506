"""The workflows are valid, pinned and least-privileged, and every command in them exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ON_EVERY_RUNNER = {"git", "gh", "make", "cp"}
STRUCTURE = re.compile(r"^(if|then|else|fi|do|done|for \w+ in .*; do)\b\s*|^for .*; do$")


def steps(path: Path) -> list[dict]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[str]:
    lines = [line.strip() for step in steps(path) for line in step.get("run", "").splitlines()]
    stripped = [STRUCTURE.sub("", line).rstrip(";").removesuffix("; then") for line in lines]
    return [line for line in stripped if line and not line.startswith(("[", "echo", "exit"))]


def check_schema(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_schema(path: Path, schema: str) -> None:
    check_schema(schema, path)


def test_dependabot_schema() -> None:
    check_schema("vendor.dependabot", ROOT / ".github" / "dependabot.yml")


def test_the_three_workflows_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "gpu", "publish"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_their_version_beside(path: Path) -> None:
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_permissions_start_at_reading_and_runs_do_not_pile_up(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_is_pasted_into_a_shell(path: Path) -> None:
    assert not [line for line in commands(path) if "${{" in line]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_executes_the_repository_may_not_write_to_it(path: Path) -> None:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        said = " ".join(step.get("run", "") for step in job["steps"])
        if re.search(r"\b(make|python)\b", said):
            assert "permissions" not in job
            (checkout,) = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
            assert checkout["with"]["persist-credentials"] is False


def test_gpu_proposes_what_succeeded_and_nothing_else(tmp_path: Path) -> None:
    """Run the shell of the job that writes, with an artefact that holds more than it should."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *identity, *arguments], cwd=clone, capture_output=True, text=True, check=True)
        return done.stdout

    jobs = yaml.safe_load((ROOT / ".github/workflows/gpu.yml").read_text())["jobs"]
    *_, keep = jobs["execute"]["steps"]
    assert keep["if"] == "${{ !cancelled() }}", "one failing post must not lose the others"
    assert keep["with"]["path"] == "posts/*/index.ipynb"
    assert jobs["propose"]["needs"] == "execute"
    assert jobs["propose"]["if"].startswith("${{ !cancelled()")

    clone, temporary, tools = tmp_path / "clone", tmp_path / "temp", tmp_path / "bin"
    for name in ("01-a", "02-b"):
        (clone / "posts" / name).mkdir(parents=True)
        (clone / "posts" / name / "index.ipynb").write_text("old")
    tools.mkdir()
    (tools / "gh").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tools / "gh").chmod(0o755)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "origin")], check=True)
    git("remote", "add", "origin", str(tmp_path / "origin"))
    for name in ("01-a/index.ipynb", "03-new/index.ipynb", "01-a/extra.py"):
        (temporary / "posts" / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / "posts" / name).write_text("new")

    script = jobs["propose"]["steps"][-1]["run"]
    env = os.environ | {"RUNNER_TEMP": str(temporary), "BRANCH": "outputs", "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", script], cwd=clone, env=env, check=True, capture_output=True)
    assert git("show", "--format=%an", "--name-only", "origin/outputs").split() == [
        "github-actions[bot]",
        "posts/01-a/index.ipynb",
    ]
    assert (tmp_path / "asked").read_text() == "pr create --fill --head outputs\n"

    git("switch", "-q", "main")
    (temporary / "posts/01-a/index.ipynb").write_text("old")
    again = subprocess.run(["bash", "-e", "-c", script], cwd=clone, env=env, check=True, capture_output=True, text=True)
    assert again.stdout == "no output changed\n"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in commands(path):
        words = line.split()
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[:3] == [".venv/bin/python", "-m", "publish"]:
            options = {word for word in words[4:] if word.startswith("--")}
            done = subprocess.run([sys.executable, *words[1:4], "--help"], capture_output=True, text=True, cwd=ROOT)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            assert options <= set(re.findall(r"--[a-z-]+", done.stdout)), line
        else:
            assert words[0] in ON_EVERY_RUNNER, line


def test_ci_runs_the_readme_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert "\nmake test\n" in script.read_text()
    assert "make test" in (ROOT / "README.md").read_text()
    bash = shutil.which("bash")
    assert bash
    assert subprocess.run([bash, "-n", str(script)]).returncode == 0


def test_every_make_target_is_explained_and_parses() -> None:
    listed = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    for target in ("site", "test", "serve", "run", "stale", "lint", "bench", "new", "clean"):
        assert f"make {target} " in listed
        arguments = ["POST=01-x"] if target == "new" else []
        assert subprocess.run(["make", "-n", target, *arguments], capture_output=True, cwd=ROOT).returncode == 0

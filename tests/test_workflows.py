"""The workflows are valid, pinned and least-privileged, and every command in them exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ON_EVERY_RUNNER = {"git", "gh", "make", "cp", "mkdir", "read"}
STRUCTURE = re.compile(r"^(if|then|else|fi|do|done|for \w+ in .*; do)\b\s*|^for .*; do$")
GPU = ROOT / ".github/workflows/gpu.yml"


def steps(path: Path) -> list[dict]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[str]:
    shells = [re.sub(r"\\\n\s*", "", step.get("run", "")) for step in steps(path)]
    lines = [line.strip() for shell in shells for line in shell.splitlines()]
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


@pytest.fixture
def hosted(tmp_path: Path) -> Callable[..., str]:
    """A function that runs the shell steps of a job in order, in `clone`, as a runner would."""
    clone, tools = tmp_path / "clone", tmp_path / "bin"
    clone.mkdir()
    tools.mkdir()
    (tools / "gh").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tools / "gh").chmod(0o755)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "origin")], check=True)
    env = {"RUNNER_TEMP": str(tmp_path / "temp"), "BRANCH": "outputs", "PATH": f"{tools}:{os.environ['PATH']}"}

    def run(job: str, **more: str) -> str:
        printed = ""
        for step in yaml.safe_load(GPU.read_text())["jobs"][job]["steps"]:
            if "run" in step:
                command = ["bash", "-eo", "pipefail", "-c", step["run"]]
                done = subprocess.run(
                    command, cwd=clone, env=os.environ | env | more, text=True, stdout=-1, stderr=subprocess.STDOUT
                )
                assert done.returncode == 0, done.stdout
                printed += done.stdout
        return printed

    return run


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def commit(clone: Path) -> None:
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "first")
    git(clone, "remote", "add", "origin", str(clone.parent / "origin"))


def proposed(clone: Path) -> list[str]:
    return git(clone, "show", "--format=%an", "--name-only", "origin/outputs").split()


def test_gpu_keeps_what_succeeded_also_when_a_post_failed() -> None:
    jobs = yaml.safe_load(GPU.read_text())["jobs"]
    *_, keep = jobs["execute"]["steps"]
    assert keep["if"] == "${{ !cancelled() }}"
    assert keep["with"]["path"] == "${{ runner.temp }}/gpu"
    assert jobs["propose"]["needs"] == "execute"
    assert jobs["propose"]["if"].startswith("${{ !cancelled()")
    brought = jobs["propose"]["steps"][1]["with"]
    assert (brought["name"], brought["path"]) == (keep["with"]["name"], keep["with"]["path"])


def test_gpu_proposes_posts_and_records_that_there_are_and_nothing_else(tmp_path: Path, hosted: Callable) -> None:
    """Run the job that writes, with an artefact that holds more than it should."""
    clone, artefact = tmp_path / "clone", tmp_path / "temp" / "gpu"
    for name in ("posts/01-a/index.ipynb", "posts/02-b/index.ipynb", "bench/results/fashion.json"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("old")
    commit(clone)
    wanted = ["bench/account.json", "bench/results/fashion.json", "bench/results/gpu/matmul.json"]
    wanted.append("posts/01-a/index.ipynb")
    more = ["posts/03-new/index.ipynb", "posts/01-a/extra.py", "bench/x.py", "bench/results/gpu/evil.json", "Makefile"]
    for name in [*wanted, *more]:
        (artefact / name).parent.mkdir(parents=True, exist_ok=True)
        (artefact / name).write_text("new")
    hosted("propose")
    assert proposed(clone) == ["github-actions[bot]", *wanted]
    assert (tmp_path / "asked").read_text() == "pr create --fill --head outputs\n"

    git(clone, "switch", "-q", "main")
    for name in wanted:
        (artefact / name).unlink()
    assert hosted("propose") == "no output changed\n"


@pytest.mark.slow
def test_gpu_runs_in_order_with_the_cpu_as_the_device(tmp_path: Path, hosted: Callable) -> None:
    """A rehearsal of all posts and measurements: every line that is meant for a GPU runs here, too."""
    clone = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    commit(clone)
    (clone / ".venv").symlink_to(sys.prefix)
    offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    assert (Path(sys.prefix) / "installed.json").exists(), "make test installs into .venv"
    hosted("execute", ONLY="", LIB_GPU_SCALE="1000", LIB_DATA="", **offline)
    names = sorted(path.parent.name for path in (clone / "posts").glob("*/index.ipynb"))
    benches = ("cluster", "diffusion", "learner", "matmul", "stable")
    account = json.loads((tmp_path / "temp/gpu/bench/account.json").read_text())
    assert {name: entry["state"] for name, entry in account.items()} == dict.fromkeys(
        [*names, *(f"bench/{name}" for name in benches)], "done"
    )
    assert not git(clone, "status", "--short", "posts", "bench"), "a rehearsal leaves the project as it is"
    hosted("propose")
    records = ["bench/account.json", *(f"bench/results/gpu/{name}.json" for name in benches)]
    assert proposed(clone) == ["github-actions[bot]", *records, *(f"posts/{name}/index.ipynb" for name in names)]


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
    for target in ("site", "test", "serve", "run", "gpu", "stale", "lint", "bench", "new", "clean"):
        assert f"make {target} " in listed
        arguments = ["POST=01-x"] if target == "new" else []
        assert subprocess.run(["make", "-n", target, *arguments], capture_output=True, cwd=ROOT).returncode == 0

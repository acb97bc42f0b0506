"""The installer does its work once, and explains each failure with its remedy."""

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from publish import install, ours

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose steps are noted in `calls.json` and not carried out."""
    (tmp_path / "requirements.txt").write_text("numpy==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    calls = []

    def call(command: list) -> None:
        calls.append([str(word) for word in command])
        (tmp_path / "calls.json").write_text(json.dumps(calls))
        (tmp_path / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv" / "bin" / "python").touch()

    monkeypatch.setattr(install, "call", call)
    monkeypatch.setattr(install, "check_disk", lambda folder: None)
    return tmp_path


def run(project: Path, extras: str = "site") -> list[list[str]]:
    noted = project / "calls.json"
    before = len(json.loads(noted.read_text())) if noted.exists() else 0
    assert install.main(["--root", str(project), "--venv", str(project / ".venv"), "--extras", extras]) == 0
    return json.loads(noted.read_text())[before:]


def test_a_second_call_has_nothing_to_do(project: Path) -> None:
    first = run(project)
    assert first[0][1:3] == ["-m", "venv"]
    assert f"{project}[site]" in first[1]
    assert run(project) == []


def test_a_new_extra_keeps_the_old_ones(project: Path) -> None:
    run(project, "site")
    assert any(f"{project}[dev,site]" in call for call in run(project, "dev"))
    assert run(project, "site") == []


def test_a_changed_pin_installs_again(project: Path) -> None:
    run(project)
    (project / "requirements.txt").write_text("numpy==2\n")
    assert run(project)


def test_an_interrupted_installation_is_taken_up_again(project: Path) -> None:
    run(project)
    (project / ".venv" / "installed.json").write_text('{"digest": "')
    assert run(project)


def test_without_quarto_it_goes_on_and_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def call(command: list) -> None:
        (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        if install.QUARTO in command:
            raise install.CannotInstallError("no")

    monkeypatch.setattr(install, "call", call)
    monkeypatch.setattr(install, "quarto_found", lambda venv: False)
    assert install.main(["--root", str(project), "--venv", str(project / ".venv")]) == 0
    assert "the preview renderer makes the site instead" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError(...) ERROR: No matching distribution found for torch", "check the network"),
        ("ERROR: No matching distribution found for torch==2.14.1", "64-bit Python 3.11 or 3.12"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "run the same command again"),
        ("one\nERROR: something new\n", "pip failed: ERROR: something new"),
        ("", "it printed nothing"),
    ],
)
def test_remedies(printed: str, said: str) -> None:
    assert said in install.remedy(printed)


def test_a_failing_step_ends_in_a_sentence_and_no_stamp(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-package-of-ours==0\n")
    (tmp_path / "pyproject.toml").write_text("not toml [")
    python = ours.claim(tmp_path / ".venv", ours.ENVIRONMENT, tmp_path) / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "ERROR: NameResolutionError" >&2\nexec {sys.executable} -c "exit(1)"\n')
    python.chmod(0o755)
    assert install.main(["--root", str(tmp_path), "--venv", str(tmp_path / ".venv")]) == 1
    assert "cannot install: the package index cannot be reached" in capsys.readouterr().err
    assert install.read_stamp(tmp_path / ".venv") == {}


def test_missing_venv_module_names_the_package() -> None:
    with pytest.raises(install.CannotInstallError, match=r"ensurepip.* apt install python3\.\d+-venv"):
        install.check_venv_module(lambda name: None if name == "ensurepip" else object())
    install.check_venv_module()


def test_little_disk_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 2 * 2**30))
    with pytest.raises(install.CannotInstallError, match=r"2\.0 GiB.* 9"):
        install.check_disk(tmp_path)


def test_a_folder_that_cannot_be_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(venv: Path, stamp: dict) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(install, "write_stamp", refuse)
    assert install.main(["--root", str(project), "--venv", str(project / ".venv")]) == 1
    assert "this folder cannot be written" in capsys.readouterr().err


def test_quarto_is_found_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("QUARTO_PATH", raising=False)
    assert not install.quarto_found(tmp_path / ".venv")
    quarto = tmp_path / "q"
    quarto.write_text("#!/bin/sh\n")
    quarto.chmod(0o755)
    monkeypatch.setenv("QUARTO_PATH", str(quarto))
    assert install.quarto_found(tmp_path / ".venv")


def test_make_names_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    root = Path(__file__).parents[2]
    done = subprocess.run(["make", "python", f"PYTHON={old}"], capture_output=True, text=True, cwd=root)
    assert done.returncode != 0
    assert "the posts need Python 3.11 or 3.12" in done.stderr
    assert str(old) in done.stderr


@pytest.mark.parametrize(("fit", "taken"), [({"python3", "python3.12"}, "python3"), ({"python3.12"}, "python3.12")])
def test_make_takes_the_python_in_use_if_it_fits(tmp_path: Path, fit: set[str], taken: str) -> None:
    for name in ("python3", "python", "python3.12", "python3.11"):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\nexit {int(name not in fit)}\n")
        fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", "-n", "python"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert done.stdout.startswith(f'"{taken}" -c')


def wheel(folder: Path, name: str) -> None:
    """Write a package of one module that is importable by its name."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "answer = 42\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def test_wheels_are_installed_beside_without_a_network(tmp_path: Path) -> None:
    wheels, folder = tmp_path / "carried", tmp_path / "project" / "_build" / "wheels"
    (tmp_path / "project").mkdir()
    wheel(wheels, "first_of_two")
    asked = ["--root", str(tmp_path / "project"), "--wheels", str(wheels)]
    assert install.main(asked) == 0
    assert (folder / "first_of_two.py").read_text() == "answer = 42\n"
    assert (tmp_path / "project" / "_build" / ours.MARKER).exists()
    (folder / "first_of_two.py").write_text("touched = 1\n")
    assert install.main(asked) == 0
    assert (folder / "first_of_two.py").read_text() == "touched = 1\n", "a second call has nothing to do"
    wheel(wheels, "second_of_two")
    assert install.main(asked) == 0
    assert {path.name for path in folder.glob("*.py")} == {"first_of_two.py", "second_of_two.py"}


def test_a_folder_without_wheels_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert install.main(["--root", str(tmp_path), "--wheels", str(tmp_path / "nothing")]) == 1
    assert "there are no wheels (*.whl) in" in capsys.readouterr().err

"""A file is written whole, or what was there stays; what ships is listed, and checked before use."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from lib.data import files


def test_a_file_is_made_and_replaced_folders_too(tmp_path):
    path = tmp_path / "a" / "b.bin"
    files.replace(path, b"one")
    files.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("owner", "name"), [(Path, "replace"), (os, "fdopen")])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_what_was_there_stays_when_writing_fails(owner, name, fault, tmp_path, monkeypatch):
    path = tmp_path / "b.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fail)
        with pytest.raises(OSError, match=os.strerror(fault)):
            files.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_shipped_manifest_is_whole():
    listed = json.loads(files.MANIFEST.read_text())["files"]
    for name, metadata in listed.items():
        assert {"sha256", "bytes", "made_by", "licence", "source"} <= set(metadata), name
        assert files.shipped(name).stat().st_size == metadata["bytes"]
    folder = files.MANIFEST.parent
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unlisted = {name for name in present if name.endswith("LICENSE")} | {"manifest.json", "README.md"}
    assert present - unlisted == set(listed)


def test_the_readme_of_the_data_tells_of_every_folder_its_licence_and_its_source():
    readme = (files.MANIFEST.parent / "README.md").read_text()
    for name, metadata in json.loads(files.MANIFEST.read_text())["files"].items():
        folder = "/".join(Path(name).parts[: 1 if name.startswith("fashion-mnist") else 2])
        [row] = [line for line in readme.splitlines() if line.startswith(f"| `{folder}/`")]
        assert metadata["licence"].partition(",")[0] in row
        assert metadata["source"] in row


def test_shipped_files_are_checked(tmp_path):
    content = b"weights"
    metadata = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "made_by": "a test"}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": {"nets/unet.safetensors": metadata}}))
    path = tmp_path / "nets" / "unet.safetensors"
    with pytest.raises(ValueError, match=r"nets/unet\.safetensors.*manifest\.json.*git checkout -- data"):
        files.shipped("nets/unet.safetensors", manifest)
    path.parent.mkdir()
    path.write_bytes(content)
    assert files.shipped("nets/unet.safetensors", manifest) == path
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"unet\.safetensors.*sha256.*" + metadata["sha256"]):
        files.shipped("nets/unet.safetensors", manifest)
    with pytest.raises(ValueError, match=r"manifest\.json.*'nets/unet'; did you mean 'nets/unet\.safetensors'"):
        files.shipped("nets/unet", manifest)


def test_verify_returns_the_path_of_a_whole_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"")
    assert files.verify(path, hashlib.sha256(b"").hexdigest()) == Path(path)


def test_what_ships_is_noted_when_it_is_read_and_nothing_else_is(tmp_path, monkeypatch):
    manifest, other = (tmp_path / name / "manifest.json" for name in ("data", "other"))
    for place in (manifest, other):
        place.parent.mkdir()
        place.write_text('{"files": {}}')
        files.export({"a.bin": (b"a", {}), "b.bin": (b"b", {})}, manifest=place)
    monkeypatch.setattr(files, "MANIFEST", manifest)
    before = len(files.READ)
    files.shipped("a.bin", manifest)
    files.shipped("b.bin", other)
    (manifest.parent / "b.bin").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"b\.bin.*sha256"):
        files.shipped("b.bin", manifest)
    assert files.READ[before:] == [("a.bin", hashlib.sha256(b"a").hexdigest())]

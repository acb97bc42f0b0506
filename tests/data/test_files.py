"""A file is written whole, or what was there stays."""

import errno
import os
from pathlib import Path

import pytest

from lib import files


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

"""Files written whole or not at all, and what killed writers leave."""

import os
from pathlib import Path

import pytest

from tae.store.atomic import remove_leftovers, write_whole


def test_a_file_is_replaced_by_the_parts_in_order(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 60 + ".bin")  # with what is put around it, its name would be too long for the file system
    path.write_bytes(b"old")
    write_whole(path, [b"a", memoryview(b"bc"), b""])
    assert path.read_bytes() == b"abc" and [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, [b"new"])
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_leftovers_are_told_by_their_names(tmp_path: Path) -> None:
    ours = [f".file.{'0' * 32}.tmp", f".other.{'a' * 32}.tmp"]
    foreign = ["file", ".hidden.tmp", "plain.tmp", ".file.0123.tmp"]
    for name in ours + foreign:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "file")
    assert {one.name for one in tmp_path.iterdir()} == {*foreign, ours[1]}
    remove_leftovers(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == set(foreign)
    remove_leftovers(tmp_path / "nowhere")

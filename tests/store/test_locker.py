"""A visitor's uploads on disk: found again by the secret alone, whole or not there, bounded in time and bytes."""

import errno
from pathlib import Path

import pytest

from tae.store import locker
from tae.store.locker import Kept, Locker, LockerError, sweep

SECRET = "a" * 32


def contents(home: Path, secret: str = SECRET, kind: str = "images") -> list[list[tuple[str, bytes]]]:
    return [[(file.name, file.getvalue()) for file in batch.files] for batch in Locker(home, secret).batches(kind)]


def test_drops_are_found_again_in_order_by_their_secret_and_by_no_other(tmp_path: Path) -> None:
    first, second = [("b.png", b"1"), ("a.png", b"2")], [("../../etc/passwd", b"3")]
    for files in (first, second):
        Locker(tmp_path, SECRET).put("images", files)
    Locker(tmp_path, SECRET).put("checkpoints", [("c", b"4")])
    assert contents(tmp_path) == [first, second]
    assert contents(tmp_path, "b" * 32) == contents(tmp_path, "../" + SECRET) == []
    names = [part for path in tmp_path.rglob("*") for part in path.relative_to(tmp_path).parts]
    assert not any(word in name for name in names for word in (SECRET[:8], "png", "passwd"))
    Locker(tmp_path, SECRET).remove("images")
    assert contents(tmp_path) == [] and contents(tmp_path, kind="checkpoints") == [[("c", b"4")]]


def test_a_drop_goes_after_its_hours_and_the_oldest_of_all_where_there_would_be_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAE_KEEP_HOURS", "2")
    mine, others = Locker(tmp_path, SECRET), Locker(tmp_path, "b" * 32)
    born = int(mine.put("images", [("old", bytes(1000))]).folder.name.split("-")[0]) / 1e9
    sweep(tmp_path, now=born + 7199)
    assert contents(tmp_path) == [[("old", bytes(1000))]]
    others.put("images", [("new", bytes(1000))])
    monkeypatch.setattr(locker, "MAX_ALL_BYTES", 2100)  # without the oldest just enough
    mine.put("images", [("newest", bytes(1000))])
    assert contents(tmp_path) == [[("newest", bytes(1000))]] and len(contents(tmp_path, "b" * 32)) == 1
    sweep(tmp_path, now=born + 7201 + 3600)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_one_visitor_s_share_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locker, "MAX_BYTES", 20)
    own = Locker(tmp_path, SECRET)
    own.put("images", [("a", b"1234567890")])
    with pytest.raises(LockerError, match="for 24 hours, .*remove some first"):
        own.put("images", [("b", b"1234567890")])
    Locker(tmp_path, "b" * 32).put("images", [("b", b"1234567890")])
    assert contents(tmp_path) == [[("a", b"1234567890")]]


def test_53_a_full_disk_leaves_no_half_of_a_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "000001":
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LockerError, match="No space left on device"):
        Locker(tmp_path, SECRET).put("images", [("a", b"1"), ("b", b"2")])
    assert contents(tmp_path) == [] and not any(path.is_file() for path in tmp_path.rglob("*"))


def test_what_is_damaged_beside_good_drops_is_passed_over(tmp_path: Path) -> None:
    own = Locker(tmp_path, SECRET)
    broken, torn, good = (own.put("images", [(name, name.encode())]) for name in ("one", "two", "three"))
    (broken.folder / "names.json").write_text('["' + "[" * 100_000)
    torn.files[0].path.unlink()
    (good.folder.parent / "no batch").mkdir()
    (good.folder.parent / "file").touch()
    assert contents(tmp_path) == [[("three", b"three")]]
    with pytest.raises(OSError):
        Kept("gone", torn.files[0].path).getvalue()

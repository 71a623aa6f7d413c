"""Files written whole or not at all, and what killed writers leave."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tae.store.atomic import remove_leftovers, write_whole
from tests import ROOT


def test_a_file_is_replaced_by_the_parts_in_order(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 60 + ".bin")  # with what is put around it, its name would be too long for the file system
    path.write_bytes(b"old")
    write_whole(path, [b"a", memoryview(b"bc"), b""])
    assert path.read_bytes() == b"abc" and [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), OSError(5, "EIO"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_53_54_a_write_that_fails_names_its_file_and_leaves_the_old_one_and_nothing_else(
    function: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(failure)) as raised:
        write_whole(path, [b"new"])
    assert getattr(raised.value, "filename", "file") == "file"
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


def test_55_a_write_is_durable_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        status = os.fstat(handle)
        events.append("fsync folder" if stat.S_ISDIR(status.st_mode) else f"fsync {status.st_size} bytes")
        fsync(handle)

    def note_replace(source: Path, target: Path) -> None:
        assert Path(source).parent == Path(target).parent
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_whole(tmp_path / "file", [b"abc", b"de"])
    assert events == ["fsync 5 bytes", "rename", "fsync folder"]


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from tae.store.atomic import write_whole

path = Path(sys.argv[1]) / "file"
old, new = [b"old" * 1000] * 100, [b"new" * 1000] * 100
chance = random.Random(0)

def killed_in(work, wait_s):
    child = os.fork()
    if child == 0:
        while True:
            work()
    if wait_s is not None:
        time.sleep(wait_s)
        os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])

def die_at(name, count, before):
    # Kill ourselves at the count-th call of a function that touches files.
    def work():
        real, calls = getattr(os, name), [0]
        def dying(*args):
            calls[0] += 1
            if calls[0] == count and before:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args)
            if calls[0] == count:
                os.kill(os.getpid(), signal.SIGKILL)
        setattr(os, name, dying)
        write_whole(path, new)
    return work

for name, count, before, then in (
    ("fsync", 1, True, old), ("fsync", 1, False, old), ("replace", 1, True, old),
    ("replace", 1, False, new), ("fsync", 2, True, new), ("fsync", 2, False, new),
):
    write_whole(path, old)
    killed_in(die_at(name, count, before), None)
    assert path.read_bytes() == b"".join(then), (name, count, before)

def write_both():
    write_whole(path, old)
    write_whole(path, new)

for _ in range(20):
    killed_in(write_both, chance.uniform(0.001, 0.03))
    assert path.read_bytes() in (b"".join(old), b"".join(new))
print("survived")
"""


def test_a_write_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "survived\n", result.stderr
    remove_leftovers(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]

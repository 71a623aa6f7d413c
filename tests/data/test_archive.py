"""ZIPs of strangers: what is a picture comes out under a generated name; what would do harm is refused, and leaves nothing."""

import io
import json
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tae.data.archive import MAX_ENTRIES, ArchiveError, Unpacked, _Inflater, unpack_images
from tae.data.decode import read_image
from tae.data.limits import MAX_FILE_BYTES


def picture(grey: int = 100, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 3), grey).save(buffer, format)
    return buffer.getvalue()


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name  # the constructor would cut some names
    info.external_attr = mode << 16
    return info


def packed(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content, method)
    return buffer.getvalue()


def patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes behind the first of a kind of header."""
    start = data.index(mark) + offset
    return data[:start] + value + data[start + len(value) :]


LOCAL, ENTRY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def is_refused(data: bytes, tmp_path: Path, match: str) -> None:
    """With one sentence, in little memory, and nothing is left behind."""
    before = sorted(tmp_path.rglob("*"))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=match) as caught:
        unpack_images(data, tmp_path / "pictures")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)
    assert peak < 40 * 1024**2
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_get_numbers_in_the_natural_order_of_their_names(tmp_path: Path) -> None:
    data = packed(
        ("b/img10.png", picture(10)),
        ("b/img2.png", picture(2)),
        ("a.jpg", picture(200, "JPEG")),
        ("wrong ending.png", picture(7, "BMP")),
    )
    seen = []
    result = unpack_images(data, tmp_path / "new" / "pictures", lambda *counts: seen.append(counts))
    folder = tmp_path / "new" / "pictures"
    assert result == Unpacked(4, [])
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    names = json.loads((folder / "names.json").read_text())
    assert names == {
        "000001.jpg": "a.jpg",
        "000002.png": "b/img2.png",
        "000003.png": "b/img10.png",
        "000004.bmp": "wrong ending.png",
    }
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "names.json"])
    assert (folder / "000003.png").read_bytes() == picture(10)


def test_archive_may_be_a_file_and_the_folder_may_be_there_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packed(("a.png", picture())))
    (tmp_path / "pictures").mkdir()
    assert unpack_images(tmp_path / "a.zip", tmp_path / "pictures").count == 1
    with pytest.raises(ValueError, match="folder must be missing or empty"):
        unpack_images(tmp_path / "a.zip", tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_what_is_no_picture_is_listed_with_its_reason_and_what_is_hidden_is_passed_over(tmp_path: Path) -> None:
    data = packed(
        ("good.png", picture()),
        ("folder/", b""),
        (".hidden.png", picture()),
        ("__MACOSX/._good.png", b"AppleDouble"),
        ("inner.zip", packed(("a.png", picture()))),
        ("camera.heic", b"\0\0\0\x18ftypheic" + bytes(40)),
        ("notes.txt", b"hello"),
        ("cut.png", picture()[:-20]),
        ("huge.npy", b"\0" * (MAX_FILE_BYTES + 1)),
        ("\u202egnp.<b>\n", b""),
    )
    result = unpack_images(data, tmp_path / "pictures")
    assert result.count == 1
    reasons = dict(result.skipped)
    assert set(reasons) == {"inner.zip", "camera.heic", "notes.txt", "cut.png", "huge.npy", "gnp.<b>"}
    assert "got HEIC; export it as JPEG" in reasons["camera.heic"]
    assert "got ZIP" in reasons["inner.zip"] and "got something else" in reasons["notes.txt"]
    assert "damaged" in reasons["cut.png"] and "larger than 20 MB" in reasons["huge.npy"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_whose_reader_cannot_be_stopped_are_not_read(method: int, tmp_path: Path) -> None:
    data = packed(("a.png", picture()), method=method)
    is_refused(data, tmp_path, "got none: a.png: packed in a way that is not read")


@pytest.mark.parametrize(
    "name",
    [
        "../out.png",
        "a/../../out.png",
        "..",
        "/out.png",
        "//host/out.png",
        "C:/out.png",
        "c:out.png",
        "C:\\out.png",
        "\\\\host\\share\\out.png",
        "a\\..\\..\\out.png",
        "a.png\0.txt",
        "a" * 1001,
        "9" * 5000,
    ],
    ids=range(13),
)
def test_names_that_lead_out_cost_their_own_member_alone(name: str, tmp_path: Path) -> None:
    data = packed(("good.png", picture()), (member(name), picture()))
    result = unpack_images(data, tmp_path / "in" / "pictures")
    assert result.count == 1 and [reason[:23] for _, reason in result.skipped] == ["its name must stay with"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert json.loads((tmp_path / "in" / "pictures" / "names.json").read_text()) == {"000001.png": "good.png"}
    is_refused(packed((member(name), picture())), tmp_path, "got none: .*its name must stay within the ZIP")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_cost_their_own_member_alone(kind: int, tmp_path: Path) -> None:
    data = packed(("good.png", picture()), (member("a.png", kind | 0o777), b"/etc/passwd"))
    result = unpack_images(data, tmp_path / "pictures")
    assert result == Unpacked(1, [("a.png", "a link or device, which is not followed; pack the image itself")])


def test_names_of_windows_and_with_a_dot_are_read(tmp_path: Path) -> None:
    data = packed((member("a\\b.png"), picture(1)), (member("./c.png"), picture(2)))
    assert unpack_images(data, tmp_path / "pictures") == Unpacked(2, [])
    names = json.loads((tmp_path / "pictures" / "names.json").read_text())
    assert [*names.values()] == ["a/b.png", "c.png"]


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp1252", "utf-8"])
def test_names_without_a_word_on_their_encoding_are_what_their_bytes_most_likely_mean(
    encoding: str, tmp_path: Path
) -> None:
    content, name = picture(), "größe für Ä.png"
    raw = name.encode(encoding)
    data = listed(local_of(raw, content), [entry_of(raw, content, 0)])
    unpack_images(data, tmp_path / "pictures")
    assert json.loads((tmp_path / "pictures" / "names.json").read_text(encoding="utf-8")) == {"000001.png": name}


def test_stacks_in_a_zip_are_kept_whole_and_their_frames_counted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(20 * 4 * 5, dtype=np.uint16).reshape(20, 4, 5))
    result = unpack_images(packed(("train.npy", buffer.getvalue()), ("a.pgm", b"P5 2 1 255\n\0\xff")), tmp_path / "p")
    assert result == Unpacked(21, [])
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["000001.pgm", "000002.npy", "names.json"]


def test_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = packed(("a.png", picture()))
    is_refused(patched(data, ENTRY, 8, b"\1\0"), tmp_path, "must not be encrypted, and a.png is")


def test_empty_and_pictureless_archives_are_refused(tmp_path: Path) -> None:
    is_refused(packed(), tmp_path, "got none")
    is_refused(packed(("a.txt", b"hello")), tmp_path, "got none: a.txt: not a supported image")


@pytest.mark.parametrize("data", [b"", b"hello", picture(), packed(("a.png", picture()))[:-10]], ids=range(4))
def test_what_is_no_zip_is_refused(data: bytes, tmp_path: Path) -> None:
    is_refused(data, tmp_path, "not a ZIP")


def test_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    data = packed(*((f"{number}.npy", b"\0" * 15 * 1024**2) for number in range(8)))
    assert len(data) < 200_000
    is_refused(data, tmp_path, "must not unpack to more than 100 times its size")


def test_sizes_are_added_up_before_a_member_is_opened(tmp_path: Path) -> None:
    data = packed(("a.png", picture()), ("b.png", picture()))
    total = 2 * len(picture())
    assert unpack_images(data, tmp_path / "fits", max_inflated_bytes=total).count == 2
    with pytest.raises(ArchiveError, match="must unpack to at most 0 MB"):
        unpack_images(data, tmp_path / "no", max_inflated_bytes=total - 1)


def test_inflated_bytes_are_counted_over_all_members() -> None:
    with zipfile.ZipFile(io.BytesIO(packed(("a", b"x" * 600), ("b", b"x" * 600)))) as archive:
        inflate = _Inflater(archive, 1000)
        assert inflate(archive.infolist()[0]) == b"x" * 600
        with pytest.raises(ArchiveError, match="unpacks to more than a ZIP may"):
            inflate(archive.infolist()[1])


def test_member_that_says_it_is_small_yields_no_more_than_it_says(tmp_path: Path) -> None:
    """100 MB of zeros behind a header of 99 bytes."""
    data = packed(("good.png", picture()), ("a.npy", b"\0" * 100_000_000))
    start = data.rindex(ENTRY)
    data = data[: start + 24] + struct.pack("<I", 99) + data[start + 28 :]
    tracemalloc.start()
    result = unpack_images(data, tmp_path / "pictures")
    assert tracemalloc.get_traced_memory()[1] < 10 * 1024**2
    tracemalloc.stop()
    assert result == Unpacked(1, [("a.npy", "damaged within the archive; pack it again")])


@pytest.mark.parametrize("size", [0xFFFFFFFE, 0xFFFFFFFF])
def test_member_that_says_it_is_huge_is_refused(size: int, tmp_path: Path) -> None:
    data = packed(("a.png", picture()))
    is_refused(patched(data, ENTRY, 24, struct.pack("<I", size)), tmp_path, "more than 100 times")


def test_zip64_sizes_are_not_believed(tmp_path: Path) -> None:
    """Size 2^60 in the extra field of the list, where 32 bits do not hold it."""
    data = packed((member("a.png"), picture()))
    start, end = data.index(ENTRY), data.index(END)
    extra = struct.pack("<HHQ", 1, 8, 2**60)
    entry = bytearray(data[start:end] + extra)
    entry[24:28] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", len(extra))
    tail = bytearray(data[end:])
    tail[12:16] = struct.pack("<I", len(entry))
    is_refused(data[:start] + bytes(entry) + bytes(tail), tmp_path, "must unpack to at most 4096 MB")


def listed(content: bytes, entries: list[bytes], declared: int | None = None) -> bytes:
    """An archive of local headers and contents, and a list of members."""
    directory = b"".join(entries)
    count = min(len(entries) if declared is None else declared, 65535)
    return content + directory + END + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(content), 0)


def entry_of(name: bytes, content: bytes, offset: int, packed_size: int | None = None) -> bytes:
    size = len(content) if packed_size is None else packed_size
    checksum = zlib.crc32(content)
    fields = struct.pack("<HHHHHHIII", 20, 20, 0, 0, 0, 33, checksum, size, len(content))
    return ENTRY + fields + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name


def local_of(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content)
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 33, checksum, len(content), len(content), len(name), 0)
    return LOCAL + fields + name + content


def test_archive_by_hand_is_a_sound_one(tmp_path: Path) -> None:
    content = picture()
    data = listed(local_of(b"a.png", content), [entry_of(b"a.png", content, 0)])
    assert unpack_images(data, tmp_path / "pictures").count == 1


@pytest.mark.parametrize("shift", [0, 1, 40])
def test_members_that_overlap_are_refused(shift: int, tmp_path: Path) -> None:
    """One content listed twice, as in bombs that multiply a kernel; and one whose end reaches into the next."""
    content = picture()
    local = local_of(b"a.png", content)
    data = listed(local * 2, [entry_of(b"a.png", content, 0), entry_of(b"b.png", content, len(local) - shift - 1)])
    if shift == 0:
        data = listed(local, [entry_of(b"a.png", content, 0), entry_of(b"b.png", content, 0)])
    is_refused(data, tmp_path, "overlap")


def test_member_that_reaches_into_the_list_is_refused(tmp_path: Path) -> None:
    content = picture()
    local = local_of(b"a.png", content)
    is_refused(listed(local, [entry_of(b"a.png", content, 0, len(content) + 1)]), tmp_path, "overlap")


@pytest.mark.parametrize("declared", [1, None])
def test_too_many_members_are_refused_whatever_number_is_declared(declared: int | None, tmp_path: Path) -> None:
    content = picture()
    entries = [entry_of(b"a", content, 0)] * (40 * MAX_ENTRIES)
    is_refused(listed(local_of(b"a", content), entries, declared), tmp_path, "must hold at most 10000 files")


def test_long_list_is_not_read(tmp_path: Path) -> None:
    """The parser would read what the end says, all at once."""
    data = b"\0" * (20 * 1024**2)
    data += END + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(data), 0, 0)
    (tmp_path / "a.zip").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="list of members must be at most 16 MB"):
        unpack_images(tmp_path / "a.zip", tmp_path / "pictures")
    assert tracemalloc.get_traced_memory()[1] < 10 * 1024**2
    tracemalloc.stop()


SOUND = packed(("a.png", picture(1)), ("b/c.png", picture(2)), ("d.jpg", picture(3, "JPEG")))


def survives(data: bytes, folder: Path) -> None:
    """Pictures or an `ArchiveError`, nothing else; and all that came out are pictures."""
    try:
        unpack_images(data, folder)
    except ArchiveError:
        assert not list(folder.parent.iterdir())
        return
    for path in folder.iterdir():
        if path.name != "names.json":
            read_image(path.read_bytes())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A folder that is not there yet, in an empty one."""
    return lambda: tmp_path_factory.mktemp("fuzz") / "pictures"


@given(st.integers(0, len(SOUND) - 1))
def test_archive_cut_anywhere_does_no_harm(fresh: Callable[[], Path], length: int) -> None:
    survives(SOUND[:length], fresh())


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_archive_with_bytes_changed_does_no_harm(fresh: Callable[[], Path], changes: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for position, value in changes:
        data[position] = value
    survives(bytes(data), fresh())


def test_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        unpack_images(SOUND, tmp_path / "file" / "pictures")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_arrays_are_kept_to_the_bit(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4))
    unpack_images(packed(("x.npy", buffer.getvalue())), tmp_path / "pictures")
    assert (tmp_path / "pictures" / "000001.npy").read_bytes() == buffer.getvalue()

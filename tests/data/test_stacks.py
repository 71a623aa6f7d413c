"""Frames of files: found in order, counted from headers, read one at a time, scaled by one rule for a stack."""

import os
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tae.data import stacks
from tae.data.decode import ImageError, read_image
from tae.data.stacks import (
    base_folder,
    content_digest,
    count_frames,
    find_files,
    frames_are_alike,
    read_frame,
    scan_folder,
)
from tests.data.files import FILES, as_bytes, chained, npy, npy_header, pages, ramp, stack, tiff, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of broken TIFF tags


# ---- Finding


def test_folder_file_and_pattern_are_found_in_natural_order(tmp_path: Path) -> None:
    for name in ("a10.png", "a2.png", "sub/b1.jpg", "sub/deep/c1.npy", "note.txt"):
        write_to = tmp_path / name
        write_to.parent.mkdir(parents=True, exist_ok=True)
        write_to.write_bytes(b"")

    def names(data: str) -> list[str]:
        return [path.relative_to(base_folder(data)).as_posix() for path in find_files(data)]

    assert names(str(tmp_path)) == ["a2.png", "a10.png", "sub/b1.jpg", "sub/deep/c1.npy"]
    assert names(str(tmp_path / "sub" / "b1.jpg")) == ["b1.jpg"]
    assert names(f"{tmp_path}/*") == ["a2.png", "a10.png"]
    assert names(f"{tmp_path}/**/*.[jn]p*") == ["sub/b1.jpg", "sub/deep/c1.npy"]
    assert names(f"{tmp_path}/s*/*.jpg") == ["sub/b1.jpg"]
    assert base_folder(f"{tmp_path}/s*/*.jpg") == tmp_path


def test_home_and_names_with_brackets_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos [1]").mkdir()
    write(tmp_path / "photos [1]" / "a.png", b"")
    for data in ("~/photos [1]", "~/photos*", "~/p*/*.png", str(tmp_path / "photos [1]" / "a.png")):
        found = find_files(data) if data != "~/photos*" else find_files("~/photos*/*")
        assert [path.name for path in found] == ["a.png"], data


def test_what_is_not_there_is_said_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a folder nor a file; give a folder"):
        find_files(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no image fits the pattern .*files must end in .png"):
        find_files(f"{tmp_path}/*.xyz")


def test_folder_is_searched_in_natural_order_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    wanted = ["a1.PNG", "a2.png", "a10.png", "B1.jpg", "sub/x9.npy", "sub/x10.tif"]
    for name in [*reversed(wanted), ".hidden.png", ".dir/a.png", "sub/.x/b.png", "notes.txt", "png", "a.png.zip"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in scan_folder(tmp_path).files] == wanted


def test_19_folder_gives_regular_files_inside_it_only_and_counts_the_rest(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"")
    (inside / "a.png").write_bytes(b"")
    (inside / "link_in.png").symlink_to(inside / "a.png")
    (inside / "link_out.png").symlink_to(outside / "secret.png")
    (inside / "folder_out").symlink_to(outside)
    (inside / "nowhere.png").symlink_to(inside / "missing.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "around").symlink_to(inside)
    os.mkfifo(inside / "pipe.png")
    (inside / "photo.HEIC").write_bytes(b"")
    for name in ("a.txt", "b.txt", "names.json", ".hidden", "README"):
        (inside / name).write_bytes(b"")
    found = scan_folder(inside)
    assert [path.name for path in found.files] == ["a.png", "link_in.png"]
    assert dict(found.passed_over) == {
        ".txt": 2,
        ".heic": 1,
        "files without an ending": 1,
        "links that lead out of the folder": 2,
        "links that lead nowhere": 2,
        "pipes and devices": 1,
    }
    assert "2 .txt" in found.told and "1 .heic (HEIC: export it as JPEG or PNG" in found.told
    assert not scan_folder(tmp_path / "absent").files


def test_natural_order_is_the_same_whatever_the_folder_lists_first(tmp_path: Path) -> None:
    names = ["a1.png", "a01.png", "A1.png", "a1b.png", "1.png", "x.png"]
    for order in (names, names[::-1]):
        folder = tmp_path / str(order == names)
        folder.mkdir()
        for name in order:
            (folder / name).write_bytes(b"")
    first, second = (scan_folder(tmp_path / str(flag)).files for flag in (True, False))
    assert [path.name for path in first] == [path.name for path in second]


# ---- Images and arrays


def test_picture_file_is_one_frame_as_the_app_reads_it(tmp_path: Path) -> None:
    for label in FILES:
        path = write(tmp_path / "file", FILES[label])
        assert count_frames(path) == 1
        assert np.array_equal(read_frame(path).pixels, read_image(FILES[label]).pixels)


def test_arrays_of_one_image_are_one_frame(tmp_path: Path) -> None:
    for shape in [(24, 32), (1, 24, 32), (24, 32, 1), (24, 32, 3), (24, 32, 4), (1, 24, 3)]:
        data = npy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        path = write(tmp_path / "one.npy", data)
        assert count_frames(path) == 1 and not frames_are_alike(path)
        assert np.array_equal(read_frame(path).pixels, read_image(data).pixels)


def test_grey_stacks_hold_their_frames(tmp_path: Path) -> None:
    for dtype in ["u1", "<u2", ">u2", "?"]:
        values = (
            stack() > 128 if dtype == "?" else (stack().astype(int) * (257 if dtype[-1] == "2" else 1)).astype(dtype)
        )
        for shape in ((5, 24, 32), (5, 1, 24, 32), (5, 24, 32, 1)):
            path = write(tmp_path / f"{dtype} {shape}.npy", npy(values.reshape(shape)))
            assert count_frames(path) == 5 and frames_are_alike(path)
            for frame in range(5):
                assert np.array_equal(read_frame(path, frame).pixels, read_image(npy(values[frame])).pixels)


def test_colour_stacks_are_read_as_colours(tmp_path: Path) -> None:
    for channels in [3, 4]:
        values = np.random.default_rng(0).integers(0, 256, (3, 24, 32, channels), np.uint8)
        path = write(tmp_path / f"{channels}.npy", npy(values))
        assert count_frames(path) == 3
        assert np.array_equal(read_frame(path, 2).pixels, read_image(npy(values[2])).pixels)


@pytest.mark.parametrize(
    ("factor", "top"), [(1 / 300, 1), (1, 255), (3, None)], ids=["in [0, 1]", "in [0, 255]", "beyond"]
)
@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_frames_of_a_float_stack_are_scaled_by_one_rule(
    factor: float, top: int | None, kind: str, tmp_path: Path
) -> None:
    values = stack().astype(np.float32) * factor
    values[2] /= 300  # a dark frame: alone it would pass for one in [0, 1], or be stretched
    path = tmp_path / f"stack.{kind}"
    if kind == "npy":
        np.save(path, values)
    else:
        path.write_bytes(chained(*(tiff(frame, sample_format=3) for frame in values)))
    low, high = (0, top) if top else (values.min(), values.max())
    assert count_frames(path) == 5
    for frame in range(5):
        expected = (values[frame] - low) / (high - low)
        assert np.allclose(read_frame(path, frame).pixels, expected, atol=1e-6)


def test_rule_follows_a_file_that_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.full((5, 4, 5), 0.5))
    assert read_frame(path, 0).pixels[0, 0] == 0.5
    np.save(path, np.full((6, 4, 5), 51.0))
    assert read_frame(path, 3).pixels[0, 0] == np.float32(0.2)


def test_nan_anywhere_in_a_stack_is_refused(tmp_path: Path) -> None:
    values = stack().astype(np.float64)
    values[4, 3, 2] = np.nan
    np.save(tmp_path / "stack.npy", values)
    with pytest.raises(ImageError, match="NaN"):
        read_frame(tmp_path / "stack.npy", 0)


def test_large_stack_is_read_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    frame = ramp(500, 500)
    with path.open("wb") as file:
        file.write(npy_header("'|u1'", "(400, 500, 500)"))
        for number in range(400):
            file.write(((frame.astype(int) + number) % 256).astype(np.uint8).tobytes())
    tracemalloc.start()
    try:
        assert count_frames(path) == 400
        assert np.array_equal(as_bytes(path, 399), (frame.astype(int) + 399) % 256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 99_000_000 and peak < 10_000_000


def test_broken_and_lying_files_are_refused_without_allocating(tmp_path: Path) -> None:
    for data, said in [
        (npy_header("'<f8'", "(1000, 5000, 5000)"), "cut short: its header speaks of 20000"),
        (npy(stack())[:-1], "cut short"),
        (npy_header("'|u1'", "(9, 99999, 99999)"), "at most 25 million pixels"),
        (npy_header("'|u1'", "(0, 24, 32)"), "at least one frame"),
        (npy_header("'|u1'", "(5, 0, 32)"), "at least one pixel"),
        (npy_header("'|O'", "(5, 24, 32)"), "must hold real numbers"),
        (npy_header("'<c16'", "(5, 24, 32)"), "must hold real numbers"),
        (npy(np.zeros((5, 2, 24, 32), np.uint8)), r"a stack must be \(T, H, W\).*got \(5, 2, 24, 32\); reshape it"),
        (npy(np.zeros((2, 1, 1, 24, 32), np.uint8)), "a stack must be"),
        (npy(np.asfortranarray(stack())), "numpy.ascontiguousarray"),
        (
            npy(np.zeros((5, 24, 32, 4), np.float32)),
            "a stack with opacity must be of 8 or 16 unsigned bits, got float32",
        ),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}    \n", "damaged, cut short"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "damaged, cut short"),
        (b"II*\0\x08\0\0\0", "damaged, cut short"),
        (b"", "the file is empty"),
    ]:
        path = write(tmp_path / "file.npy", data)
        tracemalloc.start()
        try:
            with pytest.raises(ImageError, match=said):
                read_frame(path)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


def test_frame_out_of_range_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "stack.npy", npy(stack()))
    for frame in (-1, 5):
        with pytest.raises(ValueError, match=f"frame must be from 0 to 4, got {frame}"):
            read_frame(path, frame)


def test_stack_cut_short_between_two_looks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "stack.npy", npy(stack()))
    monkeypatch.setattr(stacks, "_version", lambda _: (path.stat().st_size if not cut else whole, 0))
    cut, whole = False, path.stat().st_size
    assert read_frame(path, 4).pixels.shape == (24, 32)
    os.truncate(path, whole - 500)
    cut = True
    with pytest.raises(ImageError, match="cut short while it was being read"):
        read_frame(path, 4)


def test_files_that_cannot_be_opened_are_refused_without_their_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, said in [(tmp_path / "gone.png", "No such file"), (tmp_path / "pipe.png", "only regular files are read")]:
        for call in (read_frame, count_frames, content_digest):
            with pytest.raises(ImageError, match=said) as caught:
                call(path)
            assert str(tmp_path) not in str(caught.value)


def test_pictures_over_the_limit_are_refused_unread_and_stacks_are_not(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.write(FILES["png"])
        file.truncate(10**11)
    with pytest.raises(ImageError, match="must be at most 20 MB"):
        read_frame(path)
    with path.open("wb") as file:
        file.write(npy_header("'|u1'", "(10000, 1000, 1000)"))
        file.truncate(10**10 + 200)
    assert count_frames(path) == 10_000 and read_frame(path, 9999).pixels.shape == (1000, 1000)
    with path.open("r+b") as file:
        file.truncate(10**11)
    with pytest.raises(ImageError, match="at most 64 GiB, got 93.1 GiB"):
        count_frames(path)


ENTRY_FILES = {
    "npy": npy(stack(4, 6, 8)),
    "floats": npy(stack(4, 6, 8).astype(np.float32)),
    "tif": pages([Image.fromarray(frame) for frame in stack(3, 6, 8)]),
    "big": pages([Image.fromarray(frame) for frame in stack(3, 6, 8)], big_tiff=True, compression="tiff_lzw"),
}


@given(st.sampled_from(sorted(ENTRY_FILES)), st.floats(0, 1), st.integers(0, 30), st.binary(max_size=30))
@settings(max_examples=120)
def test_edited_stacks_give_frames_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, label: str, place: float, remove: int, insert: bytes
) -> None:
    data = ENTRY_FILES[label]
    start = int(place * len(data))
    path = write(tmp_path_factory.mktemp("edited") / "file", data[:start] + insert + data[start + remove :])
    try:
        for frame in range(min(count_frames(path), 5)):
            pixels = read_frame(path, frame).pixels
            assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1
    except ImageError as error:
        assert str(error) and not re.search("/tmp|object at|<class", str(error))


# ---- Digests


def test_digest_tells_contents_apart_and_is_blind_to_names(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", FILES["png"]), write(tmp_path / "b", FILES["png"])
    assert content_digest(a) == content_digest(b) != content_digest(write(b, FILES["png"] + b"\0"))


def test_digest_of_a_large_file_sees_its_size_and_ends(tmp_path: Path) -> None:
    def digest(size: int, first: bytes = b"a", last: bytes = b"z") -> bytes:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.write(first)
            file.seek(size - 1)
            file.write(last)
        return content_digest(path)

    size = 30 * 1024**2
    assert len({digest(size), digest(size + 1), digest(size, first=b"b"), digest(size, last=b"y")}) == 4


def test_a_listing_that_breaks_off_is_counted_and_what_came_before_stays(tmp_path: Path, monkeypatch) -> None:
    """As of a disk in the network that goes away."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    plain = os.scandir

    @contextmanager
    def torn(path: Path) -> Iterator[Iterator[os.DirEntry]]:
        def entries() -> Iterator[os.DirEntry]:
            with plain(path) as whole:
                yield next(whole)
            raise OSError("gone")

        yield entries()

    monkeypatch.setattr("os.scandir", torn)
    found = scan_folder(tmp_path)
    assert len(found.names) == 1 and found.passed_over == {"folders that cannot be listed": 1}

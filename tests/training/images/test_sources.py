"""Sources: every file read once or named, a split that stays, epochs and augmentation by number alone, changes noticed."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tae.data.augment import augment
from tae.data.decode import ImageError
from tae.data.demo import DemoSource, compose_square
from tae.data.drops.frame import draw_frame
from tae.data.encode import to_uint8
from tae.data.fit import fit_image
from tae.data.stacks import read_frame
from tae.training.config import TrainConfig
from tae.training.images.index import FileIndex
from tae.training.images.sources import FileSource, open_source

STILL = {"flip": 0.0, "shift": 0.0, "zoom": 0.0, "contrast": 0.0}


def fill(folder: Path, count: int, start: int = 0) -> None:
    for index in range(start, start + count):
        Image.fromarray(compose_square("train", index, side=40)).save(folder / f"{index:03}.png")


def source_of(data: Path | str, progress: Any = None, known: FileIndex | None = None, **fields: Any) -> FileSource:
    """Not augmented unless asked to be."""
    config = TrainConfig(data=str(data), **{"input_size": (40, 40), **STILL, **fields})
    return FileSource(config, progress, known)


def names(source: FileSource, draws: list[int]) -> list[str]:
    return [source.describe(draw) for draw in draws]


def train_names(source: FileSource) -> set[str]:
    assert source.num_images is not None
    return set(names(source, list(range(source.num_images))))


def stack(count: int) -> np.ndarray:
    return np.stack([compose_square("train", index, side=40) for index in range(count)])


# ---- What is read


def test_data_names_demo_folder_file_or_pattern(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    np.save(tmp_path / "film.npy", stack(20))
    demo = open_source(TrainConfig())
    assert isinstance(demo, DemoSource) and demo.num_images is None and demo.skipped == []
    folder = source_of(tmp_path)
    assert (folder.name, folder.data) == (tmp_path.name, f"folder {tmp_path.name}")
    film = source_of(tmp_path / "film.npy")
    assert (film.name, film.data) == ("film", "file film.npy")
    pattern = source_of(f"{tmp_path}/*.png")
    assert (pattern.name, pattern.data) == (tmp_path.name, f"files *.png of folder {tmp_path.name}")
    assert train_names(pattern) | set(pattern.held_out_names) == {f"{index:03}.png" for index in range(4)}
    with pytest.raises(FileNotFoundError):
        source_of(tmp_path / "nowhere")


def deep(folder: Path, tops: Sequence[float], dtype: str = "u2") -> None:
    shades = np.linspace(0, 1, 40 * 40).reshape(40, 40)
    for number, top in enumerate(tops):
        np.save(folder / f"{number}.npy", (shades * top).astype(dtype))


def test_all_files_decide_together_which_number_is_white_before_the_first_step(tmp_path: Path) -> None:
    """Alone, each float file up to 1 would be white where those beyond are black, and the reverse."""
    for dtype, tops, white in (("f4", [1, 2, 4, 3], 4), ("u2", [900, 4000, 200, 100], 4095)):
        folder = tmp_path / dtype
        folder.mkdir()
        deep(folder, tops, dtype)
        source = source_of(folder)
        seen = {name: int(image.max()) for name, image in _images(source).items()}
        assert seen == {f"{number}.npy": round(255 * top / white) for number, top in enumerate(tops)}
        assert [kind for kind, _ in source.white.decided] == ["float" if dtype == "f4" else "uint16"]
        assert any("for all together" in remark for remark in source.remarks)
        again = FileSource(source._config, index=FileIndex.from_bytes(source.index.to_bytes()))
        assert again.white == source.white  # what is sent to other processes, and kept for a resumed run
        known = source_of(folder, known=source.index)
        assert known.white == source.white and known.index.ranges.tolist() == source.index.ranges.tolist()
    stretched = source_of(tmp_path / "u2", white="0..8190")
    assert max(int(image.max()) for image in _images(stretched).values()) == round(255 * 4000 / 8190)


def _images(source: FileSource) -> dict[str, np.ndarray]:
    assert source.num_images is not None
    shown = {source.describe(draw): source.image(draw) for draw in range(source.num_images)}
    return shown | dict(zip(source.held_out_names, source.held_out(99), strict=True))


def test_images_that_are_almost_all_one_grey_are_told_before_the_first_step(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    assert source_of(tmp_path).remarks == []
    dark = np.random.default_rng(0).integers(0, 9, (40, 40), np.uint8)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    hot = np.full((40, 40), 300, np.uint16)
    hot[3, 3] = 65535  # one hot pixel: the type's range is used, and all else is black
    Image.fromarray(hot).save(tmp_path / "hot.png")
    (remark,) = [one for one in source_of(tmp_path).remarks if "almost all" in one]
    assert remark.startswith(
        "2 of 8 files are almost all one grey, such as dark.png, whose greys go from 0 to 8 of 255"
    )
    assert not [one for one in source_of(tmp_path, white="0..10").remarks if "such as dark" in one]


def test_19_endings_that_a_folder_passes_over_are_named_with_counts(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    for name in ("a.heic", "b.heic", "c.dcm", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    (remark,) = source_of(tmp_path).remarks
    assert remark.startswith("passed over: 2 .heic (HEIC: export it as JPEG or PNG") and "1 .dcm (DICOM: " in remark


def test_folder_is_read_with_its_subfolders_and_in_every_format(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    inner = tmp_path / "more" / "deeper"
    inner.mkdir(parents=True)
    image = Image.fromarray(compose_square("train", 50, side=40))
    for suffix in ("jpg", "webp", "bmp", "gif", "tiff"):
        image.save(inner / f"one.{suffix}")
    np.save(inner / "array.npy", np.asarray(image))
    source = source_of(tmp_path)
    assert len(train_names(source)) + len(source.held_out_names) == source.num_files == 9
    images = [source.image(draw) for draw in range(12)]
    assert all(one.shape == (40, 40) and one.dtype == np.uint8 for one in images)


def test_each_frame_of_a_stack_is_an_image(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    np.save(tmp_path / "film.npy", stack(7))
    images = [Image.fromarray(frame) for frame in stack(5)]
    images[0].save(tmp_path / "pages.tif", save_all=True, append_images=images[1:])
    source = source_of(tmp_path)
    everything = train_names(source) | set(source.held_out_names)
    assert {f"film.npy, frame {frame}" for frame in range(7)} <= everything
    assert {f"pages.tif, frame {frame}" for frame in range(5)} <= everything
    assert len(everything) == 15
    for draw in range(source.num_images or 0):
        name = source.describe(draw)
        if "frame" in name:
            assert np.array_equal(source.image(draw), stack(7)[int(name.split()[-1])])


def test_unreadable_files_are_named_with_a_reason_and_too_many_stop_it(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "note.txt").write_text("no picture, and nobody said so")
    seen: list[tuple[int, int]] = []
    source = source_of(tmp_path, progress=lambda read, total: seen.append((read, total)))
    assert [name for name, _ in source.skipped] == ["broken.png"] and "damaged" in source.skipped[0][1]
    assert seen == [(read, 21) for read in range(1, 22)]
    assert "broken.png" not in train_names(source) | set(source.held_out_names)
    for number in range(6):
        (tmp_path / f"empty{number}.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match="at most 10% unreadable files, got 20 readable images and 7 unreadable of 27"
    ) as e:
        source_of(tmp_path)
    assert "broken.png: " in str(e.value) and "empty3.png: the file is empty" in str(e.value)
    assert "empty4" not in str(e.value)  # the first five
    assert len(source_of(tmp_path, max_unreadable=0.3).skipped) == 7


def test_a_broken_page_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    images = [Image.fromarray(frame) for frame in stack(4)]
    images[0].save(tmp_path / "pages.tif", save_all=True, append_images=images[1:], compression="tiff_adobe_deflate")
    data = bytearray((tmp_path / "pages.tif").read_bytes())
    third = data.index(b"\x78", data.index(b"\x78", data.index(b"\x78") + 1) + 1)
    data[third : third + 40] = bytes(40)
    (tmp_path / "pages.tif").write_bytes(data)
    ((name, reason),) = source_of(tmp_path).skipped
    assert name == "pages.tif" and reason.startswith("frame ")


def test_names_that_would_play_with_a_terminal_are_shown_plain(tmp_path: Path) -> None:
    for name in (b"a\x1b[2Jb.png", b"bytes\xff.png", "\u202egnp.png".encode(), b"line\nbreak.png"):
        Image.fromarray(compose_square("train", 0, side=40)).save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    (tmp_path / "broken\x1b.png").write_bytes(b"")
    source = source_of(tmp_path, max_unreadable=0.5)
    shown = [*train_names(source), *source.held_out_names, source.skipped[0][0]]
    assert sorted(shown) == ["a[2Jb.png", "broken.png", "bytes.png", "gnp.png", "linebreak.png"]


def test_45_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two readable images .* got 0 readable"):
        source_of(tmp_path)
    fill(tmp_path, 1)
    with pytest.raises(ValueError, match="got 1 readable"):
        source_of(tmp_path)
    fill(tmp_path, 2)
    source = source_of(tmp_path)
    assert source.num_images == len(source.held_out_names) == 1


def test_images_are_fitted_whole_and_padded_like_their_border(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("L", (80, 40), 100).save(tmp_path / f"{name}.png")
    image = source_of(tmp_path).image(0)
    assert image.shape == (40, 40) and (image == 100).all()
    assert source_of(tmp_path, input_size=(20, None)).image(0).shape == (20, 40)
    with pytest.raises(ValueError, match="becomes 40 wide .* at most 30"):
        source_of(tmp_path, input_size=(20, None), max_width=30)


def test_frames_of_drops_are_cut_out_where_that_is_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(draw_frame("test", number).strip()[22:]).save(tmp_path / f"{number}.png")
    padded, cut = (source_of(tmp_path, input_size=(201, 201), fit=fit) for fit in ("pad", "drop"))
    frames = [read_frame(tmp_path / f"{number}.png", 0).pixels for number in range(3)]
    for fit, source in (("pad", padded), ("drop", cut)):
        expected = {to_uint8(fit_image(one, (201, 201), fit).pixels).tobytes() for one in frames}
        assert {source.image(number).tobytes() for number in range(2)} < expected  # one is held out
    assert (cut.image(0) < 128).mean() > 5 * (padded.image(0) < 128).mean()


# ---- The split


def test_folder_is_split_by_name_alone(tmp_path: Path) -> None:
    fill(tmp_path, 120)
    source = source_of(tmp_path)
    held_out = set(source.held_out_names)
    assert not held_out & train_names(source) and len(held_out | train_names(source)) == 120
    assert 8 <= len(held_out) <= 25
    fill(tmp_path, 40, start=120)
    assert held_out <= set(source_of(tmp_path, seed=7).held_out_names)
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    for path in [*tmp_path.glob("0??.png"), *tmp_path.glob("1[01]?.png")]:
        moved.mkdir(exist_ok=True)
        path.rename(moved / path.name)
    assert set(source_of(moved).held_out_names) == held_out


def test_last_tenth_of_a_single_stack_is_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", stack(35))
    for data in (tmp_path, tmp_path / "film.npy"):
        source = source_of(data)
        assert source.held_out_names == [f"film.npy, frame {frame}" for frame in (32, 33, 34)]
        assert source.num_images == 32
    np.save(tmp_path / "film.npy", stack(2))
    assert source_of(tmp_path).num_images == 1


def test_held_out_images_are_whole_and_spread_over_the_files(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", stack(200))
    source = source_of(tmp_path, flip=1.0, contrast=0.5)
    picked = source.held_out(3)
    for image, frame in zip(picked, (180, 190, 199), strict=True):  # 180 ... 199: first, middle (9.5 to even), last
        assert np.array_equal(image, stack(200)[frame])
    assert len(source.held_out(500)) == 20 and len(source.test(5)) == 5


# ---- Order


def test_each_epoch_shows_every_training_file_once_in_a_new_order(tmp_path: Path) -> None:
    fill(tmp_path, 12)
    source = source_of(tmp_path)
    count = source.num_images or 0
    first, second = (names(source, source.draws(step, count)) for step in (0, 1))
    assert set(first) == set(second) == train_names(source) and len(first) == count
    assert first != second
    assert names(source_of(tmp_path), source.draws(1, count)) == second
    assert names(source_of(tmp_path, seed=1), source.draws(0, count)) != first


@pytest.mark.parametrize("batch_size", [1, 3, 5, 16, 40])
def test_bucketed_epochs_show_every_file_once_however_large_the_batch(batch_size: int, tmp_path: Path) -> None:
    frames = DemoSource((20, None))
    for index in range(17):
        Image.fromarray(frames.compose("train", index)).save(tmp_path / f"{index}.png")
    source = source_of(tmp_path, input_size=(20, None))
    count = source.num_images or 0
    window = max(1, count // batch_size)  # of steps
    draws = [draw for step in range(5 * window) for draw in source.draws(step, batch_size)]
    epochs = len(draws) // count
    shown = np.array([draw for draw in draws if draw < epochs * count])
    assert epochs >= 1 and (np.bincount(shown // count) == count).all()
    assert {source.describe(draw) for draw in shown if draw < count} == train_names(source)
    assert all(source.image(draw).shape[1] == source._width_of(source._item(draw)) for draw in draws[:60])


def test_demo_images_come_in_batches_of_like_widths() -> None:
    source = open_source(TrainConfig(input_size=(152, None)))
    spreads = []
    for step in range(8):
        widths = [source.image(draw).shape[1] for draw in source.draws(step, 8)]
        spreads.append(max(widths) / min(widths))
    assert np.median(spreads) < 1.3


def test_augmentation_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    plain = source_of(tmp_path)
    shares: dict[str, Any] = {"flip": 0.5, "shift": 0.1, "zoom": 0.2, "contrast": 0.3}
    source = source_of(tmp_path, **shares)
    draws = list(range(20))
    images = [source.image(draw) for draw in draws]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(source_of(tmp_path, **shares).image, draws[::-1]))[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    for draw in draws:
        rng = np.random.default_rng([0, draw, 2])
        expected = augment(plain.image(draw), rng, flip=0.5, shift=0.1, zoom=0.2, contrast=0.3)
        assert np.array_equal(images[draw], expected)
    assert len({image.tobytes() for image in images}) == 20  # in each epoch another


# ---- Identity and change


def test_fingerprint_follows_names_contents_and_order_only(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    first = source_of(tmp_path).fingerprint
    assert len(first) == 64
    assert source_of(tmp_path, seed=3, input_size=(16, 16), flip=1.0).fingerprint == first
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    (tmp_path / "note.txt").write_text("no picture")
    assert source_of(tmp_path).fingerprint == first
    (tmp_path / "000.png").rename(tmp_path / "0000.png")
    renamed = source_of(tmp_path).fingerprint
    Image.new("L", (40, 40), 9).save(tmp_path / "001.png")
    changed = source_of(tmp_path).fingerprint
    (tmp_path / "001.png").unlink()
    assert len({first, renamed, changed, source_of(tmp_path).fingerprint}) == 4


def test_demo_fingerprint_follows_seed_and_size() -> None:
    sources = [DemoSource((32, 32)), DemoSource((32, 32), seed=1), DemoSource((32, 64)), DemoSource((32, None))]
    assert len({source.fingerprint for source in sources}) == 4
    assert DemoSource((32, 32)).fingerprint == sources[0].fingerprint


@pytest.mark.parametrize("fault", ["gone", "changed", "cut"])
def test_62_file_that_changes_while_training_is_named(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 6)
    monkeypatch.setattr(FileSource, "CACHE_BYTES", 0)
    source = source_of(tmp_path)
    name = source.describe(3)
    path = tmp_path / name
    if fault == "gone":
        path.unlink()
    elif fault == "changed":
        Image.new("L", (40, 40)).save(path)
    else:
        os.truncate(path, 60)
    said = "No such file" if fault == "gone" else "has changed since the run began; put it back, or start a new run"
    with pytest.raises(ImageError, match=f"^{name}: .*{said}") as caught:
        source.image(3)
    assert str(tmp_path) not in str(caught.value)


# ---- Memory


def test_what_does_not_fit_into_the_cache_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 6)
    kept = source_of(tmp_path)
    assert len(kept._cache) == 6
    monkeypatch.setattr(FileSource, "CACHE_BYTES", 3000)
    small = source_of(tmp_path)
    assert len(small._cache) == 1
    assert all(np.array_equal(kept.image(draw), small.image(draw)) for draw in range(10))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert len(source_of(tmp_path)._cache) == 0


def test_cached_images_never_change(tmp_path: Path) -> None:
    fill(tmp_path, 4)
    source = source_of(tmp_path, flip=1.0, shift=0.3, zoom=0.3, contrast=0.5)
    before = {key: image.copy() for key, image in source._cache.items()}
    for draw in range(12):
        source.image(draw)
    assert all(np.array_equal(before[key], image) for key, image in source._cache.items())


def test_no_file_is_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 30)
    np.save(tmp_path / "film.npy", stack(9))
    monkeypatch.setattr(FileSource, "CACHE_BYTES", 0)
    before = set(os.listdir("/proc/self/fd"))
    source = source_of(tmp_path)
    for draw in range(60):
        source.image(draw)
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # the listing's own
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]

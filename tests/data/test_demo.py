"""Demo images are functions of (seed, split, index); batches are padded and say how far."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tae.data import demo
from tae.data.batches import to_batch
from tae.data.demo import (
    DemoSource,
    class_names,
    compose_centred,
    compose_frame,
    compose_square,
    load_garments,
)

SAMPLES = Path(demo.__file__).parent / "samples"


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is clearly not white."""
    rows, columns = (np.nonzero((image < 200).any(axis=axis))[0] for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_photographs_are_the_21_000_that_the_readme_names_in_disjoint_splits() -> None:
    splits = [load_garments(split) for split in demo.SPLITS]
    assert sum(len(split.ink) for split in splits) == 21_000
    assert all(split.ink.shape == (len(split.labels), 28, 28) and split.ink.dtype == np.uint8 for split in splits)
    # Rows of the upstream train file and of its test file are counted apart: train and val are from the first.
    train, val, test = (set(split.source_index.tolist()) for split in splits)
    assert not train & val
    assert [len(rows) for rows in (train, val, test)] == [len(split.ink) for split in splits]
    hashes = [{hashlib.sha256(image).digest() for image in split.ink} for split in splits]
    assert not hashes[0] & hashes[1] and not hashes[0] & hashes[2] and not hashes[1] & hashes[2]
    assert len(class_names()) == 10 and set(splits[0].labels.tolist()) == set(range(10))


def test_photographs_come_with_their_licence_and_provenance() -> None:
    assert (
        "MIT" in (SAMPLES / "LICENSE-fashion-mnist").read_text()
        and "Zalando" in (SAMPLES / "LICENSE-fashion-mnist").read_text()
    )
    readme = (SAMPLES / "README.md").read_text()
    assert "dataset-fashion-mnist" in readme and "0.0~git20200523.55506a9-1" in readme and "source_index" in readme


def test_composition_depends_on_seed_split_and_index_alone() -> None:
    compose = compose_square
    first = compose("train", 5, 1)
    compose("val", 9)
    assert np.array_equal(compose("train", 5, 1), first)
    for other in (compose("train", 6, 1), compose("train", 5, 2), compose("val", 5, 1)):
        assert other.shape != first.shape or not np.array_equal(other, first)


def test_compositions_stay_the_same_between_versions() -> None:
    # Figures in the README depend on these pictures. Pillow's resampling may differ in the last bit between machines.
    assert compose_square("test", 3).sum(dtype=int) == pytest.approx(9_198_436, rel=1e-4)
    assert compose_centred("test", 3).sum(dtype=int) == pytest.approx(8_043_032, rel=1e-4)


@given(st.integers(0, 10**9), st.integers(0, 2**31))
@settings(max_examples=40)
def test_squares_hold_garments_of_the_promised_scale_on_white(index: int, seed: int) -> None:
    image = compose_square("train", index, seed)
    assert image.shape == (201, 201) and image.dtype == np.uint8
    assert image.max() == 255
    top, bottom, left, right = box(image)
    assert max(bottom - top, right - left) <= 201
    assert (image < 200).mean() < 0.95


def test_squares_vary_in_scale_place_number_and_direction() -> None:
    boxes = np.array([box(compose_square("train", index)) for index in range(300)])
    sizes = np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])
    assert sizes.min() < 110 and sizes.max() > 190
    middles = (boxes[:, 2] + boxes[:, 3]) / 2
    assert middles.std() > 8


def test_a_fifth_of_the_squares_hold_two_garments_and_half_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[tuple[int, np.ndarray]] = []
    lay = demo._lay

    def watch(ink: np.ndarray, garment: np.ndarray, top: int, left: int) -> None:
        laid.append((number, garment))
        lay(ink, garment, top, left)

    monkeypatch.setattr(demo, "_lay", watch)
    for number in range(400):
        compose_square("test", number)
    counts = np.bincount([number for number, _ in laid])
    assert set(counts.tolist()) == {1, 2} and 0.13 < (counts == 2).mean() < 0.27
    sides = np.array([len(garment) for _, garment in laid])
    assert sides.min() >= round(0.45 * 201) and sides.max() <= 201
    assert all(len(garment) <= round(0.7 * 201) for number, garment in laid if counts[number] == 2)


def test_kinds_of_squares_are_the_labels_of_what_is_laid(monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[np.ndarray] = []
    monkeypatch.setattr(demo, "_enlarge", lambda garment, size: laid.append(garment) or np.zeros((1, 1), np.uint8))
    garments = load_garments("test")
    source = DemoSource((201, 201))
    for index in range(40):
        laid.clear()
        compose_square("test", index)
        matches = [
            ((garments.ink == one).all(axis=(1, 2)) | (garments.ink == one[:, ::-1]).all(axis=(1, 2))).nonzero()[0]
            for one in laid
        ]
        names = [demo.class_names()[garments.labels[found[0]]] for found in matches]
        assert demo.frame_names("test", index) == names
        assert source.kind("test", index) == (names[0] if len(names) == 1 else "two garments")


def test_centred_garment_fills_nine_tenths_in_the_middle() -> None:
    image = compose_centred("test", 0)
    assert image.shape == (201, 201)
    edge = (201 - 181) // 2
    assert (image[:edge] == 255).all() and (image[:, :edge] == 255).all()
    assert (image[edge + 181 :] == 255).all() and (image[:, edge + 181 :] == 255).all()
    inner = np.asarray(Image.fromarray(255 - load_garments("test").ink[0]).resize((181, 181), Image.Resampling.LANCZOS))
    difference = image[edge : edge + 181, edge : edge + 181].astype(int) - inner
    assert np.abs(difference).max() <= 1


def test_unknown_split_is_refused() -> None:
    for call in (lambda: load_garments("all"), lambda: compose_square("all", 0)):
        with pytest.raises(ValueError, match="unknown split 'all'; choose from: train, val, test"):
            call()


def test_demo_source_composes_for_the_size() -> None:
    for size, shape in [((201, 201), (201, 201)), ((152, 640), (152, 640))]:
        source = DemoSource(size)
        assert [image.shape for image in source.batch(0, 3)] == [shape] * 3
        assert np.array_equal(source.batch(2, 3)[1], source.compose("train", 7))
        assert np.array_equal(source.held_out(2)[1], source.compose("val", 1))
        assert np.array_equal(source.test(2)[1], source.compose("test", 1))


def test_demo_source_of_any_width_stays_below_the_widest() -> None:
    source = DemoSource((152, None), max_width=300)
    assert {image.shape[0] for image in source.batch(0, 8)} == {152}
    widths = {image.shape[1] for image in source.held_out(40)}
    assert min(widths) >= 152 and max(widths) <= 300 and len(widths) > 20


def test_a_frame_of_any_size_holds_whole_garments() -> None:
    for size in [(152, 640), (60, 20), (1, 5)]:
        frame = compose_frame("test", 3, size=size)
        assert frame.shape == size and frame.dtype == np.uint8
    assert np.array_equal(compose_frame("test", 3), compose_square("test", 3))
    top, bottom, left, right = box(compose_frame("test", 3, size=(152, 640)))
    assert max(bottom - top, right - left) <= 152 and (right - left) > 20


def test_batch_pads_on_the_right_and_says_how_far() -> None:
    narrow, wide = np.full((2, 3), 51, np.uint8), np.full((2, 5), 255, np.uint8)
    batch, widths = to_batch([narrow, wide])
    assert widths is not None and widths.tolist() == [3, 5]
    assert batch.shape == (2, 1, 2, 5) and batch.dtype == torch.float32
    assert torch.equal(batch[0, 0, :, :3], torch.full((2, 3), 0.2)) and not batch[0, 0, :, 3:].any()
    assert to_batch([wide, wide])[1] is None

"""The gallery: the same pictures every time, from the test split, of the promised size, and honest about themselves."""

import hashlib
import re

import numpy as np
import pytest

from tae.data.demo import DemoSource, compose_centred, compose_square, load_garments
from tae.data.fit import FIT_MODES, fit_image
from tae.data.gallery import DROPS, GARMENTS, OTHERS, Sample, gallery

SQUARE, WIDE, ANY_WIDTH = (201, 201), (152, 1280), (152, None)
SIZES = {
    "square": SQUARE,
    "small square": (64, 64),
    "large square": (512, 512),
    "wide": WIDE,
    "any width": ANY_WIDTH,
    "low, any width": (64, None),
    "odd": (96, 250),
    "high": (300, 100),
}
# Each was looked at: no name or emblem of a brand can be read on it. Whoever changes the gallery looks at the new
# pictures, then notes them here: the first 16 digits of the SHA-256 of their pixels.
LOOKED_AT = {
    "square-39": "b95cb920bc5640f3",
    "garment-84": "72f6986297450fc1",
    "garment-77": "0b75f74ae276a182",
    "garment-73": "4dbe2a8e96711e43",
    "garment-141": "a17e570e53fd171c",
    "garment-79": "339ae0c684ab4037",
    "square-2": "1b66c1f5531f874d",
    "square-8": "cc34a6cb3d9d7a0f",
    "square-18": "b501c1efcdfa51b6",
    "square-37": "09babaf9cc746e02",
    "garment-62": "92f480d05b6a168b",
    "garment-144": "8aea48dff1c6d3d5",
    "garment-30": "5937d4264913dba1",
    "garment-42": "ee8fe93573833a99",
    "garment-101": "c35c02df617cd0b0",
    "square-23": "fa380ecf50e5051f",
    "square-28": "a414d056ffb74fea",
    "square-34": "47699121b16f7a5c",
}
# Rows of the test split on which a brand's name or emblem can be read.
BRANDED = (0, 122, 188, 260)


def of_kind(kind: str, input_size: tuple[int, int | None] = SQUARE) -> dict[str, Sample]:
    return {key: sample for key, sample in gallery(input_size).items() if sample.kind == kind}


def test_every_size_of_model_gets_drops_garments_and_pictures_unlike_them_its_own_first():
    for size in SIZES.values():
        kinds = [sample.kind for sample in gallery(size).values()]
        assert kinds == sorted(kinds, key=[DROPS, GARMENTS, OTHERS].index)
        first = next(iter(gallery(size, data=DemoSource.data).values()))
        assert first.kind == (GARMENTS if size[0] == size[1] else DROPS)
        assert (kinds.count(GARMENTS) >= 5) == (size[0] == size[1])
        assert kinds.count(DROPS) >= 5 and kinds.count(OTHERS) >= 5


def test_keys_and_titles_are_unique_and_fit_for_links():
    for size in SIZES.values():
        samples = gallery(size)
        assert [sample.key for sample in samples.values()] == list(samples)
        assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in samples)
        titles = [sample.title for sample in samples.values()]
        assert len(set(titles)) == len(titles) and all(title.strip() for title in titles)


@pytest.mark.slow
def test_every_sample_can_be_fitted_to_the_model():
    for size in SIZES.values():
        for mode in FIT_MODES:
            for key, sample in gallery(size).items():
                pixels = sample.load()
                grey = (pixels if pixels.ndim == 2 else pixels.mean(axis=2)) / 255
                fitted = fit_image(grey, size, mode)
                assert fitted.pixels.shape[0] == size[0], key
                assert fitted.pixels.shape[1] == (size[1] or fitted.pixels.shape[1]) <= 1280, key


def test_drops_have_the_size_of_the_demo_models():
    assert {sample.load().shape for sample in of_kind(GARMENTS, SQUARE).values()} == {(201, 201)}
    for size in (SQUARE, WIDE, ANY_WIDTH):
        for sample in of_kind(DROPS, size).values():
            assert fit_image(sample.load() / 255, size).notes == (), "the model sees it pixel by pixel"


def test_samples_of_one_key_that_differ_between_models_say_so_in_their_note():
    # The app keeps a sample by its key and note.
    seen: dict[tuple[str, str], bytes] = {}
    for size, max_width in [*((size, 1280) for size in SIZES.values()), (ANY_WIDTH, 200)]:
        for key, sample in gallery(size, max_width).items():
            pixels = sample.load()
            content = repr(pixels.shape).encode() + pixels.tobytes()
            assert seen.setdefault((key, sample.note), content) == content, key


def test_samples_are_grey_or_colour_bytes():
    for size in (SQUARE, WIDE):
        for sample in gallery(size).values():
            pixels = sample.load()
            assert pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2:] == (3,))


def test_a_sample_is_the_same_picture_each_time():
    for size in (SQUARE, WIDE):
        once, again = gallery(size), gallery(size)
        assert list(once) == list(again)
        for key in once:
            np.testing.assert_array_equal(once[key].load(), again[key].load(), err_msg=key)


def test_changing_a_loaded_sample_does_not_change_the_next():
    for key, sample in gallery(SQUARE).items():
        first = np.array(sample.load())
        loaded = sample.load()
        if loaded.flags.writeable:
            loaded[...] = 77
        np.testing.assert_array_equal(sample.load(), first, err_msg=key)


def test_garments_are_composed_from_the_test_split():
    compose = {"garment": compose_centred, "square": compose_square}
    for key, sample in of_kind(GARMENTS).items():
        way, index = key.split("-")
        pixels = sample.load()
        np.testing.assert_array_equal(pixels, compose[way]("test", int(index)), err_msg=key)
        for split in ("train", "val"):
            assert not np.array_equal(pixels, compose[way](split, int(index)))


def test_every_garment_picture_was_looked_at_for_brand_names():
    shown = of_kind(GARMENTS)
    digests = {key: hashlib.sha256(sample.load().tobytes()).hexdigest()[:16] for key, sample in shown.items()}
    assert digests == LOOKED_AT


def test_no_centred_garment_carries_a_known_brand_name():
    shown = [sample.load() for key, sample in of_kind(GARMENTS).items() if key.startswith("garment-")]
    assert len(shown) == 10
    for row in BRANDED:
        branded = compose_centred("test", row)
        assert not any(np.array_equal(branded, pixels) for pixels in shown)


def test_many_kinds_of_garment_are_among_the_centred_ones():
    rows = [int(key.split("-")[1]) for key in of_kind(GARMENTS) if key.startswith("garment-")]
    labels = load_garments("test").labels[rows]
    assert len(set(labels.tolist())) >= 7


def test_each_garment_picture_says_what_it_was_composed_from():
    for sample in of_kind(GARMENTS).values():
        assert "composed" in sample.note and "Fashion-MNIST" in sample.note
        assert "test split" in sample.note and "28x28" in sample.note


def test_each_other_picture_says_whether_it_is_a_photograph_composed_or_drawn():
    begins = {key: sample.note.split()[0] for key, sample in of_kind(OTHERS).items()}
    photographs = {key for key, word in begins.items() if word == "Photograph"}
    assert photographs == {"camera", "cat", "coffee"}
    for key in photographs:
        assert re.search(r"by \w+.*, CC0", of_kind(OTHERS)[key].note), "author and licence"
    assert {key for key, word in begins.items() if word == "Drawn:"} == {"chessboard", "noise", "blank"}
    assert set(begins) - photographs == {"negative", "chessboard", "noise", "blank"}
    assert "composed" in of_kind(OTHERS)["negative"].note


def test_pictures_unlike_the_training_images_are_of_many_kinds():
    others = {key: sample.load() for key, sample in of_kind(OTHERS).items()}
    assert {pixels.ndim for pixels in others.values()} == {2, 3}, "grey and colour"
    assert any(pixels.shape[0] != pixels.shape[1] for pixels in others.values())
    np.testing.assert_array_equal(others["negative"], 255 - compose_centred("test", 84))
    assert np.all(others["blank"] == 255)
    assert 250 < np.unique(others["noise"]).size <= 256
    assert set(np.unique(others["chessboard"])) == {40, 255}
    # Training images are mostly white page; but for the blank one, none of these is.
    assert all((pixels > 250).mean() < 0.6 for key, pixels in others.items() if key != "blank")

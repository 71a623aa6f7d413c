"""A visitor's files outlive a page load, for that visitor alone, and go when they are removed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tae.data.encode import encode_gif
from tae.ui.session import arrivals
from tests import ROOT
from tests.pages import PAGES, bring, drop, go, image, open_page, run, said_plainly, texts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def reloaded(app: AppTest, page: str = "Explore", secret: str | None = None) -> AppTest:
    """The address of a page in a new session of the same browser, or of another's."""
    again = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    again.session_state["locker"] = secret or app.session_state["locker"]  # as the cookie tells it
    for name in app.query_params:
        again.query_params[name] = app.query_params[name]
    again.switch_page(PAGES[page]).run()
    assert not again.exception
    return again


def test_76_images_are_there_after_a_reload_and_never_another_s(keep: Callable, cache: Path) -> None:
    keep()
    app = drop(open_page(), ("first.png", image(3)), ("second.png", image(4)), ("no.png", b"nothing"))
    stack = np.stack([np.full((32, 32), number, np.uint8) for number in (9, 200)])
    np.save(cache / "stack.npy", stack, allow_pickle=False)
    drop(app, ("stack.npy", (cache / "stack.npy").read_bytes()))
    run(app)
    again = reloaded(app)
    before, after = app.session_state["uploads"], again.session_state["uploads"]
    assert [*after] == [*before] and len(before) == 4 and again.session_state["image"] == app.session_state["image"]
    for key, (chosen, size) in before.items():
        assert (chosen.title, chosen.digest, chosen.numbers, size) == (
            (other := after[key])[0].title,
            other[0].digest,
            other[0].numbers,
            other[1],
        )
        np.testing.assert_array_equal(chosen.image.pixels, other[0].image.pixels)
    stranger = reloaded(app, secret="0" * 32)
    assert not stranger.session_state["uploads"] and "only for whoever brought them" in texts(stranger, "warning")
    assert app.session_state["locker"] not in str(app.query_params)


def test_76_a_brought_checkpoint_is_there_after_a_reload_until_it_is_removed(
    keep: Callable, shelf: Path, cache: Path
) -> None:
    keep()
    keep(file="brought.safetensors", about={"name": "Brought"}, seed=3)
    data = (shelf / "brought.safetensors").read_bytes()
    (shelf / "brought.safetensors").unlink()
    app = bring(open_page(), "mine.safetensors", data)
    key = app.session_state["checkpoint"]
    again = reloaded(app, "Models")
    assert again.session_state["checkpoint"] == key and again.selectbox("choose_checkpoint").value == key
    again.button(f"remove_{key}").click()
    run(again)
    assert not again.session_state["uploaded_models"] and not again.warning
    assert not [*cache.rglob("000000")]
    late = reloaded(app, "Models")  # a link to what is gone
    assert "only for whoever brought them" in texts(late, "warning")


def test_39_a_checkpoint_whose_file_goes_while_it_is_shown_leaves_the_page_with_a_sentence(
    keep: Callable, shelf: Path, cache: Path
) -> None:
    keep()
    keep(file="brought.safetensors", about={"name": "Brought"}, seed=4)
    app = bring(open_page(), "mine.safetensors", (shelf / "brought.safetensors").read_bytes())
    (kept,) = app.session_state["uploaded_models"].values()
    os.truncate(kept.path, 100)
    assert "Brought" in texts(go(app, "Models")) and not app.error


def test_76_sequences_and_frames_opened_from_them_are_there_after_a_reload(keep: Callable) -> None:
    keep()
    frames = [np.full((201, 201), 20 * number, np.uint8) for number in range(1, 5)]
    app = drop(open_page("Sequences"), ("walk.gif", encode_gif(frames)))
    clip = app.session_state["sequence"]
    app.button(key="sequences_attention").click()
    run(app)
    again = reloaded(app, "Sequences")
    assert clip in again.session_state["sequence_clips"] and again.session_state["sequence"] == clip
    go(again, "Explore")
    ((one, _),) = again.session_state["uploads"].values()
    ((other, _),) = app.session_state["uploads"].values()
    assert one.title == other.title and one.image.notes == other.image.notes
    np.testing.assert_array_equal(one.image.pixels, other.image.pixels)


def test_53_where_nothing_can_be_kept_an_image_is_shown_all_the_same_and_a_checkpoint_is_refused(
    cache: Path, keep: Callable, shelf: Path
) -> None:
    keep()
    cache.mkdir()
    (cache / "uploads").write_text("a file, where a folder should be")
    app = drop(open_page(), ("mine.png", image(3)))
    assert len(app.session_state["uploads"]) == 1
    assert "mine.png: it is shown until the page is loaded anew: cannot be kept on the disk" in said_plainly(
        app, "error"
    )
    bring(app, "mine.safetensors", (shelf / "small.safetensors").read_bytes())
    assert "mine.safetensors: cannot be kept on the disk" in said_plainly(app, "error")


def test_18_what_was_too_large_to_arrive_is_said_on_the_page(keep: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    keep()
    monkeypatch.setattr(
        arrivals, "refusal_of", lambda file: f"{file.name}: too large" if "large" in file.name else None
    )
    app = drop(open_page(), ("large.png", b""), ("good.png", image(3)))
    assert [error.value for error in app.error] == ["large\\.png\\: too large"] and len(
        app.session_state["uploads"]
    ) == 1
    assert "large.gif: too large" in said_plainly(drop(go(app, "Sequences"), ("large.gif", b"")), "error")

"""The page Sequences without a browser: its sentences are the package's figures; drops of every kind, whole and broken."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae.data.encode import encode_gif
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.sequence.checkpoint import save_sequence
from tae.sequence.data import DemoSequences, glide_frames
from tae.sequence.forecast import BASELINES, CEILING, LSTM, SEEN, forecast_frames, mean_errors, one_step
from tae.sequence.model import SequenceModel
from tae.store.card import Card
from tae.store.checkpoint import save_checkpoint
from tests.pages import HOSTILE, drop, go, open_page, run, texts

PAGE = "Sequences"
SIZE = {"input_size": (32, 32), "patch_size": 8, "latent_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
Models = tuple[TransformerAutoencoder, SequenceModel]


def small_models(seed: int = 2, **fields: object) -> Models:
    torch.manual_seed(seed)
    autoencoder = TransformerAutoencoder(preset_config("tiny", **{**SIZE, **fields})).eval()  # type: ignore[arg-type]
    lstm = SequenceModel(autoencoder, 12, 1).eval()
    with torch.no_grad():
        for parameter in (*autoencoder.parameters(), *lstm.head.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return autoencoder, lstm


@pytest.fixture
def keep(shelf: Path) -> Callable[..., Models]:
    """Saves a very small autoencoder, and a sequence model on it, among the checkpoints."""

    def save(data: str = DemoSequences.data, with_lstm: bool = True, **fields: object) -> Models:
        autoencoder, lstm = small_models(**fields)  # type: ignore[arg-type]
        card = Card(name="small", training={"steps": 1}, metrics={}, data=data, licence="", notes="")
        save_checkpoint(shelf / "small.safetensors", autoencoder, card)
        if with_lstm:
            save_sequence(shelf / "sequences" / "lstm.safetensors", lstm, card, "small")
        return autoencoder, lstm

    (shelf / "sequences").mkdir()
    return save


def glide(number: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([*glide_frames("test", number, 0, (32, 32))]))[:, None]


def said_plainly(app: AppTest, *kinds: str) -> str:
    """What is written, without the backslashes that keep a stranger's text from being Markdown."""
    return texts(app, *kinds).replace("\\", "")


def charts(app: AppTest) -> list[dict]:
    return [json.loads(one.proto.spec) for one in app.get("plotly_chart")]  # type: ignore[attr-defined]


def gif(count: int = 9, side: int = 32) -> bytes:
    """A square that moves to the right."""
    frames = np.full((count, side, side), 255, np.uint8)
    for number in range(count):
        frames[number, 8:20, 2 * number : 2 * number + 10] = 0
    return encode_gif(frames)


def verdict(app: AppTest) -> str:
    return next(one for one in texts(app, "success", "warning", "info").splitlines() if "error 0." in one)


@pytest.mark.parametrize("forecast", ["step", "roll"])
def test_the_verdict_says_what_the_package_measures(forecast: str, keep: Callable[..., Models]) -> None:
    autoencoder, lstm = keep()
    app = open_page(PAGE, forecast=forecast, sequence="glide-2")
    frames = glide(2)
    found = one_step(lstm, frames) if forecast == "step" else forecast_frames(lstm, frames, SEEN)
    means = {name: mse[SEEN - found.first :].mean() for name, mse in found.mse.items()}  # of frames 7 to 16
    assert len(found.mse[LSTM][SEEN - found.first :]) == 10
    best = min(BASELINES, key=lambda name: means[name])
    said = verdict(app)
    assert f"error {means[LSTM]:.4f}" in said and f"error {means[CEILING]:.4f}" in said
    assert best in said and f"error {means[best]:.4f}" in said
    assert ("better than" in said) == (means[LSTM] < means[best])
    where = "one step ahead, frames 7 to 16" if forecast == "step" else "rolled out over frames 7 to 16"
    assert where in said


def test_a_model_that_says_what_a_guess_says_is_neither_better_nor_worse(
    keep: Callable[..., Models], shelf: Path
) -> None:
    autoencoder, _ = keep()
    card = Card(name="small", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    # As it is made, a sequence model predicts the latent that it saw last.
    save_sequence(shelf / "sequences" / "lstm.safetensors", SequenceModel(autoencoder, 12, 1), card, "small")
    buffer = io.BytesIO()
    np.save(buffer, np.stack([np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)]))
    app = drop(open_page(PAGE), ("blink.npy", buffer.getvalue()))
    assert "no better and no worse than last latent decoded" in verdict(app)
    assert not app.success and not app.warning


def test_of_several_sequence_models_one_is_chosen(keep: Callable[..., Models], shelf: Path) -> None:
    autoencoder, lstm = keep()
    card = Card(name="as it was made", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    fresh = SequenceModel(autoencoder, 12, 1).eval()
    save_sequence(shelf / "sequences" / "second.safetensors", fresh, card, "small")
    app = open_page(PAGE)
    for choice, model in (("second.safetensors", fresh), ("lstm.safetensors", lstm)):
        app.selectbox(key="choose_lstm").set_value(choice)
        run(app)
        means = mean_errors(one_step(model, glide()), SEEN)
        assert f"error {means[LSTM]:.4f}" in verdict(app)
    assert app.selectbox(key="choose_lstm").options == ["small", "as it was made"]


def test_a_model_of_any_width_takes_frames_of_their_own_width(keep: Callable[..., Models]) -> None:
    _, lstm = keep(input_size=(32, None), max_width=96)
    frames = np.full((5, 32, 80), 255, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 10 * number : 10 * number + 20] = 0
    buffer = io.BytesIO()
    np.save(buffer, frames)
    app = drop(open_page(PAGE), ("wide.npy", buffer.getvalue()))
    assert not app.error
    means = mean_errors(one_step(lstm, torch.from_numpy(frames)[:, None] / 255), 3)
    assert f"error {means[LSTM]:.4f}" in verdict(app) and "frames 4 to 5" in verdict(app)


def test_every_method_has_its_curve_of_errors(keep: Callable[..., Models]) -> None:
    _, lstm = keep()
    app = open_page(PAGE)
    names = [trace["name"] for trace in charts(app)[0]["data"]]
    assert names == [LSTM, *BASELINES, CEILING]
    assert len(charts(app)) == 3


def test_without_a_sequence_model_the_command_is_told_and_guesses_are_shown(keep: Callable[..., Models]) -> None:
    keep(with_lstm=False)
    app = open_page(PAGE)
    said = texts(app)
    assert "No sequence model belongs to this checkpoint" in said
    assert [one.value for one in app.code] == [
        "python -m tae.train_sequence --checkpoint checkpoints/small.safetensors"
    ]
    assert "Best guess, one step ahead" in said and len(charts(app)) == 2
    assert LSTM not in [trace["name"] for trace in charts(app)[0]["data"]]


def test_a_sequence_model_of_another_checkpoint_is_named_and_not_used(keep: Callable[..., Models], shelf: Path) -> None:
    keep(with_lstm=False)
    _, foreign = small_models(seed=5)
    card = Card(name="foreign", training={}, metrics={}, data="", licence="", notes="")
    save_sequence(shelf / "sequences" / "other.safetensors", foreign, card, HOSTILE)
    said = texts(open_page(PAGE))
    assert "No sequence model belongs to this checkpoint" in said and "There is one for:" in said
    assert "<img" not in said.replace("\\<img", "") and "[a](" not in said


def test_a_damaged_sequence_model_is_refused_with_its_reason(keep: Callable[..., Models], shelf: Path) -> None:
    keep()
    path = shelf / "sequences" / "lstm.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    (shelf / "sequences" / "text.safetensors").write_bytes(b"no")
    said = said_plainly(open_page(PAGE))
    assert "lstm.safetensors" in said and "damaged" in said
    assert "text.safetensors" in said and "Best guess" in said


def test_a_sequence_model_that_predicts_no_numbers_is_said_to(keep: Callable[..., Models], shelf: Path) -> None:
    autoencoder, lstm = keep()
    with torch.no_grad():
        lstm.head.bias.fill_(3e38)
    card = Card(name="small", training={}, metrics={}, data="", licence="", notes="")
    save_sequence(shelf / "sequences" / "lstm.safetensors", lstm, card, "small")
    app = open_page(PAGE)
    assert "Nothing can be shown" in texts(app, "error") and "are not; choose another checkpoint" in said_plainly(app)


def test_an_autoencoder_that_draws_no_numbers_is_said_to(keep: Callable[..., Models], shelf: Path) -> None:
    autoencoder, _ = keep(with_lstm=False)
    with torch.no_grad():
        for parameter in autoencoder.decoder.parameters():
            parameter.fill_(1e38)
    card = Card(name="small", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    save_checkpoint(shelf / "small.safetensors", autoencoder, card)
    assert "reconstructions must be finite numbers" in said_plainly(open_page(PAGE), "error")


def test_an_untrained_sequence_model_is_red(keep: Callable[..., Models], shelf: Path) -> None:
    _, lstm = keep()
    card = Card(name="small", training={}, metrics={}, data="", licence="", notes="")
    save_sequence(shelf / "sequences" / "lstm.safetensors", lstm, card, "small")
    app = open_page(PAGE)
    assert "This sequence model has random weights" in texts(app, "error")
    assert "learnt from" not in texts(app, "caption")


@pytest.mark.parametrize("name", ["broken.mp4", f"{'9' * 5000}.gif"])
def test_what_is_no_sequence_is_said_to_be_none(name: str, keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE), (name, b"nothing of the kind"))
    assert app.error and "error 0." in verdict(app)


def test_a_dropped_gif_is_shown_and_the_model_s_own_data_named(keep: Callable[..., Models]) -> None:
    _, lstm = keep()
    app = drop(open_page(PAGE), ("moving square.gif", gif()))
    assert app.session_state["sequence"].startswith("sequence-")
    assert "Yours: moving square.gif" in app.selectbox(key="choose_sequence").options
    assert "What moves otherwise, it never saw." in texts(app, "caption")
    frames = torch.from_numpy(np.stack([np.asarray(one, np.float32) / 255 for one in opened(gif())]))[:, None]
    means = mean_errors(one_step(lstm, frames), SEEN)
    assert f"error {means[LSTM]:.4f}" in verdict(app)
    assert "frames 7 to 9" in verdict(app)


def opened(data: bytes) -> list[Image.Image]:
    image = Image.open(io.BytesIO(data))
    frames = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        frames.append(image.convert("L"))
    return frames


def save(fmt: str, count: int = 4) -> bytes:
    """Frames as a file of some kind."""
    frames = [np.full((32, 32), 40 * number, np.uint8) for number in range(1, count + 1)]
    buffer = io.BytesIO()
    if fmt == "npy":
        np.save(buffer, np.stack(frames))
    else:
        first, *rest = map(Image.fromarray, frames)
        first.save(buffer, fmt.upper(), save_all=True, append_images=rest)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "fmt"), [("a.tif", "tiff"), ("a.npy", "npy"), ("a.webp", "webp")])
def test_stacks_are_sequences(name: str, fmt: str, keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE), (name, save(fmt)))
    assert app.session_state["sequence"].startswith("sequence-") and not app.error
    assert "frames 3 to 4" in verdict(app)


def test_several_images_are_frames_in_natural_order_of_their_names(keep: Callable[..., Models]) -> None:
    keep()

    def square(left: int) -> bytes:
        pixels = np.full((32, 32), 255, np.uint8)
        pixels[8:20, left : left + 8] = 0
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    app = drop(open_page(PAGE), *((f"f{number}.png", square(2 * number)) for number in (10, 2, 1)))
    clip = next(iter(app.session_state["sequence_clips"].values()))
    assert clip.title == "3 frames from f1.png"
    assert [clip.names[path.name] for path in clip.found.files] == ["f1.png", "f2.png", "f10.png"]
    for path, left in zip(clip.found.files, (2, 4, 20), strict=True):
        assert path.read_bytes() == square(left)


def test_a_name_that_would_be_a_command_is_quoted(keep: Callable[..., Models], shelf: Path) -> None:
    keep(with_lstm=False)
    (shelf / "small.safetensors").rename(shelf / "a`;rm -rf x.safetensors")
    app = open_page(PAGE)
    assert [one.value for one in app.code] == [
        "python -m tae.train_sequence --checkpoint 'checkpoints/a`;rm -rf x.safetensors'"
    ]
    assert "rm -rf" not in texts(app, "info")


def test_a_sequence_model_that_predicts_no_frames_is_said_to(keep: Callable[..., Models], shelf: Path) -> None:
    autoencoder, _ = keep(with_lstm=False)
    card = Card(name="classes", training={"steps": 1}, metrics={}, data="", licence="", notes="")
    model = SequenceModel(autoencoder, 12, 1, "classification", 3)
    save_sequence(shelf / "sequences" / "classes.safetensors", model, card, "small")
    app = open_page(PAGE)
    assert "classes.safetensors: it predicts no frames" in said_plainly(app, "warning")
    assert "There is one for" not in texts(app)


def test_frames_that_are_left_out_are_named_as_they_were_dropped(keep: Callable[..., Models]) -> None:
    keep()
    app = open_page(PAGE)
    rest = [(f"f{number}.npy", array_file(number)) for number in range(3)]
    app = drop(app, ("mine.png", b"\x89PNG\r\n\x1a\nno"), *rest)
    assert "mine.png is left out: " in said_plainly(app, "caption")


def array_file(number: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.full((32, 32), 40 * number, np.uint8))
    return buffer.getvalue()


def test_what_was_done_to_frames_is_said_here_and_where_one_is_opened(keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE), ("large.gif", gif(side=64)))
    assert "scaled from 64x64 to 32x32" in texts(app, "caption")
    app.button(key="sequences_attention").click()
    app.run()
    chosen, _ = app.session_state["uploads"][app.session_state["image"]]
    assert chosen.image.notes == ("scaled from 64x64 to 32x32",)


def test_a_wide_strip_is_its_windows(keep: Callable[..., Models]) -> None:
    keep()
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(160, dtype=np.uint8), (32, 1))).save(buffer, "PNG")
    app = drop(open_page(PAGE), ("strip.png", buffer.getvalue()))
    assert "a strip of 160x32 pixels as 9 windows of 32" in texts(app, "caption")


def test_what_cannot_be_read_is_said_and_the_rest_is_kept(keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE), ("good.gif", gif()))
    kept = app.session_state["sequence"]
    app = drop(app, ("torn.gif", gif()[:300]))
    assert "torn.gif: the GIF file is damaged or cut short" in said_plainly(app, "error")
    assert app.session_state["sequence"] == kept and "error 0." in verdict(app)
    app = drop(app, (f"{HOSTILE.replace('/', '')}.gif", gif()[:300]), ("one.gif", gif(1)), ("two.npy", save("npy")))
    errors = texts(app, "error")
    assert "at least two frames" in errors and "<img" not in errors.replace("\\<img", "")
    assert app.session_state["sequence"] != kept  # the stack, which can be read
    assert len(app.session_state["sequence_clips"]) == 2


def test_a_frame_opens_among_the_images(keep: Callable[..., Models]) -> None:
    keep()
    app = open_page(PAGE, sequence="glide-1", frame="4")
    app.button(key="sequences_attention").click()
    app.run()
    chosen, _ = app.session_state["uploads"][app.session_state["image"]]
    assert chosen.title == "Glide 2, frame 4"
    np.testing.assert_array_equal(chosen.image.pixels, glide(1)[3, 0])
    assert "Glide 2, frame 4" in " ".join(go(app, "Attention").selectbox(key="choose_image").options)


def test_a_forecast_from_the_last_frame_has_nothing_to_be_compared_with(keep: Callable[..., Models]) -> None:
    keep()
    app = open_page(PAGE, forecast="roll", seen="16")
    assert "No true frame is left to compare the prediction with" in texts(app, "info")


@pytest.mark.parametrize(
    "link",
    [
        {"sequence": "sequence-abcdef012345"},
        {"sequence": "<b>", "every": "0", "forecast": "x", "seen": "99", "frame": "-1"},
        {"frame": "999999999999999999999"},
        {"frame": "١"},
    ],
)
def test_a_link_that_names_what_is_not_there_shows_what_is(link: dict[str, str], keep: Callable[..., Models]) -> None:
    keep()
    app = open_page(PAGE, **link)
    assert "error 0." in verdict(app) and app.session_state["sequence"] == "glide-0"
    assert 1 <= int(app.session_state["frame"]) <= 26


def test_frames_that_never_change_are_no_way_through_latent_space(keep: Callable[..., Models]) -> None:
    keep()
    buffer = io.BytesIO()
    np.save(buffer, np.full((5, 32, 32), 90, np.uint8))
    app = drop(open_page(PAGE), ("still.npy", buffer.getvalue()))
    assert "there is no plane to draw" in texts(app, "caption")


def test_a_short_sequence_does_not_forget_after_which_frame_others_are_rolled_out(keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE, forecast="roll", seen="5"), ("two.gif", gif(2)))
    assert app.select_slider(key="choose_seen").value == "1"
    app.selectbox(key="choose_sequence").set_value("glide-0")
    assert run(app).select_slider(key="choose_seen").value == "5"


def test_a_photograph_a_little_wider_than_high_is_no_strip(keep: Callable[..., Models]) -> None:
    keep()
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(48, dtype=np.uint8), (32, 1))).save(buffer, "PNG")
    app = drop(open_page(PAGE), ("photo.png", buffer.getvalue()))
    assert "at least two frames, or be one image that is wide enough" in texts(app, "error")


def test_images_of_one_frame_are_no_sequence_together(keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE), ("cat.gif", gif(1)), ("dog.gif", gif(1)))
    assert len(app.error) == 2 and "cat.gif" in said_plainly(app, "error") and "dog.gif" in said_plainly(app, "error")


def test_every_second_frame(keep: Callable[..., Models]) -> None:
    keep()
    app = drop(open_page(PAGE, every="2"), ("good.gif", gif()))
    assert "every 2nd frame" in texts(app, "caption")
    assert "frames 4 to 5" in verdict(app)  # 1, 3, 5, 7, 9

"""The page Sequences without a browser: its sentences are the package's figures; drops of every kind, whole and broken."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from tae.data.drops.motion import draw_recording
from tae.data.encode import encode_gif, encode_png
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.model.metrics import psnr_of
from tae.sequence import target as target_core
from tae.sequence.checkpoint import save_sequence
from tae.sequence.drops import DATA, drop_frames
from tae.sequence.forecast import BASELINES, CEILING, LSTM, SEEN, forecast_frames, mean_errors, one_step
from tae.sequence.model import SequenceModel, TargetConfig, embed_sequence
from tae.sequence.target_influence import frame_effects
from tae.store.checkpoint import save_checkpoint
from tests.pages import (
    HOSTILE,
    VERY_SMALL,
    assert_harmless,
    blow_up,
    card,
    charts,
    drop,
    go,
    numbers,
    open_page,
    run,
    said_plainly,
    texts,
    very_small,
)

PAGE = "Sequences"
Models = tuple[TransformerAutoencoder, SequenceModel]
SaveLstm = Callable[..., Path]


@pytest.fixture
def save_lstm(shelf: Path) -> SaveLstm:
    """Saves a sequence model, of the small checkpoint unless it says otherwise."""
    (shelf / "sequences").mkdir()

    def save(model: SequenceModel, file: str = "lstm", belongs: str = "small", **fields: object) -> Path:
        about = card(**{"name": "small", **fields})
        return save_sequence(shelf / "sequences" / f"{file}.safetensors", model, about, belongs)

    return save


@pytest.fixture
def keep_both(keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm) -> Callable[..., Models]:
    """Saves a very small autoencoder, and a sequence model on it, among the checkpoints."""

    def save(**fields: object) -> Models:
        autoencoder = keep(about={"data": DATA}, **fields)
        lstm = SequenceModel(autoencoder, 12, 1).eval()
        with torch.no_grad():
            for parameter in lstm.head.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_lstm(lstm, data=DATA)
        return autoencoder, lstm

    return save


@pytest.fixture
def both(keep_both: Callable[..., Models]) -> Models:
    return keep_both()


def recording(number: int = 0) -> torch.Tensor:
    """(16, 1, 32, 32) where the number is 0."""
    return torch.from_numpy(drop_frames(draw_recording("test", number), preset_config("tiny", **VERY_SMALL)))[:, None]


def squares(count: int = 9, side: int = 32, width: int = 32, pace: int = 2) -> np.ndarray:
    """(count, side, width) uint8: a square that moves to the right."""
    frames = np.full((count, side, width), 255, np.uint8)
    for number in range(count):
        frames[number, 8:20, pace * number : pace * number + 10] = 0
    return frames


def npy(frames: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, frames)
    return buffer.getvalue()


def animation(kind: str, count: int = 4) -> bytes:
    first, *rest = (Image.new("L", (32, 32), 40 * number) for number in range(1, count + 1))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=rest)
    return buffer.getvalue()


def grey(number: int) -> np.ndarray:
    return np.full((32, 32), 40 * number, np.uint8)


def verdict(app: AppTest) -> str:
    return next(
        one
        for one in texts(app, "success", "warning", "info").splitlines()
        if "steps ahead, " in one or "step ahead, " in one
    )


def error_of(lstm: SequenceModel, frames: torch.Tensor, seen: int = SEEN) -> str:
    return f"{psnr_of(mean_errors(one_step(lstm, frames), seen)[LSTM]):.1f} dB"


def test_embeddings_errors_and_arrays_are_taken_along(both: Models, take: Callable) -> None:
    open_page(PAGE)
    rows = list(csv.DictReader(io.StringIO(take("Latents (CSV)")[1].decode())))
    arrays = np.load(io.BytesIO(take("All arrays (NPZ)")[1]))
    assert [int(row["frame"]) for row in rows] == [*range(1, 17)]
    assert [*rows[0]][:5] == ["sequence", "checkpoint", "sequence_model", "warning", "frame"] and len(rows[0]) == 5 + 16
    latents = np.array([[float(row[f"latent_{number}"]) for number in range(16)] for row in rows])
    np.testing.assert_allclose(latents, arrays["latents"], rtol=1e-6)
    frames = recording()[:, 0].numpy()
    np.testing.assert_array_equal(arrays["frames"], frames)
    mse = ((arrays["LSTM_frames"].astype(float) - frames[1:]) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(arrays["LSTM_mse"], mse, rtol=1e-5)
    errors = list(csv.DictReader(io.StringIO(take("Errors (CSV)")[1].decode())))
    np.testing.assert_allclose([float(row[LSTM]) for row in errors], mse, rtol=1e-5)
    assert take("Film strip (PNG)")[1].startswith(b"\x89PNG")


def test_the_verdict_says_what_the_package_measures_and_every_method_has_its_curve(both: Models) -> None:
    _, lstm = both
    frames = recording()
    for forecast, found in (("step", one_step(lstm, frames)), ("roll", forecast_frames(lstm, frames, SEEN))):
        app = open_page(PAGE, forecast=forecast)
        means = {name: mse[SEEN - found.first :].mean() for name, mse in found.mse.items()}  # of frames 7 to 16
        assert len(found.mse[LSTM][SEEN - found.first :]) == 10
        best = min(BASELINES, key=lambda name: means[name])
        said = verdict(app)
        assert best in said and all(f"{psnr_of(means[name]):.1f} dB" in said for name in (LSTM, CEILING, best))
        assert ("better than" in said) == (means[LSTM] < means[best])
        where = "one step ahead, frames 7 to 16" if forecast == "step" else "several steps ahead, frames 7 to 16"
        assert where in said
        assert [trace["name"] for trace in charts(app)[1]["data"]] == [LSTM, *BASELINES, CEILING]
        assert len(charts(app)) == 4


def test_a_model_that_says_what_a_guess_says_is_neither_better_nor_worse(
    keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm
) -> None:
    save_lstm(SequenceModel(keep(), 12, 1))  # as it is made, it predicts the latent that it saw last
    app = drop(open_page(PAGE), ("blink.npy", npy(np.stack([np.zeros((32, 32)), np.full((32, 32), 255)]))))
    # After a single frame, going on in a line is staying where one is: which of the two comes first is a matter of rounding.
    assert re.search("no better and no worse than (last latent decoded|linear extrapolation of latents)", verdict(app))
    assert not app.success and not app.warning


def test_of_several_sequence_models_one_is_chosen(both: Models, save_lstm: SaveLstm) -> None:
    autoencoder, lstm = both
    fresh = SequenceModel(autoencoder, 12, 1).eval()
    save_lstm(fresh, "second", name="as it was made")
    app = open_page(PAGE)
    for choice, model in (("second.safetensors", fresh), ("lstm.safetensors", lstm)):
        app.selectbox(key="choose_lstm").set_value(choice)
        assert error_of(model, recording()) in verdict(run(app))
    assert app.selectbox(key="choose_lstm").options == ["small", "as it was made"]


def test_a_model_of_any_width_takes_frames_of_their_own_width(keep_both: Callable[..., Models]) -> None:
    _, lstm = keep_both(input_size=(32, None), max_width=96)
    frames = squares(5, width=80, pace=10)
    app = drop(open_page(PAGE), ("wide.npy", npy(frames)))
    assert not app.error
    assert error_of(lstm, torch.from_numpy(frames)[:, None] / 255, 3) in verdict(app)
    assert "frames 4 to 5" in verdict(app)


def test_without_a_sequence_model_the_command_is_told_and_guesses_are_shown(
    keep: Callable[..., TransformerAutoencoder], shelf: Path
) -> None:
    keep()
    app = open_page(PAGE)
    said = texts(app)
    assert "No sequence model belongs to this checkpoint" in said
    command = "python -m tae.train_sequence --checkpoint"
    assert [one.value for one in app.code] == [f"{command} checkpoints/small.safetensors"]
    assert "Best baseline, one step ahead" in said and len(charts(app)) == 3
    assert LSTM not in [trace["name"] for trace in charts(app)[1]["data"]]
    (shelf / "small.safetensors").rename(shelf / "a`;rm -rf x.safetensors")  # a name that would be a command is quoted
    app = open_page(PAGE)
    assert [one.value for one in app.code] == [f"{command} 'checkpoints/a`;rm -rf x.safetensors'"]
    assert "rm -rf" not in texts(app, "info")


def test_a_sequence_model_of_another_checkpoint_is_named_and_not_used(
    keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm
) -> None:
    keep()
    save_lstm(SequenceModel(very_small(seed=5), 12, 1), belongs=HOSTILE)
    said = texts(open_page(PAGE))
    assert "No sequence model belongs to this checkpoint" in said and "There is one for:" in said
    assert_harmless(said)


def test_sequence_models_that_cannot_be_used_are_refused_with_their_reasons(
    keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm, shelf: Path
) -> None:
    autoencoder = keep()
    path = save_lstm(SequenceModel(autoencoder, 12, 1))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    (shelf / "sequences" / "text.safetensors").write_bytes(b"no")
    save_lstm(SequenceModel(autoencoder, 12, 1, "classification", 3), "classes")
    save_checkpoint(shelf / "sequences" / "old_encoder.safetensors", autoencoder, card())
    app = open_page(PAGE)
    said = said_plainly(app)
    assert "lstm.safetensors" in said and "damaged" in said
    assert "text.safetensors" in said and "Best baseline" in said
    assert (
        "classes.safetensors: it predicts no frames" in said
        and "old_encoder.safetensors: it is an autoencoder; move" in said
        and "There is one for" not in said
    )
    app.button("delete_text.safetensors").click()
    assert "text.safetensors" not in said_plainly(run(app)) and not (shelf / "sequences" / "text.safetensors").exists()


def test_models_that_make_no_numbers_are_said_to(
    both: Models, keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm
) -> None:
    _, lstm = both
    with torch.no_grad():
        lstm.head.bias.fill_(3e38)
    save_lstm(lstm)
    app = open_page(PAGE)
    assert "Nothing can be shown" in texts(app, "error") and "are not; choose another checkpoint" in said_plainly(app)

    keep(blow_up)
    assert "reconstructions must be finite numbers" in said_plainly(open_page(PAGE), "error")


def test_an_untrained_sequence_model_is_red(both: Models, save_lstm: SaveLstm) -> None:
    save_lstm(both[1], training={"steps": 0})
    app = open_page(PAGE)
    assert "This sequence model has random weights" in texts(app, "error")
    assert "learnt from" not in texts(app, "caption")


def test_a_dropped_gif_is_shown_and_the_model_s_own_data_named(both: Models) -> None:
    app = drop(open_page(PAGE), ("moving square.gif", encode_gif(squares())))
    assert app.session_state["sequence"].startswith("sequence-")
    assert "Yours: moving square.gif" in app.selectbox(key="choose_sequence").options
    assert "The sequence model learnt from" in texts(app, "caption")
    assert error_of(both[1], torch.from_numpy(squares())[:, None] / 255) in verdict(app)
    assert "frames 7 to 9" in verdict(app)
    app.selectbox(key="choose_every").set_value("2")
    assert "every 2nd frame" in texts(run(app), "caption") and "frames 4 to 5" in verdict(app)  # 1, 3, 5, 7, 9


def test_stacks_and_wide_strips_are_sequences(both: Models) -> None:
    app = open_page(PAGE)
    stack = np.stack([grey(number) for number in range(1, 5)])
    for name, data in (("a.tif", animation("TIFF")), ("a.npy", npy(stack)), ("a.webp", animation("WEBP"))):
        before = app.session_state["sequence"]
        drop(app, (name, data))
        assert app.session_state["sequence"].startswith("sequence-") and app.session_state["sequence"] != before
        assert not app.error and "frames 3 to 4" in verdict(app)
    drop(app, ("strip.png", encode_png(np.tile(np.arange(160, dtype=np.uint8), (32, 1)))))
    assert "a strip of 160x32 pixels as 9 windows of 32" in texts(app, "caption")


def test_several_images_are_frames_in_natural_order_of_their_names(both: Models) -> None:
    frames = squares(11)
    app = drop(open_page(PAGE), *((f"f{number}.png", encode_png(frames[number])) for number in (10, 2, 1)))
    clip = next(iter(app.session_state["sequence_clips"].values()))
    assert clip.title == "3 frames from f1.png"
    assert [clip.names[path.name] for path in clip.found.files] == ["f1.png", "f2.png", "f10.png"]
    assert [path.read_bytes() for path in clip.found.files] == [encode_png(frames[number]) for number in (1, 2, 10)]
    rest = [(f"f{number}.npy", npy(grey(number))) for number in range(3)]
    app = drop(app, ("mine.png", b"\x89PNG\r\n\x1a\nno"), *rest)
    assert "mine.png is left out: " in said_plainly(app, "caption")  # named as it was dropped


def test_what_was_done_to_frames_is_said_here_and_where_one_is_opened(both: Models) -> None:
    app = drop(open_page(PAGE), ("large.gif", encode_gif(squares(side=64, width=64))))
    assert "scaled from 64x64 to 32x32" in texts(app, "caption")
    app.button(key="sequences_attention").click()
    app.run()
    chosen, _ = app.session_state["uploads"][app.session_state["image"]]
    assert chosen.image.notes == ("scaled from 64x64 to 32x32",)


def test_what_cannot_be_read_or_is_no_sequence_is_said_and_the_rest_is_kept(both: Models) -> None:
    app = drop(open_page(PAGE), ("good.gif", encode_gif(squares())))
    kept, torn = app.session_state["sequence"], encode_gif(squares())[:300]
    photo = encode_png(np.tile(np.arange(48, dtype=np.uint8), (32, 1)))  # a little wider than high is no strip
    for name, data, said in (
        ("torn.gif", torn, "torn.gif: the GIF file is damaged or cut short"),
        ("broken.mp4", b"nothing of the kind", "broken.mp4"),
        (f"{'9' * 5000}.gif", b"nothing of the kind", "999"),
        ("photo.png", photo, "at least two frames, or be one image that is wide enough"),
    ):
        drop(app, (name, data))
        assert said in said_plainly(app, "error")
        assert app.session_state["sequence"] == kept and " dB" in verdict(app)
    drop(app, ("cat.gif", encode_gif(squares(1))), ("dog.gif", encode_gif(squares(1) // 2)))  # no sequence together
    assert len(app.error) == 2 and "cat.gif" in said_plainly(app, "error") and "dog.gif" in said_plainly(app, "error")
    stack = npy(np.stack([grey(number) for number in range(1, 5)]))
    drop(app, (f"{HOSTILE.replace('/', '')}.gif", torn), ("one.gif", encode_gif(squares(1))), ("two.npy", stack))
    assert "at least two frames" in texts(app, "error")
    assert_harmless(texts(app, "error"))
    assert app.session_state["sequence"] != kept  # the stack, which can be read
    assert len(app.session_state["sequence_clips"]) == 2


def test_a_frame_opens_among_the_images(both: Models) -> None:
    app = open_page(PAGE, sequence="drop-1", frame="4")
    app.button(key="sequences_attention").click()
    app.run()
    chosen, _ = app.session_state["uploads"][app.session_state["image"]]
    assert chosen.title == "Drop 2, frame 4"
    np.testing.assert_array_equal(chosen.image.pixels, recording(1)[3, 0])
    assert "Drop 2, frame 4" in " ".join(go(app, "Explore").selectbox(key="choose_image").options)


def test_a_forecast_from_the_last_frame_has_nothing_to_be_compared_with(both: Models) -> None:
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
def test_a_link_that_names_what_is_not_there_shows_what_is(link: dict[str, str], both: Models) -> None:
    app = open_page(PAGE, **link)
    assert " dB" in verdict(app) and app.session_state["sequence"] == "drop-0"
    assert 1 <= int(app.session_state["frame"]) <= 26


def test_frames_that_never_change_are_no_way_through_latent_space(both: Models) -> None:
    app = drop(open_page(PAGE), ("still.npy", npy(np.full((5, 32, 32), 90, np.uint8))))
    assert "there is no plane to draw" in texts(app, "caption")


def test_a_short_sequence_does_not_forget_after_which_frame_others_are_rolled_out(both: Models) -> None:
    app = drop(open_page(PAGE, forecast="roll", seen="5"), ("two.gif", encode_gif(squares(2))))
    assert app.select_slider(key="choose_seen").value == "1"
    app.selectbox(key="choose_sequence").set_value("drop-0")
    assert run(app).select_slider(key="choose_seen").value == "5"


# ------------------------------------------------------------------------------------------------ a target from a table

SPEED = "speed (px/frame)"


@pytest.fixture
def keep_target(keep: Callable[..., TransformerAutoencoder], save_lstm: SaveLstm) -> Callable[..., SequenceModel]:
    """Saves a very small autoencoder, and a model on it that predicts a column of a table."""

    def save(fine_tune: bool = False, **fields: object) -> SequenceModel:
        target = TargetConfig(**{"header": SPEED, "columns": ("width (px)",), **fields})  # type: ignore[arg-type]
        head = "classification" if target.classes else "regression"
        lstm = SequenceModel(keep(), 12, 1, head, len(target.classes) or 1, fine_tune=fine_tune, target=target).eval()
        lstm.training_mean.fill_(1.0)
        lstm.linear_latent[0, -1] = 2.0
        group = {
            "group": "held out",
            "sequences": 4,
            "methods": {LSTM: {"mae": 1.5, "r2": 0.5}, target_core.MEAN: {"mae": 3.0, "r2": 0.0}},
        }
        save_lstm(lstm, metrics={"groups": [group | {"better_than": {target_core.MEAN: True}}]})
        return lstm

    return save


def table_of(**columns: list) -> bytes:
    rows = [",".join(columns), *(",".join(map(str, cells)) for cells in zip(*columns.values(), strict=True))]
    return "\n".join(rows).encode()


def test_a_number_stands_beside_its_truth_and_baselines_and_what_it_hangs_on(
    keep_target: Callable[..., SequenceModel],
) -> None:
    lstm = keep_target()
    frames = squares(6)
    files = [(f"f{number}.png", encode_png(frame)) for number, frame in enumerate(frames)]
    rows = {"file": [name for name, _ in reversed(files)], SPEED: [2.5] * 6, "width (px)": range(6, 0, -1)}
    app = drop(open_page(PAGE), *files, ("table.csv", table_of(**rows)))
    images = torch.from_numpy(frames)[:, None] / 255
    latents = embed_sequence(lstm.autoencoder, images)
    each = target_core.predict_each(lstm, latents)
    said = said_plainly(app, "success", "warning")
    assert f"{SPEED}, from 6 frames: {each[-1, 0]:.3g} px/frame**; the table says 2.5 px/frame" in said
    assert "mean of the training targets: 1 px/frame" in said
    table = next(one.value for one in app.markdown if one.value.startswith("Elsewhere")).replace("\\", "")
    assert table.splitlines()[0] == "Elsewhere | held out, 4 sequences"
    assert table.splitlines()[2:] == [
        "LSTM | MAE 1.5 px/frame, R2 0.50",
        "mean of the training targets | MAE 3 px/frame, R2 0.00",
        "LSTM is | better than every baseline",
    ]
    drawn = charts(app)
    tracks, over_time, _, frame_bars, patches, heads = drawn
    assert numbers(tracks["data"][1]["y"]) == [1, 2, 3, 4, 5, 6]  # found by name, however the rows are ordered
    np.testing.assert_allclose(numbers(over_time["data"][0]["y"]), each[:, 0], rtol=1e-5)
    effects = frame_effects(lstm, images, latents, torch.zeros(6, 0))
    np.testing.assert_allclose(numbers(frame_bars["data"][1]["y"]), effects.covered, atol=1e-6)
    assert [one["text"] for one in patches["layout"]["annotations"]][:2] == ["all frames at once", "frame 1"]
    assert len(heads["data"][0]["y"]) == 4


def test_classes_are_named_and_lacking_inputs_are_asked_for(keep_target: Callable[..., SequenceModel]) -> None:
    keep_target(classes=("left", "right"), header="way")
    app = drop(open_page(PAGE), ("walk.npy", npy(squares(5))), ("table.csv", table_of(way=["right"] * 5)))
    said = said_plainly(app, "success", "warning")
    assert "way, from 5 frames:" in said and "the table says right" in said and "%" in said
    walk = npy(squares(5))
    keep_target(classes=("1", "2.5"), header="way")  # a clip's own cells do not decide what its classes are
    app = drop(
        open_page(PAGE), ("walk.npy", walk), ("table.csv", table_of(way=["2.50", "x", "", "", ""], v=[*range(5)]))
    )
    assert "the table says 2.5" in said_plainly(app, "success", "warning")
    frames = [(f"f{number}.png", encode_png(frame)) for number, frame in enumerate(squares(3))]
    app = drop(
        open_page(PAGE), *frames, ("walk.gif", encode_gif(squares(5))), ("t.csv", table_of(of=["walk"], way=[1]))
    )
    assert not app.exception and "3 frames from f0.png: no row of t.csv tells of it" in said_plainly(app)
    keep_target(fine_tune=True)  # the encoder's own checkpoint, and the model that has it inside
    app = drop(open_page(PAGE), ("walk.npy", npy(squares(5))))
    said = said_plainly(app, "info")
    assert (
        "No table tells the truth. Baselines: mean of the training targets: 1 px/frame." in said
        and "mean latent" not in said
    )
    keep_target(inputs=("width (px)",))
    app = drop(open_page(PAGE), ("walk.npy", npy(squares(5))), ("bad.csv", b"a,b\n1"))
    said = said_plainly(app)
    assert "This model reads width (px) beside the latents" in said and "bad.csv: each row must have" in said


def test_simulated_drops_come_with_their_table(keep: Callable[..., TransformerAutoencoder]) -> None:
    keep()
    app = open_page(PAGE, sequence="drop-2", tint="velocity (cm/s)")
    assert "Drop 3 (held-out band)" in app.selectbox(key="choose_sequence").options
    assert "Simulated, test split" in texts(app, "caption") and not app.error
    assert charts(app)[0]["data"][0]["y"] and len(charts(app)) == 3
    assert any(trace.get("marker", {}).get("colorbar") for trace in charts(app)[2]["data"])


def test_1_what_is_no_sequence_is_called_by_name_with_what_to_do() -> None:
    app = drop(open_page("Sequences"), ("walk.heic", b"\0\0\0\x18ftypheic" + bytes(40)))
    assert "walk.heic: it is no image, animation, stack or video that is read, but HEIC; export" in said_plainly(
        app, "error"
    )

"""Numbers and classes from sequences: figures by hand, baselines by plain references, and a training that earns what it says."""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tae import Card, create_autoencoder, load_checkpoint, save_checkpoint
from tae.sequence import target
from tae.sequence.checkpoint import load_sequence, save_sequence
from tae.sequence.config import SequenceTrainConfig
from tae.sequence.data import Embedder
from tae.sequence.labelled import BAND, TEST, Labelled, LabelledSequences, Wanted, labelled_drops, labelled_files
from tae.sequence.model import SequenceModel, TargetConfig, embed_sequence
from tae.sequence.target_influence import frame_effects, head_effects, patch_effects
from tae.sequence.training import open_sequences, train_sequence
from tae.store.checkpoint import CheckpointError
from tae.train_sequence import main
from tae.training.run import runs
from tests import ROOT

SPEED = "speed (px/frame)"


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_autoencoder(
        (16, 32), None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1
    )
    return save_checkpoint(tmp_path_factory.mktemp("autoencoder") / "a.safetensors", model, Card(name="squares"))


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stacks of six frames of a square whose mean place is the middle, whatever its speed; a table tells that."""
    folder, random = tmp_path_factory.mktemp("data") / "squares", np.random.default_rng(0)
    folder.mkdir()
    rows = [["recording", SPEED, "way", "noise (dB)"]]
    for number in range(60):
        speed = float(random.uniform(-4, 4))
        frames = np.full((6, 16, 32), 255, np.uint8)
        for frame in range(6):
            left = round(12 + speed * (frame - 2.5))
            frames[frame, 4:12, max(0, left) : left + 8] = 0
        np.save(folder / f"{number}.npy", frames)
        rows.append([f"{number}.npy", f"{speed}", "right" if speed > 0 else "left", f"{random.normal()}"])
    with open(folder / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def small(autoencoder: Path, data: Path | str, out: Path, **fields: object) -> SequenceTrainConfig:
    values = {
        "data": str(data),
        "target": "speed",
        "checkpoint": autoencoder,
        "hidden_dim": 12,
        "num_layers": 1,
        "clip_frames": 6,
        "steps": 6,
        "batch_size": 8,
        "lr": 2e-2,
        "warmup_steps": 2,
        "eval_every": 50,
        "save_every_s": 0 if "steps" not in fields else 1e6,
        "device": "cpu",
        "threads": 1,
        "cache": autoencoder.parent / "embeddings",
        "out": out,
    }
    return SequenceTrainConfig(**{**values, **fields})  # type: ignore[arg-type]


def own_state(config: SequenceTrainConfig) -> dict[str, Tensor]:
    return load_sequence(config.out_path, load_checkpoint(config.checkpoint).model).model.own_state()


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def sequences(config: TargetConfig, count: int = 9, num_frames: Sequence[int] = (5, 9)) -> list[Labelled]:
    """Random ones, whose target a linear model of the first latent number and the first column tells."""
    random, found = torch.Generator().manual_seed(0), []
    for number in range(count):
        frames = num_frames[number % len(num_frames)]
        latents, columns = (torch.randn(frames, dim, generator=random) for dim in (16, len(config.columns)))
        truth = 3 * latents[:, 0] - 2 * columns[:, 0] + 7
        truth = truth if config.is_per_frame else truth.mean().expand(frames)
        inputs = torch.randn(frames, len(config.inputs), generator=random)
        found.append(Labelled(str(number), latents, truth.clone(), inputs, columns, lambda first, end: torch.empty(0)))
    return found


def model_of(autoencoder: Path, **fields: object) -> SequenceModel:
    config = TargetConfig(**{"header": "v (cm/s)", "columns": ("x", "y"), "window": 4, **fields})  # type: ignore[arg-type]
    outputs = len(config.classes) or 1
    head = "classification" if config.classes else "regression"
    model = SequenceModel(load_checkpoint(autoencoder).model, 12, 1, head, outputs, target=config)
    return model.eval()


# ------------------------------------------------------------------------------------------------- figures and baselines


def test_figures_by_hand() -> None:
    found = target.score(np.array([[1.0], [2.0], [6.0]]), np.array([1.0, 3.0, 5.0]))
    assert found == {"mae": pytest.approx(2 / 3), "r2": pytest.approx(1 - 2 / 8)}
    assert target.score(np.ones((2, 1)), np.ones(2)) == {"mae": 0.0, "r2": None}
    answers = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]])
    assert target.score(answers, np.array([0, 1, 1]), ("a", "b", "c")) == {
        "accuracy": pytest.approx(2 / 3),
        "by_class": {"a": 1.0, "b": 0.5, "c": None},
        "confusion": [[1, 0, 0], [1, 1, 0], [0, 0, 0]],
    }
    lower = np.array([-1.0, -2.0, -1.5, -1.0, -1.0, -2.0])
    group = {"better_than": {"a": True, "b": False, "c": False}, "worse_than": {"a": False, "b": True, "c": False}}
    assert target.standing(group) == "worse than b; no different from c"
    figures = {
        "target": "v [cm/s]",
        "groups": [{"group": "x", "sequences": 1, "methods": {"LSTM": {"mae": 1, "r2": None}}}],
    }
    figures["groups"][0] |= group
    assert "LSTM MAE 1 cm/s, worse than b" in target.sentences(figures)[0]
    assert target.is_lower(lower) and not target.is_lower(np.append(lower, 9.0)) and not target.is_lower(lower[:5])


def test_a_model_that_is_surely_worse_than_a_baseline_is_told_so(autoencoder: Path) -> None:
    torch.manual_seed(0)
    config = TargetConfig(header="v (cm/s)", columns=("x", "y"), window=4)
    model, found = model_of(autoencoder), sequences(config, 12)
    target.fit_baselines(model, found)
    with torch.no_grad():
        model.head.bias.fill_(9.0)  # an LSTM that is far off
    (group,) = target.evaluate_target(model, {"held out": [(one, one.latents) for one in found]}, None)["groups"]
    assert group["worse_than"] == dict.fromkeys((target.MEAN, target.LATENT, target.COLUMNS), True)
    assert group["better_than"] == dict.fromkeys(group["worse_than"], False)


def test_a_prediction_is_made_from_the_last_frames_alone(autoencoder: Path) -> None:
    model = model_of(autoencoder, inputs=("x",)).double()
    latents, inputs = torch.randn(11, 16, dtype=torch.float64), torch.randn(11, 1, dtype=torch.float64)
    each = target.predict_each(model, latents, inputs)
    for end in range(1, 12):
        seen = slice(max(0, end - 4), end)
        alone = model.predict(latents[None, seen], None, inputs[None, seen])[0, -1]
        np.testing.assert_allclose(each[end - 1], alone.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(target.settled(model, each), each[3:].mean(axis=0, keepdims=True))
    with pytest.raises(ValueError, match=r"inputs must be \(1, 11, 1\), numbers of the table, got None"):
        model.predict(latents[None])


@pytest.mark.parametrize("is_per_frame", [False, True])
def test_linear_baselines_find_what_is_linear_and_scales_are_the_training_s(
    autoencoder: Path, is_per_frame: bool
) -> None:
    model = model_of(autoencoder, is_per_frame=is_per_frame, inputs=("z",))
    assert model.config.target is not None
    train = sequences(model.config.target, count=400)
    columns = torch.cat([one.columns for one in train])
    train[0].columns[0, 1] = torch.nan
    target.fit_baselines(model, train)
    truth = torch.cat([one.target if is_per_frame else one.target[:1] for one in train])
    torch.testing.assert_close(model.training_mean, truth.mean()[None])
    torch.testing.assert_close(model.target_scale, torch.stack([truth.mean(), truth.std(correction=0)]))
    torch.testing.assert_close(model.column_means, columns.mean(dim=0), rtol=0.01, atol=0.01)
    assert abs(float(model.linear_latent[0, 0]) - 3) < 0.3 and abs(float(model.linear_columns[0, 0]) + 2) < 0.5
    each = target.baselines_each(model, train[1].latents, train[1].columns)
    latents = train[1].latents.double().numpy()
    weight = model.linear_latent.double().numpy()[0]
    last = latents[-1] if is_per_frame else latents.mean(axis=0)
    np.testing.assert_allclose(each[target.LATENT][-1, 0], last @ weight[:-1] + weight[-1], rtol=1e-6)
    assert (each[target.MEAN] == float(model.training_mean)).all()


def test_frames_of_a_sequence_tell_nothing_of_how_strong_a_baseline_s_penalty_must_be(autoencoder: Path) -> None:
    model, random = model_of(autoencoder, is_per_frame=True), np.random.default_rng(0)
    train, nothing = [], torch.zeros(20, 2)
    for number in range(40):  # latents that name the sequence, and a target that has nothing to do with them
        latents = torch.from_numpy(random.normal(size=16) + 0.01 * random.normal(size=(20, 16))).float()
        truth = torch.full((20,), float(random.normal()))
        train.append(Labelled(str(number), latents, truth, nothing[:, :0], nothing, lambda first, end: torch.empty(0)))
    target.fit_baselines(model, train)
    assert float(model.linear_latent[0, :-1].norm()) < 0.3  # 0.84 where neighbours stay in the fit


def test_shuffled_targets_are_those_of_other_whole_sequences(autoencoder: Path) -> None:
    config = model_of(autoencoder, is_per_frame=True).config.target
    assert config is not None
    train = sequences(config)
    source = LabelledSequences("x", "x", "x", config, train, [], {"held out": train[:1]}, 0, 32)
    series = {tuple(one.target.tolist()) for one in train}
    for one in source.train:
        assert one.shuffled is not None and len(one.shuffled) == len(one.target)
        assert any(tuple(one.shuffled.tolist())[: len(some)] == some[: len(one.shuffled)] for some in series)
    assert not any(torch.equal(one.shuffled, one.target) for one in source.train if one.shuffled is not None)
    clips = source.batch(3, 8)
    assert all(len(clip.latents) == 4 and len(clip.target) == 4 for clip in clips)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(clips, source.batch(3, 8), strict=True))


# ------------------------------------------------------------------------------------------- what a prediction hangs on


@pytest.mark.parametrize(("frames", "is_per_frame"), [(3, False), (7, False), (7, True)])
def test_effects_are_those_of_changing_the_images_themselves(
    autoencoder: Path, frames: int, is_per_frame: bool
) -> None:
    model = model_of(autoencoder, inputs=("x",), is_per_frame=is_per_frame).double()
    images = torch.ones(frames, 1, 16, 32, dtype=torch.float64)
    images[:, :, 4:12, 10:20] = torch.rand(frames, 1, 8, 10, dtype=torch.float64)
    inputs = torch.randn(frames, 1, dtype=torch.float64)

    def answer(images: Tensor, inputs: Tensor) -> float:
        each = target.predict_each(model, embed_sequence(model.autoencoder, images), inputs)
        return float(target.settled(model, each)[-1, 0])

    latents, plain = embed_sequence(model.autoencoder, images), answer(images, inputs)
    found = frame_effects(model, images, latents, inputs)
    assert found.plain == pytest.approx(plain)
    white, rest = images.clone(), [0, *range(2, frames)]
    white[1] = 1
    assert found.dropped[1] == pytest.approx(answer(images[rest], inputs[rest]) - plain)
    assert found.covered[1] == pytest.approx(answer(white, inputs) - plain)
    order = np.random.default_rng(0).permutation(frames)
    assert found.shuffled[0] == pytest.approx(answer(images[order], inputs[order]) - plain)

    patches = patch_effects(model, images, latents, inputs, [[frames - 1], range(frames)])
    for row, part in enumerate((slice(frames - 1, None), slice(None))):
        covered = images.clone()
        covered[part, :, :8, 8:16] = 1  # the second of four patches in a row
        assert patches[row, 1] == pytest.approx(answer(covered, inputs) - plain)
    assert patches.shape == (2, 8) and not patches[:, 0].any()  # white already

    heads = head_effects(model, images, latents, inputs)
    attention = model.autoencoder.encoder.blocks[0].attn
    with torch.no_grad():  # what a head adds is its columns of the output projection
        attention.proj.weight[:, 8:] = 0
    assert heads.whole.shape == (1, 2) and heads.each.shape == (1, 2, frames)
    assert heads.whole[0, 1] == pytest.approx(answer(images, inputs) - plain)


# -------------------------------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_a_number_that_lies_in_the_order_of_frames_is_learnt_and_no_baseline_reaches_it(
    autoencoder: Path, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(autoencoder, squares, tmp_path / "x.safetensors", steps=120)
    assert main(config.command_line()) == 0
    said = capsys.readouterr().out
    assert "table table.csv: matched by the sequence's name in recording" in said
    assert "better than every baseline" in said and "mean of the training targets" in said
    loaded = load_sequence(config.out_path, load_checkpoint(autoencoder).model)
    (group,) = loaded.card.metrics["groups"]
    methods = group["methods"]
    assert set(methods) == {target.LSTM, *target.BASELINES} and all(group["better_than"].values())
    assert methods[target.LSTM]["mae"] < 0.5 * min(methods[name]["mae"] for name in target.BASELINES)
    assert methods[target.LSTM]["r2"] > 0.8 and f"MAE {methods[target.LSTM]['mae']:.3g} px/frame" in said
    assert loaded.model.config.target == TargetConfig(header=SPEED, columns=("noise (dB)",), window=6)
    # The figures are those of a reader who has the checkpoint and the files alone.
    source = labelled_files(Embedder(loaded.model.autoencoder, None), str(squares), Wanted(target="speed", window=6))
    groups = {name: [(one, one.latents) for one in some] for name, some in source.tests.items()}
    again = target.evaluate_target(loaded.model, groups, None)["groups"][0]["methods"]
    assert again == {name: methods[name] for name in again} and len(again) == 4


@pytest.mark.slow
def test_classes_are_learnt_beside_an_input_and_counted(autoencoder: Path, squares: Path, tmp_path: Path) -> None:
    config = small(autoencoder, squares, tmp_path / "x.safetensors", steps=100, target="way", inputs="noise (dB)")
    list(train_sequence(config))
    loaded = load_sequence(config.out_path, load_checkpoint(autoencoder).model)
    found = loaded.card.metrics["groups"][0]
    assert found["methods"][target.LSTM]["accuracy"] > 0.8 and set(found["by_class"]) == {"left", "right"}
    assert np.sum(found["confusion"]) == loaded.card.metrics["count"]
    assert loaded.model.config.target and loaded.model.config.target.classes == ("left", "right")
    assert loaded.model.config.num_inputs == 1


@pytest.mark.slow
def test_folders_of_frames_with_a_row_a_frame_and_holes_in_the_table(autoencoder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for recording in range(12):
        folder = tmp_path / "recordings" / f"take {recording}"
        folder.mkdir(parents=True)
        rows = []
        for frame in range(9):
            left = int(random.integers(0, 24))
            pixels = np.full((16, 32), 255, np.uint8)
            pixels[4:12, left : left + 8] = 0
            Image.fromarray(pixels).save(folder / f"frame_{frame}.png")
            rows.append(f"frame_{frame}.png,{left if frame != 4 else ''},{frame}")
        (folder / "result.csv").write_text("\n".join(["file number,x (px),time (s)", *rows[:1:-1]]))  # two have no row
    fields = {"target": "x", "inputs": "time", "clip_frames": 3}
    config = small(autoencoder, tmp_path / "recordings", tmp_path / "x.safetensors", steps=30, **fields)
    said: list[str] = []
    list(train_sequence(config, notify=said.append))
    assert "24 frames have no value of an input, and are left out, such as frame 1 of take 0" in said
    assert "36 frames have no value of x (px), such as frame 1 of take 0" in said
    figures = load_sequence(config.out_path, load_checkpoint(autoencoder).model).card.metrics
    (group,) = figures["groups"]
    assert figures["is_per_frame"] and group["predictions"] == 6 * group["sequences"]
    methods = group["methods"]
    assert methods[target.LATENT]["mae"] < 0.5 * methods[target.MEAN]["mae"]  # a frame's own latent tells it
    assert methods[target.LSTM]["mae"] < methods[target.SHUFFLED]["mae"]


def test_what_is_held_out_enters_nothing_that_is_fitted(autoencoder: Path, squares: Path, tmp_path: Path) -> None:
    states = []
    for number in range(2):
        config = small(autoencoder, squares, tmp_path / f"{number}.safetensors")
        source = open_sequences(config, load_checkpoint(autoencoder))
        assert isinstance(source, LabelledSequences)
        if number:
            for one in source.tests["held out"]:
                one.target.add_(1000.0)
        list(train_sequence(config, source=source))
        states.append(own_state(config))
    assert same_bits(*states)


@pytest.mark.slow
def test_a_run_left_at_a_step_resumes_to_the_same_bits(autoencoder: Path, squares: Path, tmp_path: Path) -> None:
    fields = {"dropout": 0.2, "fine_tune": True, "inputs": "noise", "batch_size": 2}
    straight = small(autoencoder, squares, tmp_path / "straight.safetensors", **fields)
    list(train_sequence(straight))
    left = replace(straight, out=tmp_path / "left.safetensors")
    running = train_sequence(left)
    for _ in range(3):
        next(running)
    running.close()
    list(train_sequence(replace(left, resume=True)))
    assert same_bits(own_state(left), own_state(straight))
    assert [one["step"] for one in runs.read_log(runs.folder_of(left.out_path))][-1] == 6


def test_a_fine_tuned_encoder_is_a_checkpoint_of_its_own(autoencoder: Path, squares: Path, tmp_path: Path) -> None:
    config = small(autoencoder, squares, tmp_path / "x.safetensors", fine_tune=True, batch_size=2)
    list(train_sequence(config))
    before = load_checkpoint(autoencoder).model.state_dict()
    with pytest.raises(ValueError, match="x_encoder.safetensors exists already, where the fine-tuned encoder would go"):
        list(train_sequence(replace(config, out=tmp_path / "other" / "x.safetensors")))
    after = load_checkpoint(autoencoder.with_name("x_encoder.safetensors")).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("decoder."))
    assert not any(
        torch.equal(before[name], after[name]) for name in before if name.endswith("qkv.weight") and "enc" in name
    )
    inside = load_sequence(config.out_path)
    assert inside.belongs.is_inside and same_bits(inside.model.autoencoder.state_dict(), after)


@pytest.mark.slow
def test_the_readme_s_dozen_lines_do_it_on_a_folder_of_one_s_own(
    autoencoder: Path, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "tae" / "sequence" / "README.md").read_text()
    found = re.search(r"<!-- needs recordings -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    mine = f'target="speed", steps=3, checkpoint=Path({str(autoencoder)!r}), out=Path({str(tmp_path / "x")!r})'
    code = found[1].replace("path/to/recordings", str(squares)).replace('target="viscosity"', mine)
    exec(code, {"Path": Path})  # noqa: S102
    said = capsys.readouterr().out
    assert "held out, " in said and "matched by the sequence's name" in said
    assert sum(line.startswith(tuple("0123456789")) for line in said.splitlines()) >= 60


@pytest.mark.slow
def test_simulated_drops_have_two_groups_and_the_band_is_never_trained_on(autoencoder: Path) -> None:
    embedder = Embedder(load_checkpoint(autoencoder).model, None)
    source = labelled_drops(embedder, Wanted(target="viscosity", inputs=["velocity"]), 4, 1, 6)
    assert {name: len(some) for name, some in source.tests.items()} == {TEST: 4, BAND: 2}
    assert all(6 <= float(one.target[0]) <= 10 for one in source.tests[BAND])
    assert not any(6 <= float(one.target[0]) <= 10 for one in source.train)
    one = source.train[1]
    assert one.frames().shape == (len(one.latents), 1, 16, 32) and 30 < float(one.inputs.mean()) < 65
    assert not source.target.is_per_frame and "adv (degree)" in source.target.columns


# ---------------------------------------------------------------------------------------------------- refusals and files


def test_what_cannot_be_asked_is_refused_before_anything_is_trained(
    autoencoder: Path, squares: Path, tmp_path: Path
) -> None:
    def refused(**fields: object) -> str:
        with pytest.raises(ValueError) as caught:
            list(train_sequence(small(autoencoder, **{"data": squares, "out": tmp_path / "x.safetensors", **fields})))  # type: ignore[arg-type]
        return str(caught.value)

    said = refused(target="weight")
    assert f"has a column weight; choose from: recording, {SPEED}, way, noise (dB)" in said
    assert "the column way must hold numbers, got 'right' in row" in refused(target="way", task="regression")
    assert "inputs must not hold the target itself" in refused(inputs="speed")
    assert "inputs belong to a target" in refused(target=None, inputs="way")
    assert "choose from: time (s)" in refused(data="drops", target="weight")
    odd, rows = tmp_path / "odd", (squares / "table.csv").read_text().splitlines()
    odd.mkdir()
    for file in squares.glob("*.npy"):
        (odd / file.name).write_bytes(b"never read")
    cells = rows[7].split(",")
    (odd / "table.csv").write_text("\n".join([*rows[:7], ",".join([cells[0], "fast", *cells[2:]]), *rows[8:]]))
    said = refused(data=odd)
    assert "got 'fast' in row 7; mend it, or give --task classification" in said
    few = tmp_path / "few"
    few.mkdir()
    np.save(few / "0.npy", np.zeros((3, 16, 32, 1), np.uint8))
    assert "put a CSV or Parquet file beside the frames" in refused(data=few)
    (few / "0.csv").write_text("speed\n1\n2\n3\n")
    assert "at least three sequences with a value of speed, got 1" in refused(data=few)


def test_a_model_of_the_next_frame_is_written_as_before_and_odd_targets_are_refused(
    autoencoder: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(autoencoder).model
    plain = save_sequence(tmp_path / "next.safetensors", SequenceModel(loaded, 12, 1), Card(name="x"), "a")
    assert b"target" not in plain.read_bytes() and load_sequence(plain, loaded).model.config.target is None
    model = model_of(autoencoder, classes=("left", "right"), columns=())
    kept = load_sequence(save_sequence(tmp_path / "x.safetensors", model, Card(name="x"), "a"), loaded).model
    assert kept.config == model.config and same_bits(kept.own_state(), model.own_state())
    for header in ("w" * 201, ""):
        with pytest.raises(ValueError, match="columns and classes must be texts of 1 to 200 characters"):
            TargetConfig(header=header)
    path = tmp_path / "x.safetensors"
    path.write_bytes(path.read_bytes().replace(b'\\"header\\":\\"v (cm/s)\\"', b'\\"headex\\":\\"v (cm/s)\\"'))
    with pytest.raises(CheckpointError, match="a target must have the fields of TargetConfig"):
        load_sequence(path, loaded)

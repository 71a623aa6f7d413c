"""Studies of many images: medians by hand, a file that comes back, a command line that goes on where it stopped."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tae.causal as door
from tae import Card, load_checkpoint, save_checkpoint
from tae.analysis.causal import interventions, job, knockouts, occlusion, study, sweeps, verdicts
from tae.analysis.causal.faithfulness import infidelity
from tae.analysis.causal.occlusion import COVERS
from tae.analysis.causal.pairs import ERRORS, GROUPS, pair_record
from tae.analysis.causal.predictors import ATTENTION, CHANGE, GRADIENT, TRIVIAL, spearman, trivial_predictors
from tae.analysis.causal.predictors import predictors as attention_predictors
from tae.analysis.causal.study import QUANTILES, fingerprint, read_study, study_images, summarise, to_json, to_markdown
from tae.data.batches import to_batch

SHA = "ab" * 32


def draw(count: int, width: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Dark blots on white, each another."""
    random = np.random.default_rng(seed)
    images = np.full((count, 24, width), 255, np.uint8)
    for image in images:
        top, left = random.integers(0, 12), random.integers(0, width - 12)
        image[top : top + 12, left : left + 12] = random.integers(0, 200, (12, 12))
    return list(images)


@pytest.fixture
def checkpoint(small_model, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model().float(), Card(name="Small"))
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    for number, pixels in enumerate(draw(4)):
        Image.fromarray(pixels).save(path / f"{number}.png")
    (path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return path


@pytest.mark.slow
def test_a_record_holds_what_each_intervention_did_to_one_image(small_model, monkeypatch):
    model, images = small_model(), draw(3)
    records = list(study_images(model, images, knockouts.ZERO))
    assert len(records) == 3
    image = to_batch(images[1:2])[0].double()
    sweep = sweeps.head_sweep(model, image, with_ssim=True)
    assert set(records[1]["damage"]) == {one.name for one in interventions.all_knockouts(model.config)}
    knockout = interventions.Knockout("decoder", 1, 2)
    assert records[1]["damage"]["decoder/1/2"] == pytest.approx(
        [sweep.damage[knockout].psnr_lost, sweep.damage[knockout].ssim_lost, sweep.damage[knockout].mse_gained],
        rel=1e-5,
    )
    others = to_batch([images[2], images[0]])[0].double()
    lost = verdicts.necessity(model, image, others).lost
    assert records[1]["lost"] == pytest.approx({"/".join(key): value[0] for key, value in lost.items()}, rel=1e-5)
    tokens = occlusion.foreground_tokens(image, model.config)
    rollout = attention_predictors(model, image)["rollout"][tokens]
    baselines = {"white": 1.0, "mean": "mean", "blur": "blur", "mean image": others.mean(dim=0, keepdim=True)}
    for name, baseline in {**baselines, "another": others[:1], "imputed": "imputed"}.items():
        found, effect = records[1]["covers"][name], occlusion.occlude(model, image, baseline, tokens)
        assert found["spearman"]["rollout"] == pytest.approx(spearman(rollout, effect.total), rel=1e-5)
        change = trivial_predictors(image, model.config, baseline)[CHANGE][tokens]
        assert found["spearman"][CHANGE] == pytest.approx(spearman(change, effect.total), rel=1e-5)
        assert found["inside"] == pytest.approx(effect.share_inside, rel=1e-5)
        assert found["infidelity"]["rollout"] == pytest.approx(
            infidelity(model, image, attention_predictors(model, image), tokens, baseline)["rollout"], rel=1e-5
        )
    assert records[0]["pair"]["share"] == pytest.approx(
        pair_record(model, *to_batch(images)[0].double().split(1))["share"], rel=1e-5
    )
    assert records[1]["pair"] == records[2]["pair"] == {}  # the second of a pair; and one that has no other
    assert list(study_images(model, images, knockouts.ZERO, first=2)) == records[2:]
    monkeypatch.setattr(study, "COVER_IMAGES", 1)
    assert [[*record["covers"]] for record in study_images(model, images[:2], knockouts.ZERO)] == [[*COVERS], []]
    json.dumps(records, allow_nan=False)


@pytest.mark.slow
def test_a_study_of_any_width_takes_each_image_at_its_own(small_model):
    model = small_model(input_size=(24, None), max_width=64)
    images = [*draw(1, 32), *draw(1, 48), *draw(1, 21)]
    batch, widths = to_batch(images)
    mean = knockouts.mean_baseline(model, batch.double(), widths)
    records = list(study_images(model, images, mean))
    study = summarise(records, SHA, "three", mean.title)
    assert study.baseline == "mean over 3 images"
    image = to_batch(images[2:])[0].double()
    sweep = sweeps.head_sweep(model, image, mean)
    assert records[2]["damage"]["encoder/0/1"][0] == pytest.approx(
        sweep.damage[interventions.Knockout("encoder", 0, 1)].psnr_lost, rel=1e-5
    )


def test_fewer_than_two_images_are_refused(small_model):
    with pytest.raises(ValueError, match="images must be at least 2"):
        next(study_images(small_model(), draw(1), knockouts.ZERO))


def test_a_model_that_draws_no_numbers_is_refused(small_model):
    model = small_model()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.fill_(math.inf)
    with pytest.raises(ValueError, match="the model draws no finite numbers from image 0"):
        next(study_images(model, draw(2), knockouts.ZERO))


def records_by_hand() -> list[dict]:
    names = [
        f"{part}/{place}/{by}"
        for part in ("encoder", "decoder")
        for place in ("all", "0")
        for by in verdicts.REPLACED_BY
    ]
    predictors = [*ATTENTION, GRADIENT, *TRIVIAL]
    return [
        {
            "psnr": 20.0 + number,
            "damage": {"encoder/0/0": [lost, 0.1, 0.001], "encoder/0/mlp": [5.0, None, 0.01]},
            "lost": {name: 6.0 + number if name.startswith("encoder") else 0.1 for name in names},
            "covers": {
                cover: {
                    "spearman": {name: 0.5 + place / 20 for place, name in enumerate(predictors)},
                    "overlap": dict.fromkeys(predictors, 0.3),
                    "infidelity": dict.fromkeys(predictors, 0.7),
                    "inside": 0.2 + number / 10,
                }
                for cover in (COVERS if number < 5 else ())
            },
            "pair": {
                **{group: {"encoder/0/0": number / 10, "encoder/0/mlp": None} for group in GROUPS},
                "estimate": dict.fromkeys(ERRORS, 0.5),
            }
            if number < 5
            else {},
            "sensitivity": {"rollout": number / 10} if number < 5 else {},
        }
        for number, lost in enumerate([1.0, 2.0, 10.0, 3.0, 4.0, 5.0])
    ]


def test_a_study_holds_medians_means_and_what_they_say():
    study = summarise(records_by_hand(), SHA, "six by hand", "zero")
    assert study.num_images == 6
    assert study.median_damage("encoder/0/0") == 3.5
    assert study.damage["encoder/0/0"]["psnr_lost"] == pytest.approx(
        np.quantile([1, 2, 10, 3, 4, 5], QUANTILES).tolist(), rel=1e-5
    )
    assert study.damage["encoder/0/mlp"]["ssim_lost"] == [None] * 5
    assert math.isnan(study.median_damage("encoder/0/mlp", "ssim_lost"))
    assert math.isnan(study.median_damage("encoder/7/0"))
    assert study.necessity["encoder/all/another"]["value"] == 8.5
    assert study.verdicts["encoder"]["kind"] == "needed"
    assert study.verdicts["decoder"]["kind"] == "not needed"
    assert study.agreement.startswith("A simple baseline wins: random 0.95")  # the last of the list, by hand
    assert "is behind it under white, the image's mean grey, the image, blurred" in study.agreement
    assert [one["count"] for one in study.covers.values()] == [5] * 6
    assert study.covers["blur"]["inside"]["value"] == pytest.approx(0.4)
    assert study.pairs["count"] == 5 and study.pairs["share"]["encoder/0/0"]["value"] == pytest.approx(0.2)


def test_one_token_has_no_verdict_to_give():
    study = summarise(records_by_hand(), SHA, "six", "zero", has_attention=False)
    assert {one["kind"] for one in study.verdicts.values()} == {"none"}


def test_a_study_survives_its_file_and_belongs_to_its_checkpoint(tmp_path):
    study = summarise(records_by_hand(), SHA, "six by hand", "zero")
    path = tmp_path / "x.causal.json"
    path.write_bytes(to_json(study))
    assert read_study(path, SHA) == study
    with pytest.raises(ValueError, match="x.causal.json is of another checkpoint"):
        read_study(path, "cd" * 32)
    with pytest.raises(FileNotFoundError):
        read_study(tmp_path / "none.json", SHA)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(program="other"),
        lambda values: values.update(format_version=1),
        lambda values: values.pop("psnr"),
        lambda values: values.update(extra=1),
        lambda values: values.update(psnr=[1.0]),
        lambda values: values["damage"].update({"encoder/0/<b>": values["damage"]["encoder/0/0"]}),
        lambda values: values["damage"]["encoder/0/0"].update(psnr_lost=["1", 2, 3, 4, 5]),
        lambda values: values["necessity"]["encoder/all/uniform"].pop("low"),
        lambda values: values["covers"]["white"]["spearman"].update(rollout=3),
        lambda values: values["covers"].pop("white"),
        lambda values: values["covers"]["blur"].pop("count"),
        lambda values: values["covers"].update(black=values["covers"]["white"]),
        lambda values: values.update(damage=[]),
        lambda values: values.update(agreement=["text"]),
        lambda values: values.update(verdicts={}),
        lambda values: values.update(num_images=True),
        lambda values: values.pop("pairs"),
        lambda values: values.update(pairs={}),
        lambda values: values["pairs"]["share"].update({"encoder/0/<b>": values["pairs"]["share"]["encoder/0/0"]}),
        lambda values: values["pairs"]["control"].pop("encoder/0/0"),
        lambda values: values["pairs"].update(count="5"),
        lambda values: values["pairs"]["estimate"]["deviation"].update(low="none"),
    ],
)
def test_a_strangers_file_is_refused(tmp_path, change):
    values = json.loads(to_json(summarise(records_by_hand(), SHA, "six", "zero")))
    seal = values.pop("seal")
    change(values)
    path = tmp_path / "x.causal.json"
    path.write_bytes(study._sealed((json.dumps(values | {"seal": seal}, indent=1) + "\n").encode()))
    with pytest.raises(ValueError, match="x.causal.json"):
        read_study(path, SHA)


@pytest.mark.parametrize("version", [3, 4])
def test_a_study_of_a_format_before_lacks_what_came_later(tmp_path, version):
    values = json.loads(to_json(summarise(records_by_hand(), SHA, "six", "zero"))) | {"format_version": version}
    del values["pairs"]
    if version == 3:
        del values["sensitivity"]
        for figures in values["covers"].values():
            del figures["infidelity"]
    old = json.dumps(values, indent=1)
    for earlier, name in study._EARLIER.items():
        old = old.replace(json.dumps(name), json.dumps(earlier))
    assert '"decorative"' in old
    path = tmp_path / "x.causal.json"
    path.write_bytes(study._sealed((old + "\n").encode()))
    found = read_study(path, SHA)
    assert found.pairs is None and found.verdicts == values["verdicts"]
    assert bool(found.sensitivity) == bool(found.covers["white"]["infidelity"]) == (version == 4)
    assert found.covers["white"]["spearman"] == values["covers"]["white"]["spearman"]
    assert ("infidelity" in to_markdown(found, "old")) == (version == 4)
    assert "another image's run" not in to_markdown(found, "old")


@pytest.mark.slow
def test_31_a_flipped_bit_anywhere_in_a_study_is_found(tmp_path):
    content = to_json(summarise(records_by_hand(), SHA, "six by hand", "zero"))
    path, chance = tmp_path / "x.causal.json", np.random.default_rng(0)
    for place in chance.integers(0, len(content), 1000):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << chance.integers(8))]) + content[place + 1 :])
        with pytest.raises(ValueError, match="x.causal.json"):
            read_study(path, SHA)


def test_41_a_pipe_in_the_place_of_a_study_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.causal.json")
    with pytest.raises(ValueError, match="x.causal.json cannot be read: it is a folder, pipe or device"):
        read_study(tmp_path / "x.causal.json", SHA)


def test_what_is_no_study_is_refused(tmp_path):
    for text in ["", "[]", "{", '{"a": NaN}', "x" * 1_000_001]:
        path = tmp_path / "x.causal.json"
        path.write_text(text)
        with pytest.raises(ValueError, match="x.causal.json"):
            read_study(path, SHA)


def test_the_text_for_readers_has_every_figure():
    text = to_markdown(summarise(records_by_hand(), SHA, "six by hand", "zero"), "small")
    assert "| rollout | 0.70 (0.70 to 0.70) | 0.70 (0.70 to 0.70) |" in text and "| 0.20 (0.08 to 0.32) |" in text
    assert "| Encoder, layer 0, head 0 | 3.50 dB (1.25 to 8.75) | 0.100 |" in text
    assert "| Encoder, layer 0, MLP | 5.00 dB (5.00 to 5.00) | not defined |" in text
    assert "| another image's attention | 8.50 dB | 8.50 dB |" in text
    assert text.index("Encoder, layer 0, MLP") < text.index("Encoder, layer 0, head 0")
    assert "replaced by zero" in text and "six by hand" in text
    assert "| Encoder, layer 0, head 0 | 20% (8 to 32) | 20% (8 to 32) | 20% (8 to 32) | 20% (8 to 32) |" in text
    assert "| rollout | 0.55 | 0.55 | 0.55 | 0.55 | 0.55 |" in text and "mean over the first 5 images" in text


def test_the_fingerprint_knows_everything_that_figures_depend_on():
    images = draw(2)
    own = fingerprint(SHA, images, "mean")
    assert own == fingerprint(SHA, [image.copy() for image in images], "mean")
    others = [(SHA[:-1] + "0", images, "mean"), (SHA, images[::-1], "mean"), (SHA, images, "zero")]
    assert own not in [fingerprint(*one) for one in others]


def run(*arguments: object) -> int:
    return door.main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command_line_writes_beside_the_checkpoint_what_a_page_reads(checkpoint, folder, capsys):
    assert run("--checkpoint", checkpoint, "--images", folder) == 0
    study = read_study(checkpoint.with_suffix(".causal.json"), load_checkpoint(checkpoint).digest)
    assert (study.num_images, study.data, study.baseline) == (4, "images of pictures", "mean over 4 images")
    said = capsys.readouterr()
    assert study.agreement in said.out and "skipped torn.png" in said.err
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == [
        "pictures",
        "small.causal.json",
        "small.safetensors",
    ]
    out = checkpoint.with_name("figures.md")
    assert run("--checkpoint", checkpoint, "--images", folder, "--out", out, "--baseline", "zero", "--count", 2) == 0
    assert "2 images (images of pictures)" in out.read_text()


@pytest.mark.slow
def test_a_stopped_study_goes_on_with_the_same_result(checkpoint, folder, monkeypatch):
    whole, stopped = checkpoint.with_name("whole.json"), checkpoint.with_name("stopped.json")
    assert run("--checkpoint", checkpoint, "--images", folder, "--out", whole) == 0
    firsts = []

    def stop_after_two(model, images, baseline, first):
        firsts.append(first)
        for number, record in enumerate(study_images(model, images, baseline, first)):
            if len(firsts) == 1 and number == 2:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(job, "study_images", stop_after_two)
    command = ("--checkpoint", checkpoint, "--images", folder, "--out", stopped)
    assert run(*command) == 130
    assert not stopped.exists()
    with open(f"{stopped}.part", "a") as file:
        file.write('{"psnr": 3')  # a line that was being written
    assert run(*command) == 0
    assert firsts == [0, 2]
    assert stopped.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("claimed", "count"), [(3, 3), (1, 2), (10**9, 2)])
def test_as_many_demo_images_are_taken_as_the_card_speaks_of(checkpoint, monkeypatch, claimed, count):
    monkeypatch.setattr(job, "MEAN_OVER", 2)
    loaded = load_checkpoint(checkpoint)
    path = checkpoint.with_name("claims.safetensors")
    save_checkpoint(path, loaded.model, replace(loaded.card, metrics={"count": claimed}))
    assert run("--checkpoint", path) == 0
    study = read_study(path.with_suffix(".causal.json"), load_checkpoint(path).digest)
    assert (study.num_images, study.data) == (count, "test split of the drops")
    assert study.baseline == "mean over 2 images"


@pytest.mark.slow
def test_what_was_begun_for_other_images_is_begun_anew(checkpoint, folder):
    out = checkpoint.with_name("x.json")
    begun = out.with_name("x.json.part")
    begun.write_text('{"fingerprint": "other"}\n{"psnr": 1}\n')
    assert run("--checkpoint", checkpoint, "--images", folder, "--out", out) == 0
    assert json.loads(out.read_bytes())["num_images"] == 4
    assert not begun.exists()


def test_a_name_without_an_ending_is_a_report_to_read(checkpoint, folder, tmp_path):
    out = tmp_path / "report"
    assert run("--checkpoint", checkpoint, "--images", folder, "--count", 2, "--out", out) == 0
    assert out.with_suffix(".md").read_text().startswith("# ") and not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_53_a_full_disk_names_the_file_that_it_has_no_room_for(checkpoint, folder, capsys):
    checkpoint.with_name("x.json.part").symlink_to("/dev/full")
    assert run("--checkpoint", checkpoint, "--images", folder, "--out", checkpoint.with_name("x.json")) == 1
    assert "No space left on device: 'x.json.part'" in capsys.readouterr().err


def test_the_command_line_says_what_is_wrong(checkpoint, folder, capsys):
    assert run("--checkpoint", checkpoint, "--images", folder / "0.png") == 1
    assert "images must be at least 2 that can be read, got 1" in capsys.readouterr().err
    assert run("--checkpoint", folder / "0.png") == 1
    assert "error: 0.png" in capsys.readouterr().err
    assert run("--checkpoint", checkpoint, "--images", folder / "missing") == 1
    with pytest.raises(ValueError, match=r"out must end in .json or .md, got x.txt"):
        job.StudyConfig(checkpoint=checkpoint, out=Path("x.txt"))
    with pytest.raises(ValueError, match="count must be a whole number from 2"):
        job.StudyConfig(checkpoint=checkpoint, count=1)
    with pytest.raises(ValueError, match="threads must be a whole number from 1"):
        job.StudyConfig(checkpoint=checkpoint, threads=0)

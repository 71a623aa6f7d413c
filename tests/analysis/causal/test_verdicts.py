"""Necessity and verdicts: models whose needless attention is known by construction."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tae.analysis.causal import sweeps, verdicts
from tae.analysis.causal.replacements import from_images, identity, mean_map, permuted_keys, reconstruct_with
from tae.analysis.causal.replacements import uniform as uniform_weights
from tae.analysis.causal.verdicts import Necessity
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.store.checkpoint import load_checkpoint
from tests.analysis.reference import draw
from tests.planted import NEEDED


def test_attention_that_draws_the_same_for_every_image_is_input_independent(one_picture):
    model, picture = one_picture()
    found = verdicts.necessity(model, picture, draw(3, seed=2))
    assert found.mean("decoder", "all", "uniform").value > 3
    for name in ("another", "mean"):
        assert found.mean("decoder", "all", name).value == pytest.approx(0, abs=1e-6)
    assert found.mean("decoder", "1", "uniform").value == pytest.approx(0, abs=1e-6)  # not connected
    said = verdicts.verdict(found, "decoder")
    assert (said.kind, said.part, said.place) == ("input-independent", "decoder", "all")
    assert "input-independent" in said.sentence and "this image" in said.sentence
    assert verdicts.verdict(found, "decoder", "1").kind == "not needed"


def test_attention_that_reads_the_same_from_everywhere_is_not_needed(one_picture):
    model, picture = one_picture(same_values=True)
    assert sweeps.head_sweep(model, picture).damage[NEEDED].psnr_lost > 3  # the head is needed, its weights are not
    found = verdicts.necessity(model, picture, draw(2, seed=2))
    for name in verdicts.REPLACED_BY:
        assert found.mean("decoder", "all", name).value == pytest.approx(0, abs=1e-6)
    said = verdicts.verdict(found, "decoder")
    assert said.kind == "not needed"
    assert "attention of the decoder is not needed" in said.sentence


@pytest.mark.slow
def test_the_demo_checkpoint_needs_its_attention():
    model = load_checkpoint("checkpoints/demo_tiny_201x201_p16.safetensors").model
    images, _ = to_batch(DemoSource((201, 201)).test(8))
    found = verdicts.necessity(model, images[:4], images[4:], parts=["encoder"])
    said = verdicts.verdict(found)
    assert said.kind == "needed" and "mean of 4 images" in said.sentence
    assert found.mean("encoder", "all", "uniform").value > found.mean("encoder", "all", "another").value > 3


def test_one_token_has_no_attention_to_judge(small_model):
    model = small_model(patch_size=None)
    found = verdicts.necessity(model, draw(2), draw(2, seed=2))
    assert max(np.abs(lost).max() for lost in found.lost.values()) < 1e-9
    for part in ("encoder", "decoder"):
        assert verdicts.verdict(found, part).kind == "none"


def test_necessity_is_the_loss_under_each_replacement(small_model):
    model, images, others = small_model(), draw(3), draw(2, seed=2)
    found = verdicts.necessity(model, images, others, seed=4)
    assert found.places("decoder") == ["all", "0", "1"]
    assert len(found.lost) == 2 * 3 * 5
    plain = sweeps.psnr_each(images, model(images)[0].detach())
    assert_close(torch.from_numpy(found.psnr), plain)
    for part in ("encoder", "decoder"):
        replacements = {
            "uniform": uniform_weights,
            "identity": identity,
            "another": from_images(model, others[[0, 1, 0]], part),
            "mean": mean_map(model, others, part),
            "permuted": permuted_keys(4),
        }
        for place, layers in {"all": None, "0": [0], "1": [1]}.items():
            for name, replace in replacements.items():
                recon = reconstruct_with(model, images, replace, part, layers)
                expected = (plain - sweeps.psnr_each(images, recon)).numpy()
                np.testing.assert_allclose(found.lost[part, place, name], expected, atol=1e-9)
    row = found.table("encoder")[2]
    assert row["replaced_by"] == "another image's attention"
    assert row["1"] == pytest.approx(found.lost["encoder", "1", "another"].mean())


def test_quick_necessity_is_what_a_verdict_needs_of_the_whole(small_model):
    model, images, others = small_model(), draw(3), draw(3, seed=2)
    whole = verdicts.necessity(model, images, others)
    quick = verdicts.quick_necessity(model, zip(images.split(1), others.split(1), strict=True))
    np.testing.assert_allclose(quick.psnr, whole.psnr)
    assert {*quick.lost} == {(part, "all", name) for part in ("encoder", "decoder") for name in ("uniform", "another")}
    for key, lost in quick.lost.items():
        np.testing.assert_allclose(lost, whole.lost[key], atol=1e-9)
    for part in ("encoder", "decoder"):
        assert verdicts.verdict(quick, part) == verdicts.verdict(whole, part)
    with pytest.raises(ValueError, match="replaced_by must be among uniform, identity"):
        verdicts.necessity(model, images, others, replaced_by=["nothing"])
    one_token = verdicts.quick_necessity(small_model(patch_size=None), [(images[:1], others[:1])])
    assert verdicts.verdict(one_token).kind == "none"


def test_necessity_in_parts_and_with_widths_is_that_of_each_image(small_model, monkeypatch):
    model = small_model(input_size=(16, None), max_width=64)
    images, others, widths = draw(3, size=(16, 40)), draw(2, 2, (16, 40)), torch.tensor([40, 9, 25])
    monkeypatch.setattr("tae.analysis.causal.prefix.TOKENS_AT_ONCE", 20)  # two images of 10 tokens
    shares = []
    together = verdicts.necessity(model, images, others, widths=widths, progress=shares.append)
    assert shares == pytest.approx([step / 12 for step in range(1, 13)])
    for number, width in enumerate(widths.tolist()):
        lenders = others.roll(-number, 0)
        alone = verdicts.necessity(
            model, images[number : number + 1, :, :, :width].clone(), lenders[..., :width].clone()
        )
        keys = [("encoder", "all", "uniform"), ("encoder", "0", "identity")]
        if width == 40:  # a wider image lends what it places on the tokens that are there; cut, it would be another
            keys += [("decoder", "1", "another"), ("encoder", "all", "mean")]
        for key in keys:
            assert together.lost[key][number] == pytest.approx(alone.lost[key][0])


def necessity_of(uniform: list[float], another: list[float]) -> Necessity:
    lost = {("encoder", "all", "uniform"): np.array(uniform), ("encoder", "all", "another"): np.array(another)}
    return Necessity(np.full(len(uniform), 25.0), lost)


def test_a_verdict_needs_the_whole_interval():
    for uniform, another, kind in [
        ([9.0], [6.0], "needed"),
        ([9.0], [0.4], "input-independent"),
        ([0.4], [0.1], "not needed"),
        ([0.4], [3.0], "not needed"),
        ([9.0, 9.1, 9.2] * 2, [0.1, 0.2, 1.5] * 2, "undecided"),
        ([9.0, 9.1, 9.2] * 2, [0.1, 0.2, 0.3] * 2, "input-independent"),
        ([9.0, 9.1, 9.2] * 2, [0.6, 0.8, 0.7] * 2, "needed"),
        ([0.1, 0.9, 0.4] * 2, [0.6, 0.8, 0.7] * 2, "undecided"),
    ]:
        said = verdicts.verdict(necessity_of(uniform, another))
        assert said.kind == kind
        assert f"{np.mean(another):.1f} dB" in said.sentence
        assert ("the squared error at least doubles" in said.sentence) == (another == [6.0])


@pytest.mark.parametrize(
    ("uniform", "another", "name"),
    [(0.4, 5, "not needed"), (5, 0.4, "input-independent"), (1, 2, "needed"), (3.1, 4, "needed, at least doubled")],
)
def test_each_rule_of_the_table_is_the_one_by_which_verdicts_are_given(uniform, another, name):
    lost = {("encoder", "all", "uniform"): np.full(8, uniform), ("encoder", "all", "another"): np.full(8, another)}
    said = verdicts.verdict(Necessity(np.full(8, 20.0), lost))
    assert name in [rule[0] for rule in verdicts.RULES] and said.kind == name.split(",")[0]
    assert ("at least doubles" in said.sentence) == ("doubled" in name)


def test_what_is_no_number_has_a_verdict_without_numbers():
    for another in [[math.nan], [math.nan] * 6]:
        said = verdicts.verdict(necessity_of([0.0] * len(another), another))
        assert said.kind == "undecided" and not said.tells_little
        assert "cannot be told" in said.sentence and "nan" not in said.sentence

"""The lens: its ends are the model itself, its translators what least squares says, its files refused when foreign."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import lens as benchmark
from tae import Card, create_autoencoder, list_checkpoints, load_checkpoint, save_checkpoint
from tae.analysis.evaluate import reconstruct
from tae.analysis.lens import (
    SUFFIX,
    Lens,
    LensError,
    draw,
    fit_lens,
    lens_path,
    load_lens,
    look,
    read_states,
    save_lens,
)
from tae.analysis.lens.file import NUMBERS, TENSORS
from tae.analysis.lens.fit import LeastSquares
from tae.data.built_in import source_for
from tae.lens import main
from tae.model.config import PARTS
from tae.model.metrics import measure
from tae.store.checkpoint import COMPANIONS
from tae.training.lens import LensConfig, fit_to_file
from tests.conftest import SMALL

DIGEST = "ab" * 32


def batches(count: int, width: int = 32, widths: list[int] | None = None, seed: int = 0) -> list:
    generator = torch.Generator().manual_seed(seed)
    own = None if widths is None else torch.tensor(widths)
    return [
        (torch.rand(4, 1, 24, width, generator=generator, dtype=torch.float64), None if own is None else own)
        for _ in range(count)
    ]


def small_lens(model, **settings) -> Lens:
    return fit_lens(model, DIGEST, batches(12), batches(2, seed=1), **settings)


def test_last_depth_is_the_model_s_own_reconstruction_bit_for_bit(small_model):
    for part in PARTS:
        for fields in [{}, {"patch_size": None}, {"input_size": (20, 70)}, {"encoder_layers": 1}]:
            model = small_model(**fields)
            images = torch.rand(3, 1, *model.config.input_size, dtype=torch.float64)
            seen = look(model, images, part)
            assert (
                len(seen.recons)
                == (model.config.encoder_layers if part == "encoder" else model.config.decoder_layers) + 1
            )
            assert torch.equal(seen.recons[-1], model(images)[0])
            assert not torch.allclose(seen.recons[0], seen.recons[-1], atol=1e-3)
            assert (seen.distance, seen.limit, seen.is_unusual) == (None, None, None)


def test_images_of_mixed_widths_end_as_the_model_s_own_and_are_seen_as_alone(small_model):
    for part in PARTS:
        model = small_model(input_size=(24, None), max_width=80)
        images, widths = torch.rand(3, 1, 24, 64, dtype=torch.float64), torch.tensor([64, 21, 40])
        for row, width in enumerate(widths.tolist()):
            images[row, ..., width:] = 0
        lens = fit_lens(model, DIGEST, [(images, widths)] * 2, [(images, widths)])
        for tuned in (False, True):
            seen = look(model, images, part, lens, tuned, widths)
            assert torch.equal(seen.recons[-1], model(images, widths=widths)[0])
            for row, width in enumerate(widths.tolist()):
                alone = look(model, images[row : row + 1, ..., :width], part, lens, tuned)
                torch.testing.assert_close(seen.recons[:, row : row + 1, ..., :width], alone.recons)
                assert not seen.recons[:, row, ..., width:].any()
                torch.testing.assert_close(seen.psnr[:, row], alone.psnr[:, 0])
                torch.testing.assert_close(seen.distance[:, row], alone.distance[:, 0])  # type: ignore[index]


def test_states_of_padding_are_not_fitted(small_model):
    model = small_model(input_size=(24, None), max_width=80)
    images, widths = torch.rand(2, 1, 24, 64, dtype=torch.float64), torch.tensor([64, 24])
    states = read_states(model, images, "decoder", widths)
    assert states.rows(1).shape == (24 + 9, 16)
    alone = read_states(model, images[1:, ..., :24], "decoder")
    torch.testing.assert_close(states.rows(1)[24:], alone.rows(1))


def test_a_state_is_what_the_final_norm_makes_of_the_tokens_after_a_layer(small_model):
    for part in PARTS:
        model = small_model(encoder_layers=3, decoder_layers=3)
        images = torch.rand(2, 1, 24, 32, dtype=torch.float64)
        states = read_states(model, images, part)
        tokens, _ = model.layer_input(images, 2, part)
        normed = getattr(model, part).norm(tokens)
        assert torch.equal(states.at[2], normed.mean(dim=1) if part == "encoder" else normed)


def test_psnr_is_that_of_the_metrics(small_model):
    model = small_model()
    images = torch.rand(2, 1, 24, 32, dtype=torch.float64)
    seen = look(model, images)
    for depth, row in ((0, 0), (2, 1)):
        expected = measure(images[row, 0].numpy(), seen.recons[depth, row, 0].numpy()).psnr
        assert float(seen.psnr[depth, row]) == pytest.approx(expected, rel=1e-9)


def solved(states: torch.Tensor, targets: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    sums = LeastSquares(states.shape[1])
    sums.add(states, targets)
    return sums.solve(ridge)


def test_a_translator_is_the_least_squares_map():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(400, 6, generator=generator, dtype=torch.float64) + 3
    true, shift = torch.randn(6, 6, generator=generator, dtype=torch.float64), torch.arange(6.0).double()
    weight, bias = solved(states, states @ true + shift, 1e-12)  # a linear world is found
    torch.testing.assert_close(torch.eye(6).double() + weight, true, rtol=0, atol=1e-8)
    torch.testing.assert_close(bias, shift, rtol=0, atol=1e-7)
    states, targets = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    weight, bias = solved(states, targets, 1e-12)  # and of noise what lstsq finds
    plain = np.linalg.lstsq(np.column_stack([states.numpy(), np.ones(50)]), targets.numpy(), rcond=None)[0]
    np.testing.assert_allclose(np.eye(4) + weight.numpy(), plain[:4], atol=1e-9)
    np.testing.assert_allclose(bias.numpy(), plain[4], atol=1e-9)
    weight, bias = solved(states, targets, 1e9)  # a large ridge leaves states as they are but for their mean
    torch.testing.assert_close(weight, torch.zeros(4, 4).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(bias, (targets - states).mean(dim=0), rtol=0, atol=1e-8)
    for states in (torch.randn(30, 5), torch.ones(30, 5)):  # to itself: the identity, even where nothing varies
        assert not any(one.any() for one in solved(states, states, 1e-4))


def test_tuned_pictures_are_the_translated_states_drawn_and_last_ones_stay(small_model):
    for part in PARTS:
        model = small_model()
        lens = small_lens(model)
        images = torch.rand(2, 1, 24, 32, dtype=torch.float64)
        seen, states, own = (
            look(model, images, part, lens, tuned=True),
            read_states(model, images, part),
            lens.parts[part],
        )
        identity = torch.eye(16, dtype=torch.float64)
        for depth in (0, 1):
            by_hand = states.at[depth] @ (identity + own.weight[depth].double()) + own.bias[depth].double()
            torch.testing.assert_close(seen.recons[depth], draw(model, states, depth, by_hand))
            assert not torch.allclose(seen.recons[depth], draw(model, states, depth), atol=1e-3)
        assert torch.equal(seen.recons[-1], model(images)[0])


def test_a_layer_that_does_a_linear_map_is_undone_by_its_translator(small_model):
    """The last block does nothing, so its translator has nothing to do; one depth earlier there is something to do."""
    for part in PARTS:
        model = small_model()
        last = getattr(model, part).blocks[-1]
        with torch.no_grad():
            for linear in (last.attn.proj, last.mlp[-1]):
                linear.weight.zero_()
                linear.bias.zero_()
        own = small_lens(model).parts[part]
        assert not own.weight[1].any() and not own.bias[1].any()
        assert own.weight[0].abs().max() > 0.01
        assert own.psnr_raw[1] == own.psnr_raw[2] == own.psnr_tuned[1] == own.psnr_tuned[2]


def test_tuned_states_are_nearer_to_the_last_ones_than_raw_ones_on_training_images(small_model):
    model = small_model()
    train = batches(40)
    lens = fit_lens(model, DIGEST, train, batches(2, seed=1))
    images = torch.cat([images for images, _ in train])
    for part in PARTS:
        states = read_states(model, images, part)
        for depth in (0, 1):
            raw = (states.at[depth] - states.at[-1]).square().mean()
            tuned = (lens.parts[part].translate(states.at[depth], depth) - states.at[-1]).square().mean()
            assert tuned < 0.9 * raw


@pytest.mark.slow
def test_distance_is_mahalanobis_as_a_multiple_of_the_test_images_median(small_model):
    for part in PARTS:
        model = small_model()
        train, test = batches(40), batches(5, seed=1)
        own = fit_lens(model, DIGEST, train, test).parts[part]
        last = torch.cat([read_states(model, images, part).rows(2) for images, _ in train]).numpy()
        covariance = np.cov(last.T, bias=True)
        inverse = np.linalg.inv(covariance + 1e-3 * np.trace(covariance) / 16 * np.eye(16))
        tested = torch.cat([read_states(model, images, part).at[2] for images, _ in test])
        away = tested.numpy() - last.mean(axis=0)
        squares = np.einsum("...i,ij,...j->...", away, inverse, away) / 16
        plain = np.sqrt(squares if part == "encoder" else squares.mean(axis=1))
        plain /= torch.from_numpy(plain).median().item()
        np.testing.assert_allclose(own.distance(tested).numpy(), plain, rtol=1e-3)  # its matrices are float32
        assert own.limit == pytest.approx(np.quantile(plain, 0.99), rel=1e-3)


def test_states_from_far_away_are_called_unusual_and_test_images_not(small_model):
    model = small_model()
    lens = small_lens(model)
    (images, _), *_ = batches(1, seed=1)
    usual = look(model, images, "decoder", lens).is_unusual
    assert usual is not None and not usual[-1].any()
    states = read_states(model, images, "decoder")
    assert bool((lens.parts["decoder"].distance(states.at[-1] + 100) > lens.parts["decoder"].limit).all())


def test_tuned_pictures_need_a_lens(small_model):
    with pytest.raises(ValueError, match="lens must be given for tuned images"):
        look(small_model(), torch.rand(1, 1, 24, 32, dtype=torch.float64), tuned=True)


def test_a_lens_needs_images(small_model):
    model = small_model()
    with pytest.raises(ValueError, match="training images must be at least 2, got 0"):
        fit_lens(model, DIGEST, [], batches(1))
    with pytest.raises(ValueError, match="test images must be at least 1"):
        fit_lens(model, DIGEST, batches(1), [])


def test_model_is_left_as_it_was(small_model):
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small_lens(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def same(a: Lens, b: Lens) -> bool:
    return (
        (a.checkpoint, a.about) == (b.checkpoint, b.about)
        and all(torch.equal(getattr(a.parts[p], n), getattr(b.parts[p], n)) for p in PARTS for n in TENSORS)
        and all(getattr(a.parts[p], n) == getattr(b.parts[p], n) for p in PARTS for n in NUMBERS)
    )


def test_a_lens_comes_back_from_its_file_to_the_bit(small_model, tmp_path: Path):
    model = small_model()
    lens = small_lens(model)
    save_lens(tmp_path / "a.lens.safetensors", lens)
    assert same(load_lens(tmp_path / "a.lens.safetensors", model.config, DIGEST), lens)


def test_a_foreign_lens_is_refused(small_model, tmp_path: Path):
    model = small_model()
    path = tmp_path / "a.lens.safetensors"
    save_lens(path, small_lens(model))
    with pytest.raises(LensError, match=r"^a.lens.safetensors: it is of another checkpoint \(abababababab…, not cd"):
        load_lens(path, model.config, "cd" * 32)
    with pytest.raises(LensError, match=r"2 of another shape: encoder.weight \(expected \[3"):
        load_lens(path, replace(model.config, encoder_layers=3), DIGEST)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(LensError, match="^a.lens.safetensors: the file is damaged"):
        load_lens(path, model.config, DIGEST)
    save_checkpoint(path, create_autoencoder(**SMALL, preset=None), Card(name="a"))
    with pytest.raises(LensError, match="not a lens of this program"):
        load_lens(path, model.config, DIGEST)
    with pytest.raises(FileNotFoundError):
        load_lens(tmp_path / "none.lens.safetensors", model.config, DIGEST)


def with_part(lens: Lens, part: str, **change: object) -> Lens:
    return replace(lens, parts={**lens.parts, part: replace(lens.parts[part], **change)})


def test_a_lens_whose_numbers_make_no_sense_is_refused(small_model, tmp_path: Path):
    model = small_model()
    lens, path = small_lens(model), tmp_path / "a.lens.safetensors"
    for change in ({"usual": 0}, {"limit": -1.0}, {"psnr_raw": (1.0,)}, {"psnr_tuned": ("a",) * 3}):
        save_lens(path, with_part(lens, "decoder", **change))
        with pytest.raises(LensError, match="its description does not hold what belongs there"):
            load_lens(path, model.config, DIGEST)
    save_lens(path, with_part(lens, "encoder", weight=lens.parts["encoder"].weight.float()))
    with pytest.raises(LensError, match="of other types"):
        load_lens(path, model.config, DIGEST)
    with pytest.raises(LensError, match="NaN or infinity"):
        save_lens(path, with_part(lens, "encoder", bias=torch.full_like(lens.parts["encoder"].bias, math.nan)))


def test_command_line_fits_and_writes_beside_the_checkpoint(tmp_path: Path, capsys):
    torch.manual_seed(0)
    path = tmp_path / "a.safetensors"
    fields = {**SMALL, "input_size": (32, 32)}
    save_checkpoint(path, create_autoencoder(**fields, preset=None), Card(name="a"))
    args = ["--checkpoint", str(path), "--train-images", "20", "--test-images", "9", "--batch-size", "8"]
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "encoder: PSNR on 9 test images" in said and "after layer 1" in said
    loaded = load_checkpoint(path)
    lens = load_lens(lens_path(path), loaded.model.config, loaded.digest)
    assert (lens.about["train_images"], lens.about["test_images"]) == (20, 9)
    assert "Fashion-MNIST" in lens.about["data"]
    assert [item.path for item in list_checkpoints(tmp_path)] == [path] and SUFFIX in COMPANIONS
    assert main(args) == 1
    assert "replace it with --overwrite" in capsys.readouterr().err
    _, again = fit_to_file(
        LensConfig(checkpoint=path, train_images=20, test_images=9, batch_size=8, overwrite=True), lambda *_: None
    )
    assert same(replace(lens, about={}), replace(again, about={}))


def test_command_line_tells_how_far_it_is(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, create_autoencoder(**{**SMALL, "input_size": (24, None)}, preset=None), Card(name="a"))
    told: list[tuple[int, int]] = []
    fit_to_file(
        LensConfig(checkpoint=path, train_images=10, test_images=5, batch_size=4),
        lambda done, total: told.append((done, total)),
    )
    assert told == [(4, 15), (8, 15), (10, 15), (14, 15), (15, 15)]


def test_settings_that_make_no_sense_are_refused():
    for change, words in [
        ({"train_images": 1}, "train_images must be"),
        ({"ridge": 0.0}, "ridge must be a number from"),
    ]:
        with pytest.raises(ValueError, match=words):
            LensConfig(checkpoint=Path("a.safetensors"), **change)


def test_benchmark_tells_what_the_lens_and_the_model_say(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, create_autoencoder(**{**SMALL, "input_size": (32, 32)}, preset=None), Card(name="a"))
    fit_to_file(LensConfig(checkpoint=path, train_images=20, test_images=9))
    config = benchmark.LensBenchmarkConfig(checkpoints=(path,), images=5, embedded=40, results=tmp_path / "results")
    benchmark.main(config)
    found = json.loads((tmp_path / "results" / "lens.json").read_text())["a"]
    loaded = load_checkpoint(path)
    images = source_for(loaded.model.config, loaded.card.data).test(45)[40:]
    psnr = np.mean([measure(i / 255, r).psnr for i, r in zip(images, reconstruct(loaded.model, images), strict=True)])
    for part in PARTS:
        last = found["parts"][part][-1]
        assert last["depth"] == "after layer 1"
        assert last["raw"] == last["tuned"] == pytest.approx(psnr, abs=1e-4)
    assert found["latent"]["psnr_by_dimensions"]["16"] == pytest.approx(psnr, abs=1e-2)
    assert 1 <= found["latent"]["participation_ratio"] <= 16
    text = (tmp_path / "results" / "lens.md").read_text()
    assert f"| a | encoder | after layer 1 | {psnr:.2f} dB | {psnr:.2f} dB |" in text

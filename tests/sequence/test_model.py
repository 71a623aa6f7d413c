"""Sequence models: what a frame may depend on, what padding may not do, what an LSTM can learn, what a checkpoint refuses."""

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tae import Card, CheckpointError, TransformerAutoencoder, create_autoencoder, load_checkpoint, save_checkpoint
from tae.sequence.checkpoint import autoencoder_digest, list_sequences, load_sequence, save_sequence
from tae.sequence.metric import RIDGE, decoder_metric, metric_factor
from tae.sequence.model import SequenceConfig, SequenceModel, embed_sequence, pad_sequences
from tests.conftest import SMALL

DIM = SMALL["latent_dim"]
CARD = Card(name="glides", training={"steps": 3, "seed": 0}, metrics={"one_step": {"LSTM": 0.01}})
Build = Callable[..., SequenceModel]


@pytest.fixture
def build(small_model: Callable[..., TransformerAutoencoder], scramble: Callable[[nn.Module], nn.Module]) -> Build:
    """Builds a sequence model in float64 with no special value, in eval mode."""

    def make(**fields: Any) -> SequenceModel:
        model = SequenceModel(small_model(), **{"hidden_dim": 12, "num_layers": 2, **fields}).double()
        for part in (model.lstm, model.head):
            scramble(part)
        model.set_coordinates(torch.randn(50, DIM), torch.eye(DIM) + 0.1)
        return model.eval()

    return make


def frames_of(*shape: int) -> Tensor:
    return torch.rand(*shape, 1, 24, 32, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- shapes and masks


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [({}, DIM), ({"head": "regression", "num_outputs": 3}, 3), ({"head": "classification", "num_outputs": 5}, 5)],
)
def test_frames_become_embeddings_hidden_states_and_predictions(build: Build, fields: dict, outputs: int) -> None:
    model, frames = build(**fields), frames_of(2, 4)
    latents = model.embed(frames)
    assert latents.shape == (2, 4, DIM)
    assert model.hidden(latents).shape == (2, 4, 12)
    assert model(frames).shape == (2, 4, outputs)
    torch.testing.assert_close(model(frames), model.predict(latents))
    torch.testing.assert_close(latents[1, 2], model.autoencoder.embed(frames[1, 2:3])[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be a whole number from 1 to 8192, got 0"),
        ({"num_layers": True}, "num_layers must be a whole number from 1 to 16, got True"),
        ({"head": "previous"}, "head must be one of next, regression, classification, got 'previous'"),
        ({"head": "regression"}, "num_outputs must be a whole number from 1 to 65536, got None"),
        ({"num_outputs": 3}, "num_outputs must be None where head is 'next', got 3"),
        ({"dropout": float("nan")}, "dropout must be a number from 0 to 0.95, got nan"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(fields: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SequenceConfig(**{"latent_dim": DIM, **fields})


def test_wrong_shapes_and_lengths_are_refused(build: Build) -> None:
    model = build()
    with pytest.raises(ValueError, match=r"frames must be \(B, T, 1, H, W\), got \(4, 1, 24, 32\)"):
        model(frames_of(4))
    with pytest.raises(ValueError, match=r"latents must be \(B, T, 16\), got \(2, 3, 15\)"):
        model.predict(torch.zeros(2, 3, 15))
    with pytest.raises(ValueError, match=r"lengths must be \(2,\) numbers from 1 to 3, got \[3, 4\]"):
        model.predict(torch.zeros(2, 3, DIM), torch.tensor([3, 4]))
    with pytest.raises(ValueError, match=r"lengths must be \(2,\) numbers from 1 to 3, got \[0, 3\]"):
        model.predict(torch.zeros(2, 3, DIM), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="head must be 'next' to go on with predictions, got 'regression'"):
        build(head="regression", num_outputs=1).forecast(torch.zeros(1, 3, DIM), 2)


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@pytest.mark.slow
@given(LENGTHS, st.integers(0, 2**31))
def test_packing_equals_padding_and_each_sequence_alone(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    model = SequenceModel(create_autoencoder(preset=None, **SMALL), 12, 2).double().eval()  # type: ignore[arg-type]
    nn.init.normal_(model.head.weight)
    batch, sizes = pad_sequences([torch.randn(length, DIM, dtype=torch.float64) for length in lengths])
    batch[torch.arange(batch.shape[1]) >= sizes[:, None]] = torch.nan  # whatever stands there
    packed, ahead = model.predict(batch, sizes), model.forecast(batch, 3, sizes)
    padded = model.lstm(model._coordinates(batch.nan_to_num(7.0)))[0]  # plain, without any packing
    for row, length in enumerate(lengths):
        alone = batch[row : row + 1, :length]
        torch.testing.assert_close(packed[row, :length], model.predict(alone)[0])
        torch.testing.assert_close(model.hidden(batch, sizes)[row, :length], padded[row, :length])
        torch.testing.assert_close(ahead[row], model.forecast(alone, 3)[0])
        assert (packed[row, length:] == 0).all()


def test_padded_frames_are_neither_embedded_nor_seen(build: Build) -> None:
    model, lengths = build(), torch.tensor([2, 4])
    frames = frames_of(2, 4)
    frames[0, 2:] = torch.nan
    latents = model.embed(frames, lengths)
    assert (latents[0, 2:] == 0).all()
    torch.testing.assert_close(model(frames, lengths)[0, :2], model(frames[:1, :2])[0])


# ---------------------------------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_a_sequence_in_chunks_equals_frame_by_frame(
    chunk: int, small_model: Callable[..., TransformerAutoencoder]
) -> None:
    model, frames = small_model(), frames_of(7)
    expected = torch.cat([model.embed(frame[None]) for frame in frames])
    torch.testing.assert_close(embed_sequence(model, frames, chunk), expected)
    torch.testing.assert_close(embed_sequence(model, (frame for frame in frames), chunk), expected)
    torch.testing.assert_close(embed_sequence(model, [frame[0].numpy() for frame in frames], chunk), expected)


def test_an_iterable_is_never_held_whole(small_model: Callable[..., TransformerAutoencoder]) -> None:
    alive: set[int] = set()
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for number in range(40):
            frame = np.random.default_rng(number).random((24, 32))
            alive.add(number)
            weakref.finalize(frame, alive.discard, number)
            most = max(most, len(alive))
            yield frame

    assert embed_sequence(small_model(), frames(), chunk=4).shape == (40, DIM)
    assert most <= 2 * 4 + 1  # a chunk, the next one, and the frame on its way


def test_an_empty_sequence_is_refused(small_model: Callable[..., TransformerAutoencoder]) -> None:
    for frames in (frames_of(0), iter([])):
        with pytest.raises(ValueError, match="frames must hold at least one frame, got none"):
            embed_sequence(small_model(), frames)


# ----------------------------------------------------------------------------------------------------- time and its order


def test_a_prediction_depends_on_no_later_frame(build: Build) -> None:
    model, latents = build(), torch.randn(1, 6, DIM, dtype=torch.float64)
    changed = latents.clone()
    changed[0, 4:] = torch.randn(2, DIM, dtype=torch.float64)
    before, after = model.predict(latents), model.predict(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_the_order_of_frames_changes_the_prediction(build: Build) -> None:
    model, latents = build(), torch.randn(1, 5, DIM, dtype=torch.float64)
    shuffled = latents[:, [2, 0, 3, 1, 4]]  # the last one stays
    assert (model.forecast(latents, 1) - model.forecast(shuffled, 1)).abs().max() > 1e-3


def test_a_forecast_is_each_prediction_taken_for_the_truth(build: Build) -> None:
    model, latents = build(), torch.randn(2, 4, DIM, dtype=torch.float64)
    seen = latents
    for _ in range(5):
        seen = torch.cat([seen, model.predict(seen)[:, -1:]], dim=1)
    torch.testing.assert_close(model.forecast(latents, 5), seen[:, 4:])


def test_an_untrained_model_predicts_the_last_frame(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model, latents = SequenceModel(small_model(), 12).double(), torch.randn(2, 4, DIM, dtype=torch.float64)
    model.set_coordinates(torch.randn(50, DIM), torch.eye(DIM) + 0.1)
    assert torch.equal(model.predict(latents), latents)
    assert torch.equal(model.forecast(latents, 3), latents[:, -1:].expand(-1, 3, -1))


def test_predictions_decode_to_images_of_any_leading_shape(build: Build) -> None:
    model, latents = build(), torch.randn(2, 3, DIM, dtype=torch.float64)
    images = model.decode(latents)
    assert images.shape == (2, 3, 1, 24, 32)
    torch.testing.assert_close(images[1, 2], model.autoencoder.decode(latents[1, 2:])[0])


# ------------------------------------------------------------------------------------------------------------ coordinates


@pytest.mark.slow
def test_the_decoder_s_metric_is_the_mean_of_its_squared_derivatives(
    small_model: Callable[..., TransformerAutoencoder],
) -> None:
    model, latents = small_model(), torch.randn(3, DIM, dtype=torch.float64)
    expected = torch.zeros(DIM, DIM, dtype=torch.float64)
    for latent in latents:
        jacobian = torch.autograd.functional.jacobian(lambda one: model.decode(one[None]).flatten(), latent)
        expected += jacobian.T @ jacobian / (24 * 32) / 3  # type: ignore[operator]
    close = decoder_metric(model, latents, probes=500)  # of random probes, half as exact as of 2,000
    torch.testing.assert_close(close.matrix, expected, rtol=0.1, atol=0.06 * float(expected.diagonal().mean()))
    few = [decoder_metric(model, latents[[*range(number, 3), *range(number)]], probes=40) for number in range(3)]
    exact = torch.einsum("nd,de,ne->n", latents, expected, latents)
    for one in few:
        told = torch.einsum("nd,de,ne->n", latents, one.matrix, latents)
        assert ((told / exact - 1).abs() < 4 * max(one.error, (2 / 120) ** 0.5)).all()


@pytest.mark.slow
def test_the_metric_s_stated_error_is_that_of_its_distances(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model, latents = small_model(), torch.randn(128, DIM, dtype=torch.float64)
    exact = decoder_metric(model, latents, probes=100).matrix
    told = decoder_metric(model, latents, probes=2)
    away = latents[:64] - latents[64:]
    ratio = torch.einsum("nd,de,ne->n", away, told.matrix, away) / torch.einsum("nd,de,ne->n", away, exact, away)
    assert 0.4 * told.error < float((ratio - 1).square().mean().sqrt()) < 2 * told.error < 0.3
    assert torch.equal(decoder_metric(model, latents, probes=2).matrix, told.matrix)


@pytest.mark.slow
def test_a_small_error_of_a_latent_costs_its_error_in_pixels(
    small_model: Callable[..., TransformerAutoencoder],
) -> None:
    model = SequenceModel(small_model()).double()
    latent = torch.randn(1, DIM, dtype=torch.float64)
    model.set_coordinates(torch.randn(20, DIM), decoder_metric(model.autoencoder, latent, probes=2000).matrix)
    other = latent + 1e-4 * torch.randn(1, DIM, dtype=torch.float64)
    in_pixels = (model.decode(other) - model.decode(latent)).square().mean()
    assert float(model.squared_errors(other, latent)) == pytest.approx(float(in_pixels), rel=20 * RIDGE)


def test_coordinates_are_centred_and_of_one_spread_and_the_factor_is_the_metric_s(build: Build) -> None:
    model, latents = build(), 3 * torch.randn(500, DIM, dtype=torch.float64) + 5
    metric = torch.randn(DIM, DIM, dtype=torch.float64)
    metric = metric @ metric.T
    model.set_coordinates(latents, metric)
    coordinates = model._coordinates(latents)
    torch.testing.assert_close(coordinates.mean(dim=0), torch.zeros(DIM, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(coordinates.std(dim=0), torch.ones(DIM, dtype=torch.float64))
    factor = metric_factor(metric)
    ridge = RIDGE * metric.diagonal().mean() * torch.eye(DIM, dtype=torch.float64)
    torch.testing.assert_close(factor @ factor.T, metric + ridge)
    torch.testing.assert_close(model.factor @ model.inverse, torch.eye(DIM, dtype=torch.float64))


def test_coordinates_that_cannot_be_are_refused(build: Build) -> None:
    model = build()
    for latents in (torch.zeros(1, DIM), torch.zeros(3, DIM + 1), torch.full((3, DIM), torch.nan)):
        with pytest.raises(ValueError, match=r"latents must be finite \(n, 16\) with n at least 2"):
            model.set_coordinates(latents)
    with pytest.raises(ValueError, match=r"metric must be \(16, 16\), got \(3, 3\)"):
        model.set_coordinates(torch.zeros(3, DIM), torch.eye(3))
    with pytest.raises(ValueError, match="the decoder must answer to its latent with finite numbers"):
        model.set_coordinates(torch.zeros(3, DIM), torch.zeros(DIM, DIM))


# --------------------------------------------------------------------------------------------------------------- learning


def test_a_frozen_autoencoder_gets_no_gradient_and_no_dropout(
    small_model: Callable[..., TransformerAutoencoder],
) -> None:
    model = SequenceModel(small_model(dropout=0.5), 12).double().train()
    nn.init.normal_(model.head.weight)
    frames = frames_of(2, 4)
    assert torch.equal(model(frames), model(frames))
    model.decode(model(frames)).square().mean().backward()
    assert all(parameter.grad is None for parameter in model.autoencoder.parameters())
    assert all(parameter.grad is not None for parameter in (*model.lstm.parameters(), *model.head.parameters()))


def test_a_fine_tuned_autoencoder_learns_too(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model = (
        SequenceModel(small_model(dropout=0.5), 12, head="regression", num_outputs=1, fine_tune=True).double().train()
    )
    frames = frames_of(2, 4)
    assert not torch.equal(model(frames), model(frames))
    model(frames).square().mean().backward()
    for name, parameter in model.autoencoder.encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def fit(model: nn.Module, loss_of: Callable[[], Tensor], steps: int, lr: float) -> float:
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=lr, weight_decay=0)
    loss = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


PLACES = 8


def squares() -> Tensor:
    """(8, 1, 16, 16): a black square on its way around a white page."""
    images = torch.ones(PLACES, 1, 16, 16)
    for place, (top, left) in enumerate(((0, 0), (0, 5), (0, 10), (5, 10), (10, 10), (10, 5), (10, 0), (5, 0))):
        images[place, :, top : top + 6, left : left + 6] = 0
    return images


@pytest.fixture(scope="module")
def autoencoder() -> TransformerAutoencoder:
    """Trained until it draws the eight squares."""
    torch.manual_seed(0)
    model = create_autoencoder(
        (16, 16), None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1
    )
    images = squares()
    error = fit(model, lambda: (model(images)[0] - images).square().mean(), steps=600, lr=5e-3)
    assert error < 1e-3
    return model.eval()


def rounds(starts: list[int], ways: list[int], length: int) -> Tensor:
    """(len(starts), length): the places of squares that start somewhere and go one way."""
    return (torch.tensor(starts)[:, None] + torch.tensor(ways)[:, None] * torch.arange(length)) % PLACES


@pytest.mark.slow
def test_a_moving_square_is_learnt_and_gone_on_with_far_beyond_what_was_trained(
    autoencoder: TransformerAutoencoder,
) -> None:
    images = squares()
    latents = embed_sequence(autoencoder, images)
    model = SequenceModel(autoencoder, hidden_dim=32, num_layers=1)
    model.set_coordinates(latents, decoder_metric(autoencoder, latents).matrix)
    both = [*range(PLACES)] * 2, [1] * PLACES + [-1] * PLACES
    places = rounds(*both, length=8)
    batch = latents[places]

    def loss() -> Tensor:
        one_step = model.squared_errors(
            model.predict(batch)[:, 1:-1], batch[:, 2:]
        ).mean()  # one frame has no direction
        return one_step + model.squared_errors(model.forecast(batch[:, :2], 6), batch[:, 2:]).mean()

    fit(model, loss, steps=400, lr=1e-2)
    model.eval()
    seen = latents[rounds(*both, length=3)]
    ahead = model.forecast(seen, 13)  # beyond all that it was trained on, once around and a half
    true = images[rounds(*both, length=16)[:, 3:]]
    with torch.no_grad():
        errors = (model.decode(ahead).clamp(0, 1) - true).square().mean(dim=(0, 2, 3, 4))
        own = (autoencoder(images)[0].clamp(0, 1) - images).square().mean()
    still = (true[:, 1:] - true[:, :-1]).square().mean()
    assert own < 1e-3 and still > 0.2
    assert errors[0] < 2e-3 and errors.max() < 1e-2, errors


@pytest.mark.slow
def test_classes_that_only_the_order_tells_apart_are_learnt(autoencoder: TransformerAutoencoder) -> None:
    latents = embed_sequence(autoencoder, squares())
    places = rounds([*range(PLACES)] * 2, [1] * PLACES + [-1] * PLACES, length=PLACES)  # once around: the same frames
    assert all(torch.equal(row.sort().values, torch.arange(PLACES)) for row in places)
    labels = torch.tensor([0] * PLACES + [1] * PLACES)
    model = SequenceModel(autoencoder, hidden_dim=16, num_layers=1, head="classification", num_outputs=2)
    model.set_coordinates(latents)
    fit(model, lambda: nn.functional.cross_entropy(model.predict(latents[places])[:, -1], labels), 60, 2e-2)
    assert torch.equal(model.predict(latents[places])[:, -1].argmax(dim=1), labels)


# ------------------------------------------------------------------------------------------------------------ checkpoints


@pytest.fixture
def model() -> SequenceModel:
    torch.manual_seed(0)
    autoencoder = create_autoencoder(preset=None, **SMALL)  # type: ignore[arg-type]
    model = SequenceModel(autoencoder, 12, 2)
    nn.init.normal_(model.head.weight)
    model.set_coordinates(torch.randn(50, DIM), torch.eye(DIM) + 0.1)
    return model.eval()


@pytest.fixture
def saved(model: SequenceModel, tmp_path: Path) -> Path:
    return save_sequence(tmp_path / "glides.safetensors", model, CARD, "garments")


def test_a_checkpoint_comes_back_to_the_bit(model: SequenceModel, saved: Path) -> None:
    loaded = load_sequence(saved, model.autoencoder)
    assert loaded.card == CARD and loaded.belongs.name == "garments" and not loaded.belongs.is_inside
    assert loaded.model.config == model.config and not loaded.model.training
    frames = torch.rand(2, 4, 1, 24, 32)
    assert torch.equal(loaded.model(frames), model(frames))
    assert torch.equal(loaded.model.forecast(loaded.model.embed(frames), 3), model.forecast(model.embed(frames), 3))
    again = save_sequence(saved.with_name("again.safetensors"), loaded.model, loaded.card, "garments")
    assert again.read_bytes() == saved.read_bytes()


def test_the_autoencoder_s_weights_are_inside_only_where_they_were_trained(
    model: SequenceModel, saved: Path, tmp_path: Path
) -> None:
    own = sum(tensor.nbytes for tensor in model.own_state().values())
    assert saved.stat().st_size < own + 8192
    tuned = SequenceModel(model.autoencoder, 12, 2, head="regression", num_outputs=3, fine_tune=True).eval()
    with torch.no_grad():
        tuned.autoencoder.encoder.norm.weight.add_(0.5)
    path = save_sequence(tmp_path / "tuned.safetensors", tuned, CARD, "garments")
    loaded = load_sequence(path)
    frames = torch.rand(2, 4, 1, 24, 32)
    assert loaded.belongs.is_inside and torch.equal(loaded.model(frames), tuned(frames))


def test_80_another_autoencoder_is_refused_by_name(model: SequenceModel, saved: Path) -> None:
    other = create_autoencoder(preset=None, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(
        CheckpointError, match="glides.safetensors: it belongs to the autoencoder garments .* is another"
    ):
        load_sequence(saved, other)
    changed = create_autoencoder(preset=None, **SMALL)  # type: ignore[arg-type]
    changed.load_state_dict(model.autoencoder.state_dict())
    with torch.no_grad():
        changed.decoder.proj.bias[0] = torch.nextafter(changed.decoder.proj.bias[0], torch.tensor(1.0))
    with pytest.raises(CheckpointError, match="is another"):
        load_sequence(saved, changed)
    with pytest.raises(CheckpointError, match="it needs its autoencoder, garments, beside it"):
        load_sequence(saved)


def test_the_same_autoencoder_with_another_card_and_file_is_its_own(
    model: SequenceModel, saved: Path, tmp_path: Path
) -> None:
    first = save_checkpoint(tmp_path / "a.safetensors", model.autoencoder, Card(name="a"))
    second = save_checkpoint(tmp_path / "b.safetensors", model.autoencoder, Card(name="b", notes="later"))
    found = [load_checkpoint(path) for path in (first, second)]
    assert found[0].digest != found[1].digest
    for one in found:
        assert load_sequence(saved, one.model).model.autoencoder is one.model


def test_both_kinds_of_checkpoint_refuse_each_other(model: SequenceModel, saved: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "a.safetensors", model.autoencoder, Card(name="a"))
    with pytest.raises(CheckpointError, match="not a checkpoint of a sequence model .its program is 'tae'.; found"):
        load_sequence(other, model.autoencoder)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        load_checkpoint(saved)


def test_a_folder_lists_what_loads_and_why_others_do_not(saved: Path) -> None:
    saved.with_name("broken.safetensors").write_bytes(saved.read_bytes()[:-7])
    broken, sound = list_sequences(saved.parent)
    assert sound.card == CARD and sound.error is None and sound.belongs is not None
    assert sound.belongs.sha256 and sound.config is not None and sound.config.hidden_dim == 12
    assert broken.card is None and broken.error is not None and "cut short" in broken.error
    assert list_sequences(saved.parent / "none") == []


def rewritten(file: bytes, change: Callable[[dict], object]) -> bytes:
    """A file whose header was changed; its seal is left as it was."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    change(header)
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + file[8 + length :]


def set_text(header: dict, text: str, /, **values: object) -> None:
    header["__metadata__"][text] = json.dumps({**json.loads(header["__metadata__"][text]), **values})


def rename(header: dict, old: str, new: str) -> None:
    header[new] = header.pop(old)


def reshape(header: dict, name: str, shape: list[int]) -> None:
    header[name]["shape"] = shape


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["__metadata__"].update(card="[]"), "its card must be a dict with name"),
        (lambda h: set_text(h, "config", hidden_dim=13), r"9 of another shape: lstm.weight_ih_l0 "),
        (lambda h: set_text(h, "config", hidden_dim=10**30), "hidden_dim must be a whole number from 1 to 8192"),
        (lambda h: set_text(h, "config", wings=2), "its config must be a dict with latent_dim, and with no fields but"),
        (lambda h: set_text(h, "config", latent_dim=20), "its latent_dim must be its autoencoder's 16, got 20"),
        (lambda h: set_text(h, "config", dropout="much"), "dropout must be a number"),
        (lambda h: set_text(h, "autoencoder", sha256="abc"), "sha256 must be 64 hexadecimal digits"),
        (lambda h: set_text(h, "autoencoder", sha256="0" * 64), "it belongs to the autoencoder garments"),
        (lambda h: set_text(h, "autoencoder", name=7), "its autoencoder must have a name"),
        (
            lambda h: set_text(h, "autoencoder", is_inside=True),
            "its tensors are not those of its config; .* missing: autoencoder",
        ),
        (lambda h: set_text(h, "card", name="another"), "the file is damaged"),
        (lambda h: rename(h, "centre", "<b>centre</b>"), r"1 missing: centre; 1 unexpected: \?b\?centre\?/b\?"),
        (lambda h: reshape(h, "factor", [DIM * DIM]), r"factor \(expected \[16, 16\], found \[256\]"),
    ],
)
def test_a_header_that_lies_is_refused(
    change: Callable[[dict], object], said: str, model: SequenceModel, saved: Path
) -> None:
    saved.write_bytes(rewritten(saved.read_bytes(), change))
    with pytest.raises(CheckpointError, match=said) as caught:
        load_sequence(saved, model.autoencoder)
    assert str(caught.value).startswith("glides.safetensors: ") and "<b>" not in str(caught.value)


def test_a_model_that_is_no_number_is_not_written(model: SequenceModel, saved: Path) -> None:
    before = saved.read_bytes()
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match="the tensor head.bias holds NaN or infinity"):
        save_sequence(saved, model, CARD, "garments")
    assert saved.read_bytes() == before


def test_the_digest_is_of_what_an_autoencoder_computes(model: SequenceModel) -> None:
    first = autoencoder_digest(model.autoencoder)
    same = create_autoencoder(preset=None, **{**SMALL, "dropout": 0.3, "use_flash_attention": False})  # type: ignore[arg-type]
    same.load_state_dict(model.autoencoder.state_dict())
    assert autoencoder_digest(same) == first
    other = create_autoencoder(preset=None, **{**SMALL, "num_heads": 2})  # type: ignore[arg-type]
    other.load_state_dict(model.autoencoder.state_dict())  # the same weights, put together otherwise
    assert autoencoder_digest(other) != first

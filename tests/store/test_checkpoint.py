"""Checkpoints of autoencoders; that strange and damaged files are refused is the claim of test_sealed.py."""

import copy
import hashlib
import json
import math
import os
import pickle
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tae import (
    Card,
    CheckpointError,
    ModelConfig,
    TransformerAutoencoder,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tae.store.checkpoint import read_checkpoint
from tae.store.sealed import SealedFile
from tests import configs
from tests.configs import SHAPES
from tests.store import reference
from tests.store.reference import Raw, tensors_of, unpack
from tests.store.test_sealed import BAD_JSON, mutate

SQUARE = replace(configs.SQUARE, encoder_layers=1, decoder_layers=1)
MORE = {"mlp_ratio": 2.5, "dropout": 0.1, "use_flash_attention": False, "use_gradient_checkpointing": True}
CONFIGS = {name: replace(SQUARE, **fields) for name, fields in {**SHAPES, "settings": MORE}.items()}
CARD = Card(
    name="Kleiderbügel 衣架 🧥",
    training={
        "data": "demo",
        "command": "python -m tae.train tiny --name 'a \"b\" \\ c'",
        "seed": 0,
        "steps": 300,
        "images_seen": 4800,
        "seconds": 12.5,
        "hardware": "CPU",
        "finished": True,
        "curve": [{"step": 200, "loss": 0.012345678901234567, "held_out_psnr": 21.5}, {"step": 300, "loss": 1e-7}],
    },
    metrics={"split": "test", "count": 512, "psnr": 23.4, "ssim": 0.9, "percentiles": {"psnr": [18.0, 23.0, 30.0]}},
    data="garments",
    licence="MIT",
    notes="für Kolleginnen",
)
BIAS = "decoder.norm.bias"  # (16,)


def make_model(config: ModelConfig = SQUARE, seed: int = 0) -> TransformerAutoencoder:
    torch.manual_seed(seed)
    return TransformerAutoencoder(config)


def images_for(config: ModelConfig) -> torch.Tensor:
    height, width = config.input_size
    return torch.rand(2, 1, height, width or 40, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a sound checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("saved") / "a.safetensors", make_model(), CARD).read_bytes()


def forge(tensors: Raw, **texts: str | None) -> bytes:
    """A file with a right seal, whatever it says."""
    plain = {"config": json.dumps(asdict(SQUARE)), "card": json.dumps({"name": "forged"})}
    given = {"program": "tae", "format_version": "1", **plain, **texts}
    return reference.forge(tensors, given, ["format_version", "config", "card"])


def refusal(data: bytes, name: str = "a.safetensors") -> str:
    """The sentence with which bytes are refused."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(data, name)
    return str(caught.value)


# --- what is saved comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_checkpoint_comes_back_to_the_bit(config: ModelConfig, tmp_path: Path) -> None:
    model = make_model(config).train()
    path = save_checkpoint(tmp_path / "a.safetensors", model, CARD)
    loaded = load_checkpoint(path)

    assert loaded.model.config == config
    assert loaded.card == CARD
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.size_bytes == path.stat().st_size
    assert model.training and not any(module.training for module in loaded.model.modules())
    assert list(loaded.model.state_dict()) == list(model.state_dict())
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32 and tensor.device.type == "cpu"
        assert torch.equal(tensor, model.state_dict()[name]), name
    with torch.no_grad():
        images = images_for(config)
        assert torch.equal(loaded.model(images)[0], model.eval()(images)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_half_precision_comes_back_as_rounded_float32(config: ModelConfig, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make_model(config).eval()
    full = save_checkpoint(tmp_path / "full.safetensors", model, CARD).read_bytes()
    half = save_checkpoint(tmp_path / "half.safetensors", model, CARD, dtype).read_bytes()
    loaded = read_checkpoint(half)

    assert len(unpack(half)[1]) * 2 == len(unpack(full)[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
        for name, tensor in loaded.model.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, model.state_dict()[name]), name
        assert torch.equal(loaded.model(images_for(config))[0], model(images_for(config))[0])


def test_the_same_model_gives_the_same_bytes_and_bytes_and_file_load_alike(saved: bytes, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", read_checkpoint(saved).model, CARD)
    assert path.read_bytes() == saved
    from_file, from_bytes = load_checkpoint(str(path)), read_checkpoint(saved)
    assert (from_file.digest, from_file.size_bytes) == (from_bytes.digest, from_bytes.size_bytes)
    os.truncate(path, 0)  # a model works on when its file is gone
    path.unlink()
    with torch.no_grad():
        images, expected = images_for(SQUARE), make_model().eval()
        assert torch.equal(from_file.model(images)[0], expected(images)[0])
        assert torch.equal(from_bytes.model(images)[0], expected(images)[0])


def test_a_loaded_model_learns(saved: bytes) -> None:
    model = read_checkpoint(saved).model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    ((model(images_for(SQUARE))[0] - images_for(SQUARE)) ** 2).mean().backward()
    optimizer.step()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_loading_leaves_the_random_stream_alone(saved: bytes) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    read_checkpoint(saved)
    assert torch.equal(torch.rand(4), expected)


def test_two_loads_share_no_memory(saved: bytes) -> None:
    data = bytearray(saved)
    first, second = read_checkpoint(bytes(data)), read_checkpoint(bytes(data))
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.zero_()
    assert second.model.encoder.norm.weight.abs().sum() > 0
    assert read_checkpoint(saved).digest == second.digest


@pytest.mark.slow
def test_a_wrapped_model_is_saved_under_clean_names(saved: bytes, tmp_path: Path) -> None:
    part = make_model()
    part.encoder = torch.compile(part.encoder)  # type: ignore[assignment]
    both = nn.DataParallel(cast(nn.Module, torch.compile(make_model())))
    for wrapped in (torch.compile(make_model()), nn.DataParallel(make_model()), both, part):
        assert any("_orig_mod" in name or "module." in name for name in cast(nn.Module, wrapped).state_dict())
        assert save_checkpoint(tmp_path / "a.safetensors", cast(nn.Module, wrapped), CARD).read_bytes() == saved


def test_29_known_prefixes_are_stripped_on_loading_and_names_must_differ_by_more(saved: bytes) -> None:
    tensors = tensors_of(saved)
    for prefix in ("module.", "_orig_mod.", "_orig_mod.module."):
        model = read_checkpoint(forge({prefix + name: entry for name, entry in tensors.items()})).model
        assert torch.equal(model.encoder.norm.weight, make_model().encoder.norm.weight)
    tensors["module." + BIAS] = tensors[BIAS]
    assert "same name but for a prefix" in refusal(forge(tensors))


def test_a_float64_model_is_stored_as_float32(tmp_path: Path) -> None:
    model = make_model().double()
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", model, CARD))
    assert torch.equal(loaded.model.encoder.norm.weight, model.encoder.norm.weight.float())


# --- what is refused -------------------------------------------------------------------------------------------


def test_extreme_but_finite_weights_load(saved: bytes) -> None:
    tensors = tensors_of(saved)
    extreme = torch.tensor([3e38, 1e-45, -0.0, -3e38] * 4)
    tensors[BIAS] = ("F32", [16], extreme.numpy().tobytes())
    bias = read_checkpoint(forge(tensors)).model.decoder.norm.bias
    assert bias.detach().numpy().tobytes() == extreme.numpy().tobytes()


def test_26_weights_that_are_no_numbers_are_refused_by_name(saved: bytes) -> None:
    broken = ("F32", [16], torch.full((16,), math.nan).numpy().tobytes())
    assert f"the tensor {BIAS} holds NaN or infinity" in refusal(forge({**tensors_of(saved), BIAS: broken}))


@pytest.mark.slow
def test_35_a_config_of_another_size_is_refused_before_its_memory_is_taken(saved: bytes) -> None:
    huge = replace(SQUARE, latent_dim=8192, encoder_layers=64, decoder_layers=64)  # 10^11 parameters
    tracemalloc.start()
    message = refusal(forge(tensors_of(saved), config=json.dumps(asdict(huge))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "its tensors are not those of its config" in message
    assert peak < 50e6


GOOD = asdict(SQUARE)
BAD_FIELDS = {
    "latent_dim": [10**9, -16, 0, 18, "16", 16.0, True, None, [16], int("9" * 30)],
    "encoder_layers": [10**6, 0, -1, "1"],
    "decoder_layers": [10**6, 0, {}],
    "num_heads": [0, 3, 10**6],
    "patch_size": [0, -8, 10**6, 8.0, "8"],
    "input_size": [[10**6, 10**6], 32, [32], [32, "32"], [0, 32], [None, 32], [32, 32, 32], {"0": 32, "1": 32}, None],
    "mlp_ratio": [1e300, 0, -4, [], "4", None],
    "dropout": [1, -0.1, "0"],
    "max_width": [0, 10**6, None],
    "preset": ["os.system", ["tiny"], 3, "/tmp/evil.py", "\u202e"],
    "use_flash_attention": ["yes", 1, None],
    "activation": ["torch.nn.GELU"],
    "\u202ex\x00": [1],
}
BAD_CONFIGS: list = [{**GOOD, field: value} for field, values in BAD_FIELDS.items() for value in values]
BAD_CONFIGS += [{**GOOD, "input_size": [8192, 16384], "patch_size": 2}, [], "tiny", None, 3]


def test_a_config_out_of_limits_is_refused(saved: bytes) -> None:
    tensors = tensors_of(saved)
    for config in BAD_CONFIGS:
        message = refusal(forge(tensors, config=json.dumps(config)))
        assert message.startswith("a.safetensors: "), config
        assert "its tensors" not in message, config  # refused by itself, before any model is made from it
        assert message.isprintable() and len(message) < 700, config


def test_texts_that_are_not_strict_json_or_lack_their_fields_are_refused(saved: bytes) -> None:
    tensors = tensors_of(saved)
    for text in BAD_JSON:
        assert "its config is not valid JSON" in refusal(forge(tensors, config=text))
        assert "its card is not valid JSON" in refusal(forge(tensors, card=text))
    for card in ("[]", "{}", "null", '{"name":"a","path":"/x"}', "3"):
        assert refusal(forge(tensors, card=card)).startswith(
            "a.safetensors: its card must be a dict with name, and with"
        )
    assert "the card's seed in training" in refusal(forge(tensors, card='{"name":"a","training":{"seed":"x"}}'))


@settings(max_examples=100)
@given(data=st.data(), part=st.sampled_from(["config", "card"]))
def test_any_sealed_config_or_card_is_refused_or_valid(data: st.DataObject, part: str, saved: bytes) -> None:
    whole = {"config": GOOD, "card": asdict(CARD)}[part]
    changed = json.dumps(mutate(json.loads(json.dumps(whole)), data))
    try:
        loaded = read_checkpoint(forge(tensors_of(saved), **{part: changed}))
    except CheckpointError:
        return
    assert loaded.model.config.latent_dim == 16
    assert Card(**asdict(loaded.card)) == loaded.card


# --- listing ---------------------------------------------------------------------------------------------------


def test_41_a_folder_is_listed_in_natural_order_with_what_is_broken_in_it(tmp_path: Path, saved: bytes) -> None:
    folder, outside = tmp_path / "checkpoints", tmp_path / "outside.safetensors"
    folder.mkdir()
    outside.write_bytes(saved)
    for name in ("model10.safetensors", "model2.safetensors", "Model1.SAFETENSORS"):
        (folder / name).write_bytes(saved)
    (folder / "broken.safetensors").write_bytes(saved[:1000])
    (folder / "empty.safetensors").touch()
    (folder / "pickle.safetensors").write_bytes(pickle.dumps([1]))
    (folder / "README.md").write_text("not a checkpoint")
    (folder / "folder.safetensors").mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "out.safetensors").symlink_to(outside)
    (folder / "dangling.safetensors").symlink_to(folder / "nowhere")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    (folder / "inner.safetensors").symlink_to("model2.safetensors")

    listed = list_checkpoints(folder)
    names = ["broken", "empty", "inner", "Model1", "model2", "model10", "pickle"]
    assert [item.path.stem for item in listed] == names
    for item in listed:
        if item.path.stem in ("broken", "empty", "pickle"):
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(item.path)
            assert item.error == str(caught.value)
            assert (item.name, item.card, item.config) == (item.path.name, None, None)
        else:
            assert (item.name, item.card, item.config, item.error) == (CARD.name, CARD, SQUARE, None)
        assert item.size_bytes == item.path.stat().st_size


def test_listing_reads_headers_alone(tmp_path: Path, saved: bytes) -> None:
    damaged = bytearray(saved)
    damaged[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(damaged)
    (item,) = list_checkpoints(tmp_path)
    assert item.error is None  # only reading it all finds this
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(item.path)
    tensors = tensors_of(saved)
    del tensors[BIAS]
    item.path.write_bytes(forge(tensors))
    (item,) = list_checkpoints(str(tmp_path))
    assert item.error is not None and "1 missing: decoder.norm.bias" in item.error


def test_files_that_belong_to_a_checkpoint_are_not_listed(tmp_path: Path, saved: bytes) -> None:
    for name in ("a.safetensors", "a.lens.safetensors", "lens.safetensors"):
        (tmp_path / name).write_bytes(saved)
    assert [item.path.name for item in list_checkpoints(tmp_path)] == ["a.safetensors", "lens.safetensors"]


def test_a_folder_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list_checkpoints(tmp_path / "nowhere") == []
    assert list_checkpoints(tmp_path / "file") == []
    assert list_checkpoints(tmp_path) == []


# --- saving ----------------------------------------------------------------------------------------------------


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    model = make_model()
    for value, dtype in ((math.nan, torch.float32), (-math.inf, torch.bfloat16), (70_000.0, torch.float16)):
        with torch.no_grad():
            model.decoder.norm.bias[3] = value
        with pytest.raises(CheckpointError, match=f"^a.safetensors: the tensor {BIAS} holds NaN or infinity as"):
            save_checkpoint(path, model, CARD, dtype)
    assert path.read_bytes() == saved and os.listdir(tmp_path) == ["a.safetensors"]
    save_checkpoint(path, model, CARD, torch.bfloat16)  # 70,000 is too large for float16 alone


def test_other_models_types_and_places_are_refused(tmp_path: Path) -> None:
    model = make_model()
    model.decoder.norm = nn.LayerNorm(17)
    with pytest.raises(CheckpointError, match="expected \\[16\\], found \\[17\\]"):
        save_checkpoint(tmp_path / "a.safetensors", model, CARD)
    with pytest.raises(ValueError, match="model must be a TransformerAutoencoder, got Linear"):
        save_checkpoint(tmp_path / "a", nn.Linear(1, 1), CARD)
    with pytest.raises(ValueError, match="dtype must be one of torch.float32, torch.float16, torch.bfloat16, got"):
        save_checkpoint(tmp_path / "a", make_model(), CARD, torch.float64)
    with pytest.raises(ValueError, match="regular file"):
        save_checkpoint(tmp_path, make_model(), CARD)
    assert os.listdir(tmp_path) == []


def test_a_model_trained_on_while_it_is_saved_gives_a_sound_file(
    tmp_path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, write = make_model(), SealedFile.write

    def train_and_write(*arguments: Any) -> None:
        with torch.no_grad():
            model.encoder.norm.weight.zero_()
        write(*arguments)

    monkeypatch.setattr(SealedFile, "write", train_and_write)
    assert save_checkpoint(tmp_path / "a.safetensors", model, CARD).read_bytes() == saved

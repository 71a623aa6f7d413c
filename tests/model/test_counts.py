"""Counts without a model equal those of a real one: its parameters, its saved tensors, PyTorch's own flop counter."""

import resource
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tae import PRESETS, ModelConfig, TransformerAutoencoder
from tae.model.config import preset_config
from tae.model.counts import DIAGRAM_PARAMETERS, count
from tests.configs import SHAPES, SQUARE

SMALL = replace(SQUARE, decoder_layers=1)
CONFIGS = {name: replace(SMALL, **fields) for name, fields in SHAPES.items()} | {
    "dropout": replace(SMALL, dropout=0.1),
    "explicit attention, dropout": replace(SMALL, use_flash_attention=False, dropout=0.1),
    "checkpointing": replace(SMALL, use_gradient_checkpointing=True),
    "narrow mlp": replace(SMALL, mlp_ratio=1.5),
}
FORMS = {
    "square": {"input_size": (201, 201)},
    "wide": {"input_size": (152, 1280)},
    "any width": {"input_size": (152, None)},
    "one token": {"input_size": (201, 201), "patch_size": None},
}


def image_for(config: ModelConfig, width: int | None = None) -> torch.Tensor:
    height, fixed_width = config.input_size
    return torch.rand(1, 1, height, width or fixed_width or config.max_width)


def really_saved(config: ModelConfig, width: int | None = None) -> int:
    """Bytes that a real forward pass on the CPU keeps for the backward pass, told apart by their address."""
    model, image = TransformerAutoencoder(config), image_for(config, width)
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # held, so that no address comes twice
        return tensor

    for part in (model.encoder, model.decoder) if config.use_gradient_checkpointing else ():
        for block in part.blocks:  # checkpointing holds their inputs without saving them as tensors
            block.register_forward_pre_hook(lambda _, inputs: (pack(inputs[0]), None)[1])
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        recon = model(image)[0]
    recon.sum().backward()
    for tensor in (*model.parameters(), image):
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.slow
def test_parameters_are_those_of_the_real_model():
    for form in FORMS.values():
        config = preset_config("tiny", **form)
        counts = count(config)
        parameters = sum(parameter.numel() for parameter in TransformerAutoencoder(config).parameters())
        assert counts.parameters == parameters
        assert counts.weight_bytes == 4 * parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_by_hand(preset):
    config = PRESETS[preset]
    dim, num_tokens, rank, tile = config.latent_dim, 169, 16, 24  # tiles of 16 pixels reach 4 into their neighbours
    block = 12 * dim**2 + 13 * dim  # qkv, projection, fourfold MLP; their biases and two norms
    encoder = 16**2 * dim + dim + num_tokens * dim + 2 * dim
    start = num_tokens * rank * dim + rank * dim
    decoder = dim**2 + dim + num_tokens * dim + start + 2 * dim + dim * tile**2 + tile**2
    layers = config.encoder_layers + config.decoder_layers
    parameters = count(config).parameters
    assert parameters == layers * block + encoder + decoder
    assert list(DIAGRAM_PARAMETERS) == list(PRESETS)
    assert parameters > 2 * DIAGRAM_PARAMETERS[preset]  # no preset can have as few as the diagram says


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_activations_and_flops_are_those_of_a_real_pass(config):
    counts = count(config)
    assert counts.activation_bytes == really_saved(config)
    # PyTorch's own counter has no formula for the CPU's fused attention, which does the same products.
    model = TransformerAutoencoder(replace(config, use_flash_attention=False))
    with FlopCounterMode(display=False) as counter:
        model(image_for(config))
    assert counts.forward_flops == counter.get_total_flops()


def test_activations_of_a_narrower_image_are_what_a_real_pass_keeps():
    config = CONFIGS["any width"]
    assert count(config, width=20).activation_bytes == really_saved(config, width=20)
    assert count(config, width=20).activation_bytes < count(config).activation_bytes


def test_checkpointing_keeps_less_and_explicit_attention_more():
    kept = count(SMALL).activation_bytes
    assert count(CONFIGS["checkpointing"]).activation_bytes < kept / 2
    assert count(CONFIGS["explicit attention"]).activation_bytes > kept


def test_flops_of_tiny_by_hand():
    dim, num_tokens, rank = 128, 169, 16
    blocks = 6 * (2 * 12 * dim**2 * num_tokens + 2 * 2 * num_tokens**2 * dim)  # linear layers; q k^T and weights @ V
    embed = 2 * num_tokens * 16**2 * dim
    decoder = 2 * dim**2 + 2 * num_tokens * rank * dim * 2 + 2 * num_tokens * dim * 24**2
    assert count(PRESETS["tiny"]).forward_flops == blocks + embed + decoder


def test_flops_of_one_token_by_hand():
    pixels, dim = 201 * 201, 128
    blocks = 6 * (2 * 12 * dim**2 + 2 * 2 * dim)
    counts = count(preset_config("tiny", patch_size=None))
    assert counts.forward_flops == blocks + 2 * pixels * dim * 2 + 2 * dim**2
    assert counts.num_tokens == 1


def test_tokens_and_map_bytes_follow_the_width():
    counts = count(CONFIGS["any width"], width=20)
    assert counts.num_tokens == 2 * 3
    assert counts.map_bytes == 4 * (2 + 1) * 6**2  # two encoder layers and their average
    assert count(CONFIGS["any width"]) == count(CONFIGS["any width"], width=64)
    assert count(SMALL, width=32) == count(SMALL)


def test_map_bytes_are_those_of_the_real_maps():
    maps = TransformerAutoencoder(SMALL).get_attention_maps(image_for(SMALL))
    assert count(SMALL).map_bytes == sum(attention_map.nbytes for attention_map in maps.values())


def test_a_width_that_the_model_does_not_take_is_refused():
    with pytest.raises(ValueError, match="must be 32 pixels wide, got 40"):
        count(SMALL, width=40)
    for width in (0, 65):
        with pytest.raises(ValueError, match=f"at most 64 pixels wide .max_width., got {width}"):
            count(CONFIGS["any width"], width=width)


def test_counts_are_the_same_wherever_they_are_asked_for_and_draw_no_random_number():
    expected, before = count(SMALL), torch.get_rng_state()
    with torch.no_grad():
        assert count(SMALL) == expected
    with torch.inference_mode():
        assert count(SMALL) == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_a_billion_parameters_are_counted_without_being_allocated():
    count(SMALL)  # what PyTorch loads at first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = count(preset_config("xlarge", input_size=(152, 1280), patch_size=8))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert counts.parameters > 1_300_000_000
    assert counts.activation_bytes > 5 * 1024**3
    assert grown < 100 * 1024**2

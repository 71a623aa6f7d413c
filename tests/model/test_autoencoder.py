"""The whole model against references, in every form: square, wide, any width, patches, one token."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import tae
from tae import PRESETS, TransformerAutoencoder, create_autoencoder
from tae.model.config import ModelConfig, preset_config
from tae.model.layers import TransformerBlock, patchify
from tests.model.test_layers import reference

FORMS: dict[str, dict] = {
    "square": {"input_size": (24, 24)},
    "odd size": {"input_size": (19, 37)},
    "wide": {"input_size": (16, 80)},
    "any width": {"input_size": (16, None), "max_width": 64},
    "one token": {"patch_size": None},
    "one token of any width": {"input_size": (16, None), "max_width": 64, "patch_size": None},
}
PARTS = ["encoder", "decoder"]


def images_for(model: TransformerAutoencoder, batch: int = 3, width: int | None = None) -> Tensor:
    height, fixed = model.config.input_size
    return torch.rand(batch, 1, height, width or fixed or 40, dtype=torch.float64)


@pytest.fixture(params=FORMS)
def model(request: pytest.FixtureRequest, small_model) -> TransformerAutoencoder:
    return small_model(**FORMS[request.param])


@pytest.fixture
def any_width(small_model) -> TransformerAutoencoder:
    return small_model(**FORMS["any width"])


def test_shapes_are_those_of_the_contract(model: TransformerAutoencoder) -> None:
    x = images_for(model)
    count = len(patchify_for(model, x)[0])
    recon, attention = model(x)
    assert recon.shape == x.shape and attention is None
    assert model.Embedding(x).shape == model.embed(x).shape == (3, 16)
    assert model.decode(model.embed(x), x.shape[-1]).shape == x.shape
    attention = model(x, return_attention=True)[1]
    assert attention is not None and list(attention) == PARTS
    assert [one.shape for part in PARTS for one in attention[part]] == [(3, count, count)] * 4
    for part, layer in product(PARTS, range(2)):
        maps = model.get_attention_maps(x, part=part)
        assert list(maps) == ["layer_0", "layer_1", "average"]
        heads = model.get_attention_heads(x, layer, part=part)
        assert heads.shape == (3, 4, count, count)
        assert_close(attention[part][layer], heads.mean(dim=1))
        assert_close(maps[f"layer_{layer}"], attention[part][layer])
        assert_close(heads.sum(dim=-1), torch.ones(3, 4, count, dtype=torch.float64))
        queries = [count - 1, 0]
        assert_close(model.get_attention_heads(x, layer, queries, part), heads[:, :, queries])
        assert_close(maps["average"], (maps["layer_0"] + maps["layer_1"]) / 2)


def patchify_for(model: TransformerAutoencoder, x: Tensor) -> Tensor:
    """Ink of the padded images, cut into patches, written out."""
    rows, columns = model.config.grid_for(x.shape[-1])
    height, width = model.config.tile_size
    padded = F.pad(1 - x, (0, columns * width - x.shape[-1], 0, rows * height - x.shape[-2]))
    return patchify(padded, (height, width))


def latent_by_reference(model: TransformerAutoencoder, x: Tensor) -> Tensor:
    """The encoder from PyTorch's own parts."""
    encoder, columns = model.encoder, model.config.grid_for(x.shape[-1])[1]
    tokens = F.linear(patchify_for(model, x), encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias)
    tokens = tokens + encoder.pos_embed.weight[:, :columns].reshape(-1, 16)
    for block in (encoder.blocks[0], *encoder.blocks[1:]):
        tokens = reference(block)(tokens)
    return F.layer_norm(tokens, (16,), encoder.norm.weight, encoder.norm.bias).mean(dim=1)


def test_encoder_equals_pytorch_s_layers_and_the_latent_is_the_mean_token(model: TransformerAutoencoder) -> None:
    x = images_for(model)
    assert_close(model.embed(x), latent_by_reference(model, x), atol=1e-11, rtol=1e-9)
    assert torch.equal(model.encoder(x), model.embed(x))
    assert torch.equal(model.decoder(model.embed(x), x.shape[-1]), model(x)[0])


def test_decoder_equals_pytorch_s_layers(small_model) -> None:
    model = small_model(input_size=(24, 32))
    decoder, latent = model.decoder, torch.randn(2, 16, dtype=torch.float64)
    expanded = decoder.expand(latent)
    tokens = expanded[:, None] + decoder.pos_embed.weight.reshape(-1, 16) + decoder.start(expanded, 4)
    for block in decoder.blocks:
        tokens = reference(block)(tokens)
    tiles = decoder.proj(F.layer_norm(tokens, (16,), decoder.norm.weight, decoder.norm.bias))
    tile = tiles[1, 5].view(12, 12)  # 8 pixels and 2 beyond on every side; row 1, column 1
    inner = tile[4:8, 4:8]  # where no neighbour reaches
    assert_close(model.decode(latent)[1, 0, 10:14, 10:14], 1 - inner)


def test_one_token_is_the_diagram_written_out(small_model) -> None:
    model = small_model(input_size=(6, 10), patch_size=None, encoder_layers=1, decoder_layers=1)
    x = images_for(model, 2)

    def norm(tokens: Tensor, layer: nn.LayerNorm) -> Tensor:
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    def block(tokens: Tensor, layer: TransformerBlock) -> Tensor:
        weight, bias = layer.attn.qkv.weight[32:], layer.attn.qkv.bias[32:]
        values = norm(tokens, layer.norm1) @ weight.T + bias  # softmax over one token is 1: attention passes values on
        tokens = tokens + values @ layer.attn.proj.weight.T + layer.attn.proj.bias
        widen, narrow = layer.mlp[0], layer.mlp[2]
        assert isinstance(widen, nn.Linear) and isinstance(narrow, nn.Linear)
        hidden = norm(tokens, layer.norm2) @ widen.weight.T + widen.bias
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        return tokens + hidden @ narrow.weight.T + narrow.bias

    encoder, decoder = model.encoder, model.decoder
    embed, position = encoder.patch_embed.proj, encoder.pos_embed.weight[0, 0]
    tokens = (1 - x).flatten(1) @ embed.weight.T + embed.bias + position  # (B, H * W) -> (B, D)
    latent = norm(block(tokens, encoder.blocks[0]), encoder.norm)
    assert_close(model.embed(x), latent)
    tokens = latent @ decoder.expand.weight.T + decoder.expand.bias + decoder.pos_embed.weight[0, 0]
    ink = norm(block(tokens, decoder.blocks[0]), decoder.norm) @ decoder.proj.weight.T + decoder.proj.bias
    recon, attention = model(x, return_attention=True)
    assert_close(recon, 1 - ink.view(2, 1, 6, 10))
    assert attention is not None and all((one == 1).all() for part in PARTS for one in attention[part])


def test_explicit_attention_gives_the_same_images(model: TransformerAutoencoder) -> None:
    explicit = TransformerAutoencoder(replace(model.config, use_flash_attention=False)).double().eval()
    explicit.load_state_dict(model.state_dict())
    x = images_for(model)
    assert_close(explicit(x)[0], model(x)[0], atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("form", ["any width", "one token of any width"])
def test_padded_batch_of_mixed_widths_equals_the_images_one_by_one(small_model, form: str) -> None:
    model, widths = small_model(**FORMS[form]), torch.tensor([40, 1, 17, 33])
    x = images_for(model, 4)
    recon, attention = model(x, return_attention=True, widths=widths)
    latent = model.embed(x, widths)
    decoded = model.decode(latent, 40, widths)
    assert attention is not None
    for number, width in enumerate(widths.tolist()):
        alone = x[number : number + 1, ..., :width]
        alone_recon, alone_attention = model(alone, return_attention=True)
        assert_close(recon[number, ..., :width], alone_recon[0])
        assert_close(decoded[number, ..., :width], alone_recon[0])
        assert recon[number, ..., width:].abs().sum() == decoded[number, ..., width:].abs().sum() == 0
        assert_close(latent[number], model.embed(alone)[0])
        rows, columns = model.config.grid_for(width)
        wide_columns = model.config.grid_for(40)[1]
        real = (torch.arange(rows)[:, None] * wide_columns + torch.arange(columns)).flatten()
        for part, layer in product(PARTS, range(2)):
            found = attention[part][layer][number]
            assert_close(found[real][:, real], alone_attention[part][layer][0])
            assert_close(found.sum(), torch.tensor(float(len(real)), dtype=torch.float64))  # nothing on padding
            heads = model.get_attention_heads(x, layer, part=part, widths=widths)[number]
            assert_close(heads.mean(dim=0), found)


def test_maps_of_an_image_do_not_change_when_others_join_the_batch(model: TransformerAutoencoder) -> None:
    x = images_for(model, 5)
    for part in PARTS:
        together, alone = model.get_attention_maps(x, part), model.get_attention_maps(x[2:3], part)
        for name in alone:
            assert_close(together[name][2:3], alone[name], atol=1e-13, rtol=1e-10)


def test_whatever_lies_beyond_a_width_has_no_say(any_width: TransformerAutoencoder) -> None:
    widths, x = torch.tensor([40, 21]), images_for(any_width, 2)
    plain = any_width(x, return_attention=True, widths=widths)
    for junk in (float("nan"), float("inf"), -1e30):
        x[1, ..., 21:] = junk
        assert_close(any_width(x, return_attention=True, widths=widths), plain, atol=0, rtol=0)


@settings(max_examples=40)
@given(st.integers(1, 64), st.integers(1, 64))
def test_any_width_up_to_the_longest_is_reconstructed_at_its_size(first: int, second: int) -> None:
    model = any_width_model()
    wide = max(first, second)
    x = torch.rand(2, 1, 16, wide)
    with torch.no_grad():
        recon, _ = model(x, widths=torch.tensor([first, second]))
    assert recon.shape == x.shape and recon.isfinite().all()


def any_width_model() -> TransformerAutoencoder:
    torch.manual_seed(0)
    fields = {"patch_size": 8, "latent_dim": 16, "num_heads": 4, "encoder_layers": 1, "decoder_layers": 1}
    return create_autoencoder((16, None), None, max_width=64, **fields).eval()


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls = [0]
    fused = F.scaled_dot_product_attention

    def counting(*args, **kwargs) -> Tensor:
        calls[0] += 1
        return fused(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)
    return calls


def test_each_block_calls_fused_attention_once(small_model, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, explicit = small_model(), small_model(use_flash_attention=False)
    calls = count_calls(monkeypatch)
    fused(images_for(fused))
    assert calls == [4]
    explicit(images_for(explicit))
    assert calls == [4]


def test_heads_of_a_layer_do_not_cost_the_layers_above(small_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    calls = count_calls(monkeypatch)
    model.get_attention_heads(images_for(model), 0)
    assert calls == [0]
    model.get_attention_heads(images_for(model), 1)
    assert calls == [1]


def test_gradient_checkpointing_recomputes_and_changes_nothing(small_model, monkeypatch: pytest.MonkeyPatch) -> None:
    results, calls = [], count_calls(monkeypatch)
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = small_model(use_gradient_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        x = images_for(model)
        before = calls[0]
        recon, _ = model(x)
        recon.square().sum().backward()
        assert calls[0] - before == (8 if checkpointing else 4)
        results.append([recon, *(parameter.grad for parameter in model.parameters())])
    assert_close(results[0], results[1], atol=0, rtol=0)


def test_gradient_reaches_every_parameter(model: TransformerAutoencoder) -> None:
    model(images_for(model))[0].square().sum().backward()
    without = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    # Over one token attention is 1 whatever queries and keys are: theirs is a gradient of zero, within a fused tensor.
    assert not without


@pytest.mark.slow
def test_model_compiles_into_one_graph(small_model) -> None:
    for form, widths in (("square", None), ("one token", None), ("any width", torch.tensor([40, 9, 23]))):
        model = small_model(**FORMS[form], encoder_layers=1, decoder_layers=1)
        x = images_for(model)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert_close(compiled(x, widths=widths)[0], model(x, widths=widths)[0])


@pytest.mark.parametrize("fused", [True, False])
def test_bf16_autocast_is_near_float32(small_model, fused: bool) -> None:
    model = small_model(use_flash_attention=fused).float()
    with torch.no_grad():  # scrambled weights are large; halve what rounding can add up to
        for parameter in model.parameters():
            parameter.mul_(0.5)
    x = images_for(model).float()
    with torch.autocast("cpu", torch.bfloat16):
        recon = model(x)[0]
        recon.float().square().mean().backward()
    assert_close(recon.float(), model(x)[0], atol=0.1, rtol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.get_attention_maps(x)
    assert all(one.dtype == torch.float32 for one in maps.values())
    assert_close(maps["average"].sum(dim=-1), torch.ones(3, model.config.num_tokens))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_in_half_precision_runs_and_learns(small_model, fused: bool, dtype: torch.dtype) -> None:
    model = small_model(use_flash_attention=fused).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    x = images_for(model).float()
    exact = model(x)[0]
    recon = model.to(dtype)(x.to(dtype))[0]
    recon.float().square().mean().backward()
    assert all(one.grad is not None and one.grad.dtype == dtype for one in model.parameters())
    assert_close(recon.float(), exact, atol=0.1, rtol=0.1)


def test_inference_mode_gives_the_same(model: TransformerAutoencoder) -> None:
    x = images_for(model)
    with torch.inference_mode():
        recon, maps = model(x)[0], model.get_attention_maps(x)
    assert torch.equal(recon, model(x)[0])
    assert torch.equal(maps["average"], model.get_attention_maps(x)["average"])
    assert not maps["average"].requires_grad and not model.get_attention_maps(x)["layer_0"].requires_grad


def test_maps_ask_for_no_gradient_unless_the_forward_pass_does(small_model) -> None:
    model = small_model()
    attention = model(images_for(model), return_attention=True)[1]
    attention["encoder"][1][:, 0, 1].sum().backward()
    assert model.encoder.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_calls_leave_no_state(small_model) -> None:
    model = small_model()
    before = {name: sorted(vars(module)) for name, module in model.named_modules()}
    x = images_for(model)
    first = model(x, return_attention=True)
    model.get_attention_maps(images_for(model))
    assert_close(model(x, return_attention=True), first, atol=0, rtol=0)
    assert {name: sorted(vars(module)) for name, module in model.named_modules()} == before


def test_images_need_not_be_contiguous(small_model) -> None:
    model = small_model(input_size=(24, 24))
    x = images_for(model)
    assert_close(model(x.mT)[0], model(x.mT.contiguous())[0])


@pytest.mark.slow
def test_presets_reconstruct_and_show_their_attention() -> None:
    for name, patch_size in (("tiny", 16), ("tiny", None), ("medium", 16)):
        model = create_autoencoder(preset=name, patch_size=patch_size).eval()
        with torch.inference_mode():
            x = torch.rand(1, 1, 201, 201)
            recon, attention = model(x, return_attention=True)
        assert recon.shape == x.shape and recon.isfinite().all()
        assert attention is not None and len(attention["encoder"]) == PRESETS[name].encoder_layers
        assert_close(attention["encoder"][-1].sum(dim=-1), torch.ones(1, model.config.num_tokens))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_and_size_stands_on_the_meta_device(name: str) -> None:
    for size, patch_size in product([(201, 201), (152, 1280), (152, None)], [16, None]):
        config = preset_config(name, input_size=size, patch_size=patch_size, encoder_layers=1, decoder_layers=1)
        with torch.device("meta"):
            model = TransformerAutoencoder(config)
            x = torch.rand(2, 1, size[0], size[1] or 700)
        recon, attention = model(x, return_attention=True)
        assert recon.shape == x.shape and recon.is_meta
        rows, columns = config.grid_for(x.shape[-1])
        assert attention is not None and attention["decoder"][-1].shape == (2, rows * columns, rows * columns)
        assert model.embed(x).shape == (2, config.latent_dim)


@pytest.mark.slow
def test_one_real_block_of_the_largest_preset_runs() -> None:
    config = PRESETS["xlarge"]
    block = TransformerBlock(config).eval()
    with torch.inference_mode():
        x = torch.randn(1, 20, config.latent_dim)
        y, attention_map = block.forward_with_map(x)
        assert_close(y, block(x), atol=1e-4, rtol=1e-4)
    assert_close(attention_map.sum(dim=-1), torch.ones(1, 20))


def test_wrong_images_are_refused_with_what_was_expected(small_model, any_width: TransformerAutoencoder) -> None:
    model = small_model()
    for shape in [(24, 32), (1, 24, 32), (1, 3, 24, 32), (1, 1, 32, 24), (1, 1, 25, 32)]:
        with pytest.raises(ValueError, match=r"images must be .*got"):
            model(torch.rand(shape, dtype=torch.float64))
    with pytest.raises(ValueError, match="images must be float"):
        model(torch.zeros(1, 1, 24, 32, dtype=torch.uint8))
    x = images_for(model)
    for value in (float("nan"), float("inf"), -0.01, 1.01, 255.0):
        x[1, 0, 2, 3] = value
        with pytest.raises(
            ValueError, match=r"images must be in \[0, 1\], 0 black and 1 white, got .*divide 8-bit ones"
        ):
            model(x)
    for rounding in (-0.0005, 1.0005):
        x[1, 0, 2, 3] = rounding
        assert model(x)[0].isfinite().all()
    with pytest.raises(ValueError, match="at most 64 pixels wide .max_width., got 65; cut wider ones into windows"):
        any_width(images_for(any_width, 1, 65))


def test_wrong_widths_are_refused(any_width: TransformerAutoencoder) -> None:
    x = images_for(any_width)
    for wrong in ([40], [40, 20, 3, 2], [[40, 20, 3]], [0, 3, 4], [41, 2, 3], [-5, 2, 3]):
        widths = torch.tensor(wrong)
        for call in (
            lambda: any_width(x, widths=widths),  # noqa: B023
            lambda: any_width.get_attention_heads(x, 0, widths=widths),  # noqa: B023
            lambda: any_width.decode(any_width.embed(x), 40, widths),  # noqa: B023
        ):
            with pytest.raises(ValueError, match="widths must be"):
                call()


def test_wrong_arguments_are_refused(small_model, any_width: TransformerAutoencoder) -> None:
    model = small_model()
    x = images_for(model)
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder', got 'middle'"):
        model.get_attention_maps(x, part="middle")
    with pytest.raises(ValueError, match="layer must be from 0 to 1, got 2"):
        model.get_attention_heads(x, 2)
    with pytest.raises(ValueError, match="layer must be from 0 to 1, got -1"):
        model.get_attention_heads(x, -1)
    for queries in ([12], [-1], [[1]]):
        with pytest.raises(ValueError, match="queries must be token numbers from 0 to 11"):
            model.get_attention_heads(x, 0, queries)
    assert model.get_attention_heads(x, 0, []).shape == (3, 4, 0, 12)
    with pytest.raises(ValueError, match=r"latent must be \(B, 16\), got \(2, 15\)"):
        model.decode(torch.zeros(2, 15))
    with pytest.raises(ValueError, match="width must be given"):
        any_width.decode(torch.zeros(1, 16, dtype=torch.float64))


def test_config_of_a_model_builds_the_same_model(model: TransformerAutoencoder) -> None:
    config = model.get_config()
    again = create_autoencoder(**config)
    assert again.config == model.config and again.get_config() == config
    again.load_state_dict(model.state_dict())


def test_create_autoencoder_takes_the_diagram_s_quick_start() -> None:
    model = create_autoencoder(input_size=(201, 201), preset="tiny", use_flash_attention=True)
    assert model.config == preset_config("tiny") and isinstance(model.config, ModelConfig)
    assert create_autoencoder.__defaults__ == ((201, 201), "medium")
    with pytest.raises(ValueError, match="unknown preset 'base'"):
        create_autoencoder(preset="base")
    with pytest.raises(ValueError, match="unknown model config fields: heads"):
        create_autoencoder(preset="tiny", heads=3)


def test_public_names_are_those_of_the_contract() -> None:
    names = ["create_autoencoder", "save_checkpoint", "load_checkpoint", "CheckpointError", "ModelConfig", "PRESETS"]
    assert all(callable(getattr(tae, name)) or name == "PRESETS" for name in names)
    assert set(names) <= set(tae.__all__) <= set(dir(tae))
    with pytest.raises(AttributeError):
        tae.no_such_name  # noqa: B018


def test_white_page_is_zero_inside(scramble: Callable[[nn.Module], nn.Module], small_model) -> None:
    model = small_model()
    x = torch.ones(1, 1, 24, 32, dtype=torch.float64)
    tokens, _ = model.layer_input(x, 0)
    expected = model.encoder.patch_embed.proj.bias + model.encoder.pos_embed.weight.reshape(-1, 16)
    assert_close(tokens[0], expected)


@pytest.mark.parametrize("part", PARTS)
def test_finish_goes_on_from_the_last_layer(model: TransformerAutoencoder, part: str) -> None:
    x = images_for(model)
    tokens, mask = model.layer_input(x, 1, part)
    block = (model.encoder if part == "encoder" else model.decoder).blocks[1]
    assert_close(model.finish(block(tokens, mask), part, x.shape[-1]), model(x)[0])


def test_names_and_sizes_of_the_original_are_taken_or_explained(
    small_model: Callable[..., TransformerAutoencoder],
) -> None:
    built = create_autoencoder((24, 24), "tiny", num_encoder_layers=1, num_decoder_layers=2).config
    assert (built.encoder_layers, built.decoder_layers) == (1, 2)
    with pytest.raises(ValueError, match="num_encoder_layers is another name of encoder_layers"):
        create_autoencoder(preset="tiny", encoder_layers=1, num_encoder_layers=1)
    with pytest.warns(UserWarning, match=r"152 pixels wide; for images 1280 wide give \(152, 1280\)"):
        create_autoencoder((1280, 152), "tiny", patch_size=32)
    model = small_model(input_size=(24, 24))
    for shape, remedy in (((24, 24), r"x\[None, None\]"), ((3, 24, 24), r"x\[:, None\]")):
        with pytest.raises(ValueError, match=remedy):
            model(torch.rand(shape))


def test_norm_eps_is_that_of_every_layer_norm(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model = small_model(norm_eps=1e-3)
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-3}

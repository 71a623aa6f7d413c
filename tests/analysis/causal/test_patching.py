"""Activation, attribution and path patching: as by hooks, exact where theory says so, and a planted head is found."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.analysis.causal import patching
from tae.analysis.causal.interventions import Edit, Intervention, Knockout, from_name
from tae.analysis.causal.patching import Way, activation_patching, attribution_patching, head_cells, patch_cells
from tae.analysis.causal.prefix import make_prefix
from tae.model.config import PARTS, ModelConfig
from tests.analysis.causal.test_knockouts import draw
from tests.configs import SHAPES

Name = tuple[str, str, int]
Change = Callable[[Name, Tensor], Tensor]


@torch.no_grad()
def by_hand(model: TransformerAutoencoder, image: Tensor, change: Change = lambda name, value: value) -> Tensor:
    """A forward pass in which hooks see, and may change, what enters a block, its projection, and what leaves its MLP.

    Heads come as they enter the projection, (B, N, heads * head_dim).
    """
    model = copy.deepcopy(model)
    for part in PARTS:
        for layer, block in enumerate(model.blocks(part)):
            at = part, layer
            block.register_forward_pre_hook(lambda _, inputs, at=at: (change(("tokens", *at), inputs[0]), *inputs[1:]))
            block.attn.proj.register_forward_pre_hook(lambda _, inputs, at=at: (change(("heads", *at), inputs[0]),))
            block.mlp.register_forward_hook(lambda _, inputs, output, at=at: change(("mlp", *at), output))
    return model(image)[0]


def states_by_hand(model: TransformerAutoencoder, image: Tensor) -> tuple[dict[Name, Tensor], Tensor]:
    states = {}
    recon = by_hand(model, image, lambda name, value: states.setdefault(name, value.clone()))
    return states, recon


def place_of(cell: Intervention, config: ModelConfig) -> tuple[Name, tuple]:
    """Where a cell's numbers stand: which state, and the index into it."""
    if isinstance(cell, Edit):
        return ("tokens", cell.part, cell.layer), (slice(None), cell.tokens)
    if cell.target == "mlp":
        return ("mlp", cell.part, cell.layer), (slice(None),)
    side = config.latent_dim // config.num_heads
    head = cell.target
    some = slice(None) if head == "attention" else slice(int(head) * side, (int(head) + 1) * side)
    return ("heads", cell.part, cell.layer), (..., some)


def mixed_by_hand(
    model: TransformerAutoencoder, base: Tensor, others: dict[Name, Tensor], cell: Intervention, amount: float = 1
) -> Tensor:
    """The base's reconstruction with a cell moved by so much of the way to the other run's."""
    wanted, index = place_of(cell, model.config)

    def change(name: Name, value: Tensor) -> Tensor:
        if name != wanted:
            return value
        value = value.clone()
        value[index] += amount * (others[name][index] - value[index])
        return value

    return by_hand(model, base, change)


def way_by_hand(recon: Tensor, start: Tensor, end: Tensor) -> float:
    way = (end - start).flatten()
    return float((recon - start).flatten() @ way / (way @ way))


def linear(model: TransformerAutoencoder) -> TransformerAutoencoder:
    """Without norms, GELU and anything that weights hang on: every query reads all keys alike."""
    for part in PARTS:
        for block in model.blocks(part):
            block.norm1 = block.norm2 = nn.Identity()
            block.mlp[1] = nn.Identity()
            with torch.no_grad():
                block.attn.qkv.weight[: 2 * model.config.latent_dim] = 0
                block.attn.qkv.bias[: 2 * model.config.latent_dim] = 0
    model.encoder.norm = model.decoder.norm = nn.Identity()
    return model


CELLS = [
    "encoder/0/1",
    "encoder/1/attention",
    "encoder/1/mlp",
    "encoder/1/tokens=0",
    "decoder/0/3",
    "decoder/1/tokens=0",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cell_is_what_hooks_put_there(small_model, shape):
    model = small_model(**SHAPES[shape])
    base, source = draw(model), draw(model, seed=2)
    (_, start), (others, end) = states_by_hand(model, base), states_by_hand(model, source)
    cells = [from_name(name) for name in CELLS]
    found = activation_patching(model, base, source, cells)
    for cell, share, closed in zip(cells, found.share, found.closed, strict=True):
        recon = mixed_by_hand(model, base, others, cell)
        assert share == pytest.approx(way_by_hand(recon, start, end), abs=1e-10)
        left = float(((recon - end) ** 2).sum() / ((start - end) ** 2).sum())
        assert closed == pytest.approx(1 - left, abs=1e-10)
        assert_close(patching.patched(model, make_prefix(model, base), make_prefix(model, source), [[cell]]), recon)
    assert max(abs(found.share)) > 0.01


@pytest.mark.parametrize("shape", ["square", "any width", "one token"])
def test_all_patches_of_a_layer_are_the_other_run(small_model, shape):
    model = small_model(**SHAPES[shape])
    base, source = draw(model), draw(model, seed=2)
    num_tokens = math.prod(model.config.grid_for(base.shape[3]))
    every = [Edit(part, layer, "tokens", tuple(range(num_tokens))) for part in PARTS for layer in range(2)]
    found = activation_patching(model, base, source, every)
    assert_close(torch.from_numpy(found.share), torch.ones(4, dtype=torch.float64))
    assert_close(torch.from_numpy(found.closed), torch.ones(4, dtype=torch.float64))
    # With another goal than the source's reconstruction, a control, the same states lead somewhere else.
    goal = model(draw(model, seed=3))[0].detach()
    control = activation_patching(model, base, source, every[:1], goal)
    assert control.share[0] == pytest.approx(way_by_hand(model(source)[0].detach(), model(base)[0].detach(), goal))


def test_the_yardstick_is_worked_by_hand():
    start, end, recons = (
        torch.zeros(1, 1, 1, 2),
        torch.tensor([[[[2.0, 0]]]]),
        torch.tensor([[1.0, 0], [1, 1], [-2, 0], [2, 0]]),
    )
    way = Way(start, end)
    assert way.share(recons[:, None, None]).tolist() == [0.5, 0.5, -1, 1]  # to the side of the way is not on it
    assert way.closed(recons[:, None, None]).tolist() == [0.75, 0.5, -3, 1]


def test_images_between_which_there_is_no_way_are_refused(small_model):
    model = small_model(**SHAPES["any width"])
    narrow = draw(model)[..., :24]
    for patch in (activation_patching, attribution_patching):
        with pytest.raises(ValueError, match=r"must be of the same size, got \(16, 24\) for \(16, 40\)"):
            patch(model, draw(model), narrow, head_cells(model.config))
        with pytest.raises(ValueError, match="there is no way between equal ones"):
            patch(model, narrow, narrow, head_cells(model.config))
        with pytest.raises(ValueError, match="layer must be from 0 to 1"):
            patch(model, narrow, 1 - narrow, [Knockout("encoder", 2, 0)])


@pytest.mark.parametrize("shape", ["square", "any width", "one token"])
def test_attribution_is_the_slope_of_mixing_a_cell_in(small_model, shape):
    model = small_model(**SHAPES[shape])
    base, source = draw(model), draw(model, seed=2)
    (_, start), (others, end) = states_by_hand(model, base), states_by_hand(model, source)
    cells, step = [from_name(name) for name in CELLS], 1e-5
    slopes = attribution_patching(model, base, source, cells, recompute_attention=False)
    for cell, slope in zip(cells, slopes, strict=True):
        ends = [mixed_by_hand(model, base, others, cell, amount) for amount in (step, -step)]
        difference = (way_by_hand(ends[0], start, end) - way_by_hand(ends[1], start, end)) / (2 * step)
        assert slope == pytest.approx(difference, abs=1e-7)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert np.isfinite(attribution_patching(model, base, source, cells)).all()


def test_in_a_linear_network_attribution_is_exact_and_paths_add_up(small_model):
    model = linear(small_model())
    base, source = draw(model), draw(model, seed=2)
    cells = [*head_cells(model.config), *patch_cells(model.config, 32)]
    found = activation_patching(model, base, source, cells)
    estimate = attribution_patching(model, base, source, cells)
    np.testing.assert_allclose(estimate, found.share, atol=1e-10)
    estimate[5] += 0.25
    error = found.error_of(estimate)
    assert (error.deviation, error.worst) == (pytest.approx(0.25), cells[5])
    assert error.correlation == pytest.approx(np.corrcoef(estimate, found.share)[0, 1]) and error.rank_correlation < 1
    for cell, share in zip(cells[:12], found.share, strict=False):
        paths = patching.path_patching(model, base, source, cell)
        assert sum(paths.values()) == pytest.approx(share, abs=1e-10)


@pytest.mark.parametrize("rows", [5, 512])
def test_attention_computed_anew_tells_what_the_slope_of_a_saturated_softmax_does_not(small_model, monkeypatch, rows):
    """Planted: all is linear behind the first layer's attention, whose scores are far apart."""
    monkeypatch.setattr(patching, "ROWS_AT_ONCE", rows)
    model = linear(small_model())
    with torch.no_grad():
        model.encoder.blocks[0].attn.qkv.weight[:32] = torch.randn(32, 16)
    base, source = draw(model), draw(model, seed=2)
    cells = [cell for cell in patch_cells(model.config, 32, ["encoder"]) if cell.layer == 0]
    found = activation_patching(model, base, source, cells)
    np.testing.assert_allclose(attribution_patching(model, base, source, cells), found.share, atol=1e-9)
    by_slope = attribution_patching(model, base, source, cells, recompute_attention=False)
    assert found.error_of(by_slope).deviation > 0.05


@pytest.mark.parametrize(
    "sender", [Knockout("encoder", 0, 2), Knockout("encoder", 0, "mlp"), Knockout("decoder", 0, "attention")]
)
def test_a_path_is_what_three_runs_with_hooks_give(small_model, sender):
    """As in the papers: all between sender and receiver is frozen; what the receiver then adds is put into a last run."""
    model = small_model()
    base, source = draw(model), draw(model, seed=2)
    (own, start), (others, end) = states_by_hand(model, base), states_by_hand(model, source)
    wanted, index = place_of(sender, model.config)
    part = sender.part

    def with_receiver(receives: Callable[[Name], bool]) -> Tensor:
        """The first of two runs tells what the receiver adds, the second has it in the base's run."""
        added = {}

        def send(name: Name, value: Tensor) -> Tensor:
            if receives(name):
                added[name] = value
                return value
            if name[0] == "tokens" or name[1] != part:
                return value
            value = own[name].clone()
            if name == wanted:
                value[index] = others[name][index]
            return value

        by_hand(model, base, send)
        return by_hand(model, base, lambda name, value: added.get(name, value))

    expected = {"layer 1": with_receiver(lambda name: name[1:] == (part, 1) and name[0] != "tokens")}
    if sender.target != "mlp":
        expected[patching.OWN_MLP] = with_receiver(lambda name: name == ("mlp", part, 0))
    found = patching.path_patching(model, base, source, sender)
    for name, recon in expected.items():
        assert found[name] == pytest.approx(way_by_hand(recon, start, end), abs=1e-10)
    # Past all of them: only the last state of the part is another.
    direct = {name: value for name, value in own.items() if name[1] == part and name[0] != "tokens"}
    direct[wanted] = direct[wanted].clone()
    direct[wanted][index] = others[wanted][index]
    recon = by_hand(model, base, lambda name, value: direct.get(name, value))
    last = {"encoder": "latent", "decoder": "image"}[part]
    assert found[last] == pytest.approx(way_by_hand(recon, start, end), abs=1e-10)
    assert found.keys() == {*expected, last}


def test_the_one_head_that_carries_the_image_is_told_apart(small_model):
    """Planted: patches are written where the latent is not read, and one head alone carries them over."""
    model = small_model()
    with torch.no_grad():
        model.encoder.norm = nn.Identity()
        model.decoder.expand.weight[:, :8] = 0
        model.encoder.patch_embed.proj.weight[8:] = 0
        for layer, block in enumerate(model.encoder.blocks):
            for parameter in block.mlp[-1].parameters():
                parameter.zero_()
            carried = torch.zeros_like(block.attn.proj.weight)
            if layer == 0:
                carried[8:, 8:12] = block.attn.proj.weight[8:, 8:12]
            block.attn.proj.weight.copy_(carried)
    for base, source in ((draw(model), draw(model, seed=2)), (draw(model, seed=2), draw(model))):
        found = activation_patching(model, base, source, head_cells(model.config, ["encoder"]))
        recovers = {cell.name: share for cell, share in zip(found.cells, found.share, strict=True) if abs(share) > 1e-9}
        assert recovers == {"encoder/0/2": pytest.approx(1), "encoder/0/attention": pytest.approx(1)}
        paths = patching.path_patching(model, base, source, Knockout("encoder", 0, 2))
        assert paths == {"own MLP": pytest.approx(0), "layer 1": pytest.approx(0), "latent": pytest.approx(1)}


def test_patches_stand_in_one_cell_each_and_many_of_them_in_blocks():
    config = ModelConfig(input_size=(201, 201), patch_size=16, encoder_layers=2, decoder_layers=1)
    cells = patch_cells(config, 201)
    assert len(cells) == 3 * 169 and cells[170].name == "encoder/1/tokens=1"
    many = patch_cells(
        ModelConfig(input_size=(152, None), patch_size=8, encoder_layers=1, decoder_layers=1), 1001, ["decoder"]
    )
    assert len(many) <= patching.MAX_BLOCKS
    assert sorted(token for cell in many for token in cell.tokens) == list(range(19 * 126))
    assert many[0].tokens[:4] == [0, 1, 2, 3] and many[0].tokens[4] == 126

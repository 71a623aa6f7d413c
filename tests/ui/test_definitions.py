"""The glossary's definitions, held against the functions that they are about: on cases that one can work out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tae.analysis import agreement, attention, cka, kinds, latent, maps
from tae.analysis.causal import faithfulness, knockouts, occlusion, patching
from tae.analysis.causal.interventions import Edit, Knockout
from tae.analysis.causal.relevance import relevance as gradient_weighted
from tae.model import metrics
from tae.model.config import ModelConfig
from tae.ui.shell.glossary import TERMS
from tests.analysis.reference import build, draw_images
from tests.configs import SQUARE

VOCABULARY = {
    *("attention", "attention map", "decoder", "encoder", "head", "key", "latent", "layer", "lens", "patch", "query"),
    *("reconstruction", "state", "t-SNE", "token"),
}
"""Words that name a thing and state nothing of a number."""
EYE, UNIFORM = torch.eye(4), torch.full((4, 4), 0.25)


def ablation() -> None:
    model, (a, b) = build(SQUARE), draw_images(SQUARE, 2).split(1)
    head = Knockout("decoder", 1, 0)

    def by_hand(value: torch.Tensor) -> torch.Tensor:
        """The last layer's first head puts out so much (N, head_dim), and all else goes on as ever."""
        tokens, _ = model.layer_input(a, 1, "decoder")
        block = model.decoder.blocks[1]
        q, k, v = block.attn.qkv_heads(block.norm1(tokens))
        heads = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
        heads[:, 0] = value
        tokens = tokens + block.attn.proj(heads.transpose(1, 2).flatten(2))
        return model.decoder.draw(tokens + block.mlp(block.norm2(tokens)), 32)

    with torch.no_grad():
        tokens, _ = model.layer_input(b, 1, "decoder")
        block = model.decoder.blocks[1]
        q, k, v = block.attn.qkv_heads(block.norm1(tokens))
        others = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v)[0, 0]
        for baseline, value in (
            (knockouts.ZERO, torch.zeros_like(others)),
            (knockouts.resample_baseline(model, b), others),
            (knockouts.mean_baseline(model, b), others),  # the mean over one
        ):
            recon = knockouts.reconstruct_knocked_out(model, a, [[head]], baseline)
            torch.testing.assert_close(recon, by_hand(value))


def occlusion_() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    covered = image.clone()
    covered[..., 8:16, :8] = 1  # the first patch of the second row
    with torch.no_grad():
        expected = ((model(covered)[0] - model(image)[0]) ** 2).mean()
    torch.testing.assert_close(occlusion.occlude(model, image, 1.0, [4]).total[0], expected)


def activation_patching() -> None:
    model, (a, b) = build(SQUARE), draw_images(SQUARE, 2).split(1)
    every = Edit("encoder", 1, "tokens", tuple(range(16)))
    assert patching.activation_patching(model, b, a, [every]).share[0] == pytest.approx(1)


def attribution_patching() -> None:
    model, (a, b) = build(SQUARE), draw_images(SQUARE, 2).split(1)
    a = b + 1e-4 * (a - b)  # so near that the gradient tells all
    cells = patching.head_cells(model.config)
    found = patching.activation_patching(model, b, a, cells)
    assert found.error_of(patching.attribution_patching(model, b, a, cells)).correlation > 0.9999


def attention_distance() -> None:
    half = torch.zeros(4, 4)
    half[0, 0] = half[0, 1] = 0.5  # half on itself, half on its neighbour
    assert attention.distance(half, (2, 2), 16)[0] == 8


def attention_weight() -> None:
    model = build(SQUARE)
    for one in model.get_attention_maps(draw_images(SQUARE, 1)).values():  # "all weights of a query add up to 1"
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(1, 16, dtype=torch.float64))


def cka_() -> None:
    state, other = torch.randn(2, 200, 5, generator=torch.Generator().manual_seed(0)).double()
    turned = 3 * state @ torch.linalg.qr(other[:5]).Q + 1
    products = cka.hsic(*[torch.stack([cka.u_centred(one) for one in (state, turned, other)])] * 2)
    own = products.diagonal().sqrt()
    same, unrelated = (products / own / own[:, None])[0, 1:].tolist()
    assert same == pytest.approx(1) and abs(unrelated) < 0.05


def kind_of_head() -> None:
    plain = dict.fromkeys(kinds.NUMBERS, 0.1) | {"reach": 0.51, "foreground": 1.0, "entropy": 0.5, "own change": 0.5}
    assert kinds.kinds_of(plain) == ("mixed",) and kinds.kinds_of(plain | {"reach": 0.5}) == ("local",)


def entropy() -> None:
    share = attention.entropy(torch.stack([EYE, UNIFORM])) / math.log(4)
    torch.testing.assert_close(share, torch.tensor([[0.0] * 4, [1.0] * 4]))


def foreground_mse() -> None:
    image, recon = np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)
    image[0], recon[0], recon[1] = 0.5, 0.7, 0.9  # an error on ink, and one on paper
    assert metrics.measure(image, recon).foreground_mse == pytest.approx(0.04)


def fusion() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    heads = model.get_attention_heads(image, 0)[0]
    for name, fused in {"mean": heads.mean(dim=0), "max": heads.amax(dim=0), "min": heads.amin(dim=0)}.items():
        found = maps.compute_map(model, image, maps.MapChoice(layer="0", head=name))
        torch.testing.assert_close(found, fused / fused.sum(dim=-1, keepdim=True))


def head_dim() -> None:
    assert ModelConfig(latent_dim=64, num_heads=4).head_dim == 16


def imputation() -> None:
    image = torch.full((1, 1, 32, 32), 0.5)
    image[..., 8:16, 8:16] = 0  # a black patch among grey ones
    cover = occlusion.cover_of(image, "imputed", SQUARE)
    assert (cover[..., 8:16, 8:16] - 0.5).abs().max() < 0.05


def infidelity() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    effect = occlusion.occlude(model, image).total
    # A tenth of 12 patches is one: its own effect, at whatever scale, tells all of it.
    found = faithfulness.infidelity(model, image, {"own": 3 * effect, "flat": effect * 0 + 1}, torch.arange(12), sets=9)
    assert found == {"own": pytest.approx(0), "flat": pytest.approx(1)}


def jensen_shannon_distance() -> None:
    assert agreement.compare(EYE, EYE).mean_distance == 0
    assert agreement.compare(EYE, EYE.roll(1, 0)).mean_distance == 1


def n() -> None:
    image = draw_images(SQUARE, 1)
    assert maps.compute_map(build(SQUARE), image, maps.MapChoice()).shape == (SQUARE.num_tokens,) * 2 == (16, 16)


def participation_ratio() -> None:
    assert latent.participation_ratio(np.array([5.0, 0, 0])) == 1
    assert latent.participation_ratio(np.array([2.0, 2, 2, 0])) == pytest.approx(3)


def path_patching() -> None:
    model, (a, b) = build(SQUARE), draw_images(SQUARE, 2).split(1)
    a = b + 1e-4 * (a - b)  # so near that what the paths do adds up to what the head does in all
    head = Knockout("encoder", 0, 1)
    in_all = patching.activation_patching(model, b, a, [head]).share[0]
    assert sum(patching.path_patching(model, b, a, head).values()) == pytest.approx(in_all, rel=1e-2)


def principal_component() -> None:
    latents = np.random.default_rng(0).standard_normal((50, 3)) * [1, 5, 2]
    found = latent.fit_pca(latents)
    assert np.abs(found.directions).argmax(axis=1).tolist()[:2] == [1, 2]


def psnr() -> None:
    image = np.zeros((8, 8), np.float32)
    plain, half = (metrics.measure(image, image + error).psnr for error in (0.2, 0.1))
    assert half - plain == pytest.approx(6, abs=0.03)


def recomputation_error() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    with torch.no_grad():
        assert max(attention.recomputation_errors(model, image)) < 1e-5
        mixed, same = torch.nn.functional.scaled_dot_product_attention, torch.nn.functional
        with pytest.MonkeyPatch.context() as patch:  # as if the model itself mixed other values
            patch.setattr(same, "scaled_dot_product_attention", lambda *given, **more: mixed(*given, **more) + 0.5)
            assert attention.recomputation_errors(model, image)[0] == pytest.approx(0.5, abs=1e-5)


def relevance() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.attn.proj.weight.zero_()  # no gradient reaches its attention
    found = gradient_weighted(model, image)
    assert found.encoder.tolist() == [0] * 16 and found.decoder.max() > 0


def rollout() -> None:
    first, second = EYE.roll(1, 1), UNIFORM
    expected = (second + EYE) / 2 @ ((first + EYE) / 2)
    torch.testing.assert_close(attention.rollout([first, second]), expected)


def sensitivity() -> None:
    image = torch.full((1, 1, 4, 4), 0.5)
    found = faithfulness.max_sensitivity(lambda given: {"fixed": torch.ones(2), "grey": given}, image)
    assert found["fixed"] == 0 < found["grey"] <= faithfulness.RADIUS / 0.5 + 1e-6


def share_of_the_way() -> None:
    start, end, aside = torch.zeros(3, 1, 1, 1, 2).unbind()
    end[..., 0], aside[..., 1] = 2, 2
    assert patching.Way(start, end).share(torch.cat([start, end, aside])).tolist() == [0, 1, 0]


def sink() -> None:
    weights = torch.full((100, 100), 0.94 / 99)
    weights[:, 7] = 0.06  # six times uniform, from all
    assert attention.sinks(weights)[0].tolist() == [7]
    weights[:11] = 0.01  # now from 89 of 100
    assert attention.sinks(weights)[0].tolist() == []


def spread_between_heads() -> None:
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    found = maps.compute_map(model, image, maps.MapChoice(layer="0", head="spread"))
    torch.testing.assert_close(found, model.get_attention_heads(image, 0)[0].std(dim=0, correction=0))


def ssim() -> None:
    image = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    assert metrics.ssim(image, image) == pytest.approx(1)


def uniform_attention() -> None:
    assert attention.is_practically_uniform(UNIFORM)
    assert attention.received(UNIFORM).tolist() == [0.25] * 4


def value_weighted_attention() -> None:
    """A weight is multiplied by how long what it carries is, so that weight on an empty message moves nothing."""
    model, image = build(SQUARE), draw_images(SQUARE, 1)
    with torch.no_grad():
        attn = model.encoder.blocks[0].attn
        attn.proj.weight.zero_()
        attn.proj.weight[:, :8] = torch.eye(16, 8)  # head 0 alone is handed on
    choice = {"layer": "0", "head": "0"}
    weights = maps.compute_map(model, image, maps.MapChoice(**choice))
    x, mask = model.layer_input(image, 0, "encoder")
    _, _, value = attn.qkv_heads(model.encoder.blocks[0].norm1(x))
    expected = weights * value[0, 0].norm(dim=-1)
    found = maps.compute_map(model, image, maps.MapChoice(**choice, weighting="values"))
    torch.testing.assert_close(found, (expected / expected.sum(dim=-1, keepdim=True)).detach())


def x_uniform() -> None:
    """1.5 times what all alike would get is where a map stops being practically uniform."""
    for largest, is_flat in ((1.49, True), (1.51, False)):
        weights = torch.full((8, 8), (8 - largest) / 7 / 8)
        weights.fill_diagonal_(largest / 8)
        assert attention.is_practically_uniform(weights) == is_flat


CHECKS: dict[str, Callable[[], Any]] = {
    one.__name__.removesuffix("_"): one
    for one in (
        *(
            ablation,
            activation_patching,
            attribution_patching,
            kind_of_head,
            occlusion_,
            path_patching,
            relevance,
            share_of_the_way,
        ),
        *(
            attention_distance,
            attention_weight,
            cka_,
            entropy,
            foreground_mse,
            fusion,
            head_dim,
            imputation,
            infidelity,
        ),
        *(jensen_shannon_distance, n, participation_ratio, principal_component, psnr, recomputation_error, rollout),
        *(sensitivity, sink),
        *(spread_between_heads, ssim, uniform_attention, value_weighted_attention, x_uniform),
    )
}


@pytest.mark.parametrize("term", [term.name for term in TERMS if term.name not in VOCABULARY])
def test_what_the_glossary_says_of_a_figure_is_what_its_function_gives(term: str) -> None:
    CHECKS[term.lower().replace(" ", "_").replace("-", "_")]()

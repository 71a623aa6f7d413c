"""Models of which the truth is known by construction, told apart by the command line: as a stranger would learn of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tae.causal as door
from tae import Card, TransformerAutoencoder, save_checkpoint
from tae.analysis.attention import sinks
from tae.analysis.causal.knockouts import ZERO
from tae.analysis.causal.occlusion import COVERS, occlude
from tae.analysis.causal.study import Study, _covered, read_study
from tae.analysis.causal.sweeps import head_sweep
from tae.analysis.maps import MapChoice, compute_map
from tae.store.checkpoint import load_checkpoint
from tests.analysis.reference import NEEDED, draw

READ = 6
"""The only patch that `one_patch` reads."""


@pytest.fixture
def one_patch(small_model):
    """An encoder that reads one patch, the same in each image: by one head, which gives it all weight from everywhere."""

    @torch.no_grad()
    def build() -> TransformerAutoencoder:
        model = small_model()
        encoder = model.encoder
        model.decoder.expand.weight[:, :8] = 0  # the latent's first half, where patches are written, is not read
        encoder.patch_embed.proj.weight[7:] = encoder.patch_embed.proj.bias[7:] = 0
        encoder.pos_embed.weight[..., 7:] = 0
        for written in (encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias, encoder.pos_embed.weight):
            written.mul_(0.05)  # far less than the head adds, so that the last norm hardly sees it
        encoder.pos_embed.weight.flatten(0, 1)[READ, 7] = 0.3
        for layer, block in enumerate(encoder.blocks):
            for parameter in block.mlp[-1].parameters():
                parameter.zero_()
            block.attn.proj.bias.zero_()
            kept = torch.zeros_like(block.attn.proj.weight)
            if layer == 0:
                kept[8:, 8:12] = 10 * block.attn.proj.weight[8:, 8:12]  # head 2 alone
                query, key, _ = block.attn.qkv.weight.chunk(3)
                query[8:12] = key[8:12] = 0
                key[8, 7] = 30
                block.attn.qkv.bias[8:12] = torch.tensor([4.0, 0, 0, 0])
            block.attn.proj.weight.copy_(kept)
        return model

    return build


def study_of(model: TransformerAutoencoder, images: Tensor, folder: Path) -> Study:
    """What the command finds out of images (B, 1, H, W)."""
    path = save_checkpoint(folder / "planted.safetensors", model.float(), Card(name="Planted"))
    (folder / "images").mkdir()
    for number, image in enumerate(images[:, 0].numpy()):
        Image.fromarray((image * 255).round().astype(np.uint8)).save(folder / "images" / f"{number}.png")
    words = ["--checkpoint", path, "--images", folder / "images", "--baseline", "zero"]
    assert door.main([str(word) for word in words]) == 0
    return read_study(path.with_suffix(".causal.json"), load_checkpoint(path).digest)


@pytest.mark.slow
@pytest.mark.parametrize(("same_values", "kind"), [(False, "wallpaper"), (True, "decorative")])
def test_attention_that_nothing_depends_on_is_named_and_its_head_found(one_picture, same_values, kind, tmp_path):
    model, picture = one_picture(same_values)
    images = (picture + 0.01 * torch.cat([draw(seed=seed) for seed in range(6)])).clamp(0, 1)
    study = study_of(model, images, tmp_path)
    assert study.verdict("decoder").kind == kind and kind in study.verdict("decoder").sentence
    lost = {name: study.median_damage(name) for name in study.damage if name.startswith("decoder")}
    assert lost.pop(NEEDED.name) > 3 and lost.pop("decoder/0/attention") > 3
    assert max(map(abs, lost.values())) < 1e-3


@pytest.mark.slow
def test_a_true_sink_and_the_head_that_feeds_it_are_found_and_their_effect_under_each_cover(one_patch, tmp_path):
    model, image = one_patch(), draw()
    found, share = sinks(compute_map(model, image, MapChoice(layer="0", head="2")))
    assert found.tolist() == [READ] and share == pytest.approx(1, abs=1e-3)
    damage = head_sweep(model, image, ZERO).damage
    counts = {one.name for one in damage if one.part == "encoder" and abs(damage[one].mse_gained) > 1e-9}
    assert counts == {"encoder/0/2", "encoder/0/attention"}
    others = torch.cat([draw(seed=seed) for seed in (3, 4)])
    for cover in (1.0, "mean", "blur", others[:1], others.mean(dim=0, keepdim=True), "imputed"):
        effect = occlude(model, image, cover).total
        assert effect.argmax() == READ and effect.sum() - effect[READ] < 1e-5 * effect[READ] > 0
    for figures in _covered(model, image, others).values():
        assert figures["overlap"]["received attention, average"] == 1 and figures["infidelity"]["rollout"] < 0.9
    study = study_of(model, torch.cat([draw(seed=seed) for seed in range(6)]), tmp_path)
    heads = {name for name in study.damage if name.startswith("encoder") and study.damage[name]["mse_gained"][2]}
    assert {name for name in heads if abs(study.median_damage(name, "mse_gained")) > 1e-6} == counts
    assert study.covers.keys() == COVERS.keys()
    assert all(one["overlap"]["received attention, average"]["value"] == 1 for one in study.covers.values())

"""Optimizers, their learning rate, and the running average of the weights."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tae import TransformerAutoencoder
from tae.model.config import preset_config
from tae.training import muon
from tae.training.config import TrainConfig
from tae.training.muon import orthogonalised
from tae.training.optim import (
    WeightAverage,
    lr_schedule,
    make_optimizers,
    optimizer_tensors,
    restore_optimizers,
    set_lr,
    squared_errors,
)


def test_learning_rate_rises_then_falls_as_a_cosine() -> None:
    shares = [lr_schedule(step / 100, step, step / 100, 10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[4] == pytest.approx(
        0.5 * (0.02 + 0.49 * (1 + math.cos(0.04 * math.pi)))
    )
    assert shares[50] == pytest.approx(0.51)
    assert shares[10:] == sorted(shares[10:], reverse=True) and shares[-1] == pytest.approx(0.02, abs=1e-3)
    assert lr_schedule(0, 0, 0, 0) == 1
    assert lr_schedule(0.1, 1, 0.1, 60) == pytest.approx(0.02 + 0.49 * (1 + math.cos(0.1 * math.pi)))  # a tenth at most


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = TransformerAutoencoder(preset_config("tiny", encoder_layers=1, decoder_layers=1))
    muon_part, adamw = make_optimizers(model, TrainConfig(muon_lr=0.5, adamw_lr=0.25, weight_decay=0.125))
    assert isinstance(muon_part, muon.Muon) and isinstance(adamw, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = [
        [names[id(parameter)] for group in one.param_groups for parameter in group["params"]]
        for one in (muon_part, adamw)
    ]
    ends = ("attn.qkv.weight", "attn.proj.weight", "mlp.0.weight", "mlp.2.weight")
    assert sorted(taken[0]) == sorted(f"{part}.blocks.0.{end}" for part in ("encoder", "decoder") for end in ends)
    assert sorted(taken[0] + taken[1]) == sorted(names.values())
    assert [(one.param_groups[0]["lr"], one.param_groups[0]["weight_decay"]) for one in (muon_part, adamw)] == [
        (0.5, 0.125),
        (0.25, 0),
    ]


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
def test_a_matrix_is_made_orthogonal_with_the_vectors_of_its_svd(shape: tuple[int, int]) -> None:
    matrices = torch.randn(5, *shape, dtype=torch.float64)
    made = orthogonalised(matrices, torch.float64)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ made @ vt.mT
    singular = inside.diagonal(dim1=1, dim2=2)
    assert_close(inside, torch.diag_embed(singular), rtol=0, atol=1e-12)
    assert singular.min() > 0.3 and singular.median() > 0.65 and singular.max() < 1.3  # the iteration's own range
    assert_close(orthogonalised(matrices.float(), torch.float32).double(), made, rtol=0, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2**22])
def test_muon_is_the_librarys_but_for_its_precision(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(muon, "NUMBERS_AT_ONCE", at_once)
    shapes = [(16, 16), (48, 16), (16, 16), (16, 64)]
    matrices, theirs = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    ours = muon.Muon(matrices, lr=0.1, weight_decay=0.1, momentum=0.9, dtype=torch.bfloat16)
    library = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, momentum=0.9)
    assert [len(some) for some in ours.batches(ours.param_groups[0])] == []  # nothing without a gradient
    for _ in range(3):
        for one, other in zip(matrices, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        ours.step()
        library.step()
    for one, other in zip(matrices, theirs, strict=True):
        assert_close(one, other, rtol=0, atol=0.01)  # a step is 0.1, its direction rounded to bf16
        assert_close(ours.state[one], library.state[other])
    assert len(list(ours.batches(ours.param_groups[0]))) == (4 if at_once == 1 else 3)


def small() -> TransformerAutoencoder:
    return TransformerAutoencoder(
        preset_config("tiny", input_size=(16, 16), patch_size=8, latent_dim=16, encoder_layers=1, decoder_layers=1)
    )


def learn(model: TransformerAutoencoder, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    (model(images)[0] - images).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def test_errors_count_real_pixels_only() -> None:
    images, recon = torch.rand(2, 1, 4, 6), torch.rand(2, 1, 4, 6)
    squared = (images - recon) ** 2
    assert_close(squared_errors(recon, images, None), squared.sum(dim=(1, 2, 3)))
    recon[0, ..., 2:] = 1e6
    widths = torch.tensor([2, 6])
    assert_close(squared_errors(recon, images, widths), torch.stack([squared[0, 0, :, :2].sum(), squared[1].sum()]))


def test_optimizers_put_back_go_on_to_the_same_bits() -> None:
    model = small()
    optimizers = make_optimizers(model, TrainConfig())
    for seed in range(3):
        learn(model, optimizers, seed)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in optimizer_tensors(model, optimizers).items()}
    assert {name.split(".")[-1] for name in kept} == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}
    learn(model, optimizers, 3)  # what was taken out is a copy
    other = small()
    other.load_state_dict(weights)
    other_optimizers = make_optimizers(other, TrainConfig())
    restore_optimizers(other, other_optimizers, kept)
    learn(other, other_optimizers, 3)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    del kept["optim.encoder.norm.weight.step"]
    del kept["optim.encoder.norm.weight.exp_avg"]
    del kept["optim.encoder.norm.weight.exp_avg_sq"]
    with pytest.raises(ValueError, match="holds nothing of the optimizer for encoder.norm.weight"):
        restore_optimizers(other, other_optimizers, kept)


def test_each_group_keeps_its_own_peak_rate() -> None:
    optimizers = make_optimizers(small(), TrainConfig(muon_lr=0.5, adamw_lr=0.25))
    for share in (1.0, 0.5, 0.1):
        set_lr(optimizers, share)
        assert [one.param_groups[0]["lr"] for one in optimizers] == [0.5 * share, 0.25 * share]


def test_average_follows_the_weights_by_hand_and_swaps_back_to_the_bit() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
    average.update(model, 1)  # decay 2 / 11 in the beginning
    assert_close(average.weights["weight"], torch.tensor([[1 * 2 / 11 + 3 * 9 / 11]]))
    average.update(model, 1000)
    expected = 0.5 * (1 * 2 / 11 + 3 * 9 / 11) + 0.5 * 3
    average.swap(model)
    assert_close(model.weight.detach(), torch.tensor([[expected]]))
    average.swap(model)
    assert model.weight.item() == 3.0

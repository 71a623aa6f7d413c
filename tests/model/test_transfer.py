"""Weights that a new model takes over from a trained one."""

import pytest
import torch
from torch.testing import assert_close

from tae.model.transfer import transfer


def test_the_same_model_is_taken_over_whole(small_model) -> None:
    model, trained = small_model(), small_model()
    found = transfer(model, trained)
    assert found.taken == list(model.state_dict()) and not found.resampled and not found.left
    assert all(torch.equal(one, trained.state_dict()[name]) for name, one in model.state_dict().items())
    assert str(found) == f"{len(found.taken)} of {len(found.taken)} tensors are taken over"


def test_fewer_and_more_layers_share_those_that_both_have(small_model) -> None:
    model, trained = small_model(encoder_layers=3, decoder_layers=1), small_model()
    begun = model.state_dict()["encoder.blocks.2.attn.qkv.weight"].clone()
    found = transfer(model, trained)
    assert {name.rsplit(".", 3)[0] for name in found.left if "attn" in name} == {"encoder.blocks.2"}
    assert all(name.startswith("encoder.blocks.2.") for name in found.left)
    assert torch.equal(model.state_dict()["encoder.blocks.2.attn.qkv.weight"], begun)
    assert "begun anew" in str(found) and "and 6 more" in str(found)


def test_positions_are_resampled_to_another_grid(small_model) -> None:
    trained = small_model(input_size=(64, 80))
    rows, columns = torch.arange(8.0)[:, None, None], torch.arange(10.0)[:, None]
    with torch.no_grad():  # a plane, which stays one but at the border
        trained.encoder.pos_embed.weight.copy_(10 * rows + columns)
    model = small_model(input_size=(128, 160))
    found = transfer(model, trained)
    assert found.resampled == ["encoder.pos_embed.weight", "decoder.pos_embed.weight", "decoder.start.down"]
    assert not found.left
    expected = 10 * (torch.arange(16.0)[:, None, None] / 2 - 0.25) + torch.arange(20.0)[:, None] / 2 - 0.25
    got, inside = model.encoder.pos_embed.weight, slice(4, -4)
    assert_close(got[inside, inside], expected.expand_as(got)[inside, inside].to(got.dtype), atol=1e-4, rtol=0)
    assert model(torch.rand(1, 1, 128, 160, dtype=torch.float64))[0].isfinite().all()


def test_patches_of_another_size_begin_their_projections_anew(small_model) -> None:
    found = transfer(small_model(patch_size=4), small_model())
    assert set(found.left) == {"encoder.patch_embed.proj.weight", "decoder.proj.weight", "decoder.proj.bias"}


def test_a_model_of_another_width_is_refused(small_model) -> None:
    with pytest.raises(ValueError, match="blocks of the same width: latent_dim, .* 16, 4, 4, got 32, 4, 4"):
        transfer(small_model(), small_model(latent_dim=32))

"""Deletion and insertion curves: hand-worked values, and orders that must win or lose."""

import pytest
import torch

from tae.analysis.causal import occlusion
from tae.analysis.causal.curves import deletion_insertion
from tae.analysis.causal.occlusion import Box
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.store.checkpoint import load_checkpoint
from tests.analysis.reference import draw


def test_deletion_and_insertion_by_hand(small_model):
    model, image = small_model(), torch.ones(1, 1, 24, 32, dtype=torch.float64)
    image[..., :8, :8], image[..., 8:16, 16:24] = 0.2, 0.5  # tokens 0 and 6
    order = torch.zeros(12, dtype=torch.float64)
    order[6], order[0], order[3] = 3, 2, 9  # 3 is blank and takes no part
    without = {}
    with torch.no_grad():
        plain = model(image)[0]
        for name, tokens in {"6": [6], "0": [0], "both": [0, 6]}.items():
            covered = image.clone()
            for token in tokens:
                covered[..., token // 4 * 8 :, token % 4 * 8 :][..., :8, :8] = 1
            without[name] = ((model(covered)[0] - plain) ** 2).mean().item()
    curves = deletion_insertion(model, image, {"map": order}, random_orders=0)
    assert list(curves) == ["map"]
    one = curves["map"]
    assert one.share.tolist() == [0, 0.5, 1]
    assert one.deletion == pytest.approx([1, 1 - without["6"] / without["both"], 0])
    assert one.insertion == pytest.approx([0, 1 - without["0"] / without["both"], 1])
    assert one.deletion_area == pytest.approx(one.deletion @ [0.25, 0.5, 0.25])
    assert one.insertion_area == pytest.approx(one.insertion @ [0.25, 0.5, 0.25])


def test_curves_of_a_region_count_its_own_change(small_model):
    model, image = small_model(), torch.ones(1, 1, 24, 32, dtype=torch.float64)
    image[..., :8, :8], image[..., 8:16, 16:24] = 0.2, 0.5  # tokens 0 and 6
    order = -torch.arange(12, dtype=torch.float64)
    box = Box(3, 5, 20, 11)
    with torch.no_grad():
        plain, without, blank = (
            model(one)[0][0, 0, 3:20, 5:11]
            for one in (image, torch.cat([torch.ones(1, 1, 24, 8).double(), image[..., 8:]], dim=3), image * 0 + 1)
        )
    curves = deletion_insertion(model, image, {"map": order}, random_orders=0, region=box)
    expected = 1 - ((without - plain) ** 2).mean().item() / ((blank - plain) ** 2).mean().item()
    assert curves["map"].deletion == pytest.approx([1, expected, 0])
    with pytest.raises(ValueError, match="region must be"):
        deletion_insertion(model, image, {"map": order}, region=Box(0, 0, 25, 8))


@pytest.mark.slow
def test_the_measured_effect_itself_beats_random_orders_and_their_opposite():
    model = load_checkpoint("checkpoints/demo_tiny_201x201_p16.safetensors").model
    image, _ = to_batch(DemoSource((201, 201)).test(1))
    effect = occlusion.occlude(model, image).total
    maps = {"effect": effect, "opposite": -effect}
    curves = deletion_insertion(model, image, maps, steps=6, random_orders=3)
    assert list(curves) == ["effect", "opposite", "random order"]
    areas = [curves[name].deletion_area for name in ("effect", "random order", "opposite")]
    assert areas == sorted(areas)
    areas = [curves[name].insertion_area for name in ("opposite", "random order", "effect")]
    assert areas == sorted(areas)
    for one in curves.values():
        assert (one.deletion[0], one.insertion[-1]) == (1, 1)
        assert (one.deletion[-1], one.insertion[0]) == (0, 0)


def test_ties_come_in_random_order_the_same_for_the_same_seed(small_model):
    model, image = small_model(), draw()
    maps = {"constant": torch.ones(12), "also": torch.ones(12)}
    first, again = (deletion_insertion(model, image, maps) for _ in range(2))
    assert first["constant"].deletion.tolist() == again["constant"].deletion.tolist()
    assert first["constant"].deletion.tolist() != first["also"].deletion.tolist()
    alone = deletion_insertion(model, image, {"also": maps["also"]})  # whatever other maps there are
    for name in ("also", "random order"):
        assert alone[name].deletion == pytest.approx(first[name].deletion, abs=1e-12)  # in other batches
    other = deletion_insertion(model, image, maps, seed=1)
    assert first["constant"].deletion.tolist() != other["constant"].deletion.tolist()


def test_steps_cut_the_patches_into_parts(small_model):
    shares = []
    curves = deletion_insertion(small_model(), draw(), {"map": torch.arange(12)}, steps=4, progress=shares.append)
    assert curves["map"].share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert shares[-1] == 1


def test_curves_refuse_what_does_not_fit(small_model):
    model = small_model()
    with pytest.raises(ValueError, match=r"map ink must be \(12,\), got \(11,\)"):
        deletion_insertion(model, draw(), {"ink": torch.ones(11)})
    with pytest.raises(ValueError, match="baseline must change the image"):
        deletion_insertion(model, torch.ones(1, 1, 24, 32, dtype=torch.float64), {})

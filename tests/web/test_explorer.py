"""The explorer's data: true to the colour scale, small enough for a first view, harmless inside a page."""

import base64
import html
import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tae import TransformerAutoencoder
from tae.model.config import MAX_TOKENS
from tae.web.component import read_script, read_style
from tae.web.explorer import payload as explorer_payload
from tae.web.explorer import standalone
from tae.web.explorer.payload import (
    FIRST_BYTES,
    HEADS_BYTES,
    MAX_PINS,
    MAX_TOKENS_EXACT,
    Note,
    Quantised,
    Side,
    View,
    cell_grid,
    coarsen,
    dequantise,
    for_json,
    heads_feed,
    heads_merged,
    in_head_grid,
    maps_to_send,
    merged,
    payload,
    quantise,
    read_view,
    side,
)

TOPS = {"shared": 4.0, "full": 9.0}
HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> & \u2028"
GRIDS = {169: (13, 13), 800: (10, 80), 3040: (19, 160), MAX_TOKENS: (128, 128)}


def all_names(layers: int = 12, heads: int = 16) -> list[str]:
    """All maps of a model as large as xlarge."""
    kinds = ["mean", "max", "min", "spread", *map(str, range(heads))]
    names = []
    for part in ("decoder", "encoder"):
        names += [f"{part}/average/mean", *(f"{part}/rollout/{fusion}" for fusion in kinds[:3])]
        names += [f"{part}/{layer}/{kind}" for layer in range(layers) for kind in kinds]
    return names


def some_maps(num_tokens: int, *names: str, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    maps = random.random((len(names), num_tokens, num_tokens), np.float32) ** 4
    return dict(zip(names, maps / maps.sum(axis=-1, keepdims=True), strict=True))


def some_side(*names: str, title: str = "", grid: tuple[int, int] = (3, 4), seed: int = 0) -> Side:
    """Patches of 16; the last of each row and column are cut."""
    image = np.random.default_rng(seed).random((grid[0] * 16 - 8, grid[1] * 16 - 4), np.float32)
    return side(title, image, grid, 16, some_maps(grid[0] * grid[1], *names, seed=seed))


# -- quantisation


@given(
    num_tokens=st.integers(1, MAX_TOKENS),
    largest=st.floats(2**-20, 1, width=32),
    shares=st.lists(st.floats(0, 1, width=32), max_size=20),
    end=st.floats(0, 1),
)
def test_quantised_weight_is_off_by_less_than_half_a_colour_step_in_any_range(
    num_tokens: int, largest: float, shares: list[float], end: float
) -> None:
    weights = np.array([[largest, *(share * largest for share in shares)]], np.float32)
    top = 1.5 + end * max(0.0, num_tokens * largest - 1.5)  # from the narrowest range there is to the widest
    error = np.abs(dequantise(quantise(weights)) - weights.astype(np.float64)) * num_tokens
    inside = weights.astype(np.float64) * num_tokens <= top
    assert (error[inside] < top / 512).all()


@given(weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_quantisation_error_is_within_its_bound(weights: list[float]) -> None:
    exact = np.array([weights], np.float32)
    largest = float(exact.max())
    bound = np.sqrt(exact.astype(np.float64) * largest) / 65535 + largest / (4 * 65535**2)
    error = np.abs(dequantise(quantise(exact)) - exact)
    assert (error <= bound * 1.02 + 1e-38).all()  # 2%: roots are rounded to float32 before they are to whole numbers


def test_quantisation_by_hand() -> None:
    made = quantise(np.array([[0.0, 0.04], [0.01, 0.16]], np.float32))
    assert made.cells.tolist() == [[0, 32768], [16384, 65535]]  # 65535 times 0, 1/2, 1/4, 1; halves to even
    assert (made.smallest, made.largest) == (0.0, pytest.approx(0.16))
    zero = quantise(np.zeros((2, 2), np.float32))
    assert not zero.cells.any() and not dequantise(zero).any()


def test_a_weight_that_is_none_is_refused() -> None:
    for wrong in [-0.1, float("nan"), float("inf")]:
        with pytest.raises(ValueError, match="maps must hold finite weights from 0 up"):
            quantise(np.array([[0.5, wrong]], np.float32))


# -- coarsening


def test_patches_are_merged_just_as_far_as_needed() -> None:
    for num_tokens, k in [(169, 1), (800, 1), (3040, 2), (MAX_TOKENS, 4)]:
        grid = GRIDS[num_tokens]
        assert merged(grid) == k
        assert np.prod(cell_grid(grid, k)) <= MAX_TOKENS_EXACT
        assert k == 1 or np.prod(cell_grid(grid, k - 1)) > MAX_TOKENS_EXACT


def test_each_pair_of_cells_has_its_strongest_pair_of_patches() -> None:
    for k in [1, 2, 3]:
        rows, columns = 5, 7
        weights = some_maps(35, "a")["a"]
        height, width = cell_grid((rows, columns), k)
        expected = np.zeros((height * width,) * 2, np.float32)
        for query in range(35):
            for key in range(35):
                a, b = ((at // columns // k) * width + at % columns // k for at in (query, key))
                expected[a, b] = max(expected[a, b], weights[query, key])
        np.testing.assert_array_equal(coarsen(weights, (rows, columns), k), expected)


def test_coarsening_keeps_single_strong_weights_among_3040_patches() -> None:
    grid = GRIDS[3040]
    weights = np.full((3040, 3040), 1e-5, np.float32)
    random = np.random.default_rng(0)
    planted = random.choice(3040, (20, 2), replace=False)
    weights[tuple(planted.T)] = 0.4
    one = side("", np.zeros((19 * 8, 160 * 8), np.float32), grid, 8, {"encoder/0/mean": weights})
    cells = dequantise(one.maps["encoder/0/mean"])
    for query, key in planted:
        a, b = ((at // 160 // 2) * 80 + at % 160 // 2 for at in (query, key))
        assert cells[a, b] == pytest.approx(0.4, rel=1e-6)
    assert one.maps["encoder/0/mean"].smallest == pytest.approx(1e-5)


# -- which maps are sent


def test_head_grid_stays_within_its_budget_and_merges_no_more_than_it_must() -> None:
    for num_tokens, names in [(169, 34), (169, 12 * 17 * 2 + 4), (800, 34), (3040, 34)]:
        grid = GRIDS[num_tokens]
        k = heads_merged(grid, names)
        assert k >= merged(grid) and 2 * names * np.prod(cell_grid(grid, k)) ** 2 <= HEADS_BYTES
        assert k == merged(grid) or 2 * names * np.prod(cell_grid(grid, k - 1)) ** 2 > HEADS_BYTES
    assert heads_merged((13, 13), 34) == 1


def test_fed_heads_are_the_maps_that_were_given() -> None:
    maps = some_maps(12, "encoder/0/0", "encoder/0/mean")
    fed = heads_feed(maps, (3, 4), "d", "explorer")
    assert (fed["feed"], fed["memory"], fed["digest"], fed["names"]) == ("heads", "explorer", "d", list(maps))
    assert (fed["shape"], fed["merged"], fed["cells"].shape, fed["cells"].dtype) == ([3, 4], 1, (2 * 144,), np.uint16)
    for number, weights in enumerate(maps.values()):
        one = Quantised(fed["cells"].reshape(2, 12, 12)[number], fed["smallest"][number], fed["largest"][number])
        np.testing.assert_allclose(dequantise(one), weights, atol=float(weights.max()) / 65535)
    assert [name for name in all_names(1, 2) if in_head_grid(name)] == [
        *(f"decoder/{name}" for name in ("average/mean", "rollout/mean", "0/mean", "0/0", "0/1")),
        *(f"encoder/{name}" for name in ("average/mean", "rollout/mean", "0/mean", "0/0", "0/1")),
    ]


def test_maps_to_send_answers_the_last_question_about_this_picture() -> None:
    names, grid = all_names(2, 2), (3, 4)
    view = View(revision=3)
    first = [view.name]

    def sent(**changes: object) -> list[str]:
        state = {"digest": "d", "revision": 3, "names": ["encoder/1/0", "encoder/1/1"], **changes}
        return maps_to_send(state, view, names, "d", grid)

    assert maps_to_send(None, view, names, "d", grid) == first
    assert sent() == ["encoder/1/0", "encoder/1/1"]
    assert sent(digest="another picture") == first
    assert sent(revision=2) == [view.name]
    assert sent(names=["encoder/1/0", "encoder/1/0", "../../secret", 7, None]) == ["encoder/1/0"]
    assert sent(names=["nothing"]) == sent(names=5) == [view.name]
    assert maps_to_send(None, view, names, "d", grid, fed=names) == []  # the head grid brings it


def test_a_question_for_everything_gets_no_more_than_the_budget_holds() -> None:
    names = all_names()
    state = {"digest": "d", "revision": 0, "names": names}
    assert len(maps_to_send(state, View(), names, "d", GRIDS[800])) == FIRST_BYTES // (2 * 800**2) == 3


# -- what the browser told

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("part", "layer", "head", "query", "direction", "range", "pins")


@given(state=json_values | st.fixed_dictionaries({"revision": st.just(0)}, optional=dict.fromkeys(FIELDS, json_values)))
def test_any_state_from_a_browser_gives_a_view_of_what_there_is(state: object) -> None:
    names = ["encoder/average/mean", "encoder/0/mean"]
    view = read_view(state, View(), names, num_tokens=12)
    assert view.name in names and 0 <= view.query < 12
    assert view.direction in ("from", "to") and view.range in ("shared", "full", "own")
    assert len(view.pins) <= MAX_PINS and all(isinstance(pin, int) and 0 <= pin < 12 for pin in view.pins)
    maps_to_send(state, View(), names, "d", (3, 4))


def test_a_told_view_is_read_in_full_unless_it_is_older_than_the_one_that_was_set() -> None:
    names = ["encoder/average/mean", "decoder/1/0"]
    told = {"part": "decoder", "layer": "1", "head": "0", "query": 5, "direction": "to", "range": "own", "revision": 2}
    expected = View("decoder", "1", "0", 5, "to", "own", (3, 9), revision=2)
    assert read_view({**told, "pins": [3, 9, 3]}, View(revision=2), names, 12) == expected
    assert read_view(told, View(query=1, revision=3), names, 12) == View(query=1, revision=3)
    assert read_view({**told, "query": True, "head": "9"}, View(revision=2), names, 12).query == 0


# -- the payload


def decoded(made: explorer_payload.Payload) -> dict[str, np.ndarray]:
    """Maps of a JSON payload, in x uniform, read as the script reads them."""
    maps = {}
    for entry in made["maps"]:
        one = made["sides"][entry["side"]]
        count, tokens = int(np.prod(one["cells"])), int(np.prod(one["grid"]))
        cells = np.frombuffer(base64.b64decode(entry["data"]), "<u2").reshape(count, count)
        maps[entry["name"]] = dequantise(Quantised(cells, entry["smallest"], entry["largest"])) * tokens
    return maps


def test_maps_of_a_model_survive_the_way_into_a_page(small_model: Callable[..., TransformerAutoencoder]) -> None:
    model = small_model()
    images = torch.rand(1, 1, 24, 32, dtype=torch.float64)
    maps = {f"encoder/0/{head}": one.numpy() for head, one in enumerate(model.get_attention_heads(images, 0)[0])}
    maps["encoder/average/mean"] = model.get_attention_maps(images)["average"][0].numpy()
    one = side("", images[0, 0].numpy(), (3, 4), 8, maps)
    page = standalone.page(payload([one], View(), TOPS), "Maps")
    found = re.search(r'<script type="application/json" id="explorer-0-data">(.*?)</script>', page, re.DOTALL)
    assert found
    made = json.loads(found[1])
    assert made["sides"][0]["names"] == list(maps)
    for name, weights in decoded(made).items():
        np.testing.assert_allclose(weights, maps[name] * 12, atol=12 / 65535)


def test_strangers_texts_cannot_leave_their_place_in_a_page() -> None:
    one = some_side("encoder/0/mean", title=HOSTILE)
    made = payload([one], View(layer="0"), TOPS, [Note(HOSTILE, "error")], {"encoder": HOSTILE})
    fragment = standalone.fragment(made, "one")
    data = fragment.split('id="one-data">')[1].removesuffix("</script>\n")
    assert "<" not in data and ">" not in data and "&" not in data
    assert json.loads(data)["sides"][0]["title"] == json.loads(data)["notes"][0]["text"] == HOSTILE
    page = standalone.page(made, HOSTILE)
    assert page.count("<script") == page.count("</script>") == 2
    assert f"<title>{html.escape(HOSTILE)}</title>" in page


def test_page_allows_just_its_own_script() -> None:
    page = standalone.page([payload([some_side("encoder/0/mean")], View(layer="0"), TOPS)] * 2, "Two")
    text = page.split('<script type="module">')[1].split("</script>")[0]
    assert f"default-src 'none'; script-src {standalone.script_hash(text)};" in page
    assert "export" not in text.split("*/", 1)[1] and '["explorer-0", "explorer-1"]' in text
    assert not re.search(
        r"https?://|\bimport\b|fetch\(|innerHTML|XMLHttpRequest", read_script("explorer") + read_style("explorer")
    )


def test_hash_of_a_script_is_that_of_the_standard() -> None:
    # From the example in the Content Security Policy specification, level 2, section 7.17.1.
    assert standalone.script_hash("alert('Hello, world.');") == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"


def test_a_name_that_is_none_is_refused() -> None:
    for name in ["", "a b", 'a"', "é"]:
        made = payload([some_side("encoder/0/mean")], View(layer="0"), TOPS)
        with pytest.raises(ValueError, match="element_id must be of ASCII letters"):
            standalone.fragment(made, name)


def test_payload_is_plain_json_and_a_page_never_asks() -> None:
    made = payload([some_side("encoder/0/mean")], View(layer="0", pins=(1, 2)), TOPS, on_demand=True)
    assert json.loads(json.dumps(for_json(made)))["view"]["pins"] == [1, 2]
    assert '"on_demand":false' in standalone.fragment(made, "one")


def test_two_sides_lock_the_ends_of_their_difference() -> None:
    first, second = some_side("encoder/0/mean"), some_side("decoder/1/0", seed=1)
    made = payload([first, second], View(), TOPS)
    a, b = (dequantise(next(iter(one.maps.values()))) * 12 for one in (first, second))
    assert made["tops"]["difference"][1] == pytest.approx(float(np.abs(a - b).max()))
    assert payload([first, first], View(), TOPS)["tops"]["difference"] == [0.5, 0.5]
    assert "difference" not in payload([first, some_side("encoder/0/mean", grid=(2, 6))], View(), TOPS)["tops"]


def test_digest_tells_maps_of_one_picture_or_model_from_another() -> None:
    assert some_side("encoder/0/mean").digest == some_side("encoder/0/mean").digest
    assert some_side("encoder/0/mean").digest != some_side("encoder/0/mean", seed=1).digest
    image, maps = np.zeros((32, 32), np.float32), some_maps(4, "encoder/0/0", "encoder/0/1")
    first, second = (side("", image, (2, 2), 16, {"encoder/0/0": one}) for one in maps.values())
    assert first.digest != second.digest


def test_what_does_not_fit_is_refused() -> None:
    image, maps = np.zeros((40, 60), np.float32), some_maps(12, "encoder/0/mean")
    with pytest.raises(ValueError, match="grid must cover 60x40 in patches of 16, got 5x3"):
        side("", image, (3, 5), 16, maps)
    with pytest.raises(ValueError, match="must be 12 x 12, got shape"):
        side("", image, (3, 4), 16, some_maps(9, "encoder/0/mean"))
    with pytest.raises(ValueError, match="names must be part/layer/head, got 'layer_0'"):
        side("", image, (3, 4), 16, maps, ["layer_0"])
    with pytest.raises(ValueError, match="digest must be given where maps can be asked for later"):
        side("", image, (3, 4), 16, maps, ["encoder/0/mean", "encoder/0/1"])
    one = some_side("encoder/0/mean", "encoder/0/1")
    with pytest.raises(ValueError, match=r"two sides must have one map each, got \[2, 2\]"):
        payload([one, one], View(), TOPS)
    with pytest.raises(ValueError, match="tops must have shared and full"):
        payload([one], View(), {"shared": 2.0})

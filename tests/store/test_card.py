"""Model cards: whatever strangers write into them is checked and cleaned."""

import math
from dataclasses import asdict

import numpy
import pytest
import torch

from tae import Card


def test_a_card_tells_chance_from_training_and_says_where_neither_is_known() -> None:
    told = {"untrained": {"steps": 0}, "trained": {"steps": 1}, "unknown": {}}
    assert all(Card(name="x", training=training).origin == origin for origin, training in told.items())
    assert Card(name="x", training={"converted": {"from": "model.pth"}}).origin == "unknown"


def test_a_card_does_not_change_with_the_dict_it_was_made_from() -> None:
    training = {"steps": 1, "curve": [{"step": 1, "loss": 0.5}]}
    card = Card(name="a", training=training)
    training["curve"].clear()  # type: ignore[attr-defined]
    assert card.training["curve"] == [{"step": 1, "loss": 0.5}]


def test_texts_of_a_card_are_cleaned_and_shortened() -> None:
    hostile = "a\u202eb\u200bc\x00d\x1b[31m\ufeff\ue000e\ud800f\u2066 \n\t\u2028 g"
    card = Card(name=hostile, notes="x" * 10**6, training={hostile: [hostile, "y" * 10**4]})
    assert card.name == "abcd[31mef g"
    assert len(card.notes) == 4000 and card.notes.endswith("…")
    ((key, (first, second)),) = card.training.items()
    assert key == first == card.name
    assert len(second) == 2000
    assert Card(**asdict(card)) == card


def test_a_card_takes_numpy_floats_as_plain_numbers() -> None:
    card = Card(name="a", metrics={"psnr": numpy.float64(20.5)})
    assert type(card.metrics["psnr"]) is float


GROUP = {"group": "500-599", "psnr": 18.0, "count": 40, "unseen": True}
BAD_GROUP_VALUES = [("group", 5), ("psnr", "high"), ("psnr", None), ("count", -1), ("count", 1.5), ("unseen", 1)]
BAD_CARDS: list[dict] = [
    *({"name": value} for value in ("", "\u200b \n", 3, None)),
    *({"notes": value} for value in (None, 3, ["a"])),
    *({"training": value} for value in ([], None, {1: 2}, {"x": {1: 2}})),
    *({"training": {"x": value}} for value in (math.nan, [math.inf], {"y": -math.inf}, 2**70, {1, 2}, torch.zeros(1))),
    *({"training": {"x": value}} for value in ([[[[[[[[1]]]]]]]], ["y" * 2000] * 300)),
    *({"training": {"steps": value}} for value in ("many", -1, True, None, 1.5)),
    *({"training": {"curve": value}} for value in ({"step": 1}, [1, 2], [{"loss": "0.1"}], [{"loss": None}])),
    *({"metrics": {"psnr": value}} for value in ("high", None, False, [20.0])),
    *({"metrics": {"percentiles": value}} for value in ({"psnr": []}, {"psnr": ["a"]}, {"psnr": 1}, [1])),
    *({"metrics": {"by_width": value}} for value in ({"1": 20.0}, [20.0], [{"group": "1", "psnr": 20.0}])),
    *({"metrics": {"by_width": [{**GROUP, key: value}]}} for key, value in BAD_GROUP_VALUES),
]


def test_a_card_holds_figures_by_group() -> None:
    assert Card(name="a", metrics={"by_width": [GROUP]}).metrics == {"by_width": [GROUP]}


def test_a_card_with_a_bad_value_is_refused() -> None:
    for fields in BAD_CARDS:
        with pytest.raises(ValueError, match="card"):
            Card(**{"name": "a", **fields})


def test_a_card_s_legs_are_one_line_where_each_took_all_its_steps() -> None:
    def told(command: str) -> str:
        return Card(name="x", training={"command": command}).command

    first, then = "python -m tae.train tiny --steps 10 --name 'a b'", "python -m tae.train tiny --steps 15 --resume"
    assert told(f"{first} (to step 10), then {then}") == f"{first} && {then}"  # as older cards part them
    assert told(f"{first} && {then}") == f"{first} && {then}"
    stopped = f"{first} (to step 7), then {then}"
    elsewhere = f"{first} (to step 10), then python -m tae.train tiny --init-from x.safetensors"
    assert told(stopped) == stopped and told(elsewhere) == elsewhere and Card(name="x").command == ""

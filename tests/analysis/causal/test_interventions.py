"""Interventions as text: names, titles, and what a stranger writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tae.analysis.causal.interventions import EDITS, Edit, Knockout, from_name, from_text, to_text
from tae.analysis.maps import PARTS

NAMES = {
    "encoder/0/3": Knockout("encoder", 0, 3),
    "decoder/11/attention": Knockout("decoder", 11, "attention"),
    "encoder/2/mlp": Knockout("encoder", 2, "mlp"),
    "encoder/0/temperature=0.5": Edit("encoder", 0, "temperature", 0.5),
    "encoder/0/temperature=100": Edit("encoder", 0, "temperature", 100),
    "encoder/0/mask=3_17": Edit("encoder", 0, "mask", (17, 3)),
    "encoder/0/mask=3_5-8_11_12": Edit("encoder", 0, "mask", (3, 5, 6, 7, 8, 11, 12)),
    "decoder/1/rows=all": Edit("decoder", 1, "rows", ()),
    "decoder/1/rows=0": Edit("decoder", 1, "rows", (0,)),
    "encoder/0/tokens=5": Edit("encoder", 0, "tokens", (5,)),
    "encoder/0/weights=identity": Edit("encoder", 0, "weights", "identity"),
}


def test_a_name_says_what_an_intervention_is():
    for name in NAMES:
        assert NAMES[name].name == name
        assert from_name(name) == NAMES[name]


def test_a_run_may_be_written_out():
    assert from_name("encoder/0/mask=7_5_6_6") == from_name("encoder/0/mask=5-7")


interventions = st.one_of(
    st.builds(
        Knockout, st.sampled_from(PARTS), st.integers(0, 99), st.integers(0, 99) | st.sampled_from(["attention", "mlp"])
    ),
    st.builds(Edit, st.sampled_from(PARTS), st.integers(0, 9), st.just("temperature"), st.floats(0.01, 100)),
    st.builds(
        Edit,
        st.sampled_from(PARTS),
        st.integers(0, 9),
        st.sampled_from(["mask", "rows", "tokens"]),
        st.lists(st.integers(0, 9999), min_size=1, max_size=6).map(tuple)
        | st.lists(st.integers(0, 20), min_size=1, max_size=16).map(tuple),  # with runs in them
    ),
)


@given(st.frozensets(interventions, max_size=6))
def test_a_set_of_interventions_survives_its_text(some):
    text = to_text(some)
    assert set(from_text(text)) == some
    assert to_text(from_text(text)) == text


def test_a_strangers_text_is_refused_in_words():
    for text, message in [
        ("encoder/0", "must be part/layer/what"),
        ("encoder/-1/3", "must be part/layer/what"),
        ("encoder/٣/3", "must be part/layer/what"),
        ("middle/0/3", "part must be one of encoder, decoder"),
        ("encoder/0/03", "target must be a head's number, attention or mlp"),
        ("encoder/0/temperature=1e9", "temperature must be a number"),
        ("encoder/0/temperature=0", "temperature must be a number from 0.01 to 100.0, got 0.0"),
        ("encoder/0/mask=all", "mask must be at least one token number"),
        ("encoder/0/mask=1__2", "mask must be token numbers"),
        ("encoder/0/mask=4-2", "mask must be token numbers"),
        ("encoder/0/mask=1-2-3", "mask must be token numbers"),
        ("encoder/0/mask=0-99999", "mask must be token numbers"),
        ("encoder/0/weights=other", "weights must be one of uniform, identity, permuted, got 'other'"),
        ("encoder/0/bake=1", f"kind must be one of {', '.join(EDITS)}"),
        ("encoder/0/3,", "must be part/layer/what"),
        (",".join(["encoder/0/3"] * 1025), "interventions must be at most 1024, got 1025"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_text(text)


def test_titles_are_in_words():
    assert Knockout("encoder", 0, 3).title == "Encoder, layer 0, head 3"
    assert Knockout("decoder", 1, "mlp").title == "Decoder, layer 1, MLP"
    assert Edit("encoder", 0, "temperature", 0.5).title == "Encoder, layer 0, temperature 0.5"
    assert Edit("encoder", 0, "rows", ()).title == "Encoder, layer 0, another image's rows of all queries"
    assert Edit("encoder", 0, "mask", tuple(range(7))).title == (
        "Encoder, layer 0, masked keys 0, 1, 2, 3, 4 and 2 more"
    )
    assert Edit("encoder", 0, "weights", "uniform").title == "Encoder, layer 0, uniform weights"

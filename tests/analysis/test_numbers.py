"""Numbers as texts spell them."""

from tae.analysis.numbers import percent, signed


def test_signs_and_shares_have_one_spelling() -> None:
    assert [signed(value) for value in (1.54, -29.57, -0.01)] == ["+1.5", "−29.6", "+0.0"]
    assert (percent(0.456), percent(-0.1234, 1), percent(-0.001)) == ("46%", "−12.3%", "0%")

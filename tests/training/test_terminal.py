"""What a training says where there is no terminal."""

import pytest

from tae.training import terminal


def test_without_a_terminal_it_says_how_far_it_is_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def lines():
        for step in range(10):
            now[0] += 8
            yield f"step {step}", step == 7, None

    assert terminal.Terminal("reading", " files").follow(lines()) == 0
    # at 32 seconds, then what is news at 64, and 32 seconds after that nothing is left
    assert capsys.readouterr().out.split("\n") == ["step 3", "step 7", ""]

"""A training without a terminal: what it prints."""

import signal

import pytest

from tae.training.run import terminal


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds on the clock, to be set; signals stay as they are."""
    seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return seconds


def test_without_a_terminal_it_says_how_far_it_is_every_half_minute(
    now: list[float], capsys: pytest.CaptureFixture
) -> None:
    def lines():
        for step in range(10):
            now[0] += 8
            yield f"step {step}", step == 7, None

    assert terminal.Terminal("reading", " files").follow(lines()) == 0
    # at 32 seconds, then what is news at 64, and 32 seconds after that nothing is left
    assert capsys.readouterr().out.split("\n") == ["step 3", "step 7", ""]


def test_without_a_terminal_a_phase_tells_how_long_it_takes(now: list[float], capsys: pytest.CaptureFixture) -> None:
    shown = terminal.Terminal("embedding", "")
    for done in range(11):
        shown.progress(done, 10, "measuring")
        now[0] += 8
    shown.progress(1, 1, "another thing")
    assert capsys.readouterr().out.split("\n") == [
        "measuring: 4 of 10, about 0:48 left",
        "measuring: 8 of 10, about 0:16 left",
        "measuring: 10 of 10",
        "another thing: 1 of 1",
        "",
    ]


def test_a_signal_in_the_middle_of_a_line_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name=1>")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    asked = terminal.Terminal("reading", " files")
    monkeypatch.setattr("builtins.print", busy)
    asked.has_begun = True
    asked._ask_to_stop(signal.SIGINT)
    assert asked.should_stop() and "stopping after this step" in capfd.readouterr().out

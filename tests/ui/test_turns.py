"""Who has a turn with the models, told by what has begun and what waits; no clock decides."""

import threading
from collections.abc import Callable

import pytest

from tae.ui.session.turns import Turns


class Asking:
    """Threads that ask for a turn and keep it until they are told to end."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.begun = turns, []
        self._ends: dict[str, threading.Event] = {}
        self._changed = threading.Condition()

    def ask(self, name: str, pieces: int = 0) -> None:
        """Short work, or so many pieces of long work; returns once it waits or has begun."""
        for one in [name] if not pieces else [f"{name}{number}" for number in range(pieces)]:
            self._ends[one] = threading.Event()
        asked = self.turns.asked
        threading.Thread(target=self._long if pieces else self._short, args=(name, pieces), daemon=True).start()
        self.until(lambda: self.turns.asked > asked)

    def end(self, name: str) -> None:
        self._ends[name].set()

    def until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            while not holds():
                self._changed.wait(0.01)

    def has_begun(self, *names: str) -> None:
        self.until(lambda: set(names) <= set(self.begun))
        assert self.begun[-len(names) :] == [*names]

    def _work(self, name: str) -> None:
        self.begun.append(name)
        self._ends[name].wait()

    def _short(self, name: str, _: int) -> None:
        with self.turns:
            self._work(name)

    def _long(self, name: str, pieces: int) -> None:
        with self.turns.piece():
            self._work(f"{name}0")
            for number in range(1, pieces):
                self.turns.next_piece()
                self._work(f"{name}{number}")


@pytest.fixture
def asking() -> Asking:
    return Asking(Turns())


def test_65_clicks_have_their_turn_one_by_one_in_the_order_in_which_they_came(asking: Asking) -> None:
    for name in ("first", "second", "third"):
        asking.ask(name)
    assert asking.begun == ["first"]
    asking.end("first")
    asking.has_begun("first", "second")
    asking.end("second")
    asking.has_begun("second", "third")


def test_a_click_does_not_wait_for_a_piece_that_has_begun(asking: Asking) -> None:
    asking.ask("sweep", pieces=2)
    asking.ask("click")
    asking.has_begun("sweep0", "click")
    asking.end("sweep0")
    asking.until(lambda: asking.turns.asked == 3)  # its next piece waits for the click
    assert asking.begun == ["sweep0", "click"]
    asking.end("click")
    asking.has_begun("click", "sweep1")


def test_long_works_take_turns_and_clicks_do_not_starve_them(asking: Asking) -> None:
    asking.ask("a", pieces=2)
    asking.ask("b", pieces=2)
    asking.ask("click")
    asking.has_begun("a0", "click")
    asking.ask("later")
    asking.end("a0")
    asking.until(lambda: asking.turns.asked == 5)  # its next piece waits
    asking.end("click")  # b asked before the click that still waits
    asking.until(lambda: {"b0", "later"} <= set(asking.begun))
    asking.end("later")
    asking.end("b0")
    asking.until(lambda: "a1" in asking.begun)
    assert "b1" not in asking.begun


def test_who_fails_gives_the_turn_back(asking: Asking) -> None:
    with pytest.raises(ZeroDivisionError), asking.turns.piece():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), asking.turns:
        raise ZeroDivisionError
    asking.ask("sweep", pieces=1)
    asking.has_begun("sweep0")

"""A training in a terminal: what it says, a line of progress, Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

from tqdm import tqdm

from tae.training.distributed import rank_asked

PATIENCE_S = 8
"""After the signal to end, a training that does not come to the end of its step is left after so many seconds."""
ECHO_S = 0.5
"""A second Ctrl-C so soon is the first one: torchrun passes on what the terminal has sent to its processes already."""
TELL_EVERY_S = 30
"""Where no terminal shows the line of progress, it is printed so often at least."""


class Stop(IntEnum):
    """Whether a training is asked to stop, and how."""

    NO = 0
    AFTER_STEP = 1
    """Then it measures, writes the checkpoint, and ends."""
    AT_ONCE = 2
    """The signal to end, as queues send it shortly before they kill: only the state is saved."""


class Terminal:
    """Rank 0 alone prints; the first Ctrl-C asks the training to stop after its step, the second leaves at once.

    Before the first step, where there is nothing to save, the first one leaves at once too. So does the signal to end where
    the step, or what is measured then, takes longer than `PATIENCE_S`.
    """

    def __init__(self, doing: str, unit: str, said: str | None = None) -> None:
        """Ctrl-C and the signal to end are caught from here on.

        Args:
            doing: What is done before the first step, for a bar.
            unit: What the bar counts.
            said: What is printed in place of a bar where there is no terminal, with {} for how many and of how many.
        """
        self.doing, self.unit, self.said = doing, unit, said
        self.is_main = rank_asked() == 0
        self.stop, self.asked = Stop.NO, 0.0
        self.has_begun = False
        self._bar: tqdm | None = None
        self._doing, self._began, self._told = "", 0.0, 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, *_: object) -> None:
        if not self.has_begun or number == getattr(signal, "SIGALRM", None):
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            if self.stop < Stop.AT_ONCE and hasattr(signal, "setitimer"):
                signal.signal(signal.SIGALRM, self._ask_to_stop)
                signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            self.stop = Stop.AT_ONCE
        elif not self.stop:
            self.stop, self.asked = Stop.AFTER_STEP, time.monotonic()
            told = "\nstopping after this step; Ctrl-C again to leave without saving"
            try:
                self.say(told)
            except RuntimeError:  # it came in the middle of another line, whose buffer lets nobody in
                os.write(sys.stdout.fileno(), f"{told}\n".encode())
        elif time.monotonic() - self.asked >= ECHO_S:
            raise KeyboardInterrupt

    def should_stop(self) -> Stop:
        """Whether to stop after the step; asked by the training, which then saves without haste."""
        if self.stop == Stop.AT_ONCE and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)  # saving the state may take its time
        return self.stop

    def say(self, text: str) -> None:
        """Print a line, on rank 0."""
        if self.is_main:
            print(text, flush=True)

    def progress(self, done: int, total: int, doing: str = "") -> None:
        """Show what is done besides steps: a bar, or where there is no terminal a line now and then.

        Args:
            done: How many are done.
            total: Of how many.
            doing: What is done, in words; "": as the terminal was made with.
        """
        if self._bar is None or doing != self._doing:
            self._end_bar()
            is_shown, self._doing = self.is_main and sys.stderr.isatty(), doing
            self._bar = tqdm(unit="" if doing else self.unit, desc=doing or self.doing, disable=not is_shown)
            self._began = self._told = time.monotonic()
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if not self._bar.disable:
            pass
        elif doing and (done == total or now - self._told >= TELL_EVERY_S):
            left = (now - self._began) * (total - done) / max(1, done)
            self.say(f"{doing}: {done} of {total}" + (f", about {clock(left)} left" if done < total else ""))
            self._told = now
        elif not doing and self.said and (done == total or done % max(1, total // 10) == 0):
            self.say(self.said.format(done, total))
        if done == total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def follow(self, lines: Iterable[tuple[str, bool, Path | None]]) -> int:
        """Print the lines of a training as its steps are done; returns the exit code.

        Args:
            lines: (what to say of a step, whether it stays on the screen, the checkpoint if it was saved).
        """
        told = time.monotonic()
        for line, is_news, saved in lines:
            self.has_begun = True
            if self.is_main and sys.stdout.isatty():
                print(f"\r\x1b[K{line}", end="\n" if is_news else "", flush=True)
            elif is_news or time.monotonic() - told >= TELL_EVERY_S:
                self.say(line)
                told = time.monotonic()
            if saved:
                self.say(f"saved {saved}")
        return 130 if self.stop else 0


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

"""Turns of many sessions on a few cores: first come, first served, and long work in pieces."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock for short work, in the order in which it was asked for, and turns for the pieces of long work.

    A piece begins when everything that was asked for before it is done, so that nobody waits for ever. Short work does not
    wait for a piece that has begun: side by side, each has a share of the cores, where a piece over thousands of patches
    would be waited for many times as long as a click takes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.asked = 0  # turns so far
        self._waiting: dict[bool, list[int]] = {False: [], True: []}  # tickets of short work and of pieces
        self._running = {False: False, True: False}

    def __enter__(self) -> None:
        self._begin(is_piece=False)

    def __exit__(self, *_: object) -> None:
        self._end(is_piece=False)

    @contextmanager
    def piece(self) -> Iterator[None]:
        """A piece of long work."""
        self._begin(is_piece=True)
        try:
            yield
        finally:
            self._end(is_piece=True)

    def next_piece(self) -> None:
        """Between two pieces of the same work: whoever waits has a turn first."""
        self._end(is_piece=True)
        self._begin(is_piece=True)

    def _begin(self, is_piece: bool) -> None:
        with self._changed:
            self.asked += 1
            ticket = self.asked
            self._waiting[is_piece].append(ticket)
            self._changed.wait_for(lambda: self._may_begin(ticket, is_piece))
            self._waiting[is_piece].remove(ticket)
            self._running[is_piece] = True
            self._changed.notify_all()

    def _may_begin(self, ticket: int, is_piece: bool) -> bool:
        if self._running[False] or ticket != min(self._waiting[is_piece]):
            return False
        if self._running[True]:
            return not is_piece
        # Both could begin: the older does first, and a click then goes on beside the piece.
        return ticket < min(self._waiting[not is_piece], default=ticket + 1)

    def _end(self, is_piece: bool) -> None:
        with self._changed:
            self._running[is_piece] = False
            self._changed.notify_all()

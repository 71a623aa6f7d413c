"""The command `tae`: its first word names a door, the other words go there; and what every door does at its end.

tae train tiny --steps 3000
tae plan --help
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module

DOORS = {
    "app": "open the pages in a browser",
    "train": "train an autoencoder on the demo data or on your own images",
    "train-sequence": "train an LSTM on embeddings of image sequences",
    "plan": "what a training will take: memory, operations, time",
    "embed": "embed images in bulk into one file",
    "explain": "a report on images in one HTML file",
    "causal": "whether the attention matters, measured over many images",
    "lens": "fit a checkpoint's lens",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    if not words or words[0] in ("-h", "--help"):
        doors = "\n".join(f"  {name:16}{what}" for name, what in DOORS.items())
        print(f"usage: tae COMMAND ...\n\n{doors}\n\ntae COMMAND --help says what a command takes.")
        return 0
    name, *rest = words
    if name not in DOORS:
        print(f"error: unknown command {name!r}; choose from: {', '.join(DOORS)}", file=sys.stderr)
        return 2
    sys.argv = [f"tae {name}", *rest]  # so that its help shows what was typed
    return import_module(f"tae.{name.replace('-', '_')}").main(rest)


Door = Callable[[Sequence[str] | None], int]


def door(if_stopped: str, is_told_once: bool = False) -> Callable[[Door], Callable[..., int]]:
    """Decorates a door's main: Ctrl-C ends it with 130, an error that is its user's with a line and 1.

    Args:
        if_stopped: What is printed after Ctrl-C.
        is_told_once: Where several processes all fail alike, the first alone says why.
    """

    def decorate(main: Door) -> Callable[..., int]:
        @wraps(main)
        def guarded(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except KeyboardInterrupt:
                print(f"\n{if_stopped}", file=sys.stderr)
                return 130
            except (ValueError, OSError) as error:
                if not is_told_once or os.environ.get("RANK", "0") == "0":
                    print(f"error: {error}", file=sys.stderr)
                return 1

        return guarded

    return decorate


if __name__ == "__main__":
    sys.exit(main())

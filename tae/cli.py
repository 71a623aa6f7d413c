"""The command `tae`: its first word names a door, the other words go there; and what every door does at its end.

tae train tiny --steps 3000
tae plan --help
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import field, fields, make_dataclass
from functools import wraps
from importlib import import_module
from typing import Annotated, TypeVar, get_type_hints

from tae.training.command import field_texts, refuse_both

DOORS = {
    "app": "open the pages in a browser",
    "train": "train an autoencoder on the demo data or on your own images",
    "train-sequence": "train an LSTM on embeddings of image sequences",
    "plan": "what a training will take: memory, operations, time",
    "embed": "embed images in bulk into one file",
    "convert": "make a checkpoint pickled by PyTorch into one of this program",
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


Config = TypeVar("Config")


def read(config: type[Config], arguments: Sequence[str] | None, description: str | None) -> Config:
    """The config that a command line asks for.

    Args:
        config: A dataclass, each field of which is a flag; its GROUPS, where it has them, are the headings of the help, and
            its INSTEAD the flags that exclude others, as `RunConfig` says.
        arguments: None: those of the process.
        description: Stands at the head of the help.

    Raises:
        ValueError: If the config refuses a value, or flags exclude each other.
    """
    import tyro

    hints, texts = get_type_hints(config, include_extras=True), field_texts(config)
    groups: dict[str, list] = {}
    title = ""
    for one in fields(config):  # type: ignore[arg-type]
        title = getattr(config, "GROUPS", {}).get(one.name, title)
        default = field(default=one.default, default_factory=one.default_factory)  # type: ignore[call-overload]
        flag = Annotated[hints[one.name], tyro.conf.arg(help=texts.get(one.name))]
        groups.setdefault(title, []).append((one.name, flag, default))
    parts = [
        (title or "flags", Annotated[make_dataclass("Flags", flags, kw_only=True), tyro.conf.arg(name=title, help="")])  # type: ignore
        for title, flags in groups.items()
    ]
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    Parts = tyro.conf.OmitArgPrefixes[make_dataclass("Parts", parts)]  # type: ignore
    read = tyro.cli(Parts, args=words, description=description)
    given = {word.split("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")}
    refuse_both(getattr(config, "INSTEAD", {}), given.__contains__)
    return config(**{name: value for part in vars(read).values() for name, value in vars(part).items()})


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
                whose = " ".join(getattr(error, "__notes__", ()))  # of one process alone
                if whose or not is_told_once or os.environ.get("RANK", "0") == "0":
                    print(f"error{f' ({whose})' if whose else ''}: {error}", file=sys.stderr)
                return 1

        return guarded

    return decorate


if __name__ == "__main__":
    sys.exit(main())

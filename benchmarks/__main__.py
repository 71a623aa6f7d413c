"""All measurements, one after the other, and the pages that show them; or what got slower since the committed ones.

    python -m benchmarks                      # all: some hours on two cores, for quality trains rivals of the models
    python -m benchmarks attention_maps causal
    python -m benchmarks --compare            # writes nothing

Each is a command of its own, `python -m benchmarks.NAME`, with its defaults; one that fails is named at the end, and the others
stand.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import RESULTS


@dataclass(frozen=True)
class AllConfig:
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Which ones; none: all."""
    compare: bool = False
    """Measure our maps beside peers anew, and say what costs more than in the committed result by more than the noise of both."""
    rounds: int = 15
    """Turns of a comparison."""


def measurements() -> list[str]:
    """Every module that writes a result, by name."""
    return sorted(
        path.stem for path in RESULTS.glob("*.md") if (Path(__file__).parent / path.name).with_suffix(".py").exists()
    )


def main(config: AllConfig) -> None:
    if unknown := set(config.names) - set(measurements()):
        sys.exit(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(measurements())}")
    failed = []
    if config.compare:
        words = [("attention_maps", "--compare", "--rounds", str(config.rounds))]
    else:
        words = [(name,) for name in config.names or measurements()] + [("readme",)]
    for name, *options in words:
        started = time.perf_counter()
        print(f"python -m benchmarks.{' '.join((name, *options))}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options]).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - started:,.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(tyro.cli(AllConfig, description=__doc__))

"""The needs of a training before it starts: memory by kind, operations, the largest batch, and the time of a step.

    python -m tae.plan small --data ~/photographs --minutes 60 --memory-gb 8

It takes what python -m tae.train takes, and its own flags below. One training step is played through on fake tensors:
PyTorch works out every shape and computes nothing, and what is alive at each moment is added up. So the plan knows where the
peak lies, and nothing but the calibration, which times a small real piece of the step, sets memory aside. A GPU is played by
the CPU's operations with the GPU's choices (half precision inside attention, byte masks for dropout); what its kernels and
its context take besides is left to `HEADROOM`.
"""

import sys
from collections.abc import Sequence

from tae.cli import door, read
from tae.training.planning.report import PlanConfig, report


@door("stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    print(report(read(PlanConfig, arguments, __doc__)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

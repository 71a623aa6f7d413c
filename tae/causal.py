"""Does the attention matter? Interventions over many images: heads, layers and MLPs knocked out, attention replaced,
patches covered, states of one put into the run of another.

    python -m tae.causal --checkpoint checkpoints/x.safetensors
    python -m tae.causal --checkpoint checkpoints/x.safetensors --images photographs --out photographs.md

Without --images: the test split of what the model learnt from, or of the demo data. Without --out:
<checkpoint's name>.causal.json beside the checkpoint,
where the app finds it. One that was stopped goes on from the last finished image when it is started again with the same
command.
"""

import sys
from collections.abc import Sequence

from tae.analysis.causal.job import StudyConfig, run
from tae.analysis.causal.pairs import pairs_in_words
from tae.cli import door, read


@door("stopped; the same command goes on from here")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    out, study = run(read(StudyConfig, arguments, __doc__))
    for part in study.verdicts.values():
        print(part["sentence"])
    print(study.agreement)
    if study.pairs is not None:
        print(pairs_in_words(study.pairs))
    print(f"{out}: {study.num_images} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Make a checkpoint that PyTorch pickled (.pt, .pth, .ckpt) into one that the app and all commands open.

    python -m tae.convert best_model.pth --out checkpoints/best_model.safetensors

Known are checkpoints of the original, AutoEncoder_TransformerV2_0, and weights of `tae` that were saved alone. The pickle is
opened in a process of its own that lets nothing but tensors and plain values through; nothing else here ever opens one.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tae.cli import door, read
from tae.model.config import Whole, check_fields, patch_in_words, size_in_words
from tae.store.names import safe_name
from tae.store.places import ROOT


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What `convert` takes."""

    file: Annotated[Path, tyro.conf.Positional]
    """The checkpoint: a state dict, bare or under "model", "model_state_dict" or "state_dict"."""
    out: Path | None = None
    """Where the checkpoint goes; None: checkpoints/<its name>.safetensors."""
    input_size: tuple[int, int | None] | None = None
    """Height and width in pixels; width None: any width. None: 201x201, 1280x152 or Xx152, where the weights fit."""
    num_heads: Annotated[int | None, Whole(1, 256)] = None
    """Attention heads, which weights do not tell; None: those of the preset of this width."""
    overwrite: bool = False
    """Replace --out where it exists."""

    def __post_init__(self) -> None:
        check_fields(self)


@door("stopped; nothing is written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    config = read(ConvertConfig, arguments, __doc__)
    out = config.out or ROOT / "checkpoints" / f"{safe_name(config.file.stem)}.safetensors"
    if out.suffix != ".safetensors" or out.resolve() == config.file.resolve():
        raise ValueError(f"--out must end in .safetensors and be another file than the one that is read, got {out}")
    if out.exists() and not config.overwrite:
        raise ValueError(f"{out} exists; give another --out, or --overwrite")
    from tae.store.checkpoint import save_checkpoint
    from tae.store.foreign import convert

    made = convert(config.file, config.input_size, config.num_heads)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, made.model, made.card)
    own, program = made.model.config, made.card.training["converted"]["program"]
    print(*made.notes, sep="\n")
    parameters = sum(parameter.numel() for parameter in made.model.parameters())
    print(
        f"{out}: {program}, {size_in_words(own.input_size)}, {patch_in_words(own.patch_size)}, "
        f"{own.preset or 'own shape'}, {parameters:,} parameters"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

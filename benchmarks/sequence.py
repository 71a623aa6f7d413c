"""The forecasts of the demo sequence model, beside baselines that need no model, and the autoencoder of the true frame.

    python -m benchmarks.sequence

Recordings of drops of the test split, a third of them of viscosities that training never saw. One step: each frame from the
true ones before it. Roll-out: ten frames in a row after six true ones, each prediction taken for the truth by the next. Writes
`benchmarks/results/sequence.json` and `sequence.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks import RESULTS, grid, keep
from tae.data.drops.motion import draw_recording
from tae.model.metrics import psnr_of
from tae.sequence.checkpoint import load_sequence
from tae.sequence.drops import drop_frames
from tae.sequence.forecast import BASELINES, LSTM, METHODS, SEEN, STEPS, evaluate_forecasts, influence
from tae.sequence.model import SequenceModel, embed_sequence
from tae.store.checkpoint import load_checkpoint


@dataclass(frozen=True)
class SequenceBenchmark:
    checkpoint: Path = Path("checkpoints/sequences/drops_drops_tiny_201x201_p16.safetensors")
    """The sequence model."""
    autoencoder: Path = Path("checkpoints/drops_tiny_201x201_p16.safetensors")
    """The autoencoder that it belongs to."""
    test_sequences: int = 256
    """Recordings of the test split."""
    influence_sequences: int = 64
    """Recordings among these whose frames are dropped and shuffled."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: SequenceBenchmark) -> None:
    torch.set_num_threads(config.threads)
    loaded = load_sequence(config.checkpoint, load_checkpoint(config.autoencoder).model)
    figures = evaluate_forecasts(loaded.model, recordings(loaded.model, config.test_sequences), split="test")
    result = {
        "checkpoint_sha256": loaded.digest,
        "autoencoder": loaded.belongs.name,
        "training": {name: value for name, value in loaded.card.training.items() if name != "curve"},
        "parameters": sum(tensor.numel() for tensor in loaded.model.parameters() if tensor.requires_grad),
        "steps": STEPS,
        **figures,
        "influence": mean_influence(loaded.model, config.influence_sequences),
    }
    keep("sequence", result, table(result), config.results)


def recordings(model: SequenceModel, count: int) -> Iterator[torch.Tensor]:
    for number in range(count):
        yield torch.from_numpy(drop_frames(draw_recording("test", number), model.autoencoder.config))[:, None]


def mean_influence(model: SequenceModel, count: int) -> dict[str, float]:
    """Mean squared change of the image predicted after `SEEN` frames."""
    changes: dict[str, list[float]] = {}
    for frames in recordings(model, count):
        found = influence(model, embed_sequence(model.autoencoder, frames[:SEEN]), frames.shape[-1])
        for ago, change in enumerate(found.dropped[::-1]):
            changes.setdefault(f"frame {ago} before the last dropped" if ago else "last frame dropped", []).append(
                change
            )
        changes.setdefault("last two frames exchanged", []).append(found.swapped[-1])
        changes.setdefault("all but the last shuffled", []).append(found.shuffled)
    return {name: float(np.mean(values)) for name, values in changes.items()}


def table(result: dict) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for name in METHODS:
        mse = result["one_step"][name]
        beaten = (
            (f"{result['wins'][name]} of {result['count']}", result["horizon"][name]) if name in BASELINES else ("", "")
        )
        rows.append([name, f"{mse:.4f}", f"{psnr_of(mse):.2f}", *beaten])
    curves = result["roll_out"]
    training = result["training"]
    return [
        *grid(
            ["next frame", "MSE", "PSNR (dB)", "LSTM better in", "LSTM better for so many steps of a roll-out"], rows
        ),
        "",
        *grid(
            ["roll-out, MSE of step", *range(1, len(curves[LSTM]) + 1)],
            [[name, *(f"{value:.4f}" for value in curves[name])] for name in METHODS],
        ),
        "",
        *grid(
            [f"after {result['seen']} frames", "mean squared change of the predicted image"],
            [(name, f"{value:.5f}") for name, value in result["influence"].items()],
        ),
        "",
        f"{result['count']} recordings of the test split; one step: the frames after the first {result['seen']}. PSNR of the "
        "mean MSE. Steps of a roll-out: better with 95% confidence (bootstrap over recordings), in this and all steps before. "
        "The autoencoder of the true frame is no prediction: nothing that goes through a latent can be much better.",
        f"LSTM: {result['parameters']:,} parameters on {result['autoencoder']}, {training['steps']:,} steps of "
        f"{training['batch_size']}, {training['sequences']:,} recordings, {training['cpu_seconds']:,} processor seconds, "
        "the embedding before not among them.",
    ]


if __name__ == "__main__":
    main(tyro.cli(SequenceBenchmark, description=__doc__))

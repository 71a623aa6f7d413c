"""The needs of each preset, counted, beside what the architecture diagram says.

    python -m benchmarks.presets

Writes `benchmarks/results/presets.md`.
"""

from pathlib import Path

from tae.model.config import PRESETS, preset_config
from tae.model.counts import DIAGRAM_PARAMETERS, DIAGRAM_TRAINING_BYTES, count
from tae.training.planning.plan import plan

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    text = table()
    (RESULTS / "presets.md").write_text(text)
    print(text)


def table() -> str:
    """The counts as Markdown."""
    lines = [
        "| preset | latent, heads, layers | the diagram | 201x201, patch 16 | one token | 1280x152, patch 16 | "
        "GFLOP an image | training, batch 16 |",
        "| --- " * 8 + "|",
    ]
    for name, config in PRESETS.items():
        square = count(config)
        one_token = count(preset_config(name, patch_size=None))
        wide = count(preset_config(name, input_size=(152, 1280)))
        layers = f"{config.encoder_layers} + {config.decoder_layers}"
        lines.append(
            f"| {name} | {config.latent_dim}, {config.num_heads}, {layers} | {millions(DIAGRAM_PARAMETERS[name])} | "
            f"{millions(square.parameters)} | {millions(one_token.parameters)} | {millions(wide.parameters)} | "
            f"{square.forward_flops / 1e9:.1f} | {plan(config, 16).peak / 1e9:.2f} GB |"
        )
    medium = plan(PRESETS["medium"], 16)
    lines += [
        "",
        "Parameters; GFLOP and memory at 201x201, patch 16. Training: the most that a step of 16 images takes in float32, "
        "weights and optimizer included (`python -m tae.plan` says it for any setting). For medium the diagram says "
        f"{DIAGRAM_TRAINING_BYTES / 1e6:.0f} MB, and it is {medium.peak / 1e6:,.0f} MB.",
        "",
        "Command: `python -m benchmarks.presets`",
        "",
    ]
    return "\n".join(lines)


def millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"


if __name__ == "__main__":
    main()

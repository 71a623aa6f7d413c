"""The needs of each preset, counted, beside what the architecture diagram says.

    python -m benchmarks.presets

Writes `benchmarks/results/presets.md`.
"""

from benchmarks import RESULTS, grid, text_of
from tae.model.config import PRESETS, preset_config
from tae.model.counts import DIAGRAM_PARAMETERS, DIAGRAM_TRAINING_BYTES, count
from tae.training.planning.plan import plan


def main() -> None:
    text = text_of(table(), "python -m benchmarks.presets")
    (RESULTS / "presets.md").write_text(text)
    print(text)


def table() -> list[str]:
    """The counts as Markdown."""
    header = ["preset", "latent, heads, layers", "the diagram", "201x201, patch 16", "one token", "1280x152, patch 16"]
    rows = []
    for name, config in PRESETS.items():
        sizes = [config, preset_config(name, patch_size=None), preset_config(name, input_size=(152, 1280))]
        square, *others = map(count, sizes)
        layers = f"{config.encoder_layers} + {config.decoder_layers}"
        parameters = (DIAGRAM_PARAMETERS[name], square.parameters, *(one.parameters for one in others))
        costs = [f"{square.forward_flops / 1e9:.1f}", f"{plan(config, 16).peak / 1e9:.2f} GB"]
        rows.append([name, f"{config.latent_dim}, {config.num_heads}, {layers}", *map(millions, parameters), *costs])
    medium = plan(PRESETS["medium"], 16)
    return [
        *grid([*header, "GFLOP an image", "training, batch 16"], rows),
        "",
        "Parameters; GFLOP and memory at 201x201, patch 16. Training: the most that a step of 16 images takes in float32, "
        "weights and optimizer included (`python -m tae.plan` says it for any setting). For medium the diagram says "
        f"{DIAGRAM_TRAINING_BYTES / 1e6:.0f} MB, and it is {medium.peak / 1e6:,.0f} MB.",
    ]


def millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"


if __name__ == "__main__":
    main()

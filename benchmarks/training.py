"""The diagram's optimisation claims beside what they do here, and how near a training step comes to the machine's limit.

    python -m benchmarks.training

All variants of a setting take turns in one run; a ratio is taken within a turn, and the median and quartiles of the ratios
are shown. Times are of the forward and backward pass, which is what the options change: on a CPU with one thread in
processor seconds, so that other programs do not count, else in seconds of the clock. Memory is the peak of a training step
as PyTorch's allocator sees it, weights, gradients and optimizer state included. Writes `benchmarks/results/training.json`
and `.md`; about 15 minutes of one core.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._inductor.config
import tyro
from torch import Tensor, nn

from benchmarks import grid, keep
from benchmarks.planner import PRECISIONS, peak_of
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, preset_config
from tae.model.device import Precision, pick_device
from tae.training.config import TrainConfig
from tae.training.optim import make_optimizers
from tae.training.planning.plan import forward_loss, plan

BASE, EXPLICIT, MIXED, CHECKPOINTING, STOCK, STOCK_MIXED, COMPILED = (
    "fp32",
    "explicit attention",
    "bf16",
    "checkpointing",
    "nn.TransformerEncoder",
    "nn.TransformerEncoder, bf16",
    "compiled",
)
CLAIMS = {
    "fused": "2-3x",
    "mixed_memory": "-50%",
    "mixed_speed": "+30-40%",
    "checkpointing_memory": "-30-40%",
    "checkpointing_cost": "+10-15%",
    "compile": "up to 2x",
}
"""As the architecture diagram states them."""
TOTALS = (("FP32, batch 16", 630, BASE, 16), ("mixed precision, batch 32", 580, MIXED, 32),
          ("checkpointing, batch 32", 430, CHECKPOINTING, 32))  # fmt: skip
"""The diagram's memory table for medium at 201x201: what, MB, and which row here it is."""
NOT_MEASURED = "not measured: no CUDA device"


@dataclass(frozen=True)
class TrainingConfig:
    threads: int = 1
    """CPU threads of PyTorch."""
    rounds: int = 4
    """Turns of the lighter settings; the heavier have fewer."""
    compile_model: bool = True
    """Compile once: a minute or more."""
    quick: bool = False
    """Tiny shapes, to see that it runs: writes nothing."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured with every variant."""

    name: str
    config: ModelConfig
    batch_size: int
    rounds: int
    variants: tuple[str, ...] = (BASE, EXPLICIT, MIXED, CHECKPOINTING)


def settings(config: TrainingConfig) -> list[Setting]:
    everything = (BASE, EXPLICIT, MIXED, CHECKPOINTING, STOCK, STOCK_MIXED)
    if config.quick:
        small = ModelConfig(
            input_size=(32, 32), patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1
        )
        return [
            Setting(name="medium, 201x201, patch 16", config=small, batch_size=16, rounds=1, variants=everything),
            Setting(name="medium, 201x201, patch 16", config=small, batch_size=32, rounds=1),
            Setting(name="medium, 201x201, one token", config=replace(small, patch_size=None), batch_size=16, rounds=1),
            Setting(name="medium, 201x201, one token", config=replace(small, patch_size=None), batch_size=32, rounds=1),
        ]
    patches, one_token = preset_config("medium"), preset_config("medium", patch_size=None)
    wide = {"input_size": (152, 1280)}
    rounds = config.rounds
    return [
        Setting(
            name="medium, 201x201, patch 16",
            config=patches,
            batch_size=16,
            rounds=rounds,
            variants=everything + (COMPILED,) * config.compile_model,
        ),
        Setting(name="medium, 201x201, patch 16", config=patches, batch_size=32, rounds=max(1, rounds // 2)),
        Setting(name="medium, 201x201, one token", config=one_token, batch_size=16, rounds=2 * rounds),
        Setting(name="medium, 201x201, one token", config=one_token, batch_size=32, rounds=2 * rounds),
        Setting(name="medium, 1280x152, patch 16", config=preset_config("medium", **wide), batch_size=2,
                rounds=max(1, rounds // 2)),
        Setting(name="medium, 1280x152, patch 8", config=preset_config("medium", patch_size=8, **wide), batch_size=1, rounds=1),
        Setting(name="tiny, 201x201, patch 16", config=preset_config("tiny"), batch_size=16, rounds=2 * rounds,
                variants=everything),
    ]  # fmt: skip


class Stock(nn.Module):
    """The same stack of blocks as PyTorch builds it, in the place of `tae.model.Blocks`."""

    def __init__(self, config: ModelConfig, num_layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.latent_dim,
            config.num_heads,
            int(config.mlp_ratio * config.latent_dim),
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.stack = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor | None, maps: list[Tensor] | None = None) -> Tensor:
        return self.stack(x)


def config_of(setting: Setting, variant: str) -> ModelConfig:
    return replace(
        setting.config,
        use_flash_attention=variant != EXPLICIT,
        use_gradient_checkpointing=variant == CHECKPOINTING,
    )


def build(setting: Setting, variant: str) -> TransformerAutoencoder:
    torch.manual_seed(0)
    config = config_of(setting, variant)
    model = TransformerAutoencoder(config).train()
    if variant in (STOCK, STOCK_MIXED):
        model.encoder.blocks = Stock(config, config.encoder_layers)  # type: ignore[assignment]
        model.decoder.blocks = Stock(config, config.decoder_layers)  # type: ignore[assignment]
    return model


def precision_of(variant: str) -> Precision:
    return "bf16" if variant in (MIXED, STOCK_MIXED) else "fp32"


def go(model: nn.Module, images: Tensor, precision: Precision) -> None:
    """One forward and backward pass."""
    model.zero_grad()
    forward_loss(model, images, None, precision)[1].backward()


def images_for(setting: Setting, device: torch.device) -> Tensor:
    height, width = setting.config.input_size
    assert width is not None
    return torch.rand(setting.batch_size, 1, height, width, device=device)


class Clock:
    """Seconds of a call."""

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device = device
        self.is_processor_time = device.type == "cpu" and threads == 1
        self.now = time.process_time if self.is_processor_time else time.perf_counter

    def __call__(self, call: Callable[[], object]) -> float:
        started = self.now()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.now() - started


def peak_bytes(setting: Setting, variant: str, device: torch.device) -> int:
    """The most in use at once in a training step: weights, gradients, optimizer state and all that the step needs.

    Where the plan puts the peak into the passes, the optimizer's step, slow on a CPU, is left out.
    """
    planned = plan(config_of(setting, variant), setting.batch_size, precision_of(variant), device=device.type)

    def run() -> None:
        model = build(setting, variant).to(device)
        images = images_for(setting, device)
        optimizers = make_optimizers(model, TrainConfig())
        # What the optimizers keep, as they would make it: Muon one moment, AdamW two.
        state = [
            torch.zeros_like(parameter)
            for optimizer, moments in zip(optimizers, (1, 2), strict=True)
            for group in optimizer.param_groups
            for parameter in group["params"]
            for _ in range(moments)
        ]
        if planned.peak_phase != "optimizer":
            return go(model, images, precision_of(variant))
        del state
        go(model, images, precision_of(variant))
        for optimizer in optimizers:
            optimizer.step()

    return peak_of(run, device)


def matmul_flops(precision: Precision, device: torch.device, clock: Clock, side: int) -> float:
    """Operations a second of one large product."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(clock(lambda: a @ b) for _ in range(3))


def measure(setting: Setting, device: torch.device, clock: Clock, side: int) -> dict:
    """All variants of a setting in turns."""
    row: dict[str, Any] = {
        "name": setting.name,
        "num_tokens": setting.config.num_tokens,
        "batch_size": setting.batch_size,
        "rounds": setting.rounds,
        "peak": {},
        "compile_s": None,
    }
    for variant in setting.variants:
        if variant in (BASE, EXPLICIT, MIXED, CHECKPOINTING):
            row["peak"][variant] = peak_bytes(setting, variant, device)
    planned = plan(setting.config, setting.batch_size, device=device.type)
    row["pass_flops"] = setting.batch_size * planned.train_flops
    row["optimizer_flops"] = planned.optimizer_flops
    checkpointed = replace(setting.config, use_gradient_checkpointing=True)
    more = plan(checkpointed, setting.batch_size, device=device.type)
    row["checkpointing_flops"] = setting.batch_size * more.train_flops
    row["attention_share"] = attention_share(setting.config)
    images = images_for(setting, device)
    models = {variant: build(setting, variant).to(device) for variant in setting.variants}
    calls = {variant: partial(go, model, images, precision_of(variant)) for variant, model in models.items()}
    if COMPILED in models:
        models[COMPILED].compile()
        started = time.perf_counter()
        calls[COMPILED]()
        row["compile_s"] = time.perf_counter() - started
    for call in calls.values():
        call()  # warms up
    turns = []
    for _ in range(setting.rounds):
        turn = {variant: clock(call) for variant, call in calls.items()}
        turn |= {f"matmul {precision}": matmul_flops(precision, device, clock, side) for precision in PRECISIONS}
        turns.append(turn)
    row["turns"] = turns
    optimizers = make_optimizers(models[BASE], TrainConfig())
    for optimizer in optimizers:
        optimizer.step()
    row["optimizer_s"] = clock(lambda: [optimizer.step() for optimizer in optimizers])
    return row


def attention_share(config: ModelConfig) -> float:
    """The share of a block's operations between queries, keys and values, which is all that fused attention changes."""
    inner = 4 * config.num_tokens * config.latent_dim
    return inner / (inner + (8 + 4 * config.mlp_ratio) * config.latent_dim**2)


def run(config: TrainingConfig) -> dict:
    torch.set_num_threads(config.threads)
    torch._inductor.config.force_disable_caches = True  # compilation is timed as a newcomer meets it
    device = pick_device("auto")
    clock = Clock(device, config.threads)
    rows = []
    for setting in settings(config):
        rows.append(measure(setting, device, clock, 256 if config.quick else 2048))
        if not config.quick:
            print(json.dumps(rows[-1]), flush=True)
    on_cpu = f"CPU, {torch.backends.cpu.get_cpu_capability()}, {config.threads} thread{'s' * (config.threads > 1)}"
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else on_cpu,
        "device_type": device.type,
        "processor_time": clock.is_processor_time,
        "torch": torch.__version__,
        "rows": rows,
    }


def main(config: TrainingConfig) -> None:
    result = run(config)
    if not config.quick:
        keep("training", result, table(result))
    else:
        print("\n".join(table(result)))


def ratios(row: dict, above: str, below: str) -> np.ndarray:
    """Ratio of two times, within each turn."""
    return np.array([turn[above] / turn[below] for turn in row["turns"]])


def times(values: np.ndarray, form: Callable[[float], str]) -> str:
    """The median, with quartiles where there are turns enough."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return form(middle) if len(values) < 3 else f"{form(middle)} ({form(low)} to {form(high)})"


def fold(value: float) -> str:
    return f"{value:.2f}x"


def percent(value: float) -> str:
    return f"{100 * (value - 1):+.0f}%"


def table(result: dict) -> list[str]:
    """The result as Markdown: the claims, the memory table, the training step."""
    how = "processor seconds" if result["processor_time"] else "seconds of the clock"
    turns = sorted({row["rounds"] for row in result["rows"]})
    told = (
        f"{result['device']}, torch {result['torch']}; {how} of forward and backward; medians of {turns[0]} to {turns[-1]} turns "
        "(quartiles where there are three or more)."
    )
    parts = [claims_table(result), verdicts(result), memory_table(result), step_table(result), [told]]
    return [line for part in parts for line in ("", *part)][1:]


def claims_table(result: dict) -> list[str]:
    header = ["training", "N", "batch", "fused against explicit attention", "bf16: memory", "bf16: speed"]
    rows = [["**the diagram**", "", "", *(f"**{claim}**" for claim in CLAIMS.values())]]
    for row in result["rows"]:
        peak = row["peak"]
        cells = [
            times(ratios(row, EXPLICIT, BASE), fold),
            percent(peak[MIXED] / peak[BASE]),
            times(ratios(row, BASE, MIXED), percent),
            percent(peak[CHECKPOINTING] / peak[BASE]),
            times(ratios(row, CHECKPOINTING, BASE), percent),
            times(ratios(row, BASE, COMPILED), fold) if COMPILED in row["turns"][0] else "",
        ]
        rows.append([row["name"], row["num_tokens"], row["batch_size"], *cells])
    if result["device_type"] != "cuda":
        rows.append(["any, on CUDA", "", "", *[NOT_MEASURED] * len(CLAIMS)])
    return grid([*header, "checkpointing: memory", "checkpointing: time", "compiled"], rows)


def verdicts(result: dict) -> list[str]:
    """A sentence for each claim: whether it holds on this device, and why not."""
    rows = result["rows"]
    main_row = rows[0]

    def medians(above: str, below: str) -> list[float]:
        return [float(np.median(ratios(row, above, below))) for row in rows]

    def span(values: list[float], form: Callable[[float], str]) -> str:
        return f"{form(min(values))} to {form(max(values))}"

    fused = medians(EXPLICIT, BASE)
    shares = ", ".join(f"{100 * row['attention_share']:.0f}% at N = {row['num_tokens']}" for row in distinct(rows))
    mixed_memory = [row["peak"][MIXED] / row["peak"][BASE] for row in rows]
    mixed_speed = medians(BASE, MIXED)
    saved = [row["peak"][CHECKPOINTING] / row["peak"][BASE] for row in rows]
    cost = medians(CHECKPOINTING, BASE)
    recomputed = main_row["checkpointing_flops"] / main_row["pass_flops"]
    explicit_memory = [row["peak"][EXPLICIT] / row["peak"][BASE] for row in rows]
    sentences = [
        f'**Fused attention, "2-3x faster"**: {said(min(fused) >= 2, max(fused) >= 2)}, {span(fused, fold)}. It changes only the '
        f"products between queries, keys and values ({shares} of a block's operations); the rest of the step takes the same "
        f"time. Explicit attention's memory: {span(explicit_memory, fold)} that of fused.",
        f'**Mixed precision, "~50% memory"**: {said(max(mixed_memory) <= 0.55, min(mixed_memory) <= 0.55)}, '
        f"{span(mixed_memory, percent)}. Weights, gradients and optimizer state stay in float32, half-precision copies of the "
        "weights come on top, and the residual stream, the norms and the loss stay in float32"
        + ("; on a CPU attention too." if result["device_type"] == "cpu" else "."),
        f'**Mixed precision, "30-40% faster"**: {said(min(mixed_speed) >= 1.3, max(mixed_speed) >= 1.3)}, '
        f"{span(mixed_speed, percent)}." + one_token_words(rows, mixed_speed),
        f'**Checkpointing, "30-40% less memory"**: {said(max(saved) <= 0.7, min(saved) <= 0.7)}, {span(saved, percent)}. It '
        "saves nearly all of what blocks keep; with one token they keep next to nothing, and weights and optimizer are all "
        "there is.",
        f'**Checkpointing, "10-15% cost"**: {said(max(cost) <= 1.15, min(cost) <= 1.15)}, {span(cost, percent)}. Every block '
        f"is run forward twice: {percent(recomputed)} operations for {main_row['name']}, which a claim of 10-15% cannot "
        "cover.",
    ]
    if main_row["compile_s"] is not None:
        faster = float(np.median(ratios(main_row, BASE, COMPILED)))
        sentences.append(
            f'**Compile, "up to 2x"**: {fold(faster)} for {main_row["name"]}, batch {main_row["batch_size"]}, after '
            f"{main_row['compile_s']:.0f} s of compilation. Most of the step is large matrix products, which it leaves to the "
            "same library; it fuses what lies between them."
        )
    else:
        sentences.append('**Compile, "up to 2x"**: not measured in this run.')
    return [f"- {sentence}" for sentence in sentences]


def one_token_words(rows: list[dict], speed: list[float]) -> str:
    is_slower = any(value < 1 for value, row in zip(speed, rows, strict=True) if row["num_tokens"] == 1)
    why = " With one token there is little to multiply, and casting the weights costs more than the products save."
    return why if is_slower else ""


def distinct(rows: list[dict]) -> list[dict]:
    """One row for each N, of the first preset."""
    preset = rows[0]["name"].split(",")[0]
    return list({row["num_tokens"]: row for row in rows if row["name"].startswith(preset)}.values())


def said(always: bool, sometimes: bool) -> str:
    return "holds" if always else "holds in part" if sometimes else "fails"


def memory_table(result: dict) -> list[str]:
    rows, above = [], 0
    for name, claimed, variant, batch_size in TOTALS:
        totals = [
            row["peak"][variant] / 1e6
            for form in ("patch 16", "one token")
            for row in result["rows"]
            if row["name"] == f"medium, 201x201, {form}" and row["batch_size"] == batch_size
        ]
        above += sum(total > claimed for total in totals)
        rows.append([name, f"{claimed} MB", *(f"{total:,.0f} MB" for total in totals)])
    return [
        *grid(["medium, 201x201: total memory", "the diagram", "patch 16", "one token"], rows),
        "",
        f"{above} of {2 * len(TOTALS)} totals are above the diagram's. It counts 8 M parameters; the structure it draws has 40 M "
        "in patches and 80 M as one token. It halves weights and gradients in mixed precision; those stay in float32.",
    ]


def step_table(result: dict) -> list[str]:
    rows = []
    for row in result["rows"]:
        for variant, stock in ((BASE, STOCK), (MIXED, STOCK_MIXED)):
            if stock not in row["turns"][0]:
                continue
            limit = np.array([row["pass_flops"] / turn[variant] / turn[f"matmul {variant}"] for turn in row["turns"]])
            seconds = float(np.median([turn[variant] for turn in row["turns"]]))
            rows.append(
                [
                    f"{row['name']}, {variant}",
                    f"{row['batch_size'] / seconds:.2f}",
                    times(limit, lambda value: f"{100 * value:.0f}%"),
                    times(ratios(row, stock, variant), fold),
                    f"{row['batch_size'] / (seconds + row['optimizer_s']):.2f}",
                    *(f"{row['peak'][one] / 1e6:,.0f} MB" for one in (variant, CHECKPOINTING)),
                ]
            )
    limits = {
        precision: np.median([turn[f"matmul {precision}"] for row in result["rows"] for turn in row["turns"]])
        for precision in PRECISIONS
    }
    words = ", ".join(f"{value / 1e9:,.0f} GFLOP/s in {precision}" for precision, value in limits.items())
    header = ["training step, batch 16", "images/s, forward and backward", "of the matrix-multiplication limit"]
    header += ["nn.TransformerEncoder / tae, time", "images/s, whole step", "peak", "peak, checkpointing"]
    return [
        *grid(header, rows),
        "",
        f"The limit: one large square product in the same turn, {words}. nn.TransformerEncoder: same depth, width, heads, "
        "pre-norm, GELU; same patches, start and output. The whole step has the optimizer with it: Muon multiplies matrices too, "
        f"{optimizer_words(result)}. Peak with checkpointing: in float32.",
    ]


def optimizer_words(result: dict) -> str:
    row = result["rows"][0]
    return (
        f"{row['optimizer_flops'] / 1e9:,.0f} GFLOP a step in bf16 for {row['name'].split(',')[0]}, whatever the batch, beside "
        f"{row['pass_flops'] / 1e9:,.0f} for {row['batch_size']} images"
    )


if __name__ == "__main__":
    main(tyro.cli(TrainingConfig, description=__doc__))

"""The cost of attention maps: time and memory beside the plain forward pass, and the CPU's fused backward in bf16.

    python -m benchmarks.attention_maps

Maps of all encoder layers and their average against the plain pass without maps, of the encoder alone and of the whole
model, in turns, one image: the median of the ratios and its quartiles. Peak memory is how far one call raises the resident
memory of a process of its own (Linux). Writes `benchmarks/results/attention_maps.json` and `.md`.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro

from benchmarks import keep
from tae.model.autoencoder import TransformerAutoencoder, create_autoencoder

CASES = {169: ((201, 201), 16), 800: ((152, 1280), 16), 3040: ((152, 1280), 8)}
"""N -> input_size, patch_size."""


@dataclass(frozen=True)
class MapsConfig:
    preset: str = "tiny"
    """Size of the model."""
    rounds: int = 15
    """Turns of plain pass and maps."""
    threads: int = 1
    """CPU threads of PyTorch."""


def build(preset: str, num_tokens: int) -> tuple[TransformerAutoencoder, torch.Tensor]:
    input_size, patch_size = CASES[num_tokens]
    torch.manual_seed(0)
    model = create_autoencoder(input_size, preset, patch_size=patch_size).eval()
    assert model.config.num_tokens == num_tokens
    return model, torch.rand(1, 1, *input_size)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def time_ratio(preset: str, num_tokens: int, rounds: int) -> dict:
    model, image = build(preset, num_tokens)
    calls = (lambda: model.embed(image), lambda: model(image), lambda: model.get_attention_maps(image))
    with torch.inference_mode():
        turns = [[seconds(call) for call in calls] for _ in range(rounds + 2)][2:]  # the first two warm up
    encoder, whole, maps = np.array(turns).T
    return {"of_encoder": quartiles(maps / encoder), "of_model": quartiles(maps / whole)}


def quartiles(ratios: np.ndarray) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(value) for value in np.percentile(ratios, [25, 50, 75])]


def peak_growth(preset: str, num_tokens: int, with_maps: bool, threads: int, answer) -> None:
    """In a process of its own: how far one call raises the resident memory at its peak, in MiB."""
    torch.set_num_threads(threads)
    model, image = build(preset, num_tokens)
    small, small_image = build(preset, 169)
    with torch.inference_mode():
        small(small_image)  # libraries settle before the mark is read
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
        before = memory("VmRSS")
        model.get_attention_maps(image) if with_maps else model(image)
        answer.put((memory("VmHWM") - before) / 1024)


def memory(field: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def in_own_process(*arguments: object) -> float:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak_growth, args=(*arguments, answer))
    process.start()
    value = answer.get()
    process.join()
    return value


def backward_ratio(rounds: int) -> dict:
    """Forward and backward of fused attention at tiny's training shape: bf16 against float32."""
    q, k, v = (torch.randn(16, 4, 169, 32, requires_grad=True) for _ in range(3))

    def run(dtype: torch.dtype) -> float:
        query, key, value = (tensor.detach().to(dtype).requires_grad_() for tensor in (q, k, v))
        return seconds(lambda: F.scaled_dot_product_attention(query, key, value).sum().backward())

    pairs = [(run(torch.bfloat16), run(torch.float32)) for _ in range(rounds + 2)][2:]
    return {"bf16_of_fp32": quartiles(np.array([half / full for half, full in pairs]))}


def main(config: MapsConfig) -> None:
    torch.set_num_threads(config.threads)
    rows = []
    for num_tokens in CASES:
        rounds = config.rounds if num_tokens < 3000 else max(5, config.rounds // 3)
        row = {"num_tokens": num_tokens, **time_ratio(config.preset, num_tokens, rounds)}
        row["plain_mib"] = in_own_process(config.preset, num_tokens, False, config.threads)
        row["maps_mib"] = in_own_process(config.preset, num_tokens, True, config.threads)
        row["result_mib"] = (len(build(config.preset, 169)[0].encoder.blocks) + 1) * num_tokens**2 * 4 / 2**20
        rows.append(row)
        print(row, flush=True)
    result = {
        "preset": config.preset,
        "threads": config.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "rows": rows,
        "backward": backward_ratio(config.rounds),
    }
    keep("attention_maps", result, table(result))


def table(result: dict) -> str:
    """The rows as Markdown."""
    lines = [
        "| N | maps / encoder without maps | maps / whole model without maps | whole model, peak | maps, peak | the maps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['num_tokens']} | {words(row['of_encoder'])} | {words(row['of_model'])} | {row['plain_mib']:.0f} MiB | "
            f"{row['maps_mib']:.0f} MiB | {row['result_mib']:.1f} MiB |"
        )
    lines += [
        "",
        f"Time: median ratio (quartiles); memory: peak above rest. {result['preset']}, one image, {result['threads']} thread, "
        f"{result['cpu']}, torch {result['torch']}. Maps: all encoder layers and their average.",
        f"Fused attention, forward and backward on this CPU, bf16 / float32: {words(result['backward']['bf16_of_fp32'])}; "
        "this is why training computes it in float32 there.",
        "",
        "Command: `python -m benchmarks.attention_maps`",
        "",
    ]
    return "\n".join(lines)


def words(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(tyro.cli(MapsConfig, description=__doc__))

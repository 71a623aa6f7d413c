"""The cost of attention maps: time and memory beside the plain forward pass, beside peers, and the CPU's fused backward in bf16.

    python -m benchmarks.attention_maps
    python -m benchmarks.attention_maps --compare     # says what costs more than in the committed result, and writes nothing

Maps of all encoder layers and their average against the plain pass without maps, of the encoder alone and of the whole
model, in turns, one image: the median of the ratios and its quartiles. Peak memory is how far one call raises the resident
memory of a process of its own (Linux). Peers give the same, maps of each layer with their heads as a mean, and the average:
Hugging Face's ViT with eager attention, and vit-pytorch's Recorder, where they are installed; all in processor time, in turns,
over PyTorch's own `nn.TransformerEncoder` behind a linear layer for its patches, which gives no maps. Writes
`benchmarks/results/attention_maps.json` and `.md`.
"""

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn

from benchmarks import RESULTS, grid, keep
from tae.model.autoencoder import TransformerAutoencoder, create_autoencoder
from tae.model.layers import patchify

PEERS = (("tiny", 169, 4), ("tiny", 800, 4), ("tiny", 3040, 1), ("medium", 169, 4), ("medium", 800, 1))
"""Preset, N, images at once."""
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
    compare: bool = False
    """Measure beside peers, say what got slower than the committed result by more than both results' noise, write nothing."""


def build(preset: str, num_tokens: int) -> tuple[TransformerAutoencoder, torch.Tensor]:
    input_size, patch_size = CASES[num_tokens]
    torch.manual_seed(0)
    model = create_autoencoder(input_size, preset, patch_size=patch_size).eval()
    assert model.config.num_tokens == num_tokens
    return model, torch.rand(1, 1, *input_size)


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call()
    return clock() - started


def processor_seconds(call: Callable[[], object]) -> float:
    """Other programs do not count."""
    return seconds(call, time.process_time)


def time_ratio(preset: str, num_tokens: int, rounds: int) -> dict:
    model, image = build(preset, num_tokens)
    calls = (lambda: model.embed(image), lambda: model(image), lambda: model.get_attention_maps(image))
    with torch.inference_mode():
        turns = [[seconds(call) for call in calls] for _ in range(rounds + 2)][2:]  # the first two warm up
    encoder, whole, maps = np.array(turns).T
    return {"of_encoder": quartiles(maps / encoder), "of_model": quartiles(maps / whole)}


def beside_peers(preset: str, num_tokens: int, batch: int, rounds: int) -> dict:
    """{who: quartiles of its processor time as a multiple of the plain encoder's of PyTorch}."""
    model, image = build(preset, num_tokens)
    shape, images = model.config, image.expand(batch, -1, -1, -1).contiguous()
    rows, columns = shape.grid
    height, width = (count * shape.tile_size[0] for count in (rows, columns))
    padded = F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))
    layer = nn.TransformerEncoderLayer(
        *(shape.latent_dim, shape.num_heads, 4 * shape.latent_dim, 0.0, "gelu"), batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, shape.encoder_layers, enable_nested_tensor=False)
    stock = nn.Sequential(nn.Linear(math.prod(shape.tile_size), shape.latent_dim), encoder).eval()
    patches = patchify(padded, shape.tile_size)
    calls: dict[str, Callable[[], object]] = {
        "stock": lambda: stock(patches),
        "our encoder without maps": lambda: model.embed(images),
        "our maps": lambda: model.get_attention_maps(images),
    }
    with suppress(ImportError):
        from transformers import ViTConfig, ViTModel  # type: ignore[import-not-found]

        config = ViTConfig(
            hidden_size=shape.latent_dim,
            num_hidden_layers=shape.encoder_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=4 * shape.latent_dim,
            image_size=(height, width),
            patch_size=shape.tile_size[0],
            num_channels=1,
            attn_implementation="eager",
        )
        hugging = ViTModel(config, add_pooling_layer=False).eval()
        calls["Hugging Face's ViT, eager"] = lambda: averaged(hugging(padded, output_attentions=True).attentions)
    with suppress(ImportError):
        from vit_pytorch import ViT  # type: ignore[import-not-found]
        from vit_pytorch.recorder import Recorder  # type: ignore[import-not-found]

        sizes = {"dim": shape.latent_dim, "depth": shape.encoder_layers, "heads": shape.num_heads, "channels": 1}
        sizes |= {"dim_head": shape.head_dim, "mlp_dim": 4 * shape.latent_dim, "num_classes": 1}
        recorder = Recorder(ViT(image_size=(height, width), patch_size=shape.tile_size[0], **sizes).eval())
        calls["vit-pytorch's Recorder"] = lambda: averaged(recorder(padded)[1].unbind(1))
    with torch.inference_mode():
        turns = np.array([[processor_seconds(call) for call in calls.values()] for _ in range(rounds + 2)][2:])
    return {name: quartiles(turns[:, place] / turns[:, 0]) for place, name in enumerate(calls) if place}


def averaged(maps: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Layers' maps (B, heads, N, N): heads as a mean, and the average of all."""
    fused = [one.mean(dim=1) for one in maps]
    return fused, torch.stack(fused).mean(dim=0)


def slower(now: dict, then: dict) -> list[str]:
    """What our maps cost more than before, by more than the quartiles of both overlap; {case: {who: quartiles}} each."""
    said = []
    for case, found in now.items():
        for who, after in found.items():
            before = then.get(case, {}).get(who)
            if before and who.startswith("our") and after[0] > before[2]:
                said.append(f"{case}, {who}: {words(after)}, before {words(before)}")
    return said


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
    peers = {
        f"{preset}, N {n}, {batch} at once": beside_peers(preset, n, batch, config.rounds) for preset, n, batch in PEERS
    }
    if config.compare:
        committed = json.loads((RESULTS / "attention_maps.json").read_text())
        said = slower(peers, committed["peers"])
        here = f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
        print(f"committed: {committed['cpu']}, torch {committed['torch']}; here: {here}")
        print("\n".join(said) or "nothing costs more than before by more than the noise")
        return
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
        "peers": peers,
        "rows": rows,
        "backward": backward_ratio(config.rounds),
    }
    keep("attention_maps", result, table(result))


def table(result: dict) -> list[str]:
    """The rows as Markdown."""
    header = ["N", "maps / encoder without maps", "maps / whole model without maps"]
    rows = [
        [row["num_tokens"], words(row["of_encoder"]), words(row["of_model"])]
        + [f"{row['plain_mib']:.0f} MiB", f"{row['maps_mib']:.0f} MiB", f"{row['result_mib']:.1f} MiB"]
        for row in result["rows"]
    ]
    peers = result["peers"]
    whole = [
        [who, *(words(one[who]) if who in one else "not installed" for one in peers.values())]
        for who in dict.fromkeys(who for one in peers.values() for who in one)
    ]
    return [
        *grid([*header, "whole model, peak", "maps, peak", "the maps"], rows),
        "",
        f"Time: median ratio (quartiles); memory: peak above rest. {result['preset']}, one image, {result['threads']} thread, "
        f"{result['cpu']}, torch {result['torch']}. Maps: all encoder layers and their average.",
        f"Fused attention, forward and backward on this CPU, bf16 / float32: {words(result['backward']['bf16_of_fp32'])}; "
        "this is why training computes it in float32 there.",
        "",
        *grid(["maps of all layers and their average, over a plain `nn.TransformerEncoder`", *peers], whole),
        "",
        f"Processor time, {result['threads']} thread, in turns. Peers: transformers and vit-pytorch.",
    ]


def words(values: list[float]) -> str:
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(tyro.cli(MapsConfig, description=__doc__))

"""The cost of interventions: one of them, all heads in turn, all patches covered, another image's states put in.

Each against the plain way to the same result, or beside one full forward pass.

    python -m benchmarks.causal

One intervention: the last encoder layer's first head, from the kept prefix, against a full forward pass. Head sweep: every
head, every layer's attention and every MLP of encoder and decoder, from the prefix in batches, against as many separate
forward passes with a hook. Occlusion: every patch, in batches, against separate passes, and against captum's Occlusion
(Kokhlikyan 2020) of the same patches where captum is installed; it is no requirement of this project. Every way is checked
to give the same figures before it is timed. Further, of one image: attention replaced, infidelity and sensitivity of maps; of
two: all heads and MLPs of one put into the run of the other, all patches of all layers, both estimated by attribution patching,
the paths of a head; and relevance. Each as a multiple of one full forward pass of one image. Processor seconds of one thread, in
turns: median of the ratios and quartiles.
Writes `benchmarks/results/causal.json` and `.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.testing import assert_close

from benchmarks import grid, keep
from benchmarks.attention_maps import processor_seconds, quartiles, words
from tae.analysis.causal import interventions, patching
from tae.analysis.causal.faithfulness import DRAWS, SETS, infidelity, max_sensitivity
from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.knockouts import reconstruct_knocked_out
from tae.analysis.causal.occlusion import Box, foreground_tokens, occlude
from tae.analysis.causal.predictors import predictors
from tae.analysis.causal.prefix import images_at_once, make_prefix
from tae.analysis.causal.relevance import relevance
from tae.analysis.causal.verdicts import necessity
from tae.model.autoencoder import TransformerAutoencoder, create_autoencoder

PATCH_SIZES = {169: 16, 676: 8}
"""N of 201x201 -> patch_size."""
NOT_MEASURED = "not measured: captum is not installed"


@dataclass(frozen=True)
class CausalConfig:
    preset: str = "tiny"
    """Size of the model."""
    rounds: int = 7
    """Turns of all ways."""
    slow_rounds: int = 3
    """Turns of occlusion, which takes longest."""
    threads: int = 1
    """CPU threads of PyTorch."""


def main(config: CausalConfig) -> None:
    torch.set_num_threads(config.threads)
    rows = []
    for num_tokens, patch_size in PATCH_SIZES.items():
        torch.manual_seed(0)
        model = create_autoencoder((201, 201), config.preset, patch_size=patch_size).eval()
        assert model.config.num_tokens == num_tokens
        image = torch.rand(1, 1, 201, 201)
        row: dict = {"num_tokens": num_tokens, "knockouts": len(interventions.all_knockouts(model.config))}
        one_pass = partial(model, image)
        row["one"] = in_turns(one_intervention(model, image), one_pass, config.rounds)
        row["sweep"] = in_turns(sweeps(model, image), one_pass, config.rounds)
        row["occlusion"] = in_turns(occlusions(model, image), one_pass, config.slow_rounds)
        for name, call in experiments(model, image).items():
            row[name] = beside_a_pass(call, one_pass, config.slow_rounds)
        rows.append(row)
        print(row, flush=True)
    result = {
        "preset": config.preset,
        "threads": config.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "captum": find_spec("captum") is not None,
        "rows": rows,
    }
    keep("causal", result, table(result))


Ways = dict[str, Callable[[], Tensor]]
"""The first is ours; all give the same numbers."""


def one_intervention(model: TransformerAutoencoder, image: Tensor) -> Ways:
    """ "from the prefix", as a page does it when a switch is thrown, and a forward pass with a hook."""
    knockout = Knockout("encoder", model.config.encoder_layers - 1, 0)
    prefix = make_prefix(model, image)
    return {
        "ours": lambda: reconstruct_knocked_out(model, prefix, [[knockout]]),
        "separate": lambda: hooked(model, image, knockout),
    }


def sweeps(model: TransformerAutoencoder, image: Tensor) -> Ways:
    """All single knock-outs; ours with the undisturbed pass that it needs."""
    knockouts = interventions.all_knockouts(model.config)
    sets = [[one] for one in knockouts]
    return {
        "ours": lambda: reconstruct_knocked_out(model, image, sets),
        "separate": lambda: torch.cat([hooked(model, image, one) for one in knockouts]),
    }


def occlusions(model: TransformerAutoencoder, image: Tensor) -> Ways:
    """All patches covered with white; (N,) each."""
    ways: Ways = {
        "ours": lambda: occlude(model, image).total,
        "separate": lambda: occlude(model, image, batch_size=1).total,
    }
    if find_spec("captum") is not None:
        ways["captum"] = lambda: with_captum(model, image)
    return ways


def experiments(model: TransformerAutoencoder, image: Tensor) -> dict[str, Callable[[], object]]:
    """What is measured of an image, of two and of a region; each begins with the images."""
    other = 1 - image
    heads, patches = patching.head_cells(model.config), patching.patch_cells(model.config, image.shape[3])
    sender = Knockout("encoder", 0, 0)
    maps, tokens = predictors(model, image), foreground_tokens(image, model.config)
    return {
        "attention replaced in five ways, in each layer and in all": lambda: necessity(model, image, other),
        f"infidelity of {len(maps)} maps, {SETS} sets of patches covered": lambda: infidelity(
            model, image, maps, tokens
        ),
        f"sensitivity of {len(maps)} maps, {DRAWS} changed images": lambda: max_sensitivity(
            partial(predictors, model), image
        ),
        f"activation patching, {len(heads)} heads, attentions and MLPs": lambda: patching.activation_patching(
            model, image, other, heads
        ),
        f"activation patching, {len(patches)} patches or blocks of them": lambda: patching.activation_patching(
            model, image, other, patches
        ),
        "attribution patching, all of these": lambda: patching.attribution_patching(
            model, image, other, heads + patches
        ),
        "attribution patching, by slopes alone": lambda: patching.attribution_patching(
            model, image, other, heads + patches, recompute_attention=False
        ),
        "path patching, one head": lambda: patching.path_patching(model, image, other, sender),
        "relevance of all patches for a region": lambda: relevance(model, image, Box(64, 64, 112, 112)),
    }


def beside_a_pass(call: Callable[[], object], one_pass: Callable[[], object], rounds: int) -> dict:
    """Processor seconds, and as a multiple of one full forward pass, [lower quartile, median, upper quartile]."""
    one_pass()  # warms up
    turns = np.array([(processor_seconds(call), seconds_of(one_pass)) for _ in range(rounds)])
    return {"ours_s": quartiles(turns[:, 0]), "passes": quartiles(turns[:, 0] / turns[:, 1])}


def seconds_of(one_pass: Callable[[], object]) -> float:
    """Processor seconds of a full forward pass, median of five."""
    return float(np.median([processor_seconds(one_pass) for _ in range(5)]))


def hooked(model: TransformerAutoencoder, image: Tensor, knockout: Knockout) -> Tensor:
    """One knock-out by zero in a full forward pass, as one would write it with hooks."""
    block = model.blocks(knockout.part)[knockout.layer]
    head_dim = model.config.latent_dim // model.config.num_heads
    chosen = slice(None)
    if isinstance(knockout.target, int):
        chosen = slice(knockout.target * head_dim, (knockout.target + 1) * head_dim)

    def without_heads(module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        inputs[0][..., chosen] = 0
        return inputs

    if knockout.target == "mlp":
        handle = block.mlp.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))  # type: ignore
    else:
        handle = block.attn.proj.register_forward_pre_hook(without_heads)
    try:
        return model(image)[0]
    finally:
        handle.remove()


def with_captum(model: TransformerAutoencoder, image: Tensor) -> Tensor:
    """The same effects by captum: windows of a patch, a patch apart, filled with white, as many at a time as ours."""
    from captum.attr import Occlusion  # type: ignore[import-not-found]

    plain = model(image)[0]
    # Squared change from the undisturbed reconstruction; captum reports how far it falls when a window is covered.
    occlusion = Occlusion(lambda images: ((model(images)[0] - plain) ** 2).mean(dim=(1, 2, 3)))
    side = model.config.tile_size[0]
    at_once = images_at_once(model.config, image.shape[3])
    found = occlusion.attribute(image, (1, side, side), (1, side, side), baselines=1.0, perturbations_per_eval=at_once)
    return -found[0, 0, ::side, ::side].flatten()


def in_turns(ways: Ways, one_pass: Callable[[], object], rounds: int) -> dict:
    """Processor seconds of ours, the others as multiples of it, and ours as one of a pass: [lower quartile, median, upper]."""
    results = {name: way() for name, way in ways.items()}  # warms up, too
    for name, result in results.items():
        # float32 in batches of other sizes; small effects are differences of large numbers
        assert_close(result, results["ours"], rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    turns = [[processor_seconds(way) for way in ways.values()] + [seconds_of(one_pass)] for _ in range(rounds)]
    ours, *others, passes = np.array(turns).T
    ratios = {name: quartiles(other / ours) for name, other in zip(list(ways)[1:], others, strict=True)}
    return {"ours_s": quartiles(ours), **ratios, "passes": quartiles(ours / passes)}


def table(result: dict) -> list[str]:
    """The rows as Markdown."""
    rows = []
    for row in result["rows"]:
        tasks = {
            "one": "one head of the last encoder layer, from the kept prefix",
            "sweep": f"head sweep, {row['knockouts']} knock-outs",
            "occlusion": f"occlusion map, {row['num_tokens']} patches",
        }
        for name, found in row.items():
            if not isinstance(found, dict):
                continue
            ratios = [words(found["separate"]) if "separate" in found else "", "", words(found["passes"])]
            if name == "occlusion":
                ratios[1] = words(found["captum"]) if "captum" in found else NOT_MEASURED
            rows.append([row["num_tokens"], tasks.get(name, name), f"{found['ours_s'][1]:.3f}", *ratios])
    return [
        *grid(["N", "task", "tae, s", "separate passes / tae", "captum / tae", "tae / one full pass"], rows),
        "",
        f"Processor seconds, median; ratios: median (quartiles), in turns. {result['preset']}, 201x201, patches of 16 and 8, "
        f"random weights, {result['threads']} thread, {result['cpu']}, torch {result['torch']}. Separate passes: one full "
        "forward pass with a hook, or one covered image, at a time; one full pass: of one image. captum: Occlusion with windows "
        "of a patch, as many at a time as tae. All ways give the same figures.",
    ]


if __name__ == "__main__":
    with torch.no_grad():
        main(tyro.cli(CausalConfig, description=__doc__))

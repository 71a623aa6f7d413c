"""How well the shipped checkpoints reconstruct, and whether they need their attention to.

    python -m benchmarks.quality --baselines --checkpoints checkpoints/drops_tiny_201x201_p16.safetensors
    python -m benchmarks.quality --write-card

The first fits PCA, and trains a convolutional autoencoder on the same images, with the best of some learning rates, for as
many steps as cost what those of the checkpoint's card do: a step of each is timed in turns. The second measures the checkpoints
beside those baselines that are there, on the test split, also with their attention replaced, writes
`benchmarks/results/quality.json` and `quality.md`, and puts the figures into the checkpoints' cards; without its flag it only
measures.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import RESULTS, grid, text_of
from benchmarks.baselines import ConvAutoencoder, Pca, conv_optimizer, cost_ratio, train_conv
from tae.analysis.causal.replacements import from_images, mean_map, reconstruct_with, uniform
from tae.analysis.evaluate import reconstruct, summarise
from tae.data.built_in import source_for
from tae.data.composed import BuiltIn
from tae.data.drops import DropSource
from tae.data.drops.measure import outline_columns
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import ModelConfig, config_to_dict, size_in_words
from tae.model.metrics import measure, psnr_of, seam_ratio
from tae.store.checkpoint import Loaded, list_checkpoints, load_checkpoint, save_checkpoint
from tae.training.config import TrainConfig
from tae.training.optim import make_optimizers

BAND = 120
"""Pixels of a group of widths."""
BATCH = 16
COMMAND = "python -m benchmarks.quality --baselines`, `python -m benchmarks.quality"
Images = Sequence[np.ndarray]
Method = Callable[[Images], list[np.ndarray]]


@dataclass(frozen=True)
class QualityConfig:
    checkpoints: tuple[Path, ...] = ()
    """The checkpoints to measure; none: those in checkpoints/."""
    baselines: bool = False
    """Fit and train the baselines of the checkpoints; measure nothing else."""
    conv_lrs: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """Peak learning rates of the convolutional autoencoder to choose from, by PSNR on the val split; none: PCA alone."""
    conv_share: float = 1
    """Steps of the convolution, as a share of those that cost what the checkpoint's do."""
    conv_sweep_share: float = 0.03
    """Steps of each of them, as a share of those of the training."""
    pca_images: int = 12_000
    """Training images to fit PCA on."""
    test_images: int = 512
    """Images of the test split."""
    attention_images: int = 64
    """Images of the test split for what is measured with attention replaced."""
    write_card: bool = False
    """Write the figures into the checkpoints' cards."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: QualityConfig) -> None:
    torch.set_num_threads(config.threads)
    for path in config.checkpoints or tuple(listed.path for listed in list_checkpoints("checkpoints")):
        if config.baselines:
            fit_baselines(path, config)
            continue
        with torch.inference_mode():
            store(config.results, figures(path, config))


def store(folder: Path, record: dict) -> None:
    """Put one record into quality.json, in place of an older one of the same name, and write the tables anew."""
    path = folder / "quality.json"
    result = json.loads(path.read_text()) if path.exists() else {"checkpoints": []}
    others = [one for one in result["checkpoints"] if one["name"] != record["name"]]
    result["checkpoints"] = sorted(
        [*others, record], key=lambda one: (not one["name"].startswith("drops"), one["name"])
    )
    path.write_text(json.dumps(result, indent=1) + "\n")
    (folder / "quality.md").write_text(text_of(table(result), COMMAND))
    print(json.dumps(record), flush=True)


def source_of(loaded: Loaded) -> BuiltIn:
    return source_for(loaded.model.config, loaded.card.data)


# -------------------------------------------------------------------------------------------------------- the baselines


def fit_baselines(path: Path, config: QualityConfig) -> None:
    """PCA and a convolutional autoencoder of one checkpoint's size, latent and processor time, left in the results."""
    loaded = load_checkpoint(path)
    shape, training, source = loaded.model.config, loaded.card.training, source_of(loaded)
    height, width = shape.input_size[0], shape.input_size[1] or shape.max_width
    batch_size = training["batch_size"]
    held_out = source.held_out(64)
    if not pca_path(path, config).exists():
        Pca(flat(source, config.pca_images, width), shape.latent_dim, num_start=1024).save(pca_path(path, config))
    if not config.conv_lrs:
        return

    def train(lr: float, steps: int, state: Path | None = None) -> tuple[ConvAutoencoder, dict]:
        torch.manual_seed(0)
        model = ConvAutoencoder(shape.latent_dim, (height, width))
        train_conv(
            model,
            lambda step: source.batch(step, batch_size),
            lr,
            steps,
            lambda step, loss: print(f"conv {lr:g}  step {step} of {steps}  loss {loss:.5f}", flush=True),
            state,
        )
        psnr = mean_psnr(held_out, reconstruct(model, held_out, batch_size=8))
        print(f"conv {lr:g}: {psnr:.2f} dB after {steps} steps", flush=True)
        return model, {"lr": lr, "steps": steps, "held_out_psnr": psnr}

    facts, state = conv_path(path, config).with_suffix(".json"), conv_path(path, config).with_suffix(".state")
    if not facts.exists():
        ratio = step_cost(loaded, source)
        steps = round(config.conv_share * training["steps"] * ratio)
        sweep = [train(lr, max(1, round(config.conv_sweep_share * steps)))[1] for lr in config.conv_lrs]
        best = max(sweep, key=lambda record: record["held_out_psnr"])["lr"]
        chosen = {"lr": best, "steps": steps, "step_cost": ratio, "share": config.conv_share}
        facts.write_text(json.dumps(chosen | {"batch_size": batch_size, "sweep": sweep}, indent=1) + "\n")
    found = json.loads(facts.read_text())
    model, record = train(found["lr"], found["steps"], state)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, conv_path(path, config))
    facts.write_text(json.dumps(found | record, indent=1) + "\n")
    state.unlink(missing_ok=True)


def step_cost(loaded: Loaded, source: BuiltIn) -> float:
    """Processor time of a step of a checkpoint's training over that of the convolution's."""
    shape, training = loaded.model.config, loaded.card.training
    muon = "fp32" if "Muon fp32" in training.get("precision", "") else "bf16"
    learner = TransformerAutoencoder(shape).train()
    conv = ConvAutoencoder(shape.latent_dim, (shape.input_size[0], shape.input_size[1] or shape.max_width)).train()
    return cost_ratio(
        (learner, make_optimizers(learner, TrainConfig(), muon)),
        (conv, [conv_optimizer(conv, 1e-3)]),
        lambda step: source.batch(step, training["batch_size"]),
    )


def flat(source: BuiltIn, count: int, width: int, size: int = 256) -> Iterator[Tensor]:
    """Training images filled up with white to one width, flattened, (size, pixels) at a time."""
    for start in range(0, count, size):
        images = [source.compose("train", index) for index in range(start, min(start + size, count))]
        yield filled_up(images, width).flatten(1)


def filled_up(images: Images, width: int) -> Tensor:
    """(B, H, width) in [0, 1], white on the right."""
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=255) for one in images]
    return torch.from_numpy(np.stack(padded)).float() / 255


def pca_recons(pca: Pca, images: Images, width: int) -> list[np.ndarray]:
    """Each image through the components, with the coefficients that fit its real pixels best.

    A narrower image is thus not charged for the white beyond its width, which the autoencoders need not draw either.
    """
    height = images[0].shape[0]
    components = pca.components.view(height, width, -1).transpose(0, 1)  # (W, H, k)
    mean = pca.mean.view(height, width)
    by_width = sorted(range(len(images)), key=lambda number: images[number].shape[1])
    gram, done = torch.zeros(components.shape[-1], components.shape[-1]), 0
    recons: list[np.ndarray] = [np.empty(0)] * len(images)
    for number in by_width:
        image = torch.tensor(images[number]).float() / 255
        wide = image.shape[1]
        added = components[done:wide].flatten(0, 1)
        gram, done = gram + added.T @ added, wide
        basis = components[:wide].flatten(0, 1)
        centred = (image - mean[:, :wide]).T.flatten()
        floor = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram))  # components that lie beyond the width stay at 0
        weights = torch.linalg.solve(gram + floor, basis.T @ centred)
        recons[number] = ((basis @ weights).view(wide, height).T + mean[:, :wide]).clamp(0, 1).numpy()
    return recons


def conv_path(path: Path, config: QualityConfig) -> Path:
    return config.results / f"{path.stem}_conv.safetensors"


def pca_path(path: Path, config: QualityConfig) -> Path:
    return config.results / f"{path.stem}_pca.safetensors"


# ---------------------------------------------------------------------------------------------------------- the figures


def figures(path: Path, config: QualityConfig) -> dict:
    """One checkpoint beside its baselines."""
    loaded = load_checkpoint(path)
    model, card, source = loaded.model, loaded.card, source_of(loaded)
    shape = model.config
    width = shape.input_size[1] or shape.max_width
    test = source.test(config.test_images)
    methods: dict[str, Method] = {"tae": lambda images: reconstruct(model, images, batch_size=8)}
    if pca_path(path, config).exists():
        pca = Pca.load(pca_path(path, config))
        mean = pca.mean.view(-1, width).numpy()
        methods["mean image"] = lambda images: [mean[:, : image.shape[1]] for image in images]
        methods["PCA"] = lambda images: pca_recons(pca, images, width)
    if conv_path(path, config).exists():
        conv = load_conv(path, config, shape)
        methods["convolutional autoencoder"] = lambda images: reconstruct(conv, images, batch_size=8)
    rows, own, recons = [], {}, []
    for name, method in methods.items():
        recons = method(test)
        summary = summarise(test, recons, "test")
        row = {key: value for key, value in summary.items() if key != "percentiles"}
        seams = [
            seam_ratio(image[None] / 255, recon[None], shape.tile_size[0])
            for image, recon in zip(test, recons, strict=True)
        ]
        row |= {"method": name, "seam_ratio": float(np.mean(seams))}
        if source.name == DropSource.name:
            row["outline"] = outline_errors(test, recons)
        if not own:
            own = summary | ({"by_width": by_width(test, recons)} if shape.input_size[1] is None else {})
        rows.append(row)
        print(path.stem, row, flush=True)
    if config.write_card:
        kept = {key: value for key, value in card.metrics.items() if key == "yardsticks"}
        card = replace(card, metrics={**kept, **own})
        save_checkpoint(path, model, card)
    images = of_one_width(test, shape.tile_size[1])[: config.attention_images]
    return {
        "name": path.stem,
        "checkpoint_sha256": load_checkpoint(path).digest,
        "bytes": path.stat().st_size,
        "model": config_to_dict(shape),
        "training": {key: value for key, value in card.training.items() if key != "curve"},
        "parameters": count_parameters(model),
        "baselines": baseline_facts(path, config, shape),
        "rows": rows,
        "by_width": own.get("by_width", []),
        "attention_images": len(images),
        "loss_db": replacements(model, images),
        "correlation": correlations(model, images),
    }


def of_one_width(images: Images, side: int) -> Tensor:
    """(n, 1, H, W) in [0, 1]: those of as many columns of patches, `side` pixels wide, as most have, filled up with white."""
    columns = [-(-image.shape[1] // side) for image in images]
    common = max(set(columns), key=columns.count)
    alike = [image for image, number in zip(images, columns, strict=True) if number == common]
    return filled_up(alike, max(image.shape[1] for image in alike))[:, None]


def psnr(recon: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(B,) in dB, clipped to [0, 1]."""
    return -10 * ((recon.clamp(0, 1) - images) ** 2).mean(dim=(1, 2, 3)).log10()


def replacements(model: TransformerAutoencoder, images: torch.Tensor) -> dict[str, dict[str, float]]:
    """{replacement: {"all" or layer: mean PSNR lost in dB}}."""
    num_layers = model.config.encoder_layers
    where: dict[str, list[int] | None] = {"all": None, **{f"layer {layer}": [layer] for layer in range(num_layers)}}
    lost: dict[str, dict[str, list[float]]] = {}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        own = psnr(model(batch)[0], batch)
        others = images[(torch.arange(start, start + len(batch)) + len(images) // 2) % len(images)]
        by_name = {
            "uniform weights": uniform,
            "another image's attention": from_images(model, others),
            "mean map of other images": mean_map(model, others),
        }
        for name, other in by_name.items():
            for place, layers in where.items():
                recon = reconstruct_with(model, batch, other, layers=layers)
                lost.setdefault(name, {}).setdefault(place, []).extend((own - psnr(recon, batch)).tolist())
    return {name: {place: float(np.mean(values)) for place, values in places.items()} for name, places in lost.items()}


def map_correlation(maps: torch.Tensor) -> float:
    """Mean Pearson correlation between the maps of two images, over all pairs of a batch (B, N, N) without padding.

    Near 1: the map is a fixed layout, whatever the image. nan where a map is constant (one token).

    Raises:
        ValueError: If there are fewer than two images.
    """
    count = len(maps)
    if count < 2:
        raise ValueError(f"maps must be of at least 2 images, got {count}")
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    pairs = flat @ flat.T  # (B, B), 1 on the diagonal
    return float((pairs.sum() - pairs.trace()) / (count * (count - 1)))


def correlations(model: TransformerAutoencoder, images: torch.Tensor) -> dict[str, float]:
    """{map name: mean Pearson correlation between the maps of two images}."""
    parts = [model.get_attention_maps(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: map_correlation(torch.cat([part[name] for part in parts])) for name in parts[0]}


def outline_errors(images: Images, recons: Images) -> dict[str, float | None]:
    """Medians over drops of what `outline_columns` finds, without sign; "lost": the share of reconstructions without drop."""
    found = [outline_columns(image / 255, recon) for image, recon in zip(images, recons, strict=True)]
    values = {name: [value for one in found if (value := one[name]) is not None] for name in found[0]}
    lost = 1 - len(values["outline_distance_px"]) / len(found)
    return {name: float(np.median(np.abs(each))) if each else None for name, each in values.items()} | {"lost": lost}


def by_width(images: Images, recons: Images) -> list[dict]:
    """PSNR over bands of widths, as a card has it."""
    bands: dict[int, list[float]] = {}
    for image, recon in zip(images, recons, strict=True):
        bands.setdefault(image.shape[1] // BAND, []).append(measure(image / 255, recon).psnr)
    return [
        {
            "group": f"{band * BAND}-{(band + 1) * BAND - 1}",
            "psnr": float(np.mean(all_psnr)),
            "count": len(all_psnr),
            "unseen": False,
        }
        for band, all_psnr in sorted(bands.items())
    ]


def baseline_facts(path: Path, config: QualityConfig, shape: ModelConfig) -> dict:
    """How the baselines that are there came about."""
    found: dict = {}
    if pca_path(path, config).exists():
        found["pca_images"] = Pca.load(pca_path(path, config)).count
    if conv_path(path, config).exists():
        conv = json.loads(conv_path(path, config).with_suffix(".json").read_text())
        found["conv"] = {"parameters": count_parameters(load_conv(path, config, shape)), **conv}
    return found


def load_conv(path: Path, config: QualityConfig, shape: ModelConfig) -> ConvAutoencoder:
    conv = ConvAutoencoder(shape.latent_dim, (shape.input_size[0], shape.input_size[1] or shape.max_width))
    conv.load_state_dict(load_file(conv_path(path, config)))
    return conv.eval()


def mean_psnr(images: Images, recons: Images) -> float:
    errors = [float(((image / 255 - recon) ** 2).mean()) for image, recon in zip(images, recons, strict=True)]
    return float(np.mean([psnr_of(error) for error in errors]))


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------------- the tables


def table(result: dict) -> list[str]:
    """All figures as Markdown."""
    return [line for one in result["checkpoints"] for line in ("", *checkpoint_table(one))][1:]


def checkpoint_table(one: dict) -> list[str]:
    shape, training = one["model"], one["training"]
    formats = {"psnr": ".2f", "ssim": ".3f", "mse": ".5f", "foreground_mse": ".4f", "r2": ".4f", "seam_ratio": ".2f"}
    lines = grid(
        [
            f"`{one['name']}`: {shape['latent_dim']} numbers",
            "PSNR (dB)",
            "SSIM",
            "MSE",
            "foreground MSE",
            "R2",
            "seams",
        ],
        [[row["method"], *(format(row[name], form) for name, form in formats.items())] for row in one["rows"]],
    )
    outlined = [row for row in one["rows"] if "outline" in row]
    if outlined:
        header = [
            "median error of the outline",
            "distance (px)",
            "contact (px)",
            "left angle",
            "right angle",
            "no drop",
        ]
        found = (["-" if each is None else format(each, ".2f") for each in row["outline"].values()] for row in outlined)
        lines += ["", *grid(header, [[row["method"], *cells] for row, cells in zip(outlined, found, strict=True)])]
    if bands := one["by_width"]:
        cells = ["tae, PSNR (dB)", *(format(band["psnr"], ".2f") for band in bands)]
        lines += ["", *grid(["width in pixels", *(band["group"] for band in bands)], [cells])]
    places = list(next(iter(one["loss_db"].values())))
    losses = [[name, *(f"{lost[place]:.2f} dB" for place in places)] for name, lost in one["loss_db"].items()]
    correlation = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in one["correlation"].items())
    return [
        *lines,
        "",
        *grid(["encoder attention replaced by", *places], losses),
        "",
        f"{one['rows'][0]['count']} images of the test split, {size_in_words(shape['input_size'])}, patch {shape['patch_size']}. "
        f"Seams: mean absolute step of the error across borders of patches over that inside; 1 = none. Attention: PSNR lost, "
        f"{one['attention_images']} images; maps of two images correlate: {correlation}.",
        f"tae: {one['parameters']:,} parameters, {one['bytes'] / 1e6:.1f} MB, {training['steps']:,} steps of "
        f"{training['batch_size']}, {training['cpu_seconds']:,} processor seconds.{baseline_words(one['baselines'], shape)}",
    ]


def baseline_words(baselines: dict, shape: dict) -> str:
    said = ""
    if "conv" in baselines:
        conv = baselines["conv"]
        note = f" {conv['note']}" if "note" in conv else ""
        tried = ", ".join(format(each["lr"], "g") for each in conv["sweep"])
        budget = f"{conv.get('cpu_seconds', 0):,} processor seconds"
        if "step_cost" in conv:
            share = "" if conv["share"] == 1 else f"{conv['share']:.0%} of "
            budget = (
                f"which cost {share}what tae's do (a step of tae is {conv['step_cost']:.2f} of one, timed in turns)"
            )
        said += (
            f" Convolutional: {conv['parameters']:,} parameters, {conv['steps']:,} steps of {conv['batch_size']}, {budget}, "
            f"learning rate {conv['lr']:g}{note}, the best of {tried} after {conv['sweep'][0]['steps']} steps each."
        )
    if "pca_images" in baselines:
        filled = "" if shape["input_size"][1] else ", filled up with white; its coefficients fit real pixels best"
        said += f" PCA: as many components as tae has numbers, fitted on {baselines['pca_images']:,} images{filled}."
    return said


if __name__ == "__main__":
    main(tyro.cli(QualityConfig, description=__doc__))

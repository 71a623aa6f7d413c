"""The demo checkpoints for rails: how well they do.

    python -m benchmarks.rails --baselines
    python -m benchmarks.rails --write-card

The first fits PCA, and trains a convolutional autoencoder for as long as the checkpoint's card says, on the same images.
The second measures the checkpoints beside those baselines that are there, on the test split, by number of garments and by
width, and with their attention replaced, writes `benchmarks/results/rails.json` and `rails.md`, and puts the figures into
the checkpoints' cards; without its flag it only measures. How their shape was chosen: `benchmarks.sweep`.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.baselines import ConvAutoencoder, Pca, train_conv
from benchmarks.necessity import replacements
from tae.analysis.evaluate import reconstruct, summarise
from tae.data.batches import to_batch
from tae.data.demo import UNSEEN_WIDTHS, DemoSource, compose_rail, num_garments
from tae.model.config import ModelConfig, config_to_dict, size_in_words
from tae.model.metrics import measure, psnr_of, seam_ratio
from tae.store.checkpoint import load_checkpoint, save_checkpoint

RESULTS = Path(__file__).parent / "results"
HEIGHT, WIDE = 152, 1280
"""In pixels: of all rails, and of the fixed width."""
Images = Sequence[np.ndarray]
Method = Callable[[Images], list[np.ndarray]]


@dataclass(frozen=True)
class RailsConfig:
    checkpoints: tuple[Path, ...] = ()
    """The checkpoints to measure; none: the demo checkpoints of rails."""
    baselines: bool = False
    """Fit and train the baselines of the checkpoints; measure nothing else."""
    conv_lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    """Peak learning rates of the convolutional autoencoder to choose from, by PSNR on the val split."""
    conv_sweep_seconds: float = 60
    """Processor seconds of each of them, beside those of the training."""
    pca_images: int = 12_000
    """Training images to fit PCA on."""
    test_images: int = 300
    """Rails of the test split."""
    group_images: int = 40
    """Rails of the test split for each number of garments and each band of widths."""
    write_card: bool = False
    """Write the figures into the checkpoints' cards."""
    threads: int = 1
    """CPU threads of PyTorch."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: RailsConfig) -> None:
    torch.set_num_threads(config.threads)
    checkpoints = config.checkpoints or tuple(sorted(Path("checkpoints").glob(f"demo_*x{HEIGHT}_p??.safetensors")))
    for path in checkpoints:
        if config.baselines:
            fit_baselines(path, config)
            continue
        with torch.inference_mode():
            store(config.results, figures(path, config))


def store(folder: Path, record: dict) -> None:
    """Put one record into rails.json, in place of an older one of the same name, and write the tables anew."""
    path = folder / "rails.json"
    result = json.loads(path.read_text()) if path.exists() else {"checkpoints": []}
    others = [one for one in result["checkpoints"] if one["name"] != record["name"]]
    result["checkpoints"] = sorted([*others, record], key=lambda one: one["name"])
    path.write_text(json.dumps(result, indent=1) + "\n")
    (folder / "rails.md").write_text(table(result))
    print(json.dumps({key: value for key, value in record.items() if key != "groups"}), flush=True)


# -------------------------------------------------------------------------------------------------------- the baselines


def fit_baselines(path: Path, config: RailsConfig) -> None:
    """PCA and a convolutional autoencoder of one checkpoint's size, latent and processor time, left in the results."""
    loaded = load_checkpoint(path)
    shape, training = loaded.model.config, loaded.card.training
    source = DemoSource(shape.input_size, shape.max_width)
    width = shape.input_size[1] or shape.max_width
    batch_size = training["batch_size"]
    held_out = source.held_out(64)

    def train(lr: float, seconds: float) -> tuple[ConvAutoencoder, dict]:
        torch.manual_seed(0)
        started = time.process_time()
        model, steps = train_conv(
            lambda step: source.batch(step, batch_size),
            lr,
            seconds,
            model=ConvAutoencoder(shape.latent_dim, (HEIGHT, width)),
            report=lambda step, loss, used: print(
                f"conv {lr:g}  step {step}  loss {loss:.5f}  {used:.0f} s", flush=True
            ),
        )
        record = {"lr": lr, "steps": steps, "cpu_seconds": round(time.process_time() - started)}
        record["held_out_psnr"] = mean_psnr(held_out, reconstruct(model, held_out, batch_size=8))
        print(record, flush=True)
        return model, record

    sweep = [train(lr, config.conv_sweep_seconds)[1] for lr in config.conv_lrs]
    best = max(sweep, key=lambda record: record["held_out_psnr"])["lr"]
    model, record = train(best, training["cpu_seconds"])
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, conv_path(path, config))
    record |= {"batch_size": batch_size, "sweep": sweep}
    conv_path(path, config).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    Pca(flat_rails(source, config.pca_images, width), shape.latent_dim, num_start=1024).save(pca_path(path, config))


def flat_rails(source: DemoSource, count: int, width: int, size: int = 256) -> Iterator[Tensor]:
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
    components = pca.components.view(HEIGHT, width, -1).transpose(0, 1)  # (W, H, k)
    mean = pca.mean.view(HEIGHT, width)
    by_width = sorted(range(len(images)), key=lambda number: images[number].shape[1])
    gram, done = torch.zeros(components.shape[-1], components.shape[-1]), 0
    recons: list[np.ndarray] = [np.empty(0)] * len(images)
    for number in by_width:
        image = torch.from_numpy(images[number]).float() / 255
        wide = image.shape[1]
        added = components[done:wide].flatten(0, 1)
        gram, done = gram + added.T @ added, wide
        basis = components[:wide].flatten(0, 1)
        centred = (image - mean[:, :wide]).T.flatten()
        floor = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram))  # components that lie beyond the width stay at 0
        weights = torch.linalg.solve(gram + floor, basis.T @ centred)
        recons[number] = ((basis @ weights).view(wide, HEIGHT).T + mean[:, :wide]).clamp(0, 1).numpy()
    return recons


def conv_path(path: Path, config: RailsConfig) -> Path:
    return config.results / f"{path.stem}_conv.safetensors"


def pca_path(path: Path, config: RailsConfig) -> Path:
    return config.results / f"{path.stem}_pca.safetensors"


# ---------------------------------------------------------------------------------------------------------- the figures


def figures(path: Path, config: RailsConfig) -> dict:
    """One checkpoint beside its baselines."""
    loaded = load_checkpoint(path)
    model, card = loaded.model, loaded.card
    shape = model.config
    width = shape.input_size[1] or shape.max_width
    test = DemoSource(shape.input_size, shape.max_width).test(config.test_images)
    methods: dict[str, Method] = {"tae": lambda images: reconstruct(model, images, batch_size=8)}
    has_baselines = pca_path(path, config).exists()  # they come last, and together
    if has_baselines:
        methods |= baseline_methods(path, config, shape.latent_dim, width)
    rows, own = [], {}
    for name, method in methods.items():
        recons = method(test)
        summary = summarise(test, recons, "test")
        own = own or summary
        row = {key: value for key, value in summary.items() if key != "percentiles"}
        seams = [
            seam_ratio(image[None] / 255, recon[None], shape.tile_size[0])
            for image, recon in zip(test, recons, strict=True)
        ]
        rows.append({"method": name, **row, "seam_ratio": float(np.mean(seams))})
        print(path.stem, rows[-1], flush=True)
    groups = grouped(shape, methods, config.group_images)
    if config.write_card:
        by = {
            kind: [{key: one[key] for key in ("group", "psnr", "count", "unseen")} for one in found]
            for kind, found in groups.items()
        }
        card = replace(card, metrics={**own, **by})
        save_checkpoint(path, model, card)
    same_width = [compose_rail("test", index, width=shape.input_size[1] or min(640, width)) for index in range(64)]
    return {
        "name": path.stem,
        "checkpoint_sha256": load_checkpoint(path).digest,
        "bytes": path.stat().st_size,
        "model": config_to_dict(shape),
        "num_tokens": shape.num_tokens,
        "training": {key: value for key, value in card.training.items() if key != "curve"},
        "parameters": count_parameters(model),
        "baselines": baseline_facts(path, config, shape.latent_dim, width) if has_baselines else {},
        "rows": rows,
        "groups": groups,
        "loss_db": replacements(model, to_batch(same_width)[0]),
    }


def baseline_methods(path: Path, config: RailsConfig, latent_dim: int, width: int) -> dict[str, Method]:
    """What `fit_baselines` left for a checkpoint, ready to reconstruct."""
    pca, conv = Pca.load(pca_path(path, config)), load_conv(path, config, latent_dim, width)
    mean = pca.mean.view(HEIGHT, width).numpy()
    return {
        "mean image": lambda images: [mean[:, : image.shape[1]] for image in images],
        "PCA": lambda images: pca_recons(pca, images, width),
        "convolutional autoencoder": lambda images: reconstruct(conv, images, batch_size=8),
    }


def baseline_facts(path: Path, config: RailsConfig, latent_dim: int, width: int) -> dict:
    """How they came about."""
    conv = json.loads(conv_path(path, config).with_suffix(".json").read_text())
    parameters = count_parameters(load_conv(path, config, latent_dim, width))
    return {"conv": {"parameters": parameters, **conv}, "pca_images": Pca.load(pca_path(path, config)).count}


def load_conv(path: Path, config: RailsConfig, latent_dim: int, width: int) -> ConvAutoencoder:
    conv = ConvAutoencoder(latent_dim, (HEIGHT, width))
    conv.load_state_dict(load_file(conv_path(path, config)))
    return conv.eval()


def grouped(shape: ModelConfig, methods: dict[str, Method], count: int) -> dict[str, list[dict]]:
    """{"by_garments": ..., "by_width": ...}: PSNR of each method over `count` rails of the test split a group.

    Rails of the fixed width are hung with fewer garments than in training, the rest stays empty.
    """
    if shape.input_size[1]:
        most = num_garments(WIDE)
        hung = [1, 3, 5, 7, most]
        rails = {str(one): [compose_rail("test", 5000 + n, hung=one) for n in range(count)] for one in hung}
        return {"by_garments": [group(name, one, methods, name != str(most)) for name, one in rails.items()]}

    def of_widths(widths: list[int]) -> list[np.ndarray]:
        """`count` rails whose widths are spread evenly over those given."""
        places = np.linspace(0, len(widths) - 1, count).round().astype(int)
        return [compose_rail("test", 5000 + n, width=widths[place]) for n, place in enumerate(places)]

    widths = range(HEIGHT, shape.max_width + 1)
    seen = [width for width in widths if width not in UNSEEN_WIDTHS]
    by_garments = [
        group(str(number), of_widths([one for one in seen if num_garments(one) == number]), methods, False)
        for number in range(1, num_garments(shape.max_width) + 1)
    ]
    by_width = []
    for low in range(100, shape.max_width + 1, 100):
        band = [width for width in widths if low <= width < low + 100]
        by_width.append(group(f"{band[0]}-{band[-1]}", of_widths(band), methods, low in UNSEEN_WIDTHS))
    return {"by_garments": by_garments, "by_width": by_width}


def group(name: str, images: Images, methods: dict[str, Method], unseen: bool) -> dict:
    """PSNR of each method over one group's images; `psnr` is that of the first, the checkpoint."""
    by_method, foreground = {}, {}
    for method, reconstructed in methods.items():
        recons = reconstructed(images)
        qualities = [measure(image / 255, recon) for image, recon in zip(images, recons, strict=True)]
        by_method[method] = float(np.mean([quality.psnr for quality in qualities]))
        foreground[method] = float(np.mean([quality.foreground_mse for quality in qualities]))
    return {
        "group": name,
        "psnr": next(iter(by_method.values())),
        "count": len(images),
        "unseen": unseen,
        "by_method": by_method,
        "foreground_mse": foreground,
    }


def mean_psnr(images: Images, recons: Images) -> float:
    errors = [float(((image / 255 - recon) ** 2).mean()) for image, recon in zip(images, recons, strict=True)]
    return float(np.mean([psnr_of(error) for error in errors]))


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------------------- the tables


def table(result: dict) -> str:
    """All figures as Markdown."""
    parts = [checkpoint_table(one) for one in result["checkpoints"]]
    made = {
        "--baselines": any(one["baselines"] for one in result["checkpoints"]),
        "--write-card": result["checkpoints"],
    }
    commands = [f"`python -m benchmarks.rails {flag}`" for flag, is_there in made.items() if is_there]
    return "\n".join([*parts, f"Commands: {', '.join(commands)}", ""])


def checkpoint_table(one: dict) -> str:
    shape, training, baselines = one["model"], one["training"], one["baselines"]
    kind = f"{size_in_words(shape['input_size'])}, patch {shape['patch_size']}"
    lines = [
        f"| {kind}: {shape['latent_dim']} numbers for a rail | PSNR (dB) | SSIM | MSE | foreground MSE | R2 | seams |",
        "| --- " * 7 + "|",
    ]
    lines += [
        f"| {row['method']} | {row['psnr']:.2f} | {row['ssim']:.3f} | {row['mse']:.5f} | {row['foreground_mse']:.4f} | "
        f"{row['r2']:.4f} | {row['seam_ratio']:.2f} |"
        for row in one["rows"]
    ]
    words = {"by_garments": "garments", "by_width": "width in pixels"}
    for name, groups in one["groups"].items():
        titles = [each["group"] + ("*" if each["unseen"] else "") for each in groups]
        lines += [
            "",
            f"| {words[name]} | {' | '.join(titles)} |",
            "| --- " * (len(groups) + 1) + "|",
        ]
        for method in groups[0]["by_method"]:
            lines.append(f"| {method} | {' | '.join(format(each['by_method'][method], '.2f') for each in groups)} |")
        lines.append(
            f"| tae, foreground MSE | {' | '.join(format(each['foreground_mse']['tae'], '.4f') for each in groups)} |"
        )
    places = list(next(iter(one["loss_db"].values())))
    lines += ["", f"| encoder attention replaced by | {' | '.join(places)} |", "| --- " * (len(places) + 1) + "|"]
    lines += [
        f"| {name} | {' | '.join(f'{lost[place]:.2f} dB' for place in places)} |"
        for name, lost in one["loss_db"].items()
    ]
    count = next(iter(one["groups"].values()))[0]["count"]
    unseen = (
        "with * the rest of the rail is empty, which training never shows"
        if shape["input_size"][1]
        else "with *: widths that training never shows"
    )
    lines += [
        "",
        f"{one['rows'][0]['count']} rails of the test split; PSNR (dB) over {count} more for each group, {unseen}. Seams: "
        f"mean absolute step of the error across {shape['patch_size']}-pixel borders over that inside. Attention: PSNR lost, "
        "64 rails.",
        f"tae: {one['parameters']:,} parameters, {one['bytes'] / 1e6:.1f} MB, {training['steps']:,} steps of "
        f"{training['batch_size']}, {training['cpu_seconds']:,} processor seconds.{baseline_words(baselines, shape)}",
        "",
    ]
    return "\n".join(lines)


def baseline_words(baselines: dict, shape: dict) -> str:
    if not baselines:
        return ""
    conv, pca_images = baselines["conv"], baselines["pca_images"]
    tried = ", ".join(format(each["lr"], "g") for each in conv["sweep"])
    filled = (
        "" if shape["input_size"][1] else " filled up with white to the widest; its coefficients fit real pixels best"
    )
    return (
        f" Convolutional: {conv['parameters']:,} parameters, {conv['steps']:,} steps of {conv['batch_size']}, "
        f"{conv['cpu_seconds']:,} processor seconds, learning rate {conv['lr']:g}, the best of {tried} after "
        f"{conv['sweep'][0]['cpu_seconds']} s each. PCA: as many components as tae has numbers, fitted on {pca_images:,} "
        f"rails{filled}."
    )


if __name__ == "__main__":
    main(tyro.cli(RailsConfig, description=__doc__))

"""A study of a checkpoint over its held-out images, resumable, into a file beside it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from tqdm import tqdm

from tae import Card, load_checkpoint
from tae.analysis.causal.knockouts import ZERO, mean_baseline
from tae.analysis.causal.study import Study, fingerprint, study_images, summarise, to_json, to_markdown
from tae.data.batches import to_batch
from tae.data.built_in import source_for
from tae.data.decode import ImageError
from tae.data.encode import to_uint8
from tae.data.fit import FitMode, fit_image
from tae.data.stacks import decide, find_files, read_frame
from tae.data.white import White
from tae.model.config import ModelConfig, Threads, Whole, check_fields
from tae.store.atomic import naming, write_whole
from tae.store.names import plain_text, safe_name
from tae.store.regular import parse_json, read_regular

SUFFIXES = (".json", ".md")
MAX_COUNT = 100_000
MEAN_OVER = 512  # images behind the baseline "mean" at most; the mean of more is the same


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """One study; every field is a flag of the command line. A value that leaves its range raises ValueError."""

    checkpoint: Path
    """The model."""
    images: str | None = None
    """A folder of images, searched with its subfolders, a file, or a pattern in quotes; None: the test split of what the model
    learnt from, or the demo's."""
    out: Path | None = None
    """Where the figures go; the ending decides: .json or .md, which stands for none. None: <checkpoint's name>.causal.json
    beside it."""
    count: Annotated[int | None, Whole(2, MAX_COUNT)] = None
    """Images at most; None: of a folder all, else as many as the checkpoint's own held-out figures are of."""
    baseline: Literal["mean", "zero"] = "mean"
    """What stands in for what is knocked out: its mean over the first 512 of these images, or nothing."""
    fit: FitMode = "pad"
    """How images of a folder come to the model's size."""
    white: str = "file"
    """Which number is white beyond 8 bits, decided once for all files. file: as the checkpoint's training decided, else as the
    files say; type: the type's largest; stretch: the smallest number becomes black, the largest white; or black..white, such as
    0..4095."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix.lower() not in (*SUFFIXES, ""):
            raise ValueError(f"out must end in {' or '.join(SUFFIXES)}, got {self.out.name}")
        check_fields(self)
        White(self.white)  # refuses what is no such choice


def run(config: StudyConfig) -> tuple[Path, Study]:
    """Make a study, or go on with one, and write it.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the checkpoint is refused, or fewer than two images can be read.
        OSError: If a file cannot be written.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    loaded = load_checkpoint(config.checkpoint)
    model = loaded.model
    images, data = _images(config, model.config, loaded.card)
    if len(images) < 2:
        raise ValueError(f"images must be at least 2 that can be read, got {len(images)}")
    baseline = mean_baseline(model, *to_batch(images[:MEAN_OVER])) if config.baseline == "mean" else ZERO
    out = config.out or config.checkpoint.with_suffix(".causal.json")
    if not out.suffix:
        out = out.with_suffix(".md")
    begun = out.with_name(f"{out.name}.part")
    mark = fingerprint(loaded.digest, images, config.baseline)
    with naming(begun):
        records = _records(begun, mark)
        if not records:
            begun.write_text(json.dumps({"fingerprint": mark}) + "\n")
    try:
        with (
            naming(begun),
            open(begun, "a") as file,
            tqdm(total=len(images), initial=len(records), unit=" images", disable=None) as bar,
        ):
            for record in study_images(model, images, baseline, first=len(records)):
                file.write(json.dumps(record) + "\n")
                file.flush()
                records.append(record)
                bar.update()
    except ValueError:
        if not records:  # nothing to go on with
            begun.unlink()
        raise
    has_attention = all(np.prod(model.config.grid_for(image.shape[1])) > 1 for image in images)
    study = summarise(records, loaded.digest, data, baseline.title, has_attention)
    is_text = out.suffix.lower() == ".md"
    write_whole(out, [to_markdown(study, safe_name(config.checkpoint.stem)).encode() if is_text else to_json(study)])
    begun.unlink()
    return out, study


def _images(config: StudyConfig, model: ModelConfig, card: Card) -> tuple[list[np.ndarray], str]:
    """uint8 (H, W) each, and what they are in words."""
    if config.images is None:
        stated = card.metrics.get("count", 0)  # which may be a stranger's claim
        count = config.count or (stated if 2 <= stated <= MAX_COUNT else MEAN_OVER)
        source = source_for(model, card.data)
        return source.test(count), f"test split of the {'demo data' if source.name == 'demo' else source.name}"
    images = []
    files = find_files(config.images)
    white = decide(files[: config.count or MAX_COUNT], White.chosen(config.white, card.training))
    for path in files:
        try:
            fitted = fit_image(read_frame(path, white=white).pixels, model.input_size, config.fit, model.max_width)
            images.append(to_uint8(fitted.pixels))
        except ImageError as error:
            print(f"skipped {plain_text(path.name)}: {error}", file=sys.stderr)
        if len(images) == (config.count or MAX_COUNT):
            break
    return images, f"images of {safe_name(Path(config.images).name)}"


def _records(path: Path, mark: str) -> list[dict]:
    """Finished images of this very study; what is torn at the end is cut off."""
    try:
        lines = read_regular(path).decode().splitlines(keepends=True)
        if not lines or parse_json(lines[0], path.name).get("fingerprint") != mark:
            return []
    except (FileNotFoundError, ValueError, AttributeError):
        return []
    whole = [line for line in lines[1:] if line.endswith("\n")]
    path.write_text("".join([lines[0], *whole]))
    return [parse_json(line, path.name) for line in whole]

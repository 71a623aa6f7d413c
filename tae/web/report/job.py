"""A report of files from the command line: which images it holds, and what is said of the others."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from tae.analysis.causal.study import Study, read_study
from tae.analysis.causal.verdicts import Verdict
from tae.analysis.maps import MapChoice, all_choices, compute_map
from tae.data.decode import ImageError
from tae.data.fit import FitMode, fit_image
from tae.data.stacks import base_folder, count_frames, decide, find_files, read_frame
from tae.data.white import White
from tae.model.config import PARTS, Threads, Whole, check_fields
from tae.store.atomic import open_whole, write_whole
from tae.store.checkpoint import Loaded, load_checkpoint
from tae.store.names import plain_text
from tae.web.explorer.payload import Direction, Range
from tae.web.report import MAX_IMAGES, ReportImage, ReportMap, report
from tae.web.report.findings import as_batch, verdicts_on

MAX_MAPS_BYTES = 4 * 10**9  # of all maps of all images as float32, before they are packed
JUDGED_BY = 8  # images on which it is measured whether the attention is needed, where no study tells


class ExplainError(ValueError):
    """A report cannot be made; one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """One report; every field is a flag of the command line. A value that leaves its range raises ValueError."""

    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Images, .npy stacks, multi-page TIFFs, folders with their subfolders, or patterns in quotes ("photos/*.png")."""
    checkpoint: Path
    """The model."""
    out: Path
    """Where the report goes: a file that ends in .html."""
    other: Path | None = None
    """A second image: states of each image are put into its run and the other way round, part by part (activation, path and
    attribution patching, relevance)."""
    maps: Path | None = None
    """Also write all maps of these images, unrounded, into this file, which ends in .npz."""
    fit: FitMode = "pad"
    """How images come to the model's size."""
    white: str = "file"
    """Which number is white beyond 8 bits, decided once for all files. file: as the checkpoint's training decided, else as the
    files say; type: the type's largest; stretch: the smallest number becomes black, the largest white; or black..white, such as
    0..4095."""
    max_images: Annotated[int, Whole(1, MAX_IMAGES)] = 20
    """At most so many images go into the report, the first ones."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice."""
    overwrite: bool = False
    """Replace what stands at --out and --maps."""

    part: Literal["encoder", "decoder"] = "encoder"
    """Part of the map that is shown first and as figures; the others are there to choose."""
    layer: str = "average"
    """average, rollout, or a layer's number, 0 the first."""
    head: str = "mean"
    """mean, max, min, spread, or a head's number."""
    weighting: Literal["weights", "values"] = "weights"
    """weights, or weights times the length of the value vectors that they move (Kobayashi 2020); for all maps."""
    discard: float = 0.0
    """Share of the smallest weights in each row that rollout drops, from 0 to less than 1."""
    query: int | None = None
    """The patch whose weights are shown first, counted from 0 in reading order; None: the one of the foreground that has the
    strongest weight."""
    direction: Direction = "from"
    """from: where that patch places weight; to: who places weight on it."""
    range: Range = "shared"
    """Where the colours end: shared by all maps, at 99.5% of the weights; full: at the largest of all; own: at the
    largest of the map on display."""

    GROUPS: ClassVar = {"part": "map"}

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must be at least one image, folder or pattern, got none")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out must end in .html, got {self.out.name}")
        if self.maps is not None and self.maps.suffix.lower() != ".npz":
            raise ValueError(f"maps must end in .npz, got {self.maps.name}")
        check_fields(self)
        White(self.white)  # refuses what is no such choice
        self.view  # noqa: B018 (refuses a map that no model has)

    @property
    def view(self) -> ReportMap:
        """The map and patch that are shown first. Raises ValueError if no model has such a map."""
        choice = MapChoice(
            part=self.part, layer=self.layer, head=self.head, weighting=self.weighting, discard=self.discard
        )
        return ReportMap(choice=choice, query=self.query, direction=self.direction, range=self.range)


@dataclass(frozen=True)
class Explained:
    """The result of one command."""

    images: int  # in the report
    size_bytes: int  # of the report
    skipped: list[tuple[str, str]]  # (name, reason) of images that could not be read
    beyond: int  # how many more there were than `max_images`
    maps_bytes: int | None  # of the file of maps; None where none was asked for


def explain(config: ExplainConfig, is_quiet: bool = True) -> Explained:
    """Write the report that `config` describes, with a bar that shows how far it is unless `is_quiet`.

    Raises:
        ExplainError: If a file is in the way, no image can be read, or the maps would be too large.
        CheckpointError: If the checkpoint cannot be read.
        ValueError: If the model has no such map.
        OSError: If a file cannot be written.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    for flag, path in (("out", config.out), ("maps", config.maps)):
        if path is not None and path.exists() and not (config.overwrite and path.is_file()):
            remedy = "replace it with --overwrite" if path.is_file() else "it is no file"
            raise ExplainError(f"{path} exists; choose another --{flag}, or {remedy}")
    loaded = load_checkpoint(config.checkpoint)
    config.view.choice.check(loaded.model.config)
    images, skipped, beyond = _read(config, config.images, loaded)
    if not images:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        raise ExplainError(f"an image that can be read must be given, got none: {reasons or 'nothing was found'}")
    other, study = None, _study(config.checkpoint, loaded.digest)
    if config.other is not None:
        other, why, _ = _read(config, (str(config.other),), loaded)
        if not other:
            raise ExplainError(f"other must be an image that can be read, got {why[0][0]}: {why[0][1]}")
    choices = [one for part in PARTS for one in all_choices(loaded.model.config, part, config.weighting)]
    if config.maps is not None:
        _check_size(loaded, images, choices)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(images), unit=" images", disable=True if is_quiet else None) as bar:

        def tell(done: int, _: int) -> None:
            bar.update(done - bar.n)

        page = report(
            loaded,
            images,
            config.view,
            other=None if other is None else other[0],
            study=study,
            checkpoint_file=config.checkpoint.name,
            left_out=skipped,
            verdicts=_verdicts(study, loaded, images),
            progress=tell,
        )
    write_whole(config.out, [page])
    maps_bytes = None
    if config.maps is not None:
        _write_maps(config.maps, loaded, images, choices)
        maps_bytes = config.maps.stat().st_size
    return Explained(len(images), len(page), skipped, beyond, maps_bytes)


def _study(checkpoint: Path, digest: str) -> Study | None:
    """What `python -m tae.causal` left beside it; None where there is nothing, or another checkpoint's."""
    try:
        return read_study(checkpoint.with_suffix(".causal.json"), digest)
    except (OSError, ValueError):
        return None


def _verdicts(study: Study | None, loaded: Loaded, images: Sequence[ReportImage]) -> list[Verdict]:
    """Whether its attention is needed, from the study, else from the first images."""
    if study is None:
        return verdicts_on(loaded.model, [image.fitted.pixels for image in images[:JUDGED_BY]], loaded.card.data)
    return [study.verdict(part) for part in PARTS]


def _read(
    config: ExplainConfig, given: Sequence[str], loaded: Loaded
) -> tuple[list[ReportImage], list[tuple[str, str]], int]:
    """The first `max_images` images, (name, reason) of what cannot be read on the way, and how many more there are."""
    images, skipped, beyond = [], [], 0
    size, widest = loaded.model.config.input_size, loaded.model.config.max_width
    frames = [*_frames(given, skipped)]
    # Of the images that are shown alone: a pattern may name a million.
    paths = dict.fromkeys(path for _, path, _ in frames[: 2 * config.max_images])
    white = decide([*paths], White.chosen(config.white, loaded.card.training))
    for name, path, frame in frames:
        if len(images) == config.max_images:
            beyond += 1
            continue
        try:
            image = read_frame(path, frame, white)
            fitted = fit_image(image.pixels, size, config.fit, widest)
        except ValueError as error:  # an `ImageError`, or a stack that became shorter
            skipped.append((name, str(error)))
            continue
        images.append(ReportImage(title=name, fitted=fitted, origin=(image.format, *image.notes), fit=config.fit))
    return images, skipped, beyond


def _frames(images: Sequence[str], skipped: list[tuple[str, str]]) -> Iterator[tuple[str, Path, int]]:
    """(name to show, file, frame) of all that was given, each file once; what is not there goes to `skipped`."""
    seen = set()
    for given in images:
        try:
            files = find_files(given)
        except FileNotFoundError:
            skipped.append((Path(given).name or given, "no image has this name or fits this pattern"))
            continue
        for path in files:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            name = path.relative_to(base_folder(given)).as_posix()  # a colleague need not see where it lay
            try:
                count = count_frames(path)
            except ImageError as error:
                skipped.append((name, str(error)))
                continue
            yield from ((f"{name}, frame {frame}" if count > 1 else name, path, frame) for frame in range(count))


def _check_size(loaded: Loaded, images: Sequence[ReportImage], choices: Sequence[MapChoice]) -> None:
    tokens = [int(np.prod(loaded.model.config.grid_for(one.fitted.pixels.shape[1]))) for one in images]
    needed = 4 * len(choices) * sum(count**2 for count in tokens)
    if needed > MAX_MAPS_BYTES:
        raise ExplainError(
            f"maps must take at most {MAX_MAPS_BYTES / 1e9:g} GB, got {needed / 1e9:.3g} GB for {len(choices)} maps of "
            f"each of {len(images)} images; lower --max-images"
        )


def _write_maps(path: Path, loaded: Loaded, images: Sequence[ReportImage], choices: Sequence[MapChoice]) -> None:
    """Maps as one NPZ: "0/encoder/average/mean" (N, N) float32 for the first image; "titles" names them."""
    texts = {
        "titles": np.array([plain_text(one.title, 120) for one in images]),
        "checkpoint_sha256": np.array(loaded.digest),
        "weighting": np.array(choices[0].weighting),
        "origin": np.array(loaded.card.origin),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, array: np.ndarray) -> None:
            # Dated like the ZIP files of `tae.plots.export.tables`, so that the same maps give the same bytes.
            member = zipfile.ZipInfo(f"{name}.npy", (2000, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, array, allow_pickle=False)

        for name, array in texts.items():
            add(name, array)
        for number, given in enumerate(images):
            image = as_batch(given.fitted.pixels)
            for choice in choices:
                add(f"{number}/{choice.name}", compute_map(loaded.model, image, choice).numpy())

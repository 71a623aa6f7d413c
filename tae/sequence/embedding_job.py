"""Embeddings in bulk: many files to one file of latents, resumable."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from filelock import FileLock, Timeout
from torch import Tensor

from tae.data.fit import FIT_MODES, FitMode, fit_image
from tae.data.limits import ImageError
from tae.data.stacks import base_folder, count_frames, decide, read_frame, scan
from tae.data.threads import in_order
from tae.data.white import AS_FILE, White
from tae.model.autoencoder import TransformerAutoencoder, eval_mode
from tae.model.config import ModelConfig, Number, Threads, Whole, check_fields
from tae.model.device import pick_device
from tae.sequence.embeddings import (
    FORMAT_VERSION,
    OWN_COLUMNS,
    SUFFIXES,
    EmbedError,
    Rows,
    read_metadata,
    write_embeddings,
)
from tae.sequence.table import Table, TableError, read_table
from tae.store.atomic import remove_leftovers, write_whole
from tae.store.checkpoint import load_checkpoint
from tae.store.names import plain_text
from tae.store.sealed import SealedFile

WINDOW = 4  # batches that are sorted by width together
PART = 4 * WINDOW  # batches of one part
MAX_LISTED = 1000  # unreadable images that the result names; the others are counted
_STACKS = (".npy", ".tif", ".tiff")
_PART_FILE = SealedFile(texts=("fingerprint", "part", "skipped"))


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """One file of embeddings; every field is a flag of the command line. ValueError if a value leaves its range."""

    data: Annotated[str, tyro.conf.Positional]
    """A folder of images, searched with its subfolders; one file: an image, a .npy stack (T, H, W) or a multi-page
    TIFF; or a pattern in quotes, such as "photos/**/*.png"."""
    checkpoint: Path
    """The model."""
    out: Path
    """Where the embeddings go; the ending decides: .parquet or .npz."""
    table: Path | None = None
    """A CSV or Parquet file whose columns are written beside the latents: rows are found by file name, or, where none of its
    columns has names and there are as many rows as images, in order."""
    fit: FitMode = "pad"
    """How images come to the model's size."""
    white: str = "file"
    """Which number is white beyond 8 bits, decided once for all files. file: as the checkpoint's training decided, else as the
    files say; type: the type's largest; stretch: the smallest number becomes black, the largest white; or black..white, such as
    0..4095."""
    batch_size: Annotated[int, Whole(1, 4096)] = 32
    """Images computed together."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: a faster encoder where the processor has units for it, the files are read no faster; how far the first batch is off
    is measured, and said in the file."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one."""
    threads: Threads = None
    """CPU threads; None: PyTorch's choice. Embeddings are the same to the bit only for the same number."""
    workers: Annotated[int, Whole(1, 64)] = 2
    """Threads that read images ahead of the model."""
    max_unreadable: Annotated[float, Number(0, 1)] = 0.1
    """Share of unreadable images at which it fails."""
    overwrite: bool = False
    """Replace what stands at --out, and the parts of another run for it."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in SUFFIXES:
            raise ValueError(f"out must end in {' or '.join(SUFFIXES)}, got {self.out.name}")
        check_fields(self)
        White(self.white)  # refuses what is no such choice


@dataclass(frozen=True)
class Written:
    """The result of one run."""

    images: int  # embedded, in the whole file
    unreadable: int  # how many were left out
    skipped: list[tuple[str, int, str]]  # (name, frame, reason) of the first `MAX_LISTED` of those
    images_per_s: float | None  # None where there was nothing left to do
    told: str = ""  # sentences on files passed over and on the table


def embed_to_file(config: EmbedConfig, progress: Callable[[int, int], None] | None = None) -> Written:
    """Embed images into a file, or go on where a run of the same command was ended.

    `progress` is called with (images done, images in all).

    Raises:
        EmbedError: If another result or another run's parts are in the way, or too many images are unreadable.
        FileNotFoundError: If there is no such folder or file.
        ValueError: If the checkpoint or another argument is not valid.
        OSError: If a file cannot be written.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    job = _Job(config)
    with job.folder_taken():
        return job.run(progress)


@dataclass(frozen=True)
class _Part:
    """Some images in a row, embedded."""

    numbers: range  # the images
    latents: Tensor  # (images that can be read, latent_dim) float32, on the CPU
    skipped: list[tuple[int, str]]  # (number, reason) of each other; reasons of the first few only


class Images:
    """The frames of files by running number; for each file its name and a number are kept, and nothing is open."""

    def __init__(self, data: str, config: ModelConfig, fit: str, white: White = AS_FILE) -> None:
        if fit not in FIT_MODES:
            raise ValueError(f"unknown fit {fit!r}; choose from: {', '.join(FIT_MODES)}")
        self.config = config
        self.fit = fit
        self.folder = base_folder(data)
        found = scan(data)
        self.told = found.told
        self.names = found.names
        if not self.names:
            raise EmbedError(f"{data} must hold images, got none; they are found by their endings")
        self.white = decide(found.files, white)
        self.ends = np.cumsum([_num_frames(self.folder / name) for name in self.names])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def parts(self, batch_size: int) -> list[range]:
        """All running numbers, in parts of `PART` batches."""
        size = PART * batch_size
        return [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def place(self, number: int) -> tuple[str, int]:
        """An image's file and its frame there."""
        file = int(np.searchsorted(self.ends, number, side="right"))
        return self.names[file], number - int(self.ends[file - 1] if file else 0)

    def load(self, number: int) -> np.ndarray | str:
        """(H, W) float32 in [0, 1] of the model's size, or why the image cannot be read."""
        name, frame = self.place(number)
        try:
            pixels = read_frame(self.folder / name, frame, self.white).pixels
            return fit_image(pixels, self.config.input_size, self.fit, self.config.max_width).pixels
        except ValueError as error:  # an `ImageError`, or a stack that became shorter
            return str(error)

    def rows(self, numbers: Sequence[int], skipped: list[tuple[int, str]]) -> tuple[list[str], np.ndarray]:
        """Names, fit to be written anywhere, and frames of those that can be read."""
        left_out = {number for number, _ in skipped}
        places = [self.place(number) for number in numbers if number not in left_out]
        return [_writable(name) for name, _ in places], np.array([frame for _, frame in places], np.int32)

    def listed(self, skipped: list[tuple[int, str]]) -> list[tuple[str, int, str]]:
        """(name, frame, reason) of the first `MAX_LISTED`."""
        places = [(*self.place(number), reason) for number, reason in skipped[:MAX_LISTED]]
        return [(_writable(name), frame, reason) for name, frame, reason in places]

    def reasons(self, skipped: list[tuple[int, str]]) -> str:
        """The first five, for a message."""
        return "; ".join(f"{plain_text(name)}: {reason}" for name, _, reason in self.listed(skipped[:5]))

    def match(self, table: Table) -> np.ndarray:
        """The row of each image, -1 where there is none. Raises TableError if the table does not fit."""
        frames = np.diff(self.ends, prepend=0)
        if (frames == 1).all():
            found = table.match("", self.names, True)
            return np.full(len(self), -1) if found is None else found.rows
        is_own, parts = len(self.names) == 1, []
        taken: dict[int, str] = {}
        for name, count in zip(self.names, frames.tolist(), strict=True):
            match = table.match(name, [name if count == 1 else ""] * count, is_own)
            parts.append(np.full(count, -1) if match is None else match.rows)
            for row in set(parts[-1].tolist()) - {-1}:
                if row in taken:
                    raise TableError(
                        f"{table.file} must have a row for each image, got row {row + 1} for {plain_text(taken[row])} and "
                        f"{plain_text(name)}; name them with their folders"
                    )
                taken[row] = name
        return np.concatenate(parts)

    def digest(self) -> str:
        """SHA-256 of names, sizes, times of change and numbers of frames."""
        found = hashlib.sha256()
        for name, end in zip(self.names, self.ends.tolist(), strict=True):
            try:
                status = os.stat(self.folder / name)
                version = (status.st_size, status.st_mtime_ns)
            except OSError:
                version = (-1, -1)
            found.update(f"{os.fsencode(name)!r} {version} {end}\n".encode())
        return found.hexdigest()


def _num_frames(path: Path) -> int:
    if path.suffix.lower() not in _STACKS:  # a million small files are not opened twice
        return 1
    try:
        return count_frames(path)
    except ImageError:  # it counts as one image, which cannot be read
        return 1


def _writable(name: str) -> str:
    """A file's name as Unicode, which not all are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _embed_parts(
    model: TransformerAutoencoder,
    images: Images,
    parts: Sequence[range],
    batch_size: int,
    workers: int,
    progress: Callable[[int], None] = lambda count: None,
    precision: str = "fp32",
) -> Generator[_Part]:
    """Parts one after the other, their images read ahead by threads; `progress` is told of images as they are done.

    Within a part, images are sorted by width in windows of `WINDOW` batches. So which images are computed together, and
    with that the last bits of their latents, depends on the part, the batch size and the files alone.
    """
    device = next(model.parameters()).device
    window_size = WINDOW * batch_size
    with (
        eval_mode(model),
        closing(in_order(images.load, chain.from_iterable(parts), workers, ahead=window_size)) as loaded,
    ):
        for part in parts:
            latents, skipped = [torch.empty(0, model.config.latent_dim)], []
            for start in range(0, len(part), window_size):
                numbers = part[start : start + window_size]
                found = list(zip(numbers, islice(loaded, len(numbers)), strict=True))
                skipped += [(number, image) for number, image in found if isinstance(image, str)]
                pixels = [image for _, image in found if not isinstance(image, str)]
                latents.append(_embed_window(model, pixels, batch_size, device, precision))
                progress(len(numbers))
            yield _Part(part, torch.cat(latents), skipped)


@torch.inference_mode()
def _embed_window(
    model: TransformerAutoencoder,
    pixels: list[np.ndarray],
    batch_size: int,
    device: torch.device,
    precision: str = "fp32",
) -> Tensor:
    """Images (H, W) of any widths -> latents (images, latent_dim) on the CPU, in the same order."""
    latents = torch.empty(len(pixels), model.config.latent_dim)
    order = sorted(range(len(pixels)), key=lambda index: pixels[index].shape[1])  # equal ones stay in order
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        widths = [pixels[index].shape[1] for index in chosen]
        batch = np.zeros((len(chosen), 1, pixels[chosen[0]].shape[0], max(widths)), np.float32)
        for row, index in enumerate(chosen):
            batch[row, 0, :, : widths[row]] = pixels[index]
        own_widths = None if min(widths) == max(widths) else torch.tensor(widths, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            latents[chosen] = model.embed(torch.from_numpy(batch).to(device), own_widths).float().cpu()
    if not torch.isfinite(latents).all():
        raise EmbedError("the latents must be finite, got NaN or infinity; the checkpoint is not fit for these images")
    return latents


class _Job:
    """One run of the command line."""

    def __init__(self, config: EmbedConfig) -> None:
        self.config = config
        device = pick_device(config.device)
        self.loaded = load_checkpoint(config.checkpoint)
        self.model = self.loaded.model.to(device)
        white = White.chosen(config.white, self.loaded.card.training)
        self.images = Images(config.data, self.model.config, config.fit, white)
        self.folder = config.out.with_name(f"{config.out.name}.parts")
        self.parts = self.images.parts(config.batch_size)
        self.settings = {
            "format": str(FORMAT_VERSION),
            "checkpoint": self.loaded.digest,
            "files": self.images.digest(),
            "fit": config.fit,
            "white": json.dumps(self.images.white.to_dict()),
            "batch_size": str(config.batch_size),
            "device": device.type,
            **({"precision": config.precision} if config.precision != "fp32" else {}),  # runs of older versions go on
        }
        self.fingerprint = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()
        self.table = None if config.table is None else read_table(config.table)
        if self.table is not None:
            self.settings["table"] = hashlib.sha256(repr(self.table.columns).encode()).hexdigest()
            self.rows = self.images.match(self.table)  # before hours of work that would end in a refusal
            self.fingerprint = hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()
        self.is_finished = False
        if config.out.is_file():
            with suppress(EmbedError):
                self.is_finished = read_metadata(config.out).get("fingerprint") == self.fingerprint

    @contextmanager
    def folder_taken(self) -> Iterator[None]:
        """Keep other runs out of the folder of the parts, which is made; it goes when the result is there.

        EmbedError if another result, another run's parts or another run are there.
        """
        out, folder, plan = self.config.out, self.folder, self.folder / "plan.json"
        if out.exists() and not out.is_file():
            raise EmbedError(f"out must be a new or a regular file, got {out}")
        if out.exists() and not self.config.overwrite and not self.is_finished:
            raise EmbedError(
                f"{out} exists and holds something else; choose another --out, or replace it with --overwrite"
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "lock").acquire(timeout=0):
                remove_leftovers(folder)
                remove_leftovers(out.parent, out.name)
                found = _plan_in(plan)
                changed = [name for name, value in self.settings.items() if found and found.get(name) != value]
                if changed and not self.config.overwrite:
                    raise EmbedError(
                        f"{folder} holds parts of a run that differs in {', '.join(changed)}; choose another --out, or start "
                        "anew with --overwrite"
                    )
                if changed or not found:
                    write_whole(plan, [json.dumps(self.settings, indent=1).encode()])
                yield
        except Timeout:
            raise EmbedError(f"another process is writing {out}; wait for it, or choose another --out") from None
        for path in [*folder.glob("part-*.safetensors"), plan, folder / "lock"]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # whatever else somebody put there stays
            folder.rmdir()

    def run(self, progress: Callable[[int, int], None] | None) -> Written:
        """Do what `embed_to_file` says, once the folder is taken."""
        if self.is_finished and not self.config.overwrite:
            return self._written(read_metadata(self.config.out), None)
        todo, done, unreadable = [], 0, 0
        for number, part in enumerate(self.parts):
            found = self._read(number, drop=True)
            if found is None:
                todo.append(number)
            else:
                done += len(part)
                unreadable += len(found.skipped)
        left, started = len(self.images) - done, time.monotonic()

        def tell(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress(done, len(self.images))

        tell(0)
        ranges = [self.parts[number] for number in todo]
        config = self.config
        made = _embed_parts(self.model, self.images, ranges, config.batch_size, config.workers, tell, config.precision)
        with closing(made):
            for number, part in zip(todo, made, strict=True):
                unreadable += len(part.skipped)
                self._write(number, part)
                self._check_unreadable(unreadable, part.skipped)
        seconds = time.monotonic() - started
        return self._written(self._merge(), left / seconds if left else None)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.safetensors"

    def _write(self, number: int, part: _Part) -> None:
        # All numbers, but not all reasons: the header of the file is bounded.
        listed = [[image, reason[:200] if place < 50 else ""] for place, (image, reason) in enumerate(part.skipped)]
        texts = [self.fingerprint, str(number), json.dumps(listed)]
        _PART_FILE.write(self._path(number), texts, {"latents": part.latents.contiguous()})

    def _read(self, number: int, drop: bool = False) -> _Part | None:
        """A part of this very run, whole to the bit; None if it is not that, and then it may be dropped."""
        path = self._path(number)
        try:
            with _PART_FILE.open(path) as sealed:
                if [sealed.texts["fingerprint"], sealed.texts["part"]] != [self.fingerprint, str(number)]:
                    raise ValueError("it is another run's part")
                latents, skipped = sealed.read().tensors["latents"], sealed.json("skipped")
                return _Part(self.parts[number], latents, [tuple(one) for one in skipped])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError):
            if drop:
                path.unlink()
            return None

    def _merge(self) -> dict:
        """Make one file of all parts, in order and part by part; returns its metadata."""
        skipped: dict[int, list[tuple[int, str]]] = {}
        for number in range(len(self.parts)):
            skipped[number] = self._sure(number).skipped
        left_out = list(chain.from_iterable(skipped.values()))
        self._check_unreadable(len(left_out), left_out)
        if len(left_out) == len(self.images):
            raise EmbedError(f"an image that can be read must be there, got none: {self.images.reasons(left_out)}")
        if self.images.digest() != self.settings["files"]:
            raise EmbedError("the files must stay as they are until all are embedded, and some changed; start again")
        metadata = {
            "checkpoint_name": self.loaded.card.name,
            "checkpoint_file": self.config.checkpoint.name,
            "checkpoint_sha256": self.loaded.digest,
            "input_size": [*self.model.config.input_size],
            "latent_dim": self.model.config.latent_dim,
            "fit": self.config.fit,
            "white": self.images.white.to_dict(),
            "images": len(self.images) - len(left_out),
            "unreadable": len(left_out),
            "skipped": self.images.listed(left_out),
            "fingerprint": self.fingerprint,
        }
        if self.config.precision != "fp32":
            metadata |= {"precision": self.config.precision, "precision_error": self._precision_error()}
        columns, told = self._columns(left_out)
        metadata |= told
        rows = Rows(
            columns=columns,
            count=len(self.images) - len(left_out),
            dim=self.model.config.latent_dim,
            places=lambda: (self.images.rows(self.parts[number], skipped[number]) for number in skipped),
            latents=lambda: (self._sure(number).latents.numpy() for number in skipped),
        )
        write_embeddings(self.config.out, rows, metadata)
        return metadata

    def _precision_error(self) -> float | None:
        """How far the first batch's latents are off in this precision: root mean square, over that of their spread.

        None where they do not differ, or no image of the first part can be read.
        """
        part = self._sure(0)
        found = (self.images.load(number) for number in part.numbers)
        pixels = list(islice((image for image in found if not isinstance(image, str)), self.config.batch_size))
        if not pixels:
            return None
        with eval_mode(self.model):
            exact = _embed_window(self.model, pixels, len(pixels), next(self.model.parameters()).device)
        spread = float((exact - exact.mean(dim=0)).square().mean().sqrt())
        return float((part.latents[: len(pixels)] - exact).square().mean().sqrt()) / spread if spread else None

    def _columns(self, left_out: list[tuple[int, str]]) -> tuple[dict[str, np.ndarray], dict]:
        """The table's columns, a value for each image that is embedded, and metadata on them."""
        if self.table is None:
            return {}, {}
        rows = np.delete(self.rows, [number for number, _ in left_out])
        found: dict[str, np.ndarray] = {}
        for column in self.table.columns:
            header = f"table {column.header}" if column.header in OWN_COLUMNS else column.header
            if column.is_number:
                found[header] = np.append(column.numbers, np.nan)[rows]  # row -1: none
            else:
                found[header] = np.array([*column.texts, ""], object)[rows]
        without, unused = int((rows < 0).sum()), self.table.num_rows - len(np.unique(rows[rows >= 0]))
        told = f"table {self.table.file}: {without} images have no row, {unused} of its {self.table.num_rows} rows no image"
        return found, {"columns": [*found], "table": told}

    def _sure(self, number: int) -> _Part:
        part = self._read(number)
        if part is None:
            raise EmbedError(f"part {number} was changed by something else; start again with the same command")
        return part

    def _check_unreadable(self, count: int, skipped: list[tuple[int, str]]) -> None:
        if count > self.config.max_unreadable * len(self.images):
            raise EmbedError(
                f"at most {self.config.max_unreadable:.0%} of {len(self.images)} images may be unreadable "
                f"(--max-unreadable), got {count}: {self.images.reasons(skipped)}"
            )

    def _written(self, metadata: dict, images_per_s: float | None) -> Written:
        skipped = [(name, frame, reason) for name, frame, reason in metadata["skipped"]]
        return Written(
            metadata["images"],
            metadata["unreadable"],
            skipped,
            images_per_s,
            "; ".join(
                one for one in (self.images.told, str(metadata.get("table", "")), _precision_told(metadata)) if one
            ),
        )


def _precision_told(metadata: dict) -> str:
    if "precision" not in metadata:
        return ""
    error = metadata["precision_error"]
    off = "" if error is None else f": off by {error:.2%} of their spread (the first batch, against fp32)"
    return f"latents in {metadata['precision']}{off}"


def _plan_in(path: Path) -> dict | None:
    """The settings of the run whose parts are there; None if there is none, or nothing that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

"""How hard it is to break: processes killed at every touch of a file, bits flipped, inputs mutated, files of collections.

    python -m benchmarks.reliability
    python -m benchmarks.reliability --fuzz 60          # so many seconds of each kind of input
    python -m benchmarks.reliability --corpus path/to/images

A killed command is given again and has to end with the contents of one that nobody killed. A flipped bit has to be found. A
mutated input has to be read, or refused by an error of ours; what is answered by any other is made smaller while it still is,
and kept in a folder. Writes `benchmarks/results/reliability.json` and `.md`; about ten minutes. What sessions hold measures
`python -m benchmarks.sessions`.
"""

import hashlib
import io
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from safetensors.torch import load

from benchmarks import RESULTS, grid, keep
from tae import Card, create_autoencoder, save_checkpoint
from tae.analysis.causal.study import read_study
from tae.analysis.lens import file as lens_file
from tae.data.archive import ArchiveError, unpack_images
from tae.data.decode import count_frames_in, read_image
from tae.data.limits import ImageError
from tae.sequence import checkpoint as sequence_checkpoint
from tae.sequence import data as sequence_data
from tae.sequence import embedding_job
from tae.sequence.table import TableError, read_table
from tae.store import checkpoint
from tae.store.checkpoint import CheckpointError, read_checkpoint
from tae.store.regular import parse_json
from tae.store.sealed import SealedFile
from tae.training.run import state
from tests.data.files import npy, pages, ramp
from tests.forked import begun
from tests.training.small import die_at_event, small_config


@dataclass(frozen=True)
class ReliabilityConfig:
    fuzz: float | None = None
    """Seconds for each kind of input; none: 100,000 inputs in all."""
    flips: int = 1000
    """Bits to flip in each kind of file."""
    commands: tuple[str, ...] = ("train", "train_sequence", "embed", "lens", "causal")
    """Commands to kill; results of those that are left out stay as they were."""
    corpus: Path | None = None
    """Folder of images, of which each is read."""
    crashers: Path = Path("crashers")
    """Where inputs are kept that are answered by an error that is not ours."""
    only: tuple[str, ...] = ("kills", "flips", "fuzz", "corpus")
    """Parts to measure; results of parts that are left out stay as they were."""
    out: Path = RESULTS
    """Folder of the results."""


# ---------------------------------------------------------------------------------------------------------------- kills


@dataclass(frozen=True)
class Work:
    """A command that is killed."""

    words: Callable[[Path], list[str]]  # of its command line, for a folder of its own
    made: str  # what it makes there


def works(shared: Path) -> dict[str, Work]:
    """Each command that writes, at its smallest; shared: holds an autoencoder and images."""
    model, images = str(shared / "a.safetensors"), str(shared / "images")
    device = ["--device", "cpu", "--threads", "1"]
    sequence = "--steps 2 --eval-every 2 --log-every 2 --batch-size 2 --recordings 3 --clip-frames 4 --hidden-dim 8"
    sequence += " --num-layers 1 --held-out-sequences 2 --test-sequences 2 --warmup-steps 1 --save-every-s 0 --resume"

    def train(home: Path) -> list[str]:
        config = small_config(home / "x.safetensors", steps=2, eval_every=2, log_every=2, snapshots=1, resume=True)
        return config.command_line()

    return {
        "train": Work(train, "x.safetensors"),
        "train_sequence": Work(
            lambda home: [
                *("drops", "--checkpoint", model, "--out", str(home / "s.safetensors"), "--cache", str(home / "cache")),
                *(*sequence.split(), *device),
            ],
            "s.safetensors",
        ),
        "embed": Work(
            lambda home: [
                *(images, "--checkpoint", model, "--out", str(home / "x.npz")),
                *("--batch-size", "2", "--workers", "1", *device),
            ],
            "x.npz",
        ),
        "lens": Work(
            lambda home: [
                *("--checkpoint", str(home / "a.safetensors"), "--overwrite", *device),
                *("--train-images", "8", "--test-images", "4", "--batch-size", "4"),
            ],
            "a.lens.safetensors",
        ),
        "causal": Work(
            lambda home: [
                *("--checkpoint", model, "--images", images, "--count", "3", "--out", str(home / "study.json")),
                *("--threads", "1"),
            ],
            "study.json",
        ),
    }


def kills(config: ReliabilityConfig) -> dict[str, Any]:
    """{command: kills, and how many of them the same command survived with equal contents}."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        shared = Path(name)
        (shared / "images").mkdir()
        for number in range(5):
            Image.fromarray(ramp(24, 32) // (number + 1)).save(shared / "images" / f"{number}.png")
        torch.manual_seed(0)
        model = create_autoencoder(
            (24, 32), None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1
        )
        save_checkpoint(shared / "a.safetensors", model, Card(name="garments"))
        for command, work in works(shared).items():
            if command not in config.commands:
                continue
            whole = contents(done(command, work, shared, shared / command / "whole") / work.made)
            equal = events = 0
            while True:
                home = folder(shared, shared / command / str(events))
                child = begun(in_child(), command, work.words(home), events)
                child.join()
                if child.exitcode == 0:
                    break
                if child.exitcode != -signal.SIGKILL:
                    raise RuntimeError(f"{command} at event {events} ended with code {child.exitcode}")
                equal += contents(done(command, work, shared, home) / work.made) == whole
                events += 1
                shutil.rmtree(home)
            found[command] = {"kills": events, "equal": equal}
            print(command, found[command], flush=True)
    return found


def folder(shared: Path, home: Path) -> Path:
    if not home.exists():
        home.mkdir(parents=True)
        shutil.copy(shared / "a.safetensors", home)
    return home


def done(command: str, work: Work, shared: Path, home: Path) -> Path:
    """The folder in which the command has run to its end."""
    child = begun(in_child(), command, work.words(folder(shared, home)), None)
    child.join()
    if child.exitcode:
        raise RuntimeError(f"{command} in {home} ended with code {child.exitcode}")
    return home


def in_child() -> Callable[..., None]:
    """`die_in` where a child finds it: not in the main module."""
    return import_module("benchmarks.reliability").die_in


def die_in(command: str, words: list[str], event: int | None) -> None:
    """In a child: the command, which dies at this touch of a file."""
    torch.set_num_threads(1)
    door = import_module(f"tae.{command}")
    if event is not None:
        die_at_event(event)
    with redirect_stdout(io.StringIO()):
        sys.exit(door.main(words))


def contents(path: Path) -> Any:
    """What two files have alike, where times and paths may differ: tensors of a sealed one."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return {name: hashlib.sha256(one.numpy().tobytes()).hexdigest() for name, one in sorted(load(data).items())}
    return data


# ---------------------------------------------------------------------------------------------------------------- flips


SEALED: dict[str, SealedFile] = {
    "checkpoint": checkpoint.FILE,
    "sequence model": sequence_checkpoint.FILE,
    "training state": state.FILE,
    "lens": lens_file.FILE,
    "part of embeddings": embedding_job._PART_FILE,
    "cached embeddings": sequence_data._CACHED,
}


def flips(config: ReliabilityConfig) -> dict[str, Any]:
    """{kind of file: flipped bits, and how many of them were found}."""
    chance, found = random.Random(0), {}
    with tempfile.TemporaryDirectory() as name:
        for kind, read, data in sealed_files(Path(name)):
            caught = 0
            for _ in range(config.flips):
                place = chance.randrange(8 * len(data))
                flipped = bytearray(data)
                flipped[place // 8] ^= 1 << place % 8
                try:
                    read(bytes(flipped))
                except ValueError:
                    caught += 1
            found[kind] = {"flips": config.flips, "found": caught}
    return found


def sealed_files(home: Path) -> Iterator[tuple[str, Callable[[bytes], object], bytes]]:
    """Each kind of file: its name, its reader, and a small one that the reader takes."""
    tensors = {"a": torch.rand(40, 5), "b": torch.rand(7)}
    for kind, file in SEALED.items():
        path = home / "x.safetensors"
        file.write(path, ["{}"] * len(file.texts), tensors)

        def read(data: bytes, file: SealedFile = file) -> object:
            with file.open(data, "x.safetensors") as sealed:
                return sealed.read()

        data = path.read_bytes()
        read(data)
        yield kind, read, data
    data = next(iter(sorted((RESULTS.parents[1] / "checkpoints").glob("*.causal.json")))).read_bytes()
    belongs_to = json.loads(data)["checkpoint_sha256"]

    def study(data: bytes) -> object:
        (home / "x.causal.json").write_bytes(data)
        return read_study(home / "x.causal.json", belongs_to)

    study(data)
    yield "study", study, data


# ----------------------------------------------------------------------------------------------------------------- fuzz


@dataclass(frozen=True)
class Entry:
    """One kind of input."""

    seeds: Sequence[bytes]  # sound ones
    read: Callable[[bytes], object]
    ours: tuple[type[Exception], ...]  # errors that say what is wrong
    share: float = 1.0  # of the inputs, as some take longer


JSON = b'{"a": [1, 2.5e3, "\\u00e9", null, true], "b": {"c": -1}}'


def entries(home: Path) -> dict[str, Entry]:
    """{kind: what is fuzzed}; home: a folder for what must lie on a disk."""

    def image(data: bytes) -> None:
        read_image(data, "x.png", shown_side=64, frame=None)
        count_frames_in(data)

    def zipped(data: bytes) -> None:
        shutil.rmtree(home / "out", ignore_errors=True)
        (home / "out").mkdir()
        unpack_images(data, home / "out" / "in")

    def table(data: bytes) -> None:
        (home / "x.csv").write_bytes(data)
        read_table(home / "x.csv")

    grey = Image.fromarray(ramp(8, 9))
    images = {}
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        grey.save(buffer := io.BytesIO(), kind)
        images[kind] = [buffer.getvalue()]
    images["PNG"].append(_saved(Image.fromarray(np.arange(72, dtype=np.uint16).reshape(8, 9) * 900), "PNG"))
    images["TIFF"].append(pages([grey, grey], compression="tiff_lzw"))
    images["NPY"] = [npy(ramp(8, 9)), npy(np.random.default_rng(0).random((3, 8, 9), np.float32))]
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        archive.writestr("a/1.png", images["PNG"][0])
        archive.writestr("2.jpg", images["JPEG"][0])
    sealed = {kind: (read, data) for kind, read, data in sealed_files(home)}
    save_checkpoint(
        home / "c.safetensors",
        create_autoencoder((16, 16), None, patch_size=8, latent_dim=8, num_heads=2, encoder_layers=1, decoder_layers=1),
        Card(name="x"),
    )
    model = (home / "c.safetensors").read_bytes()
    return {
        **{kind: Entry(seeds, image, (ImageError,)) for kind, seeds in images.items()},
        "ZIP": Entry([packed.getvalue()], zipped, (ArchiveError, ImageError), 0.3),
        "checkpoint": Entry([model], partial(read_checkpoint, name="x.safetensors"), (CheckpointError,), 0.3),
        **{
            kind: Entry([data], read, (SEALED[kind].error or ValueError,))
            for kind, (read, data) in sealed.items()
            if kind not in ("checkpoint", "study")
        },
        "study": Entry([sealed["study"][1]], sealed["study"][0], (ValueError,), 0.3),
        "JSON": Entry([JSON], lambda data: parse_json(data, "it"), (ValueError,)),
        "CSV": Entry([b"file,x,y\n1.png,1,2\n2.png,3,4\n"], table, (TableError,), 0.3),
    }


def _saved(image: Image.Image, kind: str) -> bytes:
    image.save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """An input that is unlike the others: bits flipped, numbers made large, pieces cut, doubled, moved, or random."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        if not found:
            break
        place, size = chance.randrange(len(found)), chance.choice((1, 2, 4, 8, 64))
        what = chance.randrange(6)
        if what == 0:
            found[place] ^= 1 << chance.randrange(8)
        elif what == 1:
            found[place : place + size] = chance.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * size
        elif what == 2:
            del found[place : place + size]
        elif what == 3:
            found[place:place] = found[place : place + size]
        elif what == 4:
            found[place : place + size] = chance.randbytes(size)
        else:
            del found[place:]
    return bytes(found)


def fuzz_one(entry: Entry, data: bytes) -> BaseException | None:
    """The error that is not ours by which an input is answered; None: it is read, or refused by an error of ours."""
    try:
        entry.read(data)
    except entry.ours:
        return None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return error
    return None


def fuzzed(entry: Entry, count: int | None = None, seconds: float = 0, seed: int = 0) -> tuple[int, list[bytes]]:
    """How many inputs were tried, and those that were answered by another error than ours, made small.

    count: So many inputs; None: as many as the seconds allow.
    """
    chance, tried, crashers, until = random.Random(seed), 0, [], time.monotonic() + seconds
    while tried < count if count is not None else time.monotonic() < until:
        data = mutated(chance.choice(entry.seeds), chance)
        tried += 1
        if (error := fuzz_one(entry, data)) is not None:
            crashers.append(smaller(entry, data, type(error)))
    return tried, crashers


def smaller(entry: Entry, data: bytes, error: type[BaseException]) -> bytes:
    """Without the pieces that do not matter for the error, from halves down to bytes."""
    size = len(data) // 2
    while size:
        place = 0
        while place < len(data):
            shorter = data[:place] + data[place + size :]
            if isinstance(fuzz_one(entry, shorter), error):
                data = shorter
            else:
                place += size
        size //= 2
    return data


def fuzz(config: ReliabilityConfig) -> dict[str, Any]:
    """{kind: inputs tried, and those that were answered by another error than ours}."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        kinds = entries(Path(name))
        each = 100_000 / sum(entry.share for entry in kinds.values())
        for kind, entry in kinds.items():
            count = None if config.fuzz else round(each * entry.share) + 1
            tried, crashers = fuzzed(entry, count, config.fuzz or 0)
            for data in crashers:
                config.crashers.mkdir(parents=True, exist_ok=True)
                (config.crashers / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
            found[kind] = {"inputs": tried, "crashers": len(crashers)}
            print(kind, found[kind], flush=True)
    return found


# --------------------------------------------------------------------------------------------------------------- corpus


def corpus(config: ReliabilityConfig) -> dict[str, Any]:
    """{ending: how many files are read, refused, and answered by an error that is not ours}; {} without a folder."""
    if config.corpus is None:
        return {}
    found: dict[str, Counter[str]] = {}
    for path in sorted(path for path in config.corpus.rglob("*") if path.is_file()):
        try:
            read_image(path.read_bytes(), path.name, shown_side=1)
            how = "read"
        except ImageError:
            how = "refused"
        except Exception as error:
            print(f"{path}: {type(error).__name__}", flush=True)
            how = "crashed"
        found.setdefault(path.suffix.lower() or "none", Counter())[how] += 1
    return {ending: dict(counts) for ending, counts in sorted(found.items())}


# --------------------------------------------------------------------------------------------------------------- tables


def table(result: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    rows = []
    if found := result.get("kills"):
        commands = ", ".join(f"`{name}` {one['equal']} of {one['kills']}" for name, one in found.items())
        rows.append(("killed at every touch of a file, then the same command", f"equal contents: {commands}"))
    if found := result.get("flips"):
        told = f"{total(found, 'found'):,} of {total(found, 'flips'):,} found"
        rows.append((f"single bits flipped, {len(found)} kinds of sealed file", told))
    if found := result.get("fuzz"):
        tried, bad = total(found, "inputs"), total(found, "crashers")
        rows.append((f"mutated inputs of {len(found)} kinds", f"{tried:,} tried, {bad} answered by an error not ours"))
    if found := result.get("corpus"):
        counts = sum((Counter(one) for one in found.values()), Counter())
        words = ", ".join(f"{counts[how]:,} {how}" for how in ("read", "refused", "crashed"))
        rows.append((f"files of collections, {len(found)} endings", words))
    lines = grid(["what was tried", "what came of it"], rows)
    if found := result.get("fuzz"):
        lines += ["", "Inputs: " + ", ".join(f"{kind} {one['inputs']:,}" for kind, one in found.items()) + "."]
    return [*lines, "", f"{result['machine']}."]


def total(found: dict[str, dict[str, int]], name: str) -> int:
    return sum(one[name] for one in found.values())


def main(config: ReliabilityConfig) -> None:
    path = config.out / "reliability.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    busy = os.getloadavg()[0]
    parts = {"kills": kills, "flips": flips, "fuzz": fuzz, "corpus": corpus}
    for name in config.only:
        found = parts[name](config)
        result[name] = {**result.get(name, {}), **found} if name == "kills" else found
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    result["machine"] = f"{machine}, load {busy:.0f} as it began"
    keep("reliability", result, table(result), config.out)


if __name__ == "__main__":
    main(tyro.cli(ReliabilityConfig, description=__doc__))

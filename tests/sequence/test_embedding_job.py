"""Embeddings in bulk: what is written, going on after real kills, many files, files that lie."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch.testing import assert_close

from tae import TransformerAutoencoder, create_autoencoder, load_checkpoint, prepare, save_checkpoint
from tae.data.demo import compose_square
from tae.data.fit import fit_image
from tae.data.stacks import read_frame
from tae.data.white import Extent, White
from tae.embed import main
from tae.sequence.embedding_job import PART, WINDOW, EmbedConfig, Images, Written, embed_to_file
from tae.sequence.embeddings import EmbedError, read_columns, read_embeddings, read_metadata
from tae.sequence.table import TableError
from tae.store.card import Card
from tests import ROOT
from tests.forked import run

FORMATS = ["parquet", "npz"]


@pytest.fixture
def checkpoint(tmp_path: Path, small_model: Callable[..., TransformerAutoencoder]) -> Path:
    return save_checkpoint(tmp_path / "small.safetensors", small_model().float(), Card(name="small"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures, two of them in a subfolder, an array stack of three frames and a TIFF file of two pages."""
    folder = tmp_path / "pictures"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(["img10.png", "img2.png", "a.png", "b/img1.jpg", "b/img0.bmp"]):
        Image.fromarray(compose_square("train", number, side=40)).save(folder / name)
    stack = np.stack([compose_square("train", number, side=32) for number in range(10, 13)])
    np.save(folder / "stack.npy", stack[..., None])
    pages = [Image.fromarray(compose_square("train", number, side=32)) for number in (20, 21)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    return folder


ORDER = [
    *(("a.png", 0), ("b/img0.bmp", 0), ("b/img1.jpg", 0), ("img2.png", 0), ("img10.png", 0)),
    *(("pages.tif", 0), ("pages.tif", 1), ("stack.npy", 0), ("stack.npy", 1), ("stack.npy", 2)),
]


def config_for(pictures: Path, checkpoint: Path, out: Path, **fields: object) -> EmbedConfig:
    values = {"data": str(pictures), "checkpoint": checkpoint, "out": out, "threads": 1, "device": "cpu", **fields}
    return EmbedConfig(**values)  # type: ignore[arg-type]


def embed(*args: object, **fields: object) -> Written:
    return embed_to_file(config_for(*args, **fields))  # type: ignore[arg-type]


def one_by_one(checkpoint: Path, folder: Path, places: list[tuple[str, int]], fit: str = "pad") -> np.ndarray:
    """The plain way: each image read, fitted and embedded alone."""
    model = load_checkpoint(checkpoint).model
    latents = []
    for name, frame in places:
        pixels = fit_image(read_frame(folder / name, frame).pixels, model.config.input_size, fit).pixels
        with torch.no_grad():
            latents.append(model.embed(torch.from_numpy(pixels)[None, None])[0].numpy())
    return np.stack(latents)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_79_every_frame_is_embedded_in_natural_order(
    ending: str, fit: str, pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / f"x.{ending}"
    written = embed(pictures, checkpoint, out, batch_size=4, fit=fit)
    assert (written.images, written.unreadable, written.skipped) == (10, 0, [])
    assert written.images_per_s is not None and written.images_per_s > 0
    names, frames, latents, metadata = read_embeddings(out)
    assert list(zip(names, frames.tolist(), strict=True)) == ORDER
    assert latents.dtype == np.float32 and frames.dtype == np.int32
    assert_close(latents, one_by_one(checkpoint, pictures, ORDER, fit), rtol=1e-4, atol=1e-5)
    assert not np.allclose(latents[0], latents[1], atol=1e-2)
    assert metadata == read_metadata(out)
    assert metadata["checkpoint_sha256"] == load_checkpoint(checkpoint).digest
    expected = {
        "program": "tae",
        "format_version": 1,
        "checkpoint_name": "small",
        "checkpoint_file": "small.safetensors",
        "fit": fit,
        "images": 10,
        "latent_dim": 16,
        "input_size": [24, 32],
        "unreadable": 0,
        "skipped": [],
    }
    assert {name: metadata[name] for name in expected} == expected
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]


def test_what_a_training_decided_on_white_is_applied_to_the_same_kind_of_files(
    tmp_path: Path, small_model: Callable[..., TransformerAutoencoder]
) -> None:
    """Dim files alone would be brighter than the training saw such files."""
    decided = White().decide([Extent("uint16", 0, 4000)])
    card = Card(name="small", training={"steps": 9, "white": decided.to_dict()})
    model = small_model().float()
    trained = save_checkpoint(tmp_path / "trained.safetensors", model, card)
    plain = save_checkpoint(tmp_path / "plain.safetensors", model, Card(name="small"))
    (tmp_path / "dim").mkdir()
    (tmp_path / "grey").mkdir()
    for number in range(3):
        values = compose_square("train", number, side=32)
        np.save(tmp_path / "dim" / f"{number}.npy", values.astype(np.uint16) * 3)
        np.save(tmp_path / "grey" / f"{number}.npy", values * np.float32(3 / 4095))
    found = {}
    for name, folder, checkpoint, white in (
        ("as trained", "dim", trained, "file"),
        ("by hand", "dim", plain, "0..4095"),
        ("alone", "dim", plain, "file"),
        ("as floats", "grey", plain, "file"),
    ):
        embed(tmp_path / folder, checkpoint, tmp_path / f"{name}.npz", white=white)
        found[name] = read_embeddings(tmp_path / f"{name}.npz").latents
    np.testing.assert_allclose(found["as trained"], found["as floats"], atol=1e-5)
    np.testing.assert_allclose(found["by hand"], found["as floats"], atol=1e-5)
    assert np.abs(found["alone"] - found["as floats"]).max() > 1e-3


def test_files_are_readable_without_this_program(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    embed(pictures, checkpoint, tmp_path / "x.parquet")
    embed(pictures, checkpoint, tmp_path / "x.npz")
    table = pq.read_table(tmp_path / "x.parquet")
    assert [str(field.type) for field in table.schema][:2] == ["string", "int32"]
    assert str(table.schema.field("latent").type).startswith("fixed_size_list<") and table.num_rows == 10
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert list(zip(arrays["names"].tolist(), arrays["frames"].tolist(), strict=True)) == ORDER
        assert json.loads(str(arrays["metadata"]))["images"] == 10
        assert arrays["latents"].tolist() == table["latent"].to_pylist()
        assert table["name"].to_pylist() == arrays["names"].tolist()


def test_bf16_says_how_far_its_latents_are_off(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    exact, half = (tmp_path / f"{name}.npz" for name in ("exact", "half"))
    assert "bf16" not in embed(pictures, checkpoint, exact).told and "precision" not in read_metadata(exact)
    told = embed(pictures, checkpoint, half, precision="bf16").told
    found, true = (read_embeddings(path).latents.astype(np.float64) for path in (half, exact))
    error = np.sqrt(((found - true) ** 2).mean() / true.var(axis=0).mean())
    assert 0 < error < 0.1
    assert read_metadata(half)["precision_error"] == pytest.approx(error, rel=1e-3)
    assert told == f"latents in bf16: off by {error:.2%} of their spread (the first batch, against fp32)"
    alone = embed(pictures / "a.png", checkpoint, tmp_path / "one.npz", precision="bf16")
    assert alone.told == "latents in bf16"  # one image has no spread
    with pytest.raises(EmbedError, match="something else"):
        embed(pictures, checkpoint, exact, precision="bf16")


def test_one_file_and_a_pattern_are_embedded_too(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    embed(pictures / "stack.npy", checkpoint, tmp_path / "x.npz")
    assert read_embeddings(tmp_path / "x.npz").names == ["stack.npy"] * 3
    embed(f"{pictures}/*.png", checkpoint, tmp_path / "y.npz")
    assert read_embeddings(tmp_path / "y.npz").names == ["a.png", "img2.png", "img10.png"]
    with pytest.raises(FileNotFoundError, match="neither a folder nor a file"):
        embed(pictures / "nothing", checkpoint, tmp_path / "z.npz")
    (pictures / "empty").mkdir()
    with pytest.raises(EmbedError, match="must hold images, got none"):
        embed(pictures / "empty", checkpoint, tmp_path / "z.npz")


@pytest.fixture
def strips(tmp_path: Path, small_model: Callable[..., TransformerAutoencoder]) -> tuple[Path, Path]:
    """Forty pictures of many widths, and the checkpoint of a model for any width."""
    folder = tmp_path / "strips"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 256, (24, int(random.integers(1, 90))), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    model = small_model(input_size=(24, None), max_width=96).float()
    return folder, save_checkpoint(tmp_path / "wide.safetensors", model, Card(name="wide"))


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_images_of_mixed_widths_get_the_latents_that_they_get_alone(
    strips: tuple[Path, Path], batch_size: int, tmp_path: Path
) -> None:
    folder, checkpoint = strips
    embed(folder, checkpoint, tmp_path / "x.npz", batch_size=batch_size)
    names, _, latents, _ = read_embeddings(tmp_path / "x.npz")
    assert names == [f"{number}.png" for number in range(40)]
    # 1e-5 relative: sums over a batch of another width are taken in another order, in float32.
    assert_close(latents, one_by_one(checkpoint, folder, [(name, 0) for name in names]), rtol=1e-4, atol=2e-5)


def test_image_wider_than_the_model_takes_is_left_out_with_the_remedy(
    strips: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, checkpoint = strips
    Image.new("L", (200, 24)).save(folder / "7.png")
    written = embed(folder, checkpoint, tmp_path / "x.npz")
    assert [(name, frame) for name, frame, _ in written.skipped] == [("7.png", 0)]
    assert "cut it into windows" in written.skipped[0][2]
    assert embed(folder, checkpoint, tmp_path / "y.npz", fit="crop").images == 40


def test_same_command_gives_the_same_bytes(strips: tuple[Path, Path], tmp_path: Path) -> None:
    for ending in FORMATS:
        results = []
        for name, workers in (("one", 1), ("two", 5)):
            embed(*strips, tmp_path / f"{name}.{ending}", batch_size=2, workers=workers)
            results.append((tmp_path / f"{name}.{ending}").read_bytes())
        assert results[0] == results[1]


def test_unreadable_images_are_left_out_and_named(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    (pictures / "b" / "img1.jpg").write_bytes(b"no picture")
    (pictures / "stack.npy").write_bytes((pictures / "stack.npy").read_bytes()[:-1])  # cut short: counts as one
    out = tmp_path / "x.parquet"
    with pytest.raises(EmbedError, match=r"at most 10% of 8 images may be unreadable .*got 2: b/img1.jpg: not a supp"):
        embed(pictures, checkpoint, out)
    assert not out.exists()
    written = embed(pictures, checkpoint, out, max_unreadable=0.25)
    assert (written.images, written.unreadable, written.images_per_s) == (6, 2, None)  # all parts were there
    assert [(name, frame) for name, frame, _ in written.skipped] == [("b/img1.jpg", 0), ("stack.npy", 0)]
    names, _, latents, metadata = read_embeddings(out)
    assert names == ["a.png", "b/img0.bmp", "img2.png", "img10.png", "pages.tif", "pages.tif"]
    assert metadata["skipped"] == [list(one) for one in written.skipped]
    places = [place for place in ORDER if place[0] not in ("b/img1.jpg", "stack.npy")]
    assert_close(latents, one_by_one(checkpoint, pictures, places), rtol=1e-4, atol=1e-5)


def test_folder_without_a_readable_picture_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(60):  # more than the reasons that a part keeps
        (folder / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(EmbedError, match="got none: 0.png: not a supported image"):
        embed(folder, checkpoint, tmp_path / "x.npz", max_unreadable=1, batch_size=4)


def test_another_result_is_replaced_only_when_asked(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    embed(pictures, checkpoint, out)
    first = out.read_bytes()
    assert embed(pictures, checkpoint, out).images_per_s is None  # the same: it is there already
    with pytest.raises(EmbedError, match="exists and holds something else"):
        embed(pictures, checkpoint, out, fit="stretch")
    assert out.read_bytes() == first
    assert embed(pictures, checkpoint, out, fit="stretch", overwrite=True).images_per_s
    assert read_metadata(out)["fit"] == "stretch"
    out.write_bytes(b"something of the user's")
    with pytest.raises(EmbedError, match="exists and holds something else"):
        embed(pictures, checkpoint, out)
    with pytest.raises(EmbedError, match="out must be a new or a regular file"):
        (tmp_path / "folder.npz").mkdir()
        embed(pictures, checkpoint, tmp_path / "folder.npz")
    assert out.read_bytes() == b"something of the user's"


def test_two_at_once_are_refused(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x.npz.parts"
    folder.mkdir()
    with FileLock(folder / "lock", is_singleton=False), pytest.raises(EmbedError, match="another process is writing"):
        embed(pictures, checkpoint, tmp_path / "x.npz")


class Stopped(Exception):
    pass


def stop_after(images: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done >= images:
            raise Stopped

    return stop


def begin(config: EmbedConfig, images: int) -> list[Path]:
    """Work until that many images are done, then stop; returns the parts that are there."""
    with pytest.raises(Stopped):
        embed_to_file(config, progress=stop_after(images))
    return sorted(config.out.with_name(f"{config.out.name}.parts").glob("part-*"))


def test_parts_of_another_run_are_refused(strips: tuple[Path, Path], tmp_path: Path) -> None:
    folder, checkpoint = strips
    config = config_for(folder, checkpoint, tmp_path / "x.npz", batch_size=1)
    assert begin(config, PART + WINDOW)
    for changed, fields in (("fit", {"fit": "stretch"}), ("batch_size", {"batch_size": 2})):
        with pytest.raises(EmbedError, match=f"a run that differs in {changed};"):
            embed(folder, checkpoint, config.out, **{"batch_size": 1, **fields})
    os.utime(folder / "3.png", (1, 1))
    with pytest.raises(EmbedError, match="a run that differs in files;"):
        embed_to_file(config)
    assert embed(folder, checkpoint, config.out, batch_size=1, overwrite=True).images == 40
    assert not config.out.with_name("x.npz.parts").exists()


def test_torn_and_foreign_parts_are_made_again(strips: tuple[Path, Path], tmp_path: Path) -> None:
    folder, checkpoint = strips
    embed(folder, checkpoint, tmp_path / "whole.npz", batch_size=1)
    config = config_for(folder, checkpoint, tmp_path / "x.npz", batch_size=1)
    parts = begin(config, 2 * PART + WINDOW)
    assert len(parts) == 2
    data = bytearray(parts[0].read_bytes())
    data[-1] ^= 1
    parts[0].write_bytes(data)
    parts[1].write_bytes(parts[1].read_bytes()[:-5])
    (parts[0].parent / "part-000002.safetensors").write_bytes(bytes(data))  # another part's name
    done = []
    embed_to_file(config, progress=lambda count, total: done.append(count))
    assert done[0] == 0
    assert config.out.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_work_goes_on_behind_the_parts_that_are_whole(strips: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_for(*strips, tmp_path / "x.npz", batch_size=1)
    begin(config, 2 * PART + WINDOW)
    done = []
    embed_to_file(config, progress=lambda count, total: done.append((count, total)))
    assert done[0] == (2 * PART, 40) and done[-1] == (40, 40)


def test_file_that_changes_meanwhile_is_noticed(strips: tuple[Path, Path], tmp_path: Path) -> None:
    folder, checkpoint = strips

    def change(done: int, total: int) -> None:
        os.utime(folder / "39.png", (1, 1))

    with pytest.raises(EmbedError, match="files must stay as they are"):
        embed_to_file(config_for(folder, checkpoint, tmp_path / "x.npz"), progress=change)
    assert not (tmp_path / "x.npz").exists()


KILLED = """
import os, signal, sys
from tae.store import atomic
from tae.embed import main
left, replace = int(os.environ["KILL_AT"]), os.replace
def replace_or_die(*paths):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = replace_or_die
sys.exit(main())
"""


def command(strips: tuple[Path, Path], out: Path) -> list[str]:
    folder, checkpoint = strips
    flags = {"--checkpoint": checkpoint, "--out": out, "--batch-size": 1, "--threads": 1, "--device": "cpu"}
    return [str(folder), *(str(word) for flag in flags.items() for word in flag)]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "kills"), [("parquet", "33"), ("npz", "5")])
def test_81_killed_at_any_write_and_started_again_ends_with_the_same_bytes(
    ending: str,
    kills: str,
    strips: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The plan, three parts and the result are five writes: it dies within the third, and within the last."""
    embed(*strips, tmp_path / f"whole.{ending}", batch_size=1)
    out = tmp_path / f"x.{ending}"
    for left in kills:
        result = run("-c", KILLED, *command(strips, out), KILL_AT=left)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert not out.exists()
    assert len(list(tmp_path.glob("x.*.parts/part-*"))) == 3
    assert run_main(command(strips, out), monkeypatch) == 0
    assert capsys.readouterr().out == f"{out}: 40 images, 0 unreadable, nothing was left to do\n"
    assert out.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert not list(tmp_path.glob("x.*.parts")) and not list(tmp_path.glob(".*.tmp"))


def run_main(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["embed", *words])
    return main()


def test_command_line_says_in_one_line_what_is_wrong(
    strips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = command(strips, tmp_path / "x.npz")
    for changed, message in (
        ([*words, "--checkpoint", "missing.safetensors"], "missing.safetensors: cannot be read"),
        ([*words, "--checkpoint", str(strips[0] / "1.png")], "1.png: not a safetensors file"),
        ([str(tmp_path / "nothing"), *words[1:]], "nothing is neither a folder nor a file"),
    ):
        assert run_main(changed, monkeypatch) == 1
        assert re.fullmatch(f"error: .*{message}.*\n", capsys.readouterr().err)


def test_command_line_shows_what_is_wrong_with_its_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run_main(["folder", "--checkpoint", "x", "--out", "x.csv"], monkeypatch) == 1
    assert "out must end in .parquet or .npz, got x.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"out": Path("x.csv")}, r"out must end in \.parquet or \.npz, got x\.csv"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 4096, got 0"),
        ({"workers": 65}, "workers must be a whole number from 1 to 64, got 65"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, got 0"),
        ({"max_unreadable": float("nan")}, "max_unreadable must be a number from 0 to 1, got nan"),
    ],
)
def test_config_refuses_what_leaves_its_range(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_for(Path("a"), Path("b"), **{"out": Path("x.npz"), **fields})


@pytest.mark.slow
def test_interrupt_ends_with_its_own_code_and_keeps_what_is_done(strips: tuple[Path, Path], tmp_path: Path) -> None:
    code = KILLED.replace("SIGKILL", "SIGINT")
    result = run("-c", code, *command(strips, tmp_path / "x.npz"), KILL_AT="3")
    assert result.returncode == 130
    assert result.stderr == "\nstopped; the same command goes on from here\n"
    assert (tmp_path / "x.npz.parts" / "part-000000.safetensors").exists()


@pytest.mark.slow
def test_many_small_files_need_neither_many_handles_nor_much_memory(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 9).save(buffer, "PNG")
    for number in range(1000):
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
    config = create_autoencoder(input_size=(8, 8), preset="tiny").config
    Images(str(folder), config, "pad")  # once before, so that nothing is counted that only the first use imports
    tracemalloc.start()
    images = Images(str(folder), config, "pad")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(images) == 1000
    assert kept / 1000 < 150 and peak / 1000 < 1500  # bytes a file: a million are 0.15 GB, and 1.5 GB at most
    before = len(os.listdir("/proc/self/fd"))
    handles = []

    def look(done: int, total: int) -> None:
        handles.append(len(os.listdir("/proc/self/fd")) - before)

    config = config_for(folder, checkpoint, tmp_path / "x.npz", batch_size=16)
    written = embed_to_file(config, progress=look)
    assert written is not None and written.images == 1000
    assert len(handles) > 12 and max(handles) < 10


def damaged(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_file_is_refused_or_reads_as_it_was(
    ending: str, pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"x.{ending}"
    embed(pictures, checkpoint, out)
    whole, data = read_embeddings(out), out.read_bytes()
    random, refused = np.random.default_rng(0), 0
    for position in random.integers(0, len(data), 200):
        out.write_bytes(damaged(data, int(position)))
        try:
            found = read_embeddings(out)
        except EmbedError as error:
            assert str(tmp_path) not in str(error)
            refused += 1
        else:
            assert np.array_equal(found.latents, whole.latents)
    assert refused > 60
    for length in random.integers(0, len(data), 50):
        out.write_bytes(data[:length])
        with pytest.raises(EmbedError, match="no whole file of embeddings"):
            read_embeddings(out)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    for name, match in (("x.csv", "must end in"), ("x.npz", "no whole file")):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(EmbedError, match=match):
            read_embeddings(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", latents=np.zeros((2, 3), np.float32))
    with pytest.raises(EmbedError, match="no whole file"):
        read_embeddings(tmp_path / "other.npz")


def rewritten(path: Path, member: str, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in contents.items():
            archive.writestr(name, content if name == member else old, method)


def array_bytes(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape},
    )
    return buffer.getvalue() + array.tobytes()


def test_82_arrays_that_lie_are_refused_before_memory_is_set_aside(
    pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.npz"
    embed(pictures, checkpoint, out)
    good = out.read_bytes()
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([print], object), allow_pickle=True)
    lies = {
        "huge": array_bytes(np.zeros(4, np.float32), (10**10, 16)),
        "short": array_bytes(np.zeros((9, 16), np.float32)),
        "doubles": array_bytes(np.zeros((10, 16))),
        "a pickle": objects.getvalue(),
    }
    for content in lies.values():
        out.write_bytes(good)
        rewritten(out, "latents.npy", content)
        tracemalloc.start()
        with pytest.raises(EmbedError):
            read_embeddings(out)
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024**2
        tracemalloc.stop()
    out.write_bytes(good)
    rewritten(out, "latents.npy", array_bytes(np.zeros((10**6, 16), np.float32)), zipfile.ZIP_DEFLATED)
    with pytest.raises(EmbedError, match="packed in a way"):
        read_embeddings(out)


def test_parquet_that_grows_when_read_is_refused(pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    embed(pictures, checkpoint, out)
    table = pq.read_table(out)
    pq.write_table(table, out, compression="zstd")
    with pytest.raises(EmbedError, match="packed in a way"):
        read_embeddings(out)
    zeros = table.slice(0, 1).take([0] * 300_000)
    pq.write_table(zeros, out, compression="none")  # by a dictionary of one entry
    assert out.stat().st_size < 300_000 * 16 * 4 / 4
    with pytest.raises(EmbedError, match="packed in a way"):
        read_embeddings(out)


README_LINES = re.findall(
    r"<!-- needs frames.parquet -->\n```python\n(.*?)```",
    (ROOT / "tae" / "sequence" / "README.md").read_text(),
    re.DOTALL,
)


@pytest.mark.slow
def test_lines_of_the_readme_teach_an_lstm_what_comes_next(tmp_path: Path, checkpoint: Path) -> None:
    """A garment that goes to and fro: the next embedding is better foretold than by copying the last one."""
    garment = np.pad(compose_square("train", 3, side=24), ((0, 0), (8, 8)), constant_values=255)
    shifts = np.round(6 * np.sin(np.arange(96) / 3)).astype(int)
    np.save(tmp_path / "frames.npy", np.stack([np.roll(garment, shift, axis=1) for shift in shifts]))
    embed(tmp_path / "frames.npy", checkpoint, tmp_path / "frames.parquet")
    code = f"import os, torch; os.chdir({str(tmp_path)!r}); torch.manual_seed(0)\n{README_LINES[0]}\n"
    code += "print(loss.item(), torch.nn.functional.mse_loss(windows[:, -2], windows[:, -1]).item())"
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    learnt, copied = map(float, result.stdout.split())
    assert learnt < 0.5 * copied


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "pyspark"])
def test_the_recipes_for_clusters_give_the_latents_of_the_model(engine: str, tmp_path: Path) -> None:
    """Where the engine is installed, which it need not be."""
    pytest.importorskip(engine)
    text = (ROOT / "tae" / "sequence" / "README.md").read_text()
    (code,) = re.findall(rf"<!-- needs {engine} -->\n```python\n(.*?)```", text, re.DOTALL)
    checkpoint = ROOT / "checkpoints" / "demo_tiny_201x201_p16.safetensors"
    code = code.replace(f'"{checkpoint.name}"', repr(str(checkpoint)))
    for name in ("frames", "latents"):
        code = code.replace(f'"{name}"', repr(str(tmp_path / name)))
    (tmp_path / "frames").mkdir()
    images = [compose_square("train", index, side=60) for index in range(5)]
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "frames" / f"{index}.png")
    path = os.pathsep.join([str(ROOT), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "latents").to_pydict()
    model = load_checkpoint(checkpoint).model
    assert len(table["path"]) == 5
    for name, latent in zip(table["path"], table["latent"], strict=True):
        expected = model.embed(prepare(images[int(Path(name).stem)], model).image)
        assert_close(torch.tensor(latent)[None], expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_table_s_columns_go_along(
    ending: str, pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "table.csv", tmp_path / f"x.{ending}"
    rows = ["stack,1,s", "stack,2,s", "stack,3,s", "img10.png,10,ten", "b/img1,,one", "a,7,", "nobody.png,5,x"]
    table.write_text("\n".join(["name,v (cm/s),word", *rows]))
    (pictures / "img2.png").write_bytes(b"no")
    words = ["--checkpoint", str(checkpoint), "--out", str(out), "--table", str(table), "--threads", "1"]
    assert main([str(pictures), *words]) == 0
    assert "table table.csv: 3 images have no row, 1 of its 7 rows no image" in capsys.readouterr().out
    columns, names = read_columns(out), read_embeddings(out).names
    assert names == [name for name, _ in ORDER if name != "img2.png"]
    numbers = [7, np.nan, np.nan, 10, np.nan, np.nan, 1, 2, 3]
    np.testing.assert_array_equal(columns["v (cm/s)"], numbers)
    assert columns["word"].tolist() == ["", "", "one", "ten", "", "", "s", "s", "s"]
    assert columns["table name"].tolist()[3] == "img10.png"
    if ending == "parquet":  # and so it is read without this program
        assert pq.read_table(out).column("v (cm/s)").to_pylist()[-1] == 3.0
    (pictures / "c").mkdir()
    (pictures / "c" / "img10.png").write_bytes((pictures / "img10.png").read_bytes())
    with pytest.raises(TableError, match=r"got row 4 for .*img10.png and .*img10.png; name them with their folders"):
        embed(pictures, checkpoint, tmp_path / f"z.{ending}", table=table)
    table.write_text("v\n1\n2")
    with pytest.raises(TableError, match="must have a column with the frames' file names"):
        embed(pictures / "stack.npy", checkpoint, tmp_path / f"y.{ending}", table=table)

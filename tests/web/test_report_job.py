"""Reports from the command line: which images they hold, what is said of the others, and that no file is lost."""

import html
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tae import TransformerAutoencoder, load_checkpoint, save_checkpoint
from tae.analysis.causal.study import summarise, to_json
from tae.analysis.maps import PARTS, MapChoice, all_choices, compute_map
from tae.data.demo import compose_square
from tae.data.fit import fit_image
from tae.data.stacks import read_frame
from tae.explain import main
from tae.store.card import Card
from tae.web.report.job import ExplainConfig, Explained, ExplainError, explain
from tests.analysis.causal.test_study import records_by_hand
from tests.web import Elements, payloads

pytestmark = pytest.mark.usefixtures("figures_are_dots")


@pytest.fixture
def checkpoint(tmp_path: Path, small_model: Callable[..., TransformerAutoencoder]) -> Path:
    model = small_model(encoder_layers=1, decoder_layers=1).float()
    return save_checkpoint(tmp_path / "small.safetensors", model, Card(name="small", training={"steps": 1}))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, one of them in a subfolder, a stack of two frames, and a file that is no picture."""
    folder = tmp_path / "secret" / "pictures"
    (folder / "b").mkdir(parents=True)
    for number, name in enumerate(["img10.png", "img2.png", "b/a.png"]):
        Image.fromarray(compose_square("train", number, side=40)).save(folder / name)
    np.save(folder / "stack.npy", np.stack([compose_square("train", number, side=32) for number in (5, 6)]))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    return folder


ORDER = ["b/a.png", "img2.png", "img10.png", "stack.npy, frame 0", "stack.npy, frame 1"]


def run(checkpoint: Path, out: Path, *images: object, **fields: object) -> Explained:
    words = {"images": tuple(map(str, images)), "checkpoint": checkpoint, "out": out, "threads": 1, **fields}
    return explain(ExplainConfig(**words))  # type: ignore[arg-type]


def titles(page: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_frame_that_can_be_read_is_in_the_report_in_natural_order(
    checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report.html"
    done = run(checkpoint, out, pictures, fit="crop", part="decoder", layer="0", head="1", query=3)
    assert [name for name, _ in done.skipped] == ["broken.png"]
    assert (done.images, done.beyond, done.maps_bytes, done.size_bytes) == (5, 0, None, out.stat().st_size)
    assert titles(out) == ["Contents", "Left out", *ORDER, "The model", "Settings of this report"]
    text = out.read_text(encoding="utf-8")
    assert "<li>broken.png: the PNG file is damaged" in text
    assert "small.safetensors" in text and "fill the frame, cropped" in text
    assert str(tmp_path) not in text and "secret" not in text, "where files lie is nobody's business"
    for made in payloads(Elements(out.read_text(encoding="utf-8"))):
        assert {name: made["view"][name] for name in ("part", "layer", "head", "query")} == {
            **{"part": "decoder", "layer": "0"},
            **{"head": "1", "query": 3},
        }
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.html"]


@pytest.mark.slow
def test_files_patterns_and_folders_go_together_and_each_file_once(
    checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    done = run(checkpoint, out, pictures / "img10.png", f"{pictures}/im*0.png", pictures / "b", tmp_path / "none.png")
    assert titles(out)[2:5] == ["img10.png", "a.png", "The model"]
    assert done.skipped == [("none.png", "no image has this name or fits this pattern")]


@pytest.mark.slow
def test_the_first_images_are_taken_and_their_maps_written_to_the_bit_within_the_limit(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 4 * 2 * (3 + 3 + 8) * 12**2  # images, bytes, parts, average and rollout and heads, weights
    monkeypatch.setattr("tae.web.report.job.MAX_MAPS_BYTES", needed)
    words = {"max_images": 2, "maps": tmp_path / "maps" / "x.npz", "weighting": "values"}
    done = run(checkpoint, tmp_path / "x.html", pictures, **words)
    assert (done.images, done.beyond) == (2, 3)
    model = load_checkpoint(checkpoint).model
    with np.load(tmp_path / "maps" / "x.npz", allow_pickle=False) as arrays:
        assert done.maps_bytes == (tmp_path / "maps" / "x.npz").stat().st_size
        assert arrays["titles"].tolist() == ORDER[:2]
        assert str(arrays["checkpoint_sha256"]) == load_checkpoint(checkpoint).digest
        assert (str(arrays["weighting"]), str(arrays["origin"])) == ("values", "trained")
        names = [one.name for part in PARTS for one in all_choices(model.config, part)]
        expected = [f"{number}/{name}" for number in (0, 1) for name in names]
        assert [name for name in arrays.files if "/" in name] == expected
        for number, title in enumerate(ORDER[:2]):
            pixels = fit_image(read_frame(pictures / title).pixels, (24, 32)).pixels
            for name in names:
                choice = MapChoice.from_name(name, "values")
                exact = compute_map(model, torch.from_numpy(pixels)[None, None], choice).numpy()
                np.testing.assert_array_equal(arrays[f"{number}/{name}"], exact)
    monkeypatch.setattr("tae.web.report.job.MAX_MAPS_BYTES", needed - 1)
    with pytest.raises(ExplainError, match="for 28 maps of each of 2 images; lower --max-images"):
        run(checkpoint, tmp_path / "y.html", pictures, max_images=2, maps=tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists() and not (tmp_path / "y.html").exists()


def test_a_file_is_replaced_only_when_asked(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    image, out, maps = pictures / "img2.png", tmp_path / "x.html", tmp_path / "x.npz"
    for taken, fields in ((out, {}), (maps, {"maps": maps})):
        taken.write_bytes(b"mine")
        with pytest.raises(
            ExplainError, match=f"{taken.name} exists; choose another --.*, or replace it with --overwrite"
        ):
            run(checkpoint, out, image, **fields)
        assert taken.read_bytes() == b"mine"
        taken.unlink()
    out.write_bytes(b"mine")
    run(checkpoint, out, image, overwrite=True)
    assert out.read_bytes().startswith(b"<!doctype html>")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ExplainError, match="it is no file"):
        run(checkpoint, tmp_path / "folder.html", image, overwrite=True)


def test_config_refuses_what_leaves_its_range() -> None:
    for fields, message in [
        ({"images": ()}, "images must be at least one image, folder or pattern, got none"),
        ({"out": Path("x.pdf")}, "out must end in .html, got x.pdf"),
        ({"maps": Path("x.csv")}, "maps must end in .npz, got x.csv"),
        ({"max_images": 51}, "max_images must be a whole number from 1 to 50, got 51"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, got 0"),
        ({"head": "all"}, "head must be mean, max, min, spread or a head's number, got 'all'"),
        ({"discard": 0.5}, "discard must be 0 where layer is not rollout"),
        ({"query": -1}, "query must be a patch number from 0"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            ExplainConfig(**{"images": ("x.png",), "checkpoint": Path("c"), "out": Path("x.html"), **fields})


def run_main(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["explain", *map(str, words)])
    return main()


@pytest.mark.slow
def test_the_command_tells_what_it_made_and_what_it_left_out(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "x.html"
    words = [pictures, "--checkpoint", checkpoint, "--out", out, "--max-images", 2, "--maps", tmp_path / "x.npz"]
    assert run_main(monkeypatch, *words, "--threads", 1) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("skipped broken.png: the PNG file is damaged")
    assert told[1] == "left out 3 images beyond the first 2; --max-images takes up to 50"
    assert re.fullmatch(r".*x\.npz: 0\.\d MB", told[2]) and re.fullmatch(r".*x\.html: 2 images, \d\.\d MB", told[3])
    assert run_main(monkeypatch, *words) == 1
    assert re.fullmatch(
        r"error: .*x\.html exists; choose another --out, or replace it with --overwrite\n", capsys.readouterr().err
    )


def test_the_command_says_in_one_line_what_is_wrong(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    good, out = pictures / "img2.png", tmp_path / "x.html"
    for image, model, more, message in (
        (
            pictures / "broken.png",
            checkpoint,
            [],
            "an image that can be read must be given, got none: broken.png: the PNG",
        ),
        (tmp_path / "none.png", checkpoint, [], "got none: none.png: no image has this name"),
        (good, tmp_path / "none.safetensors", [], "none.safetensors: cannot be read"),
        (good, good, [], "img2.png: not a safetensors file"),
        (good, checkpoint, ["--layer", "1"], "layer must be from 0 to 0 in the encoder, got 1"),
        (good, checkpoint, ["--layer", "0", "--head", "4"], "head must be from 0 to 3, got 4"),
    ):
        assert run_main(monkeypatch, image, "--checkpoint", model, "--out", out, *more) == 1
        assert re.fullmatch(f"error: .*{re.escape(message)}.*\n", capsys.readouterr().err)
        assert not out.exists()
    assert run_main(monkeypatch, good, "--checkpoint", checkpoint, "--out", "x.pdf") == 1
    assert "error: out must end in .html, got x.pdf" in capsys.readouterr().err


def test_a_command_that_is_stopped_leaves_nothing_half_written(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "new"
    monkeypatch.setattr("tae.web.report.job.compute_map", stop)  # in the middle of the file of maps
    words = [pictures / "img2.png", "--checkpoint", checkpoint, "--out", folder / "x.html", "--maps", folder / "x.npz"]
    assert run_main(monkeypatch, *words) == 130
    assert capsys.readouterr().err.endswith("\nstopped; no file is left half written\n")
    assert [path.name for path in folder.iterdir()] == ["x.html"]


@pytest.mark.slow
def test_a_study_beside_the_checkpoint_says_whether_the_attention_is_needed(
    checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    told = []
    for owner in (load_checkpoint(checkpoint).digest, "0" * 64):  # its own; another checkpoint's
        study = summarise(records_by_hand(), owner, "six by hand", "zero")  # needs its encoder's attention alone
        checkpoint.with_suffix(".causal.json").write_bytes(to_json(study))
        run(checkpoint, tmp_path / "x.html", pictures / "img2.png", overwrite=True)
        text = (tmp_path / "x.html").read_text(encoding="utf-8")
        told.append(bool(re.search(r"mean of 6 images[^)]*\): here the attention of the decoder is not needed", text)))
    assert told == [True, False]


def test_without_a_study_it_is_measured_on_the_pictures(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    """One that is needed nowhere: no query tells one key from another."""
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        for part in PARTS:
            for block in loaded.model.blocks(part):
                block.attn.qkv.weight[:32] = 0  # type: ignore[union-attr]
                block.attn.qkv.bias[:32] = 0  # type: ignore[union-attr]
    flat = save_checkpoint(tmp_path / "flat.safetensors", loaded.model, loaded.card)
    for number, (files, words) in enumerate(((["img2"], "this image"), (["img2", "img10"], "mean of 2 images"))):
        page = tmp_path / f"{number}.html"
        run(flat, page, *(pictures / f"{name}.png" for name in files))
        text = html.unescape(page.read_text(encoding="utf-8"))
        for part in PARTS:
            assert (
                f"Uniform attention in the {part} costs 0.0 dB, another image's attention 0.0 dB (PSNR lost, {words}"
                in text
            )
            assert f"here the attention of the {part} is not needed" in text

"""Pictures dropped for a training: what is kept, under which names, and what is said of the rest."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tae.data.encode import encode_png
from tae.data.stacks import scan_folder
from tae.training.images import uploads


def png(seed: int = 0) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8))


def packed(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_pictures_and_zips_are_kept_under_generated_names_in_natural_order(tmp_path: Path) -> None:
    kept = uploads.begin(tmp_path)
    files = [("../../img10.png", png(10)), ("img2.png", png(2)), ("more.zip", packed(a=png(3), b=png(4)))]
    uploads.add(kept, files)
    uploads.add(kept, [("img1.png", png(1))])
    found = scan_folder(kept.folder).files
    assert [path.relative_to(kept.folder).as_posix() for path in found] == [
        "000001.png",
        "000002.png",
        "000003/000001.png",
        "000003/000002.png",
        "000004.png",
    ]
    assert [path.read_bytes() for path in found] == [png(10), png(2), png(3), png(4), png(1)]
    assert (kept.num_images, kept.num_files, kept.problems) == (5, 4, [])
    assert {path.parent for path in tmp_path.rglob("*.png")} == {kept.folder, kept.folder / "000003"}


def test_76_a_drop_is_found_again_until_a_run_takes_its_folder(tmp_path: Path) -> None:
    kept = uploads.begin(tmp_path)
    uploads.add(kept, [("img.png", png()), ("no.png", b"nothing")])
    text = uploads.to_text(kept)
    assert uploads.from_text(tmp_path, text) == kept and str(tmp_path) not in text
    for wrong in (text.replace(".dropped-", "../.dropped-"), "[]", "{", '{"folder": ".dropped-"}'):
        with pytest.raises(ValueError, match="a drop"):
            uploads.from_text(tmp_path, wrong)
    uploads.forget(kept)
    assert uploads.from_text(tmp_path, text) is None


def test_what_is_no_picture_is_named_and_not_written(tmp_path: Path) -> None:
    kept = uploads.begin(tmp_path)
    files = [
        ("text.png", b"no picture"),
        ("cut.png", png()[:60]),
        ("bad.zip", b"PK\x03\x04 and nothing more"),
        ("liar.zip", b"text"),
        ("half.zip", packed(good=png(), bad=b"text")),
    ]
    uploads.add(kept, files)
    assert kept.num_images == 1 and kept.num_files == 1
    assert sorted(problem.split(":")[0] for problem in kept.problems) == [
        "bad",
        "bad.zip",
        "cut.png",
        "liar.zip",
        "text.png",
    ]
    assert len(scan_folder(kept.folder).files) == 1 and str(tmp_path) not in " ".join(kept.problems)


def test_folder_has_a_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = uploads.begin(tmp_path)
    monkeypatch.setattr(uploads, "MAX_DROPPED", 2)
    uploads.add(kept, [(f"{number}.png", png(number)) for number in range(3)])
    assert kept.num_images == 2 and kept.problems[0].startswith("2.png: at most 2 files")
    monkeypatch.setattr(uploads, "MAX_DROPPED", 10)
    monkeypatch.setattr(uploads, "MAX_DROPPED_BYTES", kept.size_bytes + len(png()) - 1)
    uploads.add(kept, [("more.png", png())])
    assert kept.num_images == 2 and len(kept.problems) == 1


def test_what_nobody_took_is_removed_at_last(tmp_path: Path) -> None:
    old, young, own = (uploads.begin(tmp_path).folder for _ in range(3))
    os.utime(old, (0, 0))
    (tmp_path / "runs" / "a run").mkdir()
    os.utime(tmp_path / "runs" / "a run", (0, 0))
    newest = uploads.begin(tmp_path)
    assert not old.exists() and young.exists() and own.exists() and (tmp_path / "runs" / "a run").exists()
    uploads.forget(newest)
    assert not newest.folder.exists()

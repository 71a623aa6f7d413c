"""Data that outgrow a folder: the same images as in a folder, by number, without reading all of them first."""

import io
import json
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tae.data.decode import ImageError
from tae.data.demo import DemoSource, compose_square
from tae.training.config import TrainConfig
from tae.training.images.shards import TarSource, shards_of
from tae.training.images.sources import open_source
from tae.training.run import runs
from tae.training.trainer import train
from tests.training.small import in_ranks, same_bits, small_config, state_tensors

STILL: dict[str, Any] = {"flip": 0.0, "shift": 0.0, "zoom": 0.0, "contrast": 0.0}


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_shards(folder: Path, files: list[bytes], each: int = 10) -> None:
    """As WebDataset does: an image, and beside it what is known of it."""
    for number, start in enumerate(range(0, len(files), each)):
        with tarfile.open(folder / f"drops-{number:03}.tar", "w") as archive:
            for index, content in enumerate(files[start : start + each], start):
                for name, raw in ((f"{index:05}.png", content), (f"{index:05}.json", json.dumps({"x": 1}).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(raw)
                    archive.addfile(member, io.BytesIO(raw))


def squares(count: int) -> list[np.ndarray]:
    return [compose_square("train", index, side=40) for index in range(count)]


def source_of(data: str, **fields: Any) -> TarSource:
    source = open_source(TrainConfig(data=data, **{"input_size": (40, 40), **STILL, **fields}))
    assert isinstance(source, TarSource)
    return source


def test_shards_hold_the_images_that_were_written_each_once_an_epoch(tmp_path: Path) -> None:
    images = squares(45)
    write_shards(tmp_path, [png(image) for image in images])
    source = source_of(f"wds:{tmp_path}/drops-{{000..004}}.tar")
    count = source.num_images or 0
    assert count == 45 - 8 and len(source.held_out(100)) == 8 and (source.name, source.skipped) == ("drops", [])
    shown = {source.image(draw).tobytes() for draw in range(count)} | {image.tobytes() for image in source.held_out(8)}
    assert shown == {image.tobytes() for image in images}
    name = source.describe(0)
    assert np.array_equal(source.image(0), images[int(name.split("/")[1].removesuffix(".png"))])
    assert {source.describe(draw) for draw in range(count, 2 * count)} == {
        source.describe(draw) for draw in range(count)
    }
    again = source_of(f"wds:{tmp_path}", seed=3)
    assert again.fingerprint == source.fingerprint and again.held_out_names == source.held_out_names
    by_shard = source_of(f"wds:{tmp_path}/*.tar", hold_out_by="folder")
    assert {name.split("/")[0] for name in by_shard.held_out_names} == {"drops-004.tar"} and by_shard.num_images == 40


def test_an_image_that_cannot_be_read_is_stood_in_for_and_told_and_many_end_the_run(tmp_path: Path) -> None:
    files = [png(image) for image in squares(40)]
    files[11] = files[11][:100]
    write_shards(tmp_path, files)
    source = source_of(f"wds:{tmp_path}")
    for draw in range(source.num_images or 0):
        assert source.image(draw).shape == (40, 40)
    source.held_out(8)
    assert [name for name, _ in source.skipped] == ["drops-001.tar/00011.png"]
    files[11] = png(squares(40)[11])
    bad = int(source.held_out_names[0].split("/")[1].removesuffix(".png"))
    kept = {png(squares(40)[int(name.split("/")[1].removesuffix(".png"))]) for name in source.held_out_names[1:]}
    files[bad] = files[bad][:100]
    write_shards(tmp_path, files)
    for image in source_of(f"wds:{tmp_path}").held_out(8):  # never one that is trained on
        assert png(image) in kept
    for index in range(40):
        files[index] = b"\x89PNG\r\n\x1a\n"
    write_shards(tmp_path, files)
    with pytest.raises(ImageError, match="images could not be read, more than --max-unreadable allows"):
        source_of(f"wds:{tmp_path}").image(0)


def test_images_of_any_width_come_in_batches_of_like_widths(tmp_path: Path) -> None:
    frames = DemoSource((20, None))
    write_shards(tmp_path, [png(frames.compose("train", index)) for index in range(40)])
    source = source_of(f"wds:{tmp_path}", input_size=(20, None))
    spreads = []
    for step in range(4):
        widths = [source.image(draw).shape[1] for draw in source.draws(step, 8)]
        spreads.append(max(widths) / min(widths))
    assert np.median(spreads) < 2 < 4 < max(map(source._width, range(40))) / min(map(source._width, range(40)))


def test_a_shard_that_is_packed_anew_is_another_and_is_noticed_while_training(tmp_path: Path) -> None:
    files = [png(image) for image in squares(20)]
    write_shards(tmp_path, files)
    source = source_of(f"wds:{tmp_path}")
    write_shards(tmp_path, files[::-1])
    assert source_of(f"wds:{tmp_path}").fingerprint != source.fingerprint
    with pytest.raises(ValueError, match="the shard has changed since the run began; start a new run"):
        source.image(0)
    with pytest.raises(ValueError, match="must have images to train on and images to hold out, got 0 and 10"):
        source_of(f"wds:{tmp_path}/drops-000.tar", hold_out_by="folder")


@pytest.mark.slow
def test_a_training_on_shards_resumes_to_the_same_bits(tmp_path: Path) -> None:
    write_shards(tmp_path, [png(compose_square("train", index, side=16)) for index in range(20)])
    config = small_config(tmp_path / "whole.safetensors", data=f"wds:{tmp_path}/drops-{{000..001}}.tar")
    *_, last = train(config)
    assert last.saved
    broken = replace(config, out=tmp_path / "broken.safetensors")
    running = train(broken)
    for _ in range(3):
        next(running)
    running.close()
    list(train(replace(broken, resume=True)))
    states = [state_tensors(runs.folder_of(one.out_path)) for one in (config, broken)]
    assert same_bits(*states)


def test_names_of_shards_and_what_is_no_shard(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such shard"):
        shards_of(str(tmp_path))
    (tmp_path / "a-9.tar").write_bytes(b"no tar")
    (tmp_path / "a-10.tar").write_bytes(b"")
    assert [path.name for path in shards_of(str(tmp_path))] == ["a-9.tar", "a-10.tar"]
    assert [path.name for path in shards_of(f"{tmp_path}/a-{{9..10}}.tar")] == ["a-9.tar", "a-10.tar"]
    with pytest.raises(FileNotFoundError, match="a-11.tar"):
        shards_of(f"{tmp_path}/a-{{9..11}}.tar")
    with pytest.raises(ValueError, match="a-9.tar must be a tar file that is not compressed"):
        source_of(f"wds:{tmp_path}/a-9.tar")
    config = TrainConfig(data="wds:/far/away/drops-{000..099}.tar")
    assert config.out_path.name == "drops_tiny_201x201_p16.safetensors"
    assert "'wds:drops-{000..099}.tar'" in config.command_words() and "far" not in config.command_words()


def test_a_data_set_of_hugging_face_s(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = squares(30)
    rows = {"picture": [{"bytes": png(image), "path": None} for image in images], "label": [*range(30)]}
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(str(tmp_path / "one"))
    source = open_source(TrainConfig(data=f"hf:{tmp_path / 'one'}", input_size=(40, 40), **STILL))
    count = source.num_images or 0
    shown = {source.image(draw).tobytes() for draw in range(count)} | {image.tobytes() for image in source.held_out(8)}
    assert count == 22 and shown == {image.tobytes() for image in images}
    parts = whole.train_test_split(test_size=5, seed=0)
    parts.save_to_disk(str(tmp_path / "two"))
    split = open_source(TrainConfig(data=f"hf:{tmp_path / 'two'}#picture", input_size=(40, 40), **STILL))
    assert split.num_images == 25 and len(split.held_out(100)) == 5
    with pytest.raises(ValueError, match="must name a column of images, as in .*#picture; it has picture"):
        open_source(TrainConfig(data=f"hf:{tmp_path / 'two'}#label"))


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="hf:mnist needs the package datasets, which is not installed: pip install datasets"
    ):
        open_source(TrainConfig(data="hf:mnist"))


@pytest.mark.slow
def test_what_several_processes_could_not_read_is_told_together(tmp_path: Path) -> None:
    files = [png(image) if index % 4 else b"\x89PNG\r\n\x1a\n" for index, image in enumerate(squares(40))]
    write_shards(tmp_path, files)
    config = small_config(tmp_path / "x.safetensors", data=f"wds:{tmp_path}", warm_start=False, snapshots=0)
    (code, printed), other = in_ranks([(tmp_path, config)] * 2, per_machine=2)
    assert code == other[0] == 0, printed
    told = re.search(r"(\d+) images could not be read, counted by each of 2 processes; (\d+) by this one", printed)
    assert told and 0 < int(told[2]) < int(told[1]) <= 20

"""Sequences from files: each format gives the frames that were put in, broken ones a reason, and nothing is embedded twice."""

import io
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tae import create_autoencoder
from tae.data.decode import ImageError, read_image
from tae.data.drops.motion import draw_recording
from tae.data.encode import encode_gif
from tae.data.video import animation_frames, file_frames, is_sequence
from tae.model.config import preset_config
from tae.sequence.data import Embedder, FileSequences, find_sequences, load_frames, passed_over
from tae.sequence.drops import DropSequences, drop_frames
from tae.sequence.model import embed_sequence

SIZE = (24, 32)


def pictures(count: int = 5, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(count, H, W) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size), np.uint8)


def save_animation(path: Path, frames: Iterable[np.ndarray]) -> Path:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=40, loop=0, lossless=True)  # which GIF always is
    return path


def save_pages(path: Path, frames: Iterable[np.ndarray]) -> Path:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest)
    return path


def save_stack(path: Path, frames: Iterable[np.ndarray]) -> Path:
    np.save(path, np.stack([*frames]))
    return path


def save_video(path: Path, frames: Iterable[np.ndarray]) -> Path:
    frames = [*frames]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "gray" if path.suffix == ".mkv" else "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


EXACT: dict[str, Callable[[Path, Iterable[np.ndarray]], Path]] = {
    "a.gif": save_animation,
    "a.webp": save_animation,
    "a.tif": save_pages,
    "a.npy": save_stack,
    "a.mkv": save_video,
}


@pytest.mark.parametrize("name", EXACT)
def test_a_file_s_frames_are_those_that_were_saved(name: str, tmp_path: Path) -> None:
    frames = pictures()
    path = EXACT[name](tmp_path / name, frames)
    assert is_sequence(path)
    assert find_sequences(path)[0].files == (path,)
    found = list(file_frames(path))
    np.testing.assert_allclose(found, frames / 255, atol=1e-6)
    assert {frame.dtype for frame in found} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mov"])
def test_a_lossy_video_s_frames_are_near_those_that_were_saved(name: str, tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    frames = [np.roll(smooth, 4 * number, axis=0).astype(np.uint8) for number in range(6)]
    path = save_video(tmp_path / name, frames)
    found = list(file_frames(path))
    assert len(found) == 6
    assert np.abs(np.stack(found) - np.stack(frames) / 255).mean() < 0.05


def test_a_video_is_turned_as_it_was_held(tmp_path: Path) -> None:
    frames = pictures(4, size=(48, 64))
    data = bytearray(save_video(tmp_path / "a.mp4", frames).read_bytes())
    plain = list(file_frames(tmp_path / "a.mp4"))
    matrix = data.index(b"tkhd") + 4 + 40  # of the track's header: how its picture is to be shown
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # a quarter clockwise
    (tmp_path / "b.mp4").write_bytes(data)
    for turned, upright in zip(file_frames(tmp_path / "b.mp4"), plain, strict=True):
        np.testing.assert_array_equal(turned, np.rot90(upright, -1))
        assert torch.from_numpy(turned).shape == (64, 48)


@pytest.mark.slow
def test_a_video_whose_packets_are_larger_than_its_header_says_is_refused_before_they_are_decoded(
    tmp_path: Path,
) -> None:
    import av

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=5)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "gray"
        for number, side in enumerate((16, 14_000)):
            buffer = io.BytesIO()
            Image.new("L", (side, side)).save(buffer, "PNG")
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts = stream, number, number
            container.mux(packet)
    frames = file_frames(path)
    assert next(frames).shape == (16, 16)
    with pytest.raises(
        ImageError, match="damaged, cut short, or of a kind that is not read"
    ):  # by the decoder, not by us
        next(frames)


def test_a_video_cut_short_or_made_up_is_refused(tmp_path: Path) -> None:
    whole = save_video(tmp_path / "a.mp4", pictures(6, size=(64, 64))).read_bytes()
    for content in (whole[: len(whole) // 2], b"\0\0\0\x18ftypmp42" + bytes(100), b"RIFF\0\0\0\0AVI LIST"):
        path = tmp_path / "b.mp4"
        path.write_bytes(content)
        with pytest.raises(ImageError, match="the video"):
            list(file_frames(path))


def test_the_frames_of_an_animation_are_drawn_over_those_before_and_on_white(tmp_path: Path) -> None:
    clear, dot = Image.new("RGBA", (8, 8)), Image.new("RGBA", (8, 8))
    clear.putpixel((1, 1), (0, 0, 0, 255))
    dot.putpixel((5, 5), (0, 0, 0, 255))
    clear.save(tmp_path / "a.gif", save_all=True, append_images=[dot], disposal=1)
    first, second = file_frames(tmp_path / "a.gif")
    white = np.ones((8, 8), np.float32)
    white[1, 1] = 0
    np.testing.assert_array_equal(first, white)
    white[5, 5] = 0  # the first dot stays
    np.testing.assert_array_equal(second, white)


def test_a_coloured_animation_s_first_frame_is_what_a_image_of_it_is(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    path = save_animation(tmp_path / "a.webp", frames)
    first = next(file_frames(path))
    np.testing.assert_allclose(first, read_image(path.read_bytes()).pixels, atol=1e-6)


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animation_cut_short_or_changed_anywhere_never_does_worse_than_a_refusal(name: str, tmp_path: Path) -> None:
    whole = save_animation(tmp_path / name, pictures(4)).read_bytes()
    refused = 0
    for place in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        for data in (whole[:place], bytes(changed)):
            try:
                assert all(frame.ndim == 2 for frame in animation_frames(data))
            except ImageError:
                refused += 1
    assert refused > 20


def test_an_animation_too_long_or_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_animation(tmp_path / "a.gif", pictures(5))
    monkeypatch.setattr("tae.data.video.MAX_FRAMES", 3)
    frames = file_frames(path)
    for _ in range(3):
        next(frames)
    with pytest.raises(ImageError, match="a sequence must have at most 3 frames"):
        next(frames)
    monkeypatch.setattr("tae.data.video.MAX_FRAMES", 5)
    assert len(list(file_frames(path))) == 5
    monkeypatch.setattr("tae.data.video.MAX_FRAME_PIXELS", 24 * 32 * 2)
    frames = file_frames(path)
    assert next(frames).shape == next(frames).shape == SIZE
    with pytest.raises(ImageError, match="pixels in all; cut it into parts"):
        next(frames)
    huge = bytearray(path.read_bytes())
    for side, said in ((60_000, "the animation must have smaller frames"), (6000, "the image must have at most")):
        huge[6:10] = side.to_bytes(2, "little") * 2  # the screen that the header declares
        with pytest.raises(ImageError, match=said):
            list(animation_frames(bytes(huge)))


def test_an_animation_that_is_written_comes_back_grey_by_grey() -> None:
    frames = pictures()
    np.testing.assert_allclose(list(animation_frames(encode_gif(frames))), frames / 255, atol=1e-6)
    np.testing.assert_allclose(list(animation_frames(encode_gif(frames / 255))), frames / 255, atol=1e-6)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(list(animation_frames(encode_gif([ramp]))), ramp[None] / 255, atol=1e-6)
    for wrong in ([], [ramp, ramp[:8]]):
        with pytest.raises(ValueError, match="frames must be at least one, and all of one size"):
            encode_gif(wrong)


def test_one_frame_is_no_sequence(tmp_path: Path) -> None:
    for name in ("a.gif", "a.webp"):
        save_animation(tmp_path / name, pictures(1))
    save_pages(tmp_path / "a.tif", pictures(1))
    np.save(tmp_path / "a.npy", pictures(1)[0])
    for path in tmp_path.iterdir():
        assert not is_sequence(path) and len(list(file_frames(path))) == 1


# --------------------------------------------------------------------------------------------------------------- folders


def test_files_that_are_a_frame_each_keep_their_brightness_as_a_stack_does(tmp_path: Path) -> None:
    frames = np.stack([np.linspace(100 * number, 100 * number + 300, 32 * 32).reshape(32, 32) for number in range(4)])
    for number, frame in enumerate(frames):
        np.save(tmp_path / f"f{number}.npy", frame)
    (tmp_path / "f9.npy").write_bytes(b"\x93NUMPY no more")
    (tmp_path / "stack").mkdir()
    np.save(tmp_path / "stack" / "all.npy", frames)
    config = preset_config("tiny", input_size=(32, 32), patch_size=8)
    stack, alone = find_sequences(tmp_path)
    notes: list[str] = []
    one_by_one = list(load_frames(alone, config, skipped=[], notes=notes))
    np.testing.assert_allclose(one_by_one, list(load_frames(stack, config)), atol=1e-6)
    np.testing.assert_allclose([frame.min() for frame in one_by_one], [0, 1 / 6, 1 / 3, 1 / 2], atol=1e-6)
    assert notes == ["values from 0 to 600 stretched from black to white, for all together"]


def test_what_a_path_holds(tmp_path: Path) -> None:
    walk, dance = tmp_path / "walk", tmp_path / "more" / "dance"
    for folder in (walk, dance, tmp_path / ".hidden"):
        folder.mkdir(parents=True)
        for number in (1, 2, 10):
            Image.fromarray(pictures(1, seed=number)[0]).save(folder / f"img{number}.png")
    save_animation(tmp_path / "b.gif", pictures())
    save_stack(tmp_path / "more" / "a.npy", pictures())
    save_animation(walk / "still.gif", pictures(1))  # of a single frame: none of the others'
    for name in ("notes.txt", "one.HEIC", "two.heic", "speeds.csv", ".hidden.txt"):
        (tmp_path / name).write_text("no picture")
    os.mkfifo(walk / "pipe.gif")
    (told,) = passed_over(tmp_path)
    assert told.startswith("passed over: 2 .heic (HEIC: export it as JPEG") and "1 .txt" in told and "1 pipes" in told
    assert "csv" not in told and passed_over(tmp_path / "b.gif") == []
    found = find_sequences(tmp_path)
    assert [one.name for one in found] == ["b.gif", "more/a.npy", "more/dance", "walk", "walk/still.gif"]
    assert [path.name for path in found[2].files] == ["img1.png", "img2.png", "img10.png"]  # as people count
    assert [path.name for path in found[3].files] == ["img1.png", "img2.png", "img10.png"]
    assert [one.name for one in find_sequences(walk)] == ["still.gif", "walk"]
    with pytest.raises(FileNotFoundError, match="is neither a folder nor a file; give a GIF"):
        find_sequences(tmp_path / "none")


def test_a_link_that_leads_out_of_the_folder_is_passed_over(tmp_path: Path) -> None:
    outside = save_animation(tmp_path / "outside.gif", pictures())
    folder = tmp_path / "folder"
    folder.mkdir()
    save_animation(folder / "inside.gif", pictures())
    (folder / "link.gif").symlink_to(outside)
    assert [one.name for one in find_sequences(folder)] == ["inside.gif"]


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return create_autoencoder(SIZE, None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1, decoder_layers=1)


def test_frames_of_one_sequence_get_one_size(tmp_path: Path) -> None:
    any_width = create_autoencoder((24, None), None, patch_size=8, latent_dim=16, num_heads=2, encoder_layers=1).config
    for number, size in enumerate([(48, 80), (24, 30), (24, 40)]):
        Image.fromarray(pictures(1, size=size)[0]).save(tmp_path / f"{number}.png")
    (found,) = find_sequences(tmp_path)
    assert [frame.shape for frame in load_frames(found, any_width)] == [(24, 40)] * 3
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError):
        list(load_frames(found, any_width))
    skipped: list[tuple[str, str]] = []
    assert len(list(load_frames(found, any_width, skipped=skipped))) == 2
    assert skipped[0][0] == "1.png" and "not a supported image" in skipped[0][1]


# ----------------------------------------------------------------------------------------------------------------- cache


def test_what_is_embedded_once_is_read_from_the_disk_by_content(
    autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = pictures()
    path = save_animation(tmp_path / "a.gif", frames)
    embedder = Embedder(autoencoder, tmp_path / "cache")
    first = embedder.embed(find_sequences(path)[0])
    expected = embed_sequence(autoencoder, torch.from_numpy(frames)[:, None] / 255)
    torch.testing.assert_close(first.latents, expected)
    assert first.width == 32 and len(list((tmp_path / "cache").iterdir())) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it embeds again")

    with monkeypatch.context() as patch:
        patch.setattr("tae.sequence.data.embed_sequence", refuse)
        path.rename(tmp_path / "b.gif")  # the content counts, not the name
        again = embedder.embed(find_sequences(tmp_path / "b.gif")[0])
        assert torch.equal(again.latents, first.latents) and again.width == 32
        for other in (
            Embedder(create_autoencoder(SIZE, None, patch_size=8, latent_dim=16, num_heads=2), tmp_path / "cache"),
            Embedder(autoencoder, tmp_path / "cache", "crop"),
            Embedder(autoencoder, None),
        ):
            with pytest.raises(AssertionError, match="it embeds again"):
                other.embed(find_sequences(tmp_path / "b.gif")[0])
        save_animation(tmp_path / "b.gif", pictures(seed=1))
        with pytest.raises(AssertionError, match="it embeds again"):
            embedder.embed(find_sequences(tmp_path / "b.gif")[0])


def test_a_damaged_file_of_the_cache_is_made_again(autoencoder, tmp_path: Path) -> None:
    found = find_sequences(save_animation(tmp_path / "a.gif", pictures()))[0]
    embedder = Embedder(autoencoder, tmp_path / "cache")
    first = embedder.embed(found).latents
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    for content in (whole[:-5], whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], b""):
        kept.write_bytes(content)
        assert torch.equal(embedder.embed(found).latents, first)
        assert kept.read_bytes() == whole


@pytest.mark.slow
def test_recordings_are_embedded_once_and_come_whole_or_in_clips(
    autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = DropSequences(Embedder(autoencoder, tmp_path), 4, 2, clip_frames=32, seed=3)
    whole = [drop_frames(draw_recording("train", number, 3), autoencoder.config) for number in range(4)]
    latents = [embed_sequence(autoencoder, frames) for frames in whole]
    first = source.batch(0, 4)
    assert sorted(map(len, first)) == sorted(map(len, whole))
    assert all(any(torch.equal(clip, one) for one in latents) for clip in first)
    val = drop_frames(draw_recording("val", 1, 3), autoencoder.config)
    torch.testing.assert_close(source.held_out(2)[1], embed_sequence(autoencoder, val))
    (frames,) = source.test_frames(1)
    np.testing.assert_array_equal(frames[:, 0], drop_frames(draw_recording("test", 0, 3), autoencoder.config))
    monkeypatch.setattr("tae.sequence.data.embed_sequence", None)  # all comes from the disk
    again = DropSequences(Embedder(autoencoder, tmp_path), 4, 2, clip_frames=5, seed=3)
    assert {len(clip) for clip in again.batch(1, 30)} == {5} and again.num_sequences > 4
    assert again.fingerprint != source.fingerprint


# ----------------------------------------------------------------------------------------------------------------- split


def folder_of(tmp_path: Path, count: int, frames: int = 6) -> Path:
    folder = tmp_path / "sequences"
    folder.mkdir()
    for number in range(count):
        save_animation(folder / f"{number}.gif", pictures(frames, seed=number))
    return folder


def test_held_out_sequences_are_never_trained_on_and_stay_when_files_come(autoencoder, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 20)
    embedder = Embedder(autoencoder, tmp_path / "cache")
    source = FileSequences(embedder, str(folder), clip_frames=6)
    held_out, names = source.held_out(100), source.held_out_names
    assert 1 <= len(held_out) == len(names) < 10
    shown = [clip for step in range(10) for clip in source.batch(step, 8)]
    for sequence in held_out:
        assert not any(torch.equal(clip[:1], sequence[:1]) for clip in shown)
    by_name = {sequence.name: sequence.latents for sequence in source.sequences}
    trained = [latents for name, latents in by_name.items() if name not in names]
    assert all(any(torch.equal(clip, latents) for clip in shown) for latents in trained)  # the whole epoch
    save_animation(folder / "new.gif", pictures(6, seed=99))
    later = FileSequences(embedder, str(folder), clip_frames=6)
    assert set(names) <= set(later.held_out_names) <= {*names, "new.gif"}
    assert later.fingerprint != source.fingerprint
    frames = list(later.test_frames(100))
    assert [len(one) for one in frames] == [6] * len(later.held_out_names)
    torch.testing.assert_close(embed_sequence(autoencoder, frames[0]), later.held_out(1)[0])


def test_a_long_sequence_is_cut_into_clips_and_its_end_held_out(autoencoder, tmp_path: Path) -> None:
    path = save_stack(tmp_path / "long.npy", pictures(100))
    source = FileSequences(Embedder(autoencoder, None), str(path), clip_frames=9)
    latents = source.sequences[0].latents
    (held_out,) = source.held_out(5)
    torch.testing.assert_close(held_out, latents[80:])
    clips = [clip for step in range(20) for clip in source.batch(step, 10)]
    assert source.num_sequences == 10 and {len(clip) for clip in clips} == {9}
    starts = {int((latents == clip[0]).all(dim=1).nonzero()[0]) for clip in clips}
    assert max(starts) <= 80 - 9 and len(starts) > 40
    (frames,) = source.test_frames(5)
    torch.testing.assert_close(embed_sequence(autoencoder, frames), latents[80:])


def test_what_cannot_be_read_is_named_and_too_much_of_it_refused(autoencoder, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 10)
    whole = (folder / "3.gif").read_bytes()
    (folder / "3.gif").write_bytes(whole[: len(whole) // 2])
    source = FileSequences(Embedder(autoencoder, None), str(folder), 6)
    assert [name for name, _ in source.skipped] == ["3.gif"] and "cut short at frame" in source.skipped[0][1]
    assert len(source.sequences) == 9
    (folder / "4.gif").write_bytes(whole[:40])
    with pytest.raises(
        ValueError, match="and at most 10% that cannot be read, got 8 and 2: 3.gif: the GIF file is damaged"
    ):
        FileSequences(Embedder(autoencoder, None), str(folder), 6)


def test_one_frame_is_refused_as_a_sequence_to_train_on(autoencoder, tmp_path: Path) -> None:
    path = save_animation(tmp_path / "a.gif", pictures(1))
    with pytest.raises(ValueError, match="a sequence must have at least two frames, got one"):
        FileSequences(Embedder(autoencoder, None), str(path), 6)
    path = save_animation(tmp_path / "b.gif", pictures(3))
    with pytest.raises(ValueError, match="a single sequence must have at least four frames, got 3"):
        FileSequences(Embedder(autoencoder, None), str(path), 6)

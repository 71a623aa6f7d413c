"""Strips in windows: all of a strip is covered, shares sum to 1, nothing shows where windows meet."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tae import TransformerAutoencoder
from tae.analysis.windows import (
    MAX_STRIP_PIXELS,
    blend_weights,
    decode_windows,
    embed_windows,
    fit_strip,
    strip_width,
    window_starts,
    window_width,
)
from tae.data.decode import ImageError
from tae.model.config import ModelConfig

SIZES = st.integers(1, 40).flatmap(
    lambda window: st.tuples(st.just(window), st.integers(0, window - 1), st.integers(window, 400))
)


@given(SIZES)
def test_windows_cover_a_strip_and_the_last_ends_with_it(sizes: tuple[int, int, int]) -> None:
    window, overlap, width = sizes
    starts = window_starts(width, window, overlap)
    assert starts[0] == 0 and starts[-1] + window == width and starts == sorted(set(starts))
    steps = [right - left for left, right in zip(starts, starts[1:], strict=False)]
    assert all(step == window - overlap for step in steps[:-1]) and all(1 <= step <= window - overlap for step in steps)


@given(SIZES)
def test_shares_sum_to_one_in_every_column(sizes: tuple[int, int, int]) -> None:
    window, overlap, width = sizes
    starts = window_starts(width, window, overlap)
    shares = blend_weights(starts, window, width)
    total = torch.zeros(width, dtype=torch.float64)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + window] += share
    assert (shares >= 0).all()
    torch.testing.assert_close(total, torch.ones(width, dtype=torch.float64))


def test_shares_of_two_windows_by_hand() -> None:
    # Columns 0..5 and 4..9: two in common, of which the left window has 3/4, then 1/4.
    shares = blend_weights([0, 4], window=6, width=10)
    torch.testing.assert_close(
        shares, torch.tensor([[1, 1, 1, 1, 0.75, 0.25], [0.25, 0.75, 1, 1, 1, 1]], dtype=torch.float64)
    )


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="window must be from 1 to the strip's 30 pixels, got 40; pad the strip"):
        window_starts(30, 40, 0)
    with pytest.raises(ValueError, match="overlap must be from 0 to one less than the window's 10 pixels, got 10"):
        window_starts(30, 10, 10)


@pytest.fixture(params=["fixed width", "any width"])
def model(request: pytest.FixtureRequest, small_model: Callable[..., TransformerAutoencoder]) -> TransformerAutoencoder:
    return small_model(input_size=(24, 32 if request.param == "fixed width" else None), max_width=48)


@pytest.mark.parametrize(("width", "overlap"), [(32, 0), (33, 5), (100, 31), (300, 8)])
def test_a_strip_is_its_windows_blended(model: TransformerAutoencoder, width: int, overlap: int) -> None:
    strip = torch.rand(24, width, dtype=torch.float64)
    windows = embed_windows(model, strip, 32, overlap)
    starts = window_starts(width, 32, overlap)
    assert windows.starts == starts and windows.latents.shape == (len(starts), 16)
    expected, total = torch.zeros(24, width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    shares = blend_weights(starts, 32, width)
    for start, share, latent in zip(starts, shares, windows.latents, strict=True):  # one window after the other
        part = strip[None, None, :, start : start + 32]
        torch.testing.assert_close(model.embed(part)[0], latent)
        expected[:, start : start + 32] += share * model(part)[0][0, 0]
        total[start : start + 32] += share
    torch.testing.assert_close(decode_windows(model, windows), expected)
    torch.testing.assert_close(decode_windows(model, windows, chunk=1), expected)


def test_one_window_is_the_model_s_own_reconstruction(model: TransformerAutoencoder) -> None:
    image = torch.rand(1, 24, 32, dtype=torch.float64)
    windows = embed_windows(model, image.numpy(), 32)
    torch.testing.assert_close(decode_windows(model, windows), model(image[None])[0][0, 0])


def test_a_constant_strip_has_no_seam_wherever_windows_meet(model: TransformerAutoencoder) -> None:
    for overlap in [1, 8, 20]:
        with torch.no_grad():  # a decoder that draws one grey, whatever the latent
            model.decoder.proj.weight.zero_()
            model.decoder.proj.bias.fill_(0.3)
        windows = embed_windows(model, torch.full((24, 203), 0.7, dtype=torch.float64), 32, overlap)
        strip = decode_windows(model, windows)
        torch.testing.assert_close(strip, torch.full_like(strip, 0.7))


def test_the_picture_goes_over_without_a_jump(small_model: Callable[..., TransformerAutoencoder]) -> None:
    """Two windows that decode to different greys: between them the strip goes over in equal steps."""
    model = small_model()
    with torch.no_grad():
        model.decoder.proj.weight.zero_()
    windows = embed_windows(model, torch.rand(24, 48, dtype=torch.float64), overlap=16)
    greys = iter([0.2, 0.8])
    parts = []
    for number in range(2):
        with torch.no_grad():
            model.decoder.proj.bias.fill_(1 - next(greys))
        parts.append(model.decode(windows.latents[number : number + 1])[0, 0])
    shares = blend_weights(windows.starts, 32, 48)
    strip = torch.zeros(24, 48, dtype=torch.float64)
    for start, share, part in zip(windows.starts, shares, parts, strict=True):
        strip[:, start : start + 32] += share * part
    steps = strip[0, 16:32].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 0.6 / 16))
    torch.testing.assert_close(strip[0, [0, 15, 32, 47]], torch.tensor([0.2, 0.2, 0.8, 0.8], dtype=torch.float64))


def test_a_strip_longer_than_any_width_of_the_model_stays_within_its_memory(model: TransformerAutoencoder) -> None:
    strip = torch.rand(24, 20_000, dtype=torch.float64)
    windows = embed_windows(model, strip, overlap=4)
    width = window_width(model.config)
    assert width == (32 if model.config.input_size[1] else 48)
    assert len(windows.latents) == len(window_starts(20_000, width, 4))
    assert decode_windows(model, windows).shape == (24, 20_000)


def test_what_is_no_strip_is_refused(model: TransformerAutoencoder) -> None:
    with pytest.raises(ValueError, match=r"image must be \(H, W\) or \(1, H, W\), got \(2, 24, 100\)"):
        embed_windows(model, torch.rand(2, 24, 100))
    with pytest.raises(ValueError, match="images must be float"):
        embed_windows(model, torch.rand(20, 100))
    if model.config.input_size[1]:
        with pytest.raises(ValueError, match="images must be 32 pixels wide, got 30"):
            embed_windows(model, torch.rand(24, 40), 30)


def test_whoever_waits_is_told_of_each_chunk_and_gets_each_window_s_own_picture(model: TransformerAutoencoder) -> None:
    strip = torch.rand(24, 150, dtype=torch.float64)
    counts: list[int] = []
    windows = embed_windows(model, strip, 32, chunk=3, embedded=counts.append)
    assert counts == [3, 6, 9] and len(windows.starts) == 9
    pictures: dict[int, torch.Tensor] = {}
    decode_windows(model, windows, chunk=4, drawn=lambda number, picture: pictures.update({number: picture.clone()}))
    assert list(pictures) == list(range(9))
    for number, start in enumerate(windows.starts):
        torch.testing.assert_close(pictures[number], model(strip[None, None, :, start : start + 32])[0][0, 0])


@pytest.mark.parametrize("input_size", [(24, 32), (24, None)])
def test_a_picture_becomes_a_strip_of_the_model_s_height_with_nothing_cut_off(
    input_size: tuple[int, int | None],
) -> None:
    config = ModelConfig(input_size=input_size, patch_size=8, latent_dim=16, num_heads=4, max_width=48)
    ramp = np.tile(np.linspace(0, 1, 1000, dtype=np.float32), (48, 1))
    strip = fit_strip(ramp, config)
    assert strip.pixels.shape == (24, strip_width(48, 1000, config)) == (24, 500)
    assert strip.notes == ("scaled from 1000x48 to 500x24",)
    assert strip.pixels[0, 0] < 0.01 and strip.pixels[0, -1] > 0.99 and (np.diff(strip.pixels, axis=1) > -1e-6).all()
    as_it_is = np.random.default_rng(0).random((24, 200), np.float32)
    assert fit_strip(as_it_is, config).pixels is as_it_is


def test_ribbons_that_would_grow_without_end_and_pictures_narrower_than_a_window_are_refused() -> None:
    config = ModelConfig(input_size=(152, None), patch_size=38, latent_dim=16, num_heads=4)
    widest = MAX_STRIP_PIXELS // 152
    assert fit_strip(np.ones((152, widest), np.float32), config).pixels.shape == (152, widest)
    with pytest.raises(ImageError, match=f"from 304 to {widest} pixels wide.*152; an image of 20000x10 becomes 304000"):
        fit_strip(np.ones((10, 20_000), np.float32), config)
    with pytest.raises(ImageError, match="from 304 to .* an image of 300x152 becomes 300 wide"):
        fit_strip(np.ones((152, 300), np.float32), config)

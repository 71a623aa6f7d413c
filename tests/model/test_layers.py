"""The parts of the network against references: formulas written out, and PyTorch's own layers with the same weights."""

import math
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from tae.model.config import ModelConfig
from tae.model.layers import (
    Attention,
    LowRankStart,
    PatchEmbed,
    PositionalEncoding,
    TransformerBlock,
    attention_weights,
    blend_window,
    patchify,
    sinusoids_2d,
    unpatchify,
)

DIM, HEADS = 16, 4


@pytest.fixture
def block(scramble: Callable[[nn.Module], nn.Module]) -> Callable[..., TransformerBlock]:
    """Builds a scrambled block in float64, in eval mode."""

    def build(fused: bool = True, dropout: float = 0.0) -> TransformerBlock:
        torch.manual_seed(0)
        config = ModelConfig(latent_dim=DIM, num_heads=HEADS, dropout=dropout, use_flash_attention=fused)
        built = TransformerBlock(config).double().eval()
        scramble(built)
        return built

    return build


def tokens(batch: int = 3, count: int = 7) -> Tensor:
    return torch.randn(batch, count, DIM, dtype=torch.float64)


def some_real(batch: int = 3, count: int = 7) -> Tensor:
    """(B, N) masks of 1, 2, 3... padding tokens."""
    return torch.arange(count) < count - torch.arange(batch)[:, None]


def reference(block: TransformerBlock) -> nn.TransformerEncoderLayer:
    """PyTorch's own layer with the same weights."""
    layer = nn.TransformerEncoderLayer(
        DIM, HEADS, 4 * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    widen, _, narrow = block.mlp
    pairs = {
        "self_attn.in_proj": block.attn.qkv,
        "self_attn.out_proj.": block.attn.proj,
        "linear1.": widen,
        "linear2.": narrow,
        "norm1.": block.norm1,
        "norm2.": block.norm2,
    }
    state = {}
    for name, module in pairs.items():
        for kind in ("weight", "bias"):
            state[f"{name}_{kind}" if name.endswith("in_proj") else name + kind] = getattr(module, kind)
    layer.load_state_dict(state)
    return layer.train()  # its eval mode takes another, fused path, which has no float64 mask support everywhere


def test_patches_are_cut_in_row_order() -> None:
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    patches = patchify(image, (2, 3))
    assert patches.tolist() == [
        [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11], [12, 13, 14, 18, 19, 20], [15, 16, 17, 21, 22, 23]]
    ]
    assert torch.equal(unpatchify(patches, (2, 2), (2, 3)), image)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_patches_laid_back_are_the_image(batch: int, rows: int, columns: int, height: int, width: int) -> None:
    image = torch.rand(batch, 1, rows * height, columns * width)
    assert torch.equal(unpatchify(patchify(image, (height, width)), (rows, columns), (height, width)), image)


def test_images_that_patches_do_not_divide_are_refused() -> None:
    for shape in [(1, 1, 5, 6), (1, 1, 4, 7), (1, 3, 4, 6)]:
        with pytest.raises(ValueError, match="multiples of 2, 3, got"):
            patchify(torch.zeros(shape), (2, 3))


def test_neighbouring_windows_sum_to_one() -> None:
    for side, overlap in [(8, 2), (16, 4), (8, 4), (5, 1)]:
        window = blend_window(side, overlap, torch.zeros(1, dtype=torch.float64))
        line = torch.zeros(3 * side + 2 * overlap, dtype=torch.float64)
        for start in range(0, 3 * side, side):
            line[start : start + side + 2 * overlap] += window
        assert_close(line[2 * overlap : -2 * overlap], torch.ones(3 * side - 2 * overlap, dtype=torch.float64))


def test_overlapping_tiles_blend_as_written_out() -> None:
    grid, side, overlap = (2, 3), 4, 1
    tiles = torch.rand(1, 6, 36, dtype=torch.float64)
    window = blend_window(side, overlap, tiles)
    total, weight = torch.zeros(2, 10, 14, dtype=torch.float64)
    for number in range(6):
        row, column = divmod(number, 3)
        place = (slice(4 * row, 4 * row + 6), slice(4 * column, 4 * column + 6))
        total[place] += tiles[0, number].view(6, 6) * window[:, None] * window
        weight[place] += window[:, None] * window
    assert_close(unpatchify(tiles, grid, (side, side), overlap)[0, 0], (total / weight)[1:-1, 1:-1])


def test_tiles_that_agree_blend_without_a_seam_and_padding_tiles_have_no_say() -> None:
    tiles = torch.full((2, 6, 36), 0.3, dtype=torch.float64)
    assert_close(unpatchify(tiles, (2, 3), (4, 4), 1), torch.full((2, 1, 8, 12), 0.3, dtype=torch.float64))
    tiles[1, [2, 5]] = 1e6  # the last column of the second image is padding
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, [2, 5]] = False
    blended = unpatchify(tiles, (2, 3), (4, 4), 1, mask)
    assert_close(blended[1, 0, :, :8], torch.full((8, 8), 0.3, dtype=torch.float64))


def test_positions_start_as_sinusoids() -> None:
    for rows, columns, dim in [(13, 13, 128), (10, 80, 16), (1, 1, 8), (3, 5, 4)]:
        table = PositionalEncoding((rows, columns), dim).weight
        quarter = dim // 4
        for row, column in {(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)}:
            expected = []
            for place in (row, column):
                for index in range(quarter):
                    angle = place / 100 ** (index / quarter)
                    expected += [math.sin(angle), math.cos(angle)]
            assert_close(table[row, column].detach(), torch.tensor(expected), atol=1e-5, rtol=1e-5)
        assert table.requires_grad


def test_positions_of_a_narrower_grid_are_the_same_places_of_the_wider() -> None:
    positions = PositionalEncoding((2, 5), 8)
    narrow = positions(3).unflatten(0, (2, 3))
    assert torch.equal(narrow, sinusoids_2d(2, 5, 8)[:, :3])


def test_patch_embedding_is_the_linear_projection_of_each_patch() -> None:
    embed = PatchEmbed((2, 2), 8).double()
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    expected = embed.proj.weight @ image[0, 0, 2:, :2].flatten() + embed.proj.bias
    assert_close(embed(image)[0, 2], expected)


def test_low_rank_start_is_its_formula() -> None:
    start = LowRankStart((2, 3), 8, 4).double()
    expanded = torch.randn(2, 8, dtype=torch.float64)
    found = start(expanded, 2)
    assert found.shape == (2, 4, 8)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert_close(found[1, number], start.up.weight @ (start.down[row, column] @ expanded[1]))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_block_is_pytorch_s_pre_norm_layer(block, fused: bool, masked: bool) -> None:
    ours, x, mask = block(fused), tokens(), some_real() if masked else None
    expected = reference(ours)(x, src_key_padding_mask=None if mask is None else ~mask)
    real = torch.ones(3, 7, dtype=torch.bool) if mask is None else mask
    assert_close(ours(x, mask)[real], expected[real], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_weights_are_those_of_pytorch_s_attention(block, masked: bool) -> None:
    ours, x, mask = block(), tokens(), some_real() if masked else None
    other, normed = reference(ours).self_attn, ours.norm1(x)
    padding = None if mask is None else ~mask
    heads = other(normed, normed, normed, key_padding_mask=padding, average_attn_weights=False)[1]
    mean = other(normed, normed, normed, key_padding_mask=padding, average_attn_weights=True)[1]
    real = torch.ones(3, 7, dtype=torch.bool) if mask is None else mask
    assert_close(ours.head_weights(x, mask), heads * real[:, None, :, None], atol=1e-12, rtol=1e-10)
    assert_close(ours.forward_with_map(x, mask)[1], mean * real[:, :, None], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_fused_and_explicit_attention_agree_in_outputs_and_gradients(block, masked: bool) -> None:
    mask = some_real() if masked else None
    outputs, gradients = [], []
    for fused in (True, False):
        ours = block(fused)
        torch.manual_seed(1)
        x = tokens().requires_grad_()
        y = ours(x, mask)
        (y.square().sum() if mask is None else y[mask].square().sum()).backward()
        outputs.append(y if mask is None else y[mask])
        gradients.append([x.grad, *(parameter.grad for parameter in ours.parameters())])
    assert_close(outputs[0], outputs[1], atol=1e-12, rtol=1e-10)
    assert_close(gradients[0], gradients[1], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("count", [1, 7, 600])  # 600: in two blocks of rows
@pytest.mark.parametrize("masked", [False, True])
def test_output_with_map_is_the_output_and_the_map_the_mean_of_the_heads(block, count: int, masked: bool) -> None:
    ours, x = block(), tokens(2, count)
    mask = some_real(2, count) if masked and count > 1 else None
    y, attention_map = ours.forward_with_map(x, mask)
    real = torch.ones(2, count, dtype=torch.bool) if mask is None else mask
    assert_close(y[real], ours(x, mask)[real], atol=1e-12, rtol=1e-10)
    assert_close(attention_map, ours.head_weights(x, mask).mean(dim=1), atol=1e-12, rtol=1e-10)
    assert_close(attention_map.sum(dim=-1), real.double())
    assert attention_map.transpose(1, 2)[~real].abs().sum() == 0


def test_weights_of_some_queries_are_those_rows_of_all(block) -> None:
    ours, x, mask = block(), tokens(), some_real()
    queries = torch.tensor([6, 0, 3])
    assert_close(ours.head_weights(x, mask, queries), ours.head_weights(x, mask)[:, :, queries])


def test_weights_by_hand() -> None:
    q, k = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[1.0, 5.0], [0.0, 7.0], [3.0, 0.0]]]])
    powers = [math.exp(score / math.sqrt(2)) for score in (2.0, 0.0, 6.0)]
    assert_close(attention_weights(q, k)[0, 0, 0], torch.tensor([power / sum(powers) for power in powers]))
    masked = attention_weights(q, k, torch.tensor([[True, True, False]]))[0, 0, 0]
    assert_close(masked, torch.tensor([powers[0] / (powers[0] + 1), 1 / (powers[0] + 1), 0.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_sum_to_one_in_float32(dtype: torch.dtype) -> None:
    q, k = torch.randn(2, 1, 2, 500, 8, dtype=dtype)
    weights = attention_weights(q, k)
    assert weights.dtype == torch.float32
    assert_close(weights.sum(dim=-1), torch.ones(1, 2, 500))


@pytest.mark.parametrize("fused", [True, False])
def test_dropout_acts_in_training_only(block, fused: bool) -> None:
    ours, x = block(fused, dropout=0.5), tokens()
    assert torch.equal(ours(x), ours(x))
    ours.train()
    assert not torch.equal(ours(x), ours(x))
    plain = block(fused, dropout=0.0)
    assert_close(ours.eval()(x), plain(x))


def test_qkv_is_one_projection_and_starts_with_keys_near_queries() -> None:
    attention = Attention(64, 4, 0.0, True)
    query, key, value = attention.qkv.weight.chunk(3)
    assert attention.qkv.weight.shape == (192, 64)
    assert F.cosine_similarity(query.flatten(), key.flatten(), dim=0) > 0.5
    assert_close(value @ value.T, torch.eye(64), atol=1e-5, rtol=0)
    assert_close(attention.proj.weight, -0.5 * value.T)


def test_fresh_token_looks_at_those_like_it_before_all_others() -> None:
    torch.manual_seed(0)
    attention = Attention(128, 4, 0.0, True)
    tokens = F.layer_norm(torch.randn(4, 169, 128), (128,))
    own = attention.head_weights(tokens).diagonal(dim1=-2, dim2=-1)
    assert own.mean() > 0.3  # uniform weight would be 0.006


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make; `peak` is the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                address, size = storage._cdata, storage.nbytes()
                if address not in self.known:
                    self.known.add(address)
                    self.now += size
                    weakref.finalize(storage, self.release, address, size)
        self.peak = max(self.peak, self.now)
        return out

    def release(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def peak_bytes(function: Callable[[], object]) -> int:
    with torch.no_grad(), LiveBytes() as live:
        function()
    return live.peak


def test_measure_of_memory_adds_up_what_is_alive() -> None:
    def one_after_the_other() -> None:
        for _ in range(5):
            torch.zeros(1000)

    assert peak_bytes(lambda: [torch.zeros(1000) for _ in range(5)]) == 20_000
    assert peak_bytes(one_after_the_other) <= 8_000


@pytest.mark.parametrize("heads", [2, 8])
def test_map_holds_no_more_than_one_head_s_matrix_beyond_the_result(heads: int) -> None:
    count, dim = 400, 16
    attention = Attention(dim, heads, 0.0, True).eval()
    x = torch.randn(1, count, dim)
    matrix = 4 * count**2
    small = 24 * 4 * count * dim  # q, k, v, outputs and the like
    assert peak_bytes(lambda: attention.forward_with_map(x)) <= 2 * matrix + small
    # The measure sees what an implementation costs that makes all heads at once:
    assert peak_bytes(lambda: attention.head_weights(x)) >= heads * matrix


def test_fused_attention_makes_no_matrix_of_weights() -> None:
    attention, x = Attention(16, 4, 0.0, True).eval(), torch.randn(1, 1000, 16)
    assert peak_bytes(lambda: attention(x)) < 4 * 1000**2

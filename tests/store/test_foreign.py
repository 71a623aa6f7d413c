"""Checkpoints that PyTorch pickled: the original's give what the original gives, ours what they gave, others are refused."""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import tae
from tae.convert import main
from tae.store.checkpoint import CheckpointError, load_checkpoint
from tae.store.foreign import convert

pytestmark = pytest.mark.slow


class Attention(nn.Module):
    """Of one token, which attends to itself alone: its weight is 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.qkv(x).chunk(3, dim=-1)[2])


class Block(nn.Module):
    """A block of the original: pre-norm, no bias in qkv, dropout between the MLP's layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = Attention(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * dim, dim), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Positions(nn.Module):
    """A row for each pixel, of which the first alone is used."""

    def __init__(self, pixels: int, dim: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, pixels, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos_embedding[:, : x.shape[1]]


class Half(nn.Module):
    """Encoder or decoder of the original, which works on the image itself."""

    def __init__(self, dim: int, pixels: int, layers: int, is_encoder: bool) -> None:
        super().__init__()
        if is_encoder:
            self.input_proj = nn.Linear(pixels, dim)
        else:
            self.latent_expand, self.output_proj = nn.Linear(dim, dim), nn.Linear(dim, pixels)
        self.pos_encoding = Positions(pixels, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_proj(x) if hasattr(self, "input_proj") else self.latent_expand(x)
        x = self.pos_encoding(x[:, None])
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, 0]
        return self.output_proj(x) if hasattr(self, "output_proj") else x


class Original(nn.Module):
    """AutoEncoder_TransformerV2_0 as the diagram draws it: the whole image is one token."""

    def __init__(self, pixels: int = 201 * 201, dim: int = 16, encoder: int = 2, decoder: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = Half(dim, pixels, encoder, True), Half(dim, pixels, decoder, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x.flatten(1))).view_as(x)


@pytest.fixture
def original() -> Original:
    torch.manual_seed(0)
    model = Original().eval()
    for parameter in model.parameters():  # norms and biases too, so that nothing can be swapped unseen
        nn.init.normal_(parameter, std=0.1)
    return model


WRAPPED: dict[str, Callable[[dict], object]] = {
    "bare.pt": lambda state: state,
    "lightning.ckpt": lambda state: {"model": state, "optimizer": {"state": {}}},
    "best.pth": lambda state: {
        "model_state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        "config": {"latent_dim": 16},
        "epoch": 7,
    },
    "half.pt": lambda state: {"state_dict": {name: tensor.double() for name, tensor in state.items()}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_original_reconstructs_as_it_did(name: str, original: Original, tmp_path: Path, capsys) -> None:
    path, out = tmp_path / name, tmp_path / "out.safetensors"
    torch.save(WRAPPED[name](original.state_dict()), path)
    assert main([str(path), "--out", str(out)]) == 0
    assert "AutoEncoder_TransformerV2_0, 201x201, one token" in capsys.readouterr().out
    loaded = load_checkpoint(out)
    x = torch.rand(3, 1, 201, 201)
    with torch.no_grad():
        assert_close(loaded.model(x)[0], original(x), atol=2e-5, rtol=0)
        assert_close(loaded.model.Embedding(x), original.encoder(x.flatten(1)), atol=2e-5, rtol=0)
    assert loaded.model.config.norm_eps == 1e-6
    told = loaded.card.training["converted"]
    assert loaded.card.origin == "unknown" and told["from"] == name and len(told["sha256"]) == 64
    assert main([str(path), "--out", str(out)]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([str(path), "--out", str(path), "--overwrite"]) == 1 and "another file" in capsys.readouterr().err
    assert main([str(out), "--out", str(tmp_path / "x.safetensors")]) == 1
    assert "it is a safetensors file, which needs no converting" in capsys.readouterr().err


def test_sizes_that_a_file_does_not_tell_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(Original(pixels=20 * 30).state_dict(), path)
    with pytest.raises(CheckpointError, match="600 pixels.*--input-size HEIGHT WIDTH"):
        convert(path)
    with pytest.raises(CheckpointError, match="600 pixels, which is not"):
        convert(path, (20, 31))
    assert convert(path, (20, 30)).model.config.input_size == (20, 30)
    any_width = convert(path, (20, None)).model.config
    assert (any_width.input_size, any_width.max_width) == ((20, None), 30)


@pytest.mark.parametrize("size", [(201, 201), (152, 1280), (152, None), (40, 56)])
def test_weights_of_ours_that_were_saved_alone_give_the_same_model(
    size: tuple[int, int | None], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = tae.create_autoencoder(size, "tiny", patch_size=8, num_encoder_layers=2, max_width=480).eval()
    path = tmp_path / "weights.pt"
    torch.save({"model": {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}}, path)
    asked = size if size in ((40, 56), (152, None)) else None
    made = convert(path, asked)
    config = made.model.config
    assert (config.input_size, config.num_heads, config.encoder_layers) == (size, 4, 2)
    x = torch.rand(1, 1, size[0], size[1] or 200)
    with torch.no_grad():
        assert torch.equal(made.model(x)[0], model(x)[0])
    assert any("Heads are not in the file" in note for note in made.notes)


def test_what_could_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (mark,)

    for name, content in (("zip.pt", {"a": torch.zeros(2), "b": Bomb()}), ("model.pth", nn.Linear(2, 2))):
        torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match=r"could run code; save the state dict alone"):
            convert(tmp_path / name)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": Bomb()}))
    with pytest.raises(CheckpointError):
        convert(tmp_path / "plain.pt")
    assert not mark.exists()


def test_other_models_are_refused_with_the_nearest_names(original: Original, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    state = original.state_dict()
    state["decoder.latent_expnd.weight"] = state.pop("decoder.latent_expand.weight")
    torch.save(state, path)
    with pytest.raises(CheckpointError) as refused:
        convert(path)
    told = "1 missing: decoder.latent_expand.weight (nearest that is found: decoder.latent_expnd.weight)"
    assert told in str(refused.value) and "1 not expected: decoder.latent_expnd.weight" in str(refused.value)
    torch.save({"layer1.0.conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(CheckpointError, match="not those of AutoEncoder_TransformerV2_0, nor of tae"):
        convert(path)


def hostile() -> dict[str, tuple[object, str]]:
    huge = torch.zeros(1).expand(10**6, 10**5)

    def spoilt(name: str, tensor: Tensor) -> Callable[[dict], dict]:
        return lambda state: state | {name: tensor}

    nan = torch.full((16,), torch.nan)
    return {
        "a list": ([1, 2], "holds no weights by name, but list"),
        "no tensors": ({"epoch": 3}, "expected under model, model_state_dict, state_dict or bare, found epoch"),
        "a small file of huge tensors": ({"encoder.input_proj.weight": huge}, "more memory than a file of this size"),
        "sparse": ({"a": torch.eye(3).to_sparse()}, "its tensor a is quantised, sparse, complex or without values"),
        "nan": (spoilt("decoder.norm.bias", nan), "NaN or infinity"),
        "no axes": (spoilt("encoder.blocks.0.mlp.0.weight", torch.tensor(1.0)), "must have 2 axes"),
        "no rows": (spoilt("encoder.input_proj.weight", torch.zeros(0, 40401)), "must have 2 axes and no empty one"),
        "counters": (spoilt("steps", torch.arange(3)), "1 not expected: steps"),
        "a bias of one block": (spoilt("encoder.blocks.0.attn.qkv.bias", torch.zeros(48)), "must have a bias, or none"),
        "two tables": (spoilt("encoder.pos_encoding.pos_embedding", torch.zeros(2, 9, 16)), "position tables must be"),
    }


@pytest.mark.parametrize("name", hostile())
def test_23_25_hostile_content_is_refused_in_a_sentence(name: str, original: Original, tmp_path: Path) -> None:
    content, expected = hostile()[name]
    if callable(content):
        content = content(original.state_dict())
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=re.escape(expected)) as refused:
        convert(tmp_path / "x.pt")
    assert str(refused.value).startswith("x.pt: ") and str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x02 no pickle", b"text"])
def test_files_that_are_no_pickle_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pt: "):
        convert(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        convert(tmp_path / "missing.pt")


def test_24_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2**22)}, stored := io.BytesIO())
    with zipfile.ZipFile(stored) as of, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in of.namelist():
            packed.writestr(name, of.read(name))
    assert (tmp_path / "x.pt").stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="x.pt: PyTorch cannot read it"):
        convert(tmp_path / "x.pt")

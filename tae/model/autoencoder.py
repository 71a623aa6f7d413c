"""The transformer autoencoder: image -> tokens -> one latent -> tokens -> image.

Inside, the network works on ink = 1 - image, so that a white page is zero. The rest follows the architecture
diagram; with `patch_size=None` the image is one token and every linear layer of the diagram stands as drawn.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from tae.model.config import PARTS, ModelConfig, config_from_dict, config_to_dict, preset_config
from tae.model.layers import LowRankStart, PatchEmbed, PositionalEncoding, TransformerBlock, unpatchify

SLACK = 1e-3  # how far a value of an image may leave [0, 1]: more is no rounding error
AttentionInfo = dict[str, list[Tensor]]


class Blocks(nn.ModuleList):
    """A stack of transformer blocks, run with or without their attention maps."""

    if TYPE_CHECKING:  # nn.ModuleList does not say what it holds

        def __iter__(self) -> Iterator[TransformerBlock]: ...

        def __getitem__(self, index: int) -> TransformerBlock: ...  # type: ignore[override]

    def __init__(self, blocks: Iterable[TransformerBlock], use_gradient_checkpointing: bool = False) -> None:
        super().__init__(blocks)  # as of a slice, too
        self.use_gradient_checkpointing = use_gradient_checkpointing

    def forward(self, x: Tensor, mask: Tensor | None, maps: list[Tensor] | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D); where a list is given, each layer's (B, N, N) is appended to it."""
        for block in self:
            if maps is not None:
                x, attention_map = block.forward_with_map(x, mask)
                maps.append(attention_map)
            elif self.use_gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, use_reentrant=False)  # type: ignore[assignment]
            else:
                x = block(x, mask)
        return x


class _Part(nn.Module):
    """Base of encoder and decoder: the sizes that they take, and which tokens are real."""

    config: ModelConfig
    blocks: Blocks
    norm: nn.LayerNorm

    def check_width(self, width: int) -> None:
        """Raises ValueError if images of this width do not fit the config."""
        fixed = self.config.input_size[1]
        if fixed is not None and width != fixed:
            raise ValueError(f"images must be {fixed} pixels wide, got {width}")
        if fixed is None and not 1 <= width <= self.config.max_width:
            raise ValueError(
                f"images must be at most {self.config.max_width} pixels wide (max_width), got {width}; "
                "cut wider ones into windows"
            )

    def check_widths(self, widths: Tensor, batch: int, width: int) -> None:
        """Raises ValueError if these are not the widths of so many images that are padded to `width`."""
        if widths.shape != (batch,):
            raise ValueError(f"widths must be (B,) = ({batch},), got {tuple(widths.shape)}")
        if _has_values(widths) and not (int(widths.min()) >= 1 and int(widths.max()) <= width):
            raise ValueError(f"widths must be from 1 to the images' {width}, got {widths.tolist()}")

    def token_mask(self, widths: Tensor | None, columns: int) -> Tensor | None:
        """(B, N), True where a token holds at least one pixel of its image; None when there is no padding."""
        if widths is None:
            return None
        starts = torch.arange(columns, device=self.norm.weight.device) * self.config.tile_size[1]
        real = starts < widths[:, None].to(starts.device)  # (B, columns)
        return real[:, None, :].expand(-1, self.config.grid[0], -1).flatten(1)


class Encoder(_Part):
    """The diagram's Encoder_Transformer: images to latent; the mean of the tokens is the latent."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.tile_size, config.latent_dim)
        self.pos_embed = PositionalEncoding(config.grid, config.latent_dim)
        self.blocks = Blocks(
            (TransformerBlock(config) for _ in range(config.encoder_layers)), config.use_gradient_checkpointing
        )
        self.norm = nn.LayerNorm(config.latent_dim, config.norm_eps)

    def forward(self, x: Tensor, widths: Tensor | None = None, maps: list[Tensor] | None = None) -> Tensor:
        """Images (B, 1, H, W) -> latent (B, D); where a list is given, each layer's (B, N, N) is appended to it.

        Raises ValueError if the images or widths do not fit the config.
        """
        tokens, mask = self.embed_tokens(x, widths)
        return self.pool(self.blocks(tokens, mask, maps), mask)

    def embed_tokens(self, x: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Images (B, 1, H, W) -> tokens (B, N, D) before the first block, and their mask (B, N) or None.

        Raises ValueError if the images or widths do not fit the config.
        """
        height = self.config.input_size[0]
        if x.ndim != 4 or x.shape[1] != 1 or x.shape[2] != height or not x.is_floating_point():
            grey = {
                2: "; add the axes of batch and channel by x[None, None]",
                3: "; add the channel's axis by x[:, None]",
            }
            raise ValueError(
                f"images must be float (B, 1, {height}, W), got {x.dtype} {tuple(x.shape)}{grey.get(x.ndim, '')}"
            )
        width = x.shape[3]
        self.check_width(width)
        ink = 1 - x
        if widths is not None:
            self.check_widths(widths, x.shape[0], width)
            beyond = torch.arange(width, device=x.device) >= widths[:, None].to(x.device)
            ink = ink.masked_fill(beyond[:, None, None], 0)  # whatever stands there, NaN included
        if _has_values(ink):
            least, most = torch.stack(ink.aminmax()).tolist()
            if not (least >= -SLACK and most <= 1 + SLACK):
                raise ValueError(
                    f"images must be in [0, 1], 0 black and 1 white, got {1 - most:g} to {1 - least:g}; divide 8-bit ones by "
                    "255, and replace what is no number"
                )
        rows, columns = self.config.grid_for(width)
        tile_height, tile_width = self.config.tile_size
        ink = nn.functional.pad(ink, (0, columns * tile_width - width, 0, rows * tile_height - height))
        return self.patch_embed(ink) + self.pos_embed(columns), self.token_mask(widths, columns)

    def pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens (B, N, D) after the last block -> latent (B, D): the mean of the real ones."""
        x = self.norm(x)
        if mask is None:
            return x.mean(dim=1)
        real = mask[..., None].to(x.dtype)
        return (x * real).sum(dim=1) / real.sum(dim=1)


class Decoder(_Part):
    """The diagram's Decoder_Transformer: latent to images."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.latent_dim
        self.config = config
        self.expand = nn.Linear(dim, dim)
        self.pos_embed = PositionalEncoding(config.grid, dim)
        rank = config.position_rank
        self.start = LowRankStart(config.grid, dim, rank) if rank else None
        self.blocks = Blocks(
            (TransformerBlock(config) for _ in range(config.decoder_layers)), config.use_gradient_checkpointing
        )
        self.norm = nn.LayerNorm(dim, config.norm_eps)
        tile_height, tile_width = (side + 2 * config.overlap for side in config.tile_size)
        self.proj = nn.Linear(dim, tile_height * tile_width)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def forward(
        self, latent: Tensor, width: int | None = None, widths: Tensor | None = None, maps: list[Tensor] | None = None
    ) -> Tensor:
        """Latent (B, D) -> images (B, 1, H, width); the width may be left out where the config fixes it, or `widths` tell.

        Raises ValueError if the latent or the width does not fit the config.
        """
        if latent.ndim != 2 or latent.shape[1] != self.config.latent_dim:
            raise ValueError(f"latent must be (B, {self.config.latent_dim}), got {tuple(latent.shape)}")
        if width is None:
            width = self.config.input_size[1] if widths is None else int(widths.max())
        if width is None:
            raise ValueError("width must be given: this model decodes any width")
        self.check_width(width)
        if widths is not None:
            self.check_widths(widths, latent.shape[0], width)
        columns = self.config.grid_for(width)[1]
        tokens = self.blocks(self.start_tokens(latent, columns), self.token_mask(widths, columns), maps)
        return self.draw(tokens, width, widths)

    def start_tokens(self, latent: Tensor, columns: int) -> Tensor:
        """Latent (B, D) -> tokens (B, N, D), before the first block."""
        expanded = self.expand(latent)
        x = expanded[:, None] + self.pos_embed(columns)
        return x if self.start is None else x + self.start(expanded, columns)

    def draw(self, x: Tensor, width: int, widths: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) after the last block -> images (B, 1, H, width), 0 beyond each one's own width."""
        return self.draw_normed(self.norm(x), width, widths)

    def draw_normed(self, x: Tensor, width: int, widths: Tensor | None = None) -> Tensor:
        """`draw` for tokens that have been through the norm."""
        config, grid = self.config, self.config.grid_for(width)
        mask = self.token_mask(widths, grid[1])
        ink = unpatchify(self.proj(x), grid, config.tile_size, config.overlap, mask)
        images = 1 - ink[..., : config.input_size[0], :width]
        if widths is None:
            return images
        columns = torch.arange(width, device=images.device)
        return images * (columns < widths[:, None].to(images.device))[:, None, None]


def _has_values(tensor: Tensor) -> bool:
    """Whether values can be looked at: inside a compiled graph that would break it, and a plan's tensors have none."""
    return not (torch.compiler.is_compiling() or tensor.is_meta or isinstance(tensor, FakeTensor))


class TransformerAutoencoder(nn.Module):
    """The autoencoder of the architecture diagram (its AutoEncoder_TransformerV2_0).

    Every method takes images (B, 1, H, W), float in [0, 1], 0 black, of the config's `input_size`, and, for batches
    of mixed widths, `widths` (B,): each image's own width in pixels, the rest being padding on the right, which is
    masked everywhere and comes back as 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(
        self, x: Tensor, return_attention: bool = False, widths: Tensor | None = None
    ) -> tuple[Tensor, AttentionInfo | None]:
        """Reconstruct images.

        Returns:
            The reconstruction (B, 1, H, W), near [0, 1] but not clipped to it, and None or the attention maps
            {"encoder": [(B, N, N), ...], "decoder": [...]}, one for each layer, rows = query, heads averaged.

        Raises:
            ValueError: If the images or widths do not fit the config.
        """
        attention: AttentionInfo = {"encoder": [], "decoder": []}
        latent = self.encoder(x, widths, attention["encoder"] if return_attention else None)
        recon = self.decoder(latent, x.shape[-1], widths, attention["decoder"] if return_attention else None)
        return recon, attention if return_attention else None

    def embed(self, x: Tensor, widths: Tensor | None = None) -> Tensor:
        """Images -> latent (B, latent_dim): everything the decoder will know.

        Raises ValueError if the images or widths do not fit the config.
        """
        return self.encoder(x, widths)

    Embedding = embed  # the specification's spelling

    def decode(self, latent: Tensor, width: int | None = None, widths: Tensor | None = None) -> Tensor:
        """Latent (B, latent_dim) -> images (B, 1, H, width).

        The width may be left out where the config fixes it, or taken from the widest of `widths` (B,), each image's own width in
        pixels. Raises ValueError if the latent or the width does not fit the config.
        """
        return self.decoder(latent, width, widths)

    def get_attention_maps(self, x: Tensor, part: str = "encoder", widths: Tensor | None = None) -> dict[str, Tensor]:
        """Where the encoder or decoder placed weight, layer by layer, averaged over heads; no gradients.

        {"layer_0": (B, N, N), ..., "average": (B, N, N)}: rows = query, columns = key, rows sum to 1; rows and columns of padding
        are 0. `average` is the mean over layers. Raises ValueError if the images, widths or part do not fit.
        """
        self._part(part)
        with torch.no_grad():
            maps: list[Tensor] = []
            if part == "encoder":
                self.encoder(x, widths, maps)
            else:
                self.decoder(self.encoder(x, widths), x.shape[-1], widths, maps)
            named = {f"layer_{layer}": attention_map for layer, attention_map in enumerate(maps)}
            average = maps[0].clone()
            for attention_map in maps[1:]:
                average += attention_map
            named["average"] = average.div_(len(maps))
        return named

    @torch.no_grad()
    def get_attention_heads(
        self,
        x: Tensor,
        layer: int,
        queries: Tensor | list[int] | None = None,
        part: str = "encoder",
        widths: Tensor | None = None,
    ) -> Tensor:
        """The weights (B, heads, Q, N) of every head in one layer, from 0; rows sum to 1, those and columns of padding are 0.

        Queries are token numbers (Q,) in row order; None: all N. Layers above are not run. Raises ValueError if an argument does
        not fit.
        """
        tokens, mask = self.layer_input(x, layer, part, widths)
        last = tokens.shape[1] - 1
        if queries is not None:
            queries = torch.as_tensor(queries, dtype=torch.long, device=tokens.device)
            if queries.ndim != 1 or (queries.numel() and not 0 <= int(queries.min()) <= int(queries.max()) <= last):
                raise ValueError(f"queries must be token numbers from 0 to {last}, got {queries.tolist()}")
        return self.blocks(part)[layer].head_weights(tokens, mask, queries)

    def layer_input(
        self, x: Tensor, layer: int, part: str = "encoder", widths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D) as they enter one layer, and the mask (B, N) or None; layers above are not run.

        Raises ValueError if an argument does not fit.
        """
        blocks = self.blocks(part)
        if not 0 <= layer < len(blocks):
            raise ValueError(f"layer must be from 0 to {len(blocks) - 1}, got {layer}")
        tokens, mask = self.encoder.embed_tokens(x, widths)
        if part == "decoder":
            latent = self.encoder.pool(self.encoder.blocks(tokens, mask), mask)
            tokens = self.decoder.start_tokens(latent, self.config.grid_for(x.shape[-1])[1])
        for block in islice(blocks, layer):
            tokens = block(tokens, mask)
        return tokens, mask

    def finish(self, tokens: Tensor, part: str, width: int, widths: Tensor | None = None) -> Tensor:
        """The rest of the way for tokens (B, N, D) that leave a part's last block, the counterpart of `layer_input`.

        Images (B, 1, H, width).
        """
        self._part(part)
        if part == "decoder":
            return self.decoder.draw(tokens, width, widths)
        mask = self.encoder.token_mask(widths, self.config.grid_for(width)[1])
        return self.decoder(self.encoder.pool(tokens, mask), width, widths)

    def get_config(self) -> dict:
        """Plain dict of the config's fields; `create_autoencoder(**config)` builds the same model."""
        return config_to_dict(self.config)

    def blocks(self, part: str) -> Blocks:
        """The layers of a part. Raises ValueError if the part is unknown."""
        return self._part(part).blocks

    def _part(self, part: str) -> Encoder | Decoder:
        if part not in PARTS:
            raise ValueError(f"part must be 'encoder' or 'decoder', got {part!r}")
        return self.encoder if part == "encoder" else self.decoder


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """A model without dropout inside, and afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def create_autoencoder(
    input_size: tuple[int, int | None] = (201, 201), preset: str | None = "medium", **fields: object
) -> TransformerAutoencoder:
    """Build a model from a preset; any `ModelConfig` field may be given as keyword.

    `input_size` is (height, width) in pixels; width None: any width up to `max_width`. `num_encoder_layers` and
    `num_decoder_layers` are taken for `encoder_layers` and `decoder_layers`. Without a preset, `ModelConfig`'s own defaults
    hold. Raises ValueError if the preset or a field is unknown, one is given by both names, or a value is refused.
    """
    for part in PARTS:
        name, alias = f"{part}_layers", f"num_{part}_layers"
        if name in fields and alias in fields:
            raise ValueError(f"{alias} is another name of {name}: give one of them")
        if alias in fields:
            fields[name] = fields.pop(alias)
    if input_size in ((1280, 152), [1280, 152]):
        warnings.warn(
            "input_size is (height, width), so (1280, 152) is 152 pixels wide; for images 1280 wide give (152, 1280)",
            stacklevel=2,
        )
    if preset is None:
        return TransformerAutoencoder(config_from_dict({"input_size": input_size, **fields}))
    return TransformerAutoencoder(preset_config(preset, input_size=input_size, **fields))

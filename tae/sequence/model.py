"""Image sequences: frames -> embeddings -> LSTM -> predictions, and predictions back to images.

The diagram's chain, (B, T, 1, H, W) -> (B, T, latent_dim) -> (B, T, hidden_dim) -> predictions. By default the LSTM
predicts the next frame's embedding, which the autoencoder's decoder draws; other heads predict numbers or classes,
frame by frame.

Inside, the LSTM works in coordinates in which squared distance is error in pixels (`tae.sequence.metric`), each
coordinate divided by its spread. Predictions of the next embedding are changes of the last one, and start as none.

Everywhere `lengths` (B,) are the real frames of each sequence, None all T; `width` is that of the images in pixels,
where the autoencoder takes any. What does not fit raises ValueError.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tae.model.autoencoder import TransformerAutoencoder, eval_mode
from tae.model.config import Number, Whole, check_fields
from tae.sequence.metric import metric_factor

HEADS = ("next", "regression", "classification")
MAX_HEADER = 200
CHUNK = 32  # frames embedded or decoded at once: the memory of a long sequence is bounded by it

State = tuple[Tensor, Tensor]  # state of an LSTM: hidden and cell, each (num_layers, B, hidden_dim)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What a model with the head "regression" or "classification" answers, in a table's terms; ValueError if a value is none.

    Columns of a table are named by their headers, with the unit in brackets.
    """

    header: str
    """The column that is predicted."""
    classes: tuple[str, ...] = ()
    """Its values, in the order of the outputs; () for a number."""
    inputs: tuple[str, ...] = ()
    """Columns that enter the LSTM beside the latent, frame by frame."""
    columns: tuple[str, ...] = ()
    """Columns that the linear baseline without any image reads."""
    window: Annotated[int, Whole(2, 100_000)] = 16
    """Most frames that a prediction is made from: the last ones."""
    is_per_frame: bool = False
    """Whether the target changes within a sequence."""

    def __post_init__(self) -> None:
        for name in ("classes", "inputs", "columns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        check_fields(self)
        if not isinstance(self.is_per_frame, bool):
            raise ValueError(f"is_per_frame must be true or false, got {self.is_per_frame!r:.80}")
        for text in (self.header, *self.classes, *self.inputs, *self.columns):
            if not isinstance(text, str) or not text or len(text) > MAX_HEADER:
                raise ValueError(f"columns and classes must be texts of 1 to {MAX_HEADER} characters, got {text!r:.80}")


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """The shape of a sequence model beside its autoencoder; checked when it is made.

    ValueError if a value has the wrong type, leaves its range, or does not fit the others.
    """

    latent_dim: Annotated[int, Whole(1, 8192)]
    hidden_dim: Annotated[int, Whole(1, 8192)] = 256
    num_layers: Annotated[int, Whole(1, 16)] = 2
    head: str = "next"
    """"next": the next frame's embedding; "regression": `num_outputs` numbers; "classification": logits of as many
    classes."""
    num_outputs: int | None = None
    """None for "next"."""
    dropout: Annotated[float, Number(0, 0.95)] = 0.0
    """Between the LSTM's layers; with a target, before the head too."""
    target: TargetConfig | None = None
    """What the outputs are, where they are a table's; None for "next"."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, got {self.head!r:.80}")
        if self.head == "next" and self.num_outputs is not None:
            raise ValueError(f"num_outputs must be None where head is 'next', got {self.num_outputs!r:.80}")
        if self.head != "next":
            Whole(1, 65_536).check("num_outputs", self.num_outputs)
        if isinstance(self.target, dict):
            object.__setattr__(self, "target", _target_of(self.target))
        if self.target is not None:
            outputs = {"regression": 1, "classification": max(2, len(self.target.classes))}.get(self.head)
            if (
                outputs is None
                or self.num_outputs != outputs
                or bool(self.target.classes) != (self.head != "regression")
            ):
                raise ValueError(
                    f"a target must have one output and no classes, or an output for each of two classes or more, got head "
                    f"{self.head!r} with {self.num_outputs} outputs and {len(self.target.classes)} classes"
                )

    @property
    def num_inputs(self) -> int:
        """Numbers of a table that enter the LSTM beside each latent."""
        return len(self.target.inputs) if self.target else 0


class SequenceModel(nn.Module):
    """An LSTM on the embeddings of an autoencoder.

    Batches of mixed lengths are padded at the end, with anything, and `lengths` (B,) beside them say how many frames each
    one has; padding influences nothing and comes back as 0.

    The autoencoder is frozen: its parameters ask for no gradient from then on, and it stays in eval mode. With `fine_tune`
    it is trained too, and follows `train()` and `eval()`.
    """

    centre: Tensor
    factor: Tensor
    inverse: Tensor
    spread: Tensor
    input_scale: Tensor
    """(2, num_inputs): mean and spread of the table's inputs."""
    target_scale: Tensor
    """(2,): mean and spread of the target; 0 and 1 for classes."""
    training_mean: Tensor
    """(num_outputs,): the mean of the training targets, or the share of each class."""
    linear_latent: Tensor
    """(num_outputs, latent_dim + 1): the linear baseline on the mean latent, its intercept last."""
    linear_columns: Tensor
    """(num_outputs, len(columns) + 1): the same on the table's columns."""
    column_means: Tensor
    """(len(columns),): what stands in for a value that is not there."""

    def __init__(
        self,
        autoencoder: TransformerAutoencoder,
        hidden_dim: int = 256,
        num_layers: int = 2,
        head: str = "next",
        num_outputs: int | None = None,
        dropout: float = 0.0,
        fine_tune: bool = False,
        target: TargetConfig | None = None,
    ) -> None:
        super().__init__()
        dim = autoencoder.config.latent_dim
        self.config = SequenceConfig(
            latent_dim=dim,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            head=head,
            num_outputs=num_outputs,
            dropout=dropout,
            target=target,
        )
        self.fine_tune = fine_tune
        self.autoencoder = autoencoder.requires_grad_(fine_tune)
        num_inputs = self.config.num_inputs
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(dim + num_inputs, hidden_dim, num_layers, batch_first=True, dropout=between)
        self.head = nn.Linear(hidden_dim, num_outputs or dim)
        if head == "next":
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.register_buffer("centre", torch.zeros(dim))
        for name in ("factor", "inverse"):
            identity = torch.zeros(
                dim, dim
            )  # torch.eye takes seconds on the meta device: it imports PyTorch's compiler
            self.register_buffer(name, identity if identity.is_meta else identity.fill_diagonal_(1))
        self.register_buffer("spread", torch.ones(dim))
        if self.config.target is not None:
            outputs, columns = self.head.out_features, len(self.config.target.columns)
            self.register_buffer("input_scale", torch.tensor([[0.0] * num_inputs, [1.0] * num_inputs]))
            self.register_buffer("target_scale", torch.tensor([0.0, 1.0]))
            self.register_buffer("training_mean", torch.zeros(outputs))
            self.register_buffer("linear_latent", torch.zeros(outputs, dim + 1))
            self.register_buffer("linear_columns", torch.zeros(outputs, columns + 1))
            self.register_buffer("column_means", torch.zeros(columns))
        self.train(self.training)

    def train(self, mode: bool = True) -> "SequenceModel":
        """Switch to training or evaluation; an autoencoder that is used as it is stays in evaluation."""
        super().train(mode)
        if not self.fine_tune:
            self.autoencoder.eval()  # no dropout in what is used as it is
        return self

    @torch.no_grad()
    def set_coordinates(self, latents: Tensor, metric: Tensor | None = None) -> None:
        """Choose the coordinates that the LSTM works in, before training.

        Args:
            latents: (n, latent_dim) of at least two training frames: their mean becomes 0, their spread 1 in each coordinate.
            metric: (latent_dim, latent_dim), see `decoder_metric`; None: all numbers of a latent count alike.
        """
        dim = self.config.latent_dim
        if latents.ndim != 2 or latents.shape[1] != dim or len(latents) < 2 or not torch.isfinite(latents).all():
            raise ValueError(f"latents must be finite (n, {dim}) with n at least 2, got {tuple(latents.shape)}")
        if metric is not None and metric.shape != (dim, dim):
            raise ValueError(f"metric must be ({dim}, {dim}), got {tuple(metric.shape)}")
        latents = latents.double().cpu()
        identity = torch.eye(dim, dtype=torch.float64)
        factor = identity if metric is None else metric_factor(metric.cpu())
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        coordinates = (latents - latents.mean(dim=0)) @ factor
        spread = coordinates.std(dim=0)
        spread = spread.clamp(min=1e-3 * float(spread.max()) or 1.0)  # a coordinate that never varies says nothing
        buffers = (self.centre, self.factor, self.inverse, self.spread)
        for buffer, value in zip(buffers, (latents.mean(dim=0), factor, inverse, spread), strict=True):
            buffer.copy_(value)

    def forward(self, frames: Tensor, lengths: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """Predictions at every frame of (B, T, 1, H, W) in [0, 1] from it and those before.

        (B, T, latent_dim), at t the embedding of frame t + 1; or (B, T, num_outputs), numbers in the table's units, logits of
        classes. `inputs` (B, T, num_inputs) are the table's, in its units.
        """
        return self.predict(self.embed(frames, lengths), lengths, inputs)

    def embed(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, 1, H, W) in [0, 1] -> embeddings (B, T, latent_dim)."""
        if frames.ndim != 5:
            raise ValueError(f"frames must be (B, T, 1, H, W), got {tuple(frames.shape)}")
        mask = _mask(frames, lengths)
        latents = self.head.weight.new_zeros(*mask.shape, self.config.latent_dim)
        embedded = torch.cat([self.autoencoder.embed(chunk) for chunk in frames[mask].split(CHUNK)])
        return latents.masked_scatter(mask[..., None], embedded.to(latents))

    def predict(self, latents: Tensor, lengths: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, latent_dim) -> predictions, as `forward`."""
        mask, latents = self._checked(latents, lengths)
        hidden, _ = self._run(latents, mask, inputs)
        return self._answer(latents, hidden) * mask[..., None]

    def hidden(self, latents: Tensor, lengths: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """Embeddings (B, T, latent_dim) -> the LSTM's output (B, T, hidden_dim)."""
        mask, latents = self._checked(latents, lengths)
        return self._run(latents, mask, inputs)[0]

    def forecast(self, latents: Tensor, steps: int, lengths: Tensor | None = None) -> Tensor:
        """Predict (B, steps, latent_dim) on from embeddings (B, T, latent_dim), each taken for the truth by the next."""
        if self.config.head != "next":
            raise ValueError(f"head must be 'next' to go on with predictions, got {self.config.head!r}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        mask, latents = self._checked(latents, lengths)
        hidden, state = self._run(latents, mask)
        last = mask.sum(dim=1) - 1
        rows = torch.arange(len(latents), device=latents.device)
        latent, hidden = latents[rows, last], hidden[rows, last]
        predicted = [self._answer(latent, hidden)]
        for _ in range(steps - 1):
            out, state = self.lstm(self._coordinates(predicted[-1])[:, None], state)
            predicted.append(self._answer(predicted[-1], out[:, 0]))
        return torch.stack(predicted, dim=1)

    def decode(self, latents: Tensor, width: int | None = None) -> Tensor:
        """Embeddings (..., latent_dim) -> images (..., 1, H, W), near [0, 1] but not clipped to it."""
        return decode_sequence(self.autoencoder, latents, width)

    def squared_errors(self, predicted: Tensor, latents: Tensor) -> Tensor:
        """(..., latent_dim) twice -> (...): squared distance in the model's metric, about the mean squared pixel error."""
        return ((predicted - latents) @ self.factor).square().sum(dim=-1)

    def own_state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint: all but the autoencoder's, or with them where it is fine-tuned."""
        state = self.state_dict()
        return {name: state[name] for name in state if self.fine_tune or not name.startswith("autoencoder.")}

    def _checked(self, latents: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mask (B, T), and latents that are 0 in the padding, whatever stood there, NaN included."""
        if latents.ndim != 3 or latents.shape[2] != self.config.latent_dim:
            raise ValueError(f"latents must be (B, T, {self.config.latent_dim}), got {tuple(latents.shape)}")
        mask = _mask(latents, lengths)
        return mask, latents.masked_fill(~mask[..., None], 0)

    def _coordinates(self, latents: Tensor) -> Tensor:
        return (latents - self.centre) @ self.factor / self.spread

    def _run(self, latents: Tensor, mask: Tensor, inputs: Tensor | None = None) -> tuple[Tensor, State]:
        """Hidden (B, T, hidden_dim), 0 in the padding, and the state after each one's last real frame."""
        entering, num_inputs = self._coordinates(latents), self.config.num_inputs
        if num_inputs:
            if inputs is None or inputs.shape != (*mask.shape, num_inputs):
                got = None if inputs is None else tuple(inputs.shape)
                raise ValueError(f"inputs must be {(*mask.shape, num_inputs)}, numbers of the table, got {got}")
            centre, spread = self.input_scale
            numbers = (inputs.to(entering).masked_fill(~mask[..., None], 0) - centre) / spread
            entering = torch.cat([entering, numbers], dim=-1)
        packed = pack_padded_sequence(entering, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        out, state = self.lstm(packed)
        return pad_packed_sequence(out, batch_first=True, total_length=latents.shape[1])[0], state

    def _answer(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """The head's answer (..., outputs), given the latents (..., D) that `hidden` has just seen."""
        if self.config.target is not None:
            hidden = nn.functional.dropout(hidden, self.config.dropout, self.training)
        out = self.head(hidden)
        if self.config.head == "next":
            return latents + (out * self.spread) @ self.inverse
        return out * self.target_scale[1] + self.target_scale[0] if self.config.target else out


def _target_of(values: dict) -> TargetConfig:
    """A target as JSON has it. ValueError if it names an unknown field."""
    try:
        return TargetConfig(**values)
    except TypeError as error:
        raise ValueError(f"a target must have the fields of TargetConfig: {str(error)[:200]}") from None


def embed_sequence(
    model: TransformerAutoencoder,
    frames: Tensor | Iterable[Tensor | np.ndarray],
    chunk: int = CHUNK,
    lengths: Tensor | None = None,
) -> Tensor:
    """The latents on the CPU of one sequence of any length, or of a batch, `chunk` frames at a time, as in eval mode.

    Args:
        frames: (T, 1, H, W) in [0, 1], or one after the other (1, H, W) or (H, W), at least one: an iterable is never held
            whole. Or a batch (B, T, 1, H, W).
        lengths: (B,) real frames of each sequence of a batch; None: all T.

    Returns:
        (T, latent_dim); of a batch (B, T, latent_dim), 0 behind each sequence's end.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if isinstance(frames, Tensor) and frames.ndim == 5:
        mask = _mask(frames, lengths)
        embedded = embed_sequence(model, frames[mask], chunk)
        return embedded.new_zeros(*mask.shape, embedded.shape[1]).masked_scatter(mask.cpu()[..., None], embedded)
    if lengths is not None:
        raise ValueError("lengths belong to a batch (B, T, 1, H, W); one sequence is as long as its frames")
    weight = model.encoder.norm.weight
    with eval_mode(model), torch.no_grad():
        latents = [model.embed(part.to(weight)).cpu() for part in _chunks(frames, chunk)]
    if not latents:
        raise ValueError("frames must hold at least one frame, got none")
    return torch.cat(latents)


def decode_sequence(
    model: TransformerAutoencoder,
    latents: Tensor,
    width: int | None = None,
    decoded: Callable[[int], object] = lambda count: None,
) -> Tensor:
    """Latents (..., latent_dim) -> images (..., 1, H, W), a few at a time, near [0, 1] but not clipped to it.

    The autoencoder is in eval mode; `decoded` is told how many more are done, after each chunk.
    """
    images = []
    for chunk in latents.flatten(0, -2).to(model.decoder.expand.weight).split(CHUNK):
        images.append(model.decode(chunk, width))
        decoded(len(chunk))
    return torch.cat(images).unflatten(0, latents.shape[:-1])


def pad_sequences(sequences: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences (T, ...) of any lengths -> one batch (B, longest T, ...), 0 behind each, and lengths (B,)."""
    found = list(sequences)
    lengths = torch.tensor([len(sequence) for sequence in found])
    return nn.utils.rnn.pad_sequence(found, batch_first=True), lengths


def _chunks(frames: Tensor | Iterable[Tensor | np.ndarray], chunk: int) -> Iterator[Tensor]:
    """Batches (n, 1, H, W) of up to `chunk` frames."""
    if isinstance(frames, Tensor):
        if frames.ndim != 4:
            raise ValueError(f"frames must be (T, 1, H, W) or (B, T, 1, H, W), got {tuple(frames.shape)}")
        yield from frames.split(chunk) if len(frames) else ()
        return
    rest = iter(frames)
    while some := [torch.as_tensor(frame) for frame in islice(rest, chunk)]:
        yield torch.stack([frame[None] if frame.ndim == 2 else frame for frame in some])


def _mask(values: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T), True where a frame is real, for values (B, T, ...)."""
    batch, longest = values.shape[:2]
    if lengths is None:
        if not longest:
            raise ValueError("a sequence must have at least one frame, got none")
        return torch.ones(batch, longest, dtype=torch.bool, device=values.device)
    if lengths.shape != (batch,) or not (int(lengths.min()) >= 1 and int(lengths.max()) <= longest):
        raise ValueError(f"lengths must be ({batch},) numbers from 1 to {longest}, got {lengths.tolist()}")
    return torch.arange(longest, device=values.device) < lengths[:, None].to(values.device)

"""The common part of trainings on sequences, whether the next frame is learnt or a target."""

import math
import platform
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tae.sequence.checkpoint import save_sequence
from tae.sequence.config import SequenceRecord, SequenceTrainConfig
from tae.sequence.model import SequenceModel
from tae.store.card import Card
from tae.store.checkpoint import Loaded
from tae.training.distributed import World
from tae.training.optim import optimizer_tensors, restore_optimizers, set_lr
from tae.training.run.loop import Loop, NotFiniteError

Tell = Callable[[str], Callable[[int, int], None]]


class SequenceLoop(Loop[SequenceRecord]):
    """A training of an LSTM: its record, its optimizer, its card.

    Attributes:
        model: What is trained, and saved.
        learning: The modules that are trained, by name; made by `_make`.
    """

    model: SequenceModel
    learning: nn.ModuleDict

    def __init__(
        self,
        config: SequenceTrainConfig,
        loaded: Loaded,
        source: Any,
        world: World,
        folder: Path,
        notify: Callable[[str], None],
        tell: Tell,
    ) -> None:
        super().__init__(config, source, world, folder, notify)
        self.loaded, self.tell = loaded, tell
        self.asked_to_stop: Callable[[], int] = lambda: False
        self.is_under_way = False  # from then on, a stop is one after a step
        self._make()
        assert config.lr is not None
        groups: list[dict] = [{"params": self._of(lambda name: name != "encoder"), "lr": config.lr}]
        if "encoder" in self.learning:
            groups.append({"params": self._of(lambda name: name == "encoder"), "lr": config.encoder_lr})
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay)
        if self.state is not None:
            self._restore(self.state)
            restore_optimizers(self.learning, [self.optimizer], self.state.tensors)

    @abstractmethod
    def _make(self) -> None:
        """Make the model, new or from the state, and what learns of it."""

    def _of(self, is_meant: Callable[[str], bool]) -> list[nn.Parameter]:
        return [one for name, module in self.learning.items() if is_meant(name) for one in module.parameters()]

    def go(self, should_stop: Callable[[], int]) -> Generator[SequenceRecord]:
        """Take the steps that are left, as `Loop.go` does; the request to stop is heard in other phases, too."""
        self.asked_to_stop = should_stop
        yield from super().go(should_stop)

    def _record(
        self, loss: float, lr_share: float, grad_norm: float, pace: float, looked: dict[str, Any]
    ) -> SequenceRecord:
        lr, left = (self.config.lr or 0) * lr_share, pace * (self.steps - self.step)
        return SequenceRecord(self.step, self.steps, loss, lr, grad_norm, self.config.batch_size / pace, left, **looked)

    def _descend(
        self, loss: Tensor, told: Tensor, lr_share: float, clipped: Iterable[list[nn.Parameter]]
    ) -> tuple[float, float]:
        """One optimizer step down a loss.

        Args:
            loss: What is differentiated.
            told: What is told of it.
            lr_share: Of the peak learning rates.
            clipped: Parameters whose gradients are clipped together; the first norm is told.

        Raises:
            NotFiniteError: If the loss or a gradient is no number; the weights are as they were.
        """
        self.optimizer.zero_grad()
        loss.backward()
        norms = [float(nn.utils.clip_grad_norm_(some, self.config.clip_norm)) for some in clipped]
        value = told.item()
        if not math.isfinite(value) or not all(map(math.isfinite, norms)):
            self.optimizer.zero_grad()
            raise NotFiniteError("the loss is no longer a number", "lower --lr")
        set_lr([self.optimizer], lr_share)
        self.optimizer.step()
        return value, norms[0]

    def _tensors(self) -> dict[str, Tensor]:
        own = {f"model.{name}": tensor for name, tensor in self._weights().items()}
        return own | optimizer_tensors(self.learning, [self.optimizer])

    def _weights(self) -> dict[str, Tensor]:
        """The weights of the state, by name."""
        return self.model.own_state()

    def _save(self, name: str, metrics: dict, is_stopped: bool) -> Path:
        """Write the checkpoint, with its card."""
        config, source = self.config, self.source
        on_cpu = self.world.device.type == "cpu"
        training = {
            "data": source.data,
            "command": self.commands,
            "seed": config.seed,
            "steps": self.step,
            "batch_size": config.batch_size,
            "sequences": source.num_sequences,
            "seconds": round(self.seconds),
            "cpu_seconds": round(self.cpu_seconds),
            "hardware": f"{platform.machine()} CPU" if on_cpu else torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "finished": not is_stopped,
            "curve": self.curve,
        }
        card = Card(
            name=config.name or name, training=training, metrics=metrics, data=source.data, licence=source.licence
        )
        config.out_path.parent.mkdir(parents=True, exist_ok=True)
        return save_sequence(config.out_path, self.model, card, self.loaded.card.name)

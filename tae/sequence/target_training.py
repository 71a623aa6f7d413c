"""Training an LSTM to predict a number or a class of a table from latents; beside it, the same on shuffled targets."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tae.sequence import target
from tae.sequence.labelled import Labelled
from tae.sequence.model import SequenceModel, embed_sequence, pad_sequences
from tae.sequence.steps import SequenceLoop
from tae.store.card import Card
from tae.store.checkpoint import save_checkpoint

STOPPED_SEQUENCES = 64
"""A run that was asked to stop measures no more of each group."""


class TargetTraining(SequenceLoop):
    """The parts of one training on a target.

    Two LSTMs begin alike and learn from the same clips at once; `twin` gets another sequence's targets, and tells what can be
    reached without anything to learn. Where the encoder is fine-tuned, the twin keeps the frozen one.
    """

    def _make(self) -> None:
        config, source = self.config, self.source
        shape: dict[str, Any] = {
            "hidden_dim": config.hidden_dim,
            "num_layers": config.num_layers,
            "head": "classification" if source.target.classes else "regression",
            "num_outputs": len(source.target.classes) or 1,
            "dropout": config.dropout,
            "target": source.target,
        }
        self.twin = SequenceModel(self.loaded.model, **shape)
        self.model = SequenceModel(self.loaded.model, **shape, fine_tune=config.fine_tune)
        if self.state is None:
            latents = torch.cat([one.latents for one in source.train])
            self.model.set_coordinates(latents[np.random.default_rng(0).permutation(len(latents))[:8192]])
            target.fit_baselines(self.model, source.train)
            own = {
                name: tensor for name, tensor in self.model.state_dict().items() if not name.startswith("autoencoder.")
            }
            self.twin.load_state_dict(own, strict=False)
        else:
            found = self._weights_in_state(self._weights())
            twin = {
                name.removeprefix("twin."): one for name, one in found.items() if not name.startswith("autoencoder.")
            }
            self.twin.load_state_dict(twin, strict=False)
            own = {name: one for name, one in found.items() if not name.startswith("twin.")}
            self.model.load_state_dict(own, strict=False)
        self.model.to(self.world.device)
        self.twin.to(self.world.device)
        modules: dict[str, nn.Module] = {"lstm": self.model.lstm, "head": self.model.head}
        modules |= {"twin_lstm": self.twin.lstm, "twin_head": self.twin.head}
        if config.fine_tune:
            self.loaded.model.decoder.requires_grad_(False)  # no target tells it anything
            modules["encoder"] = self.loaded.model.encoder
        self.learning = nn.ModuleDict(modules)

    def _weights(self) -> dict[str, Tensor]:
        twin = self.twin.own_state()
        return self.model.own_state() | {
            f"twin.{name}": twin[name] for name in twin if name.split(".")[0] in ("lstm", "head")
        }

    def _begin(self, stack: ExitStack) -> None:
        self.watched = [self._around_a_value(one) for one in self.source.watch[: self.config.held_out_sequences]]

    def _around_a_value(self, one: Labelled) -> Labelled:
        """As many frames as a prediction is made from, with the first value of the target among them."""
        window = self.source.target.window
        first = int((~one.target.isnan()).int().argmax())
        start = max(0, min(first, len(one.latents) - window))
        return one.cut(start, start + window)

    def _learn(self, lr_share: float) -> tuple[float, float]:
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, self.step]).generate_state(1)[0]))
        clips = self.source.batch(self.step, self.config.batch_size)
        self.is_under_way = True
        self.twin.train()
        self.model.train()
        own = self._loss(self.model, clips, target.padded([one.target for one in clips]))
        twin = self._loss(self.twin, clips, target.padded([one.shuffled for one in clips]))
        names = [name for name in self.learning if not name.startswith("twin")]
        parts = [self._of(names.__contains__), self._of(lambda name: name.startswith("twin"))]
        return self._descend(own + twin, own, lr_share, parts)

    def _loss(self, model: SequenceModel, clips: list[Labelled], truth: Tensor) -> Tensor:
        latents = [one.latents for one in clips]
        if model.fine_tune:
            latents = [torch.cat([model.autoencoder.embed(one.frames().to(self.world.device))]) for one in clips]
        batch, lengths = pad_sequences(latents)
        inputs, _ = pad_sequences([one.inputs for one in clips])
        answers = model.predict(batch.to(self.world.device), lengths, inputs.to(self.world.device))
        return target.masked_loss(model, answers, truth.to(self.world.device))

    @torch.no_grad()
    def _look(self, loss: float) -> dict[str, Any]:
        """The loss on held-out sequences: the model's, and that of the mean of the training targets."""
        self.model.eval()
        truth = target.padded([one.target for one in self.watched])
        own = float(self._loss(self.model, self.watched, truth))
        mean = self.model.training_mean.clamp_min(1e-12)  # a share of 0 has no logarithm
        answers = (mean.log() if self.source.target.classes else self.model.training_mean).expand(*truth.shape, -1)
        base = float(target.masked_loss(self.model, answers, truth.to(answers.device)))
        looked = {"held_out_loss": own, "held_out_copy": base}
        self.curve.append({"step": self.step, "loss": loss, **looked})
        return looked

    def _write(self, is_stopped: bool) -> Any:
        self.is_under_way = True
        self.model.eval()
        self.twin.eval()
        most = STOPPED_SEQUENCES if is_stopped else None
        groups = {name: [(one, self._latents(one)) for one in some[:most]] for name, some in self.source.tests.items()}
        metrics = target.evaluate_target(self.model, groups, self.twin)
        for sentence in target.sentences(metrics):
            self.notify(sentence)
        self._tell_figures(metrics)
        name = f"{self.source.name}, {self.source.target.header} from {self.loaded.card.name}"
        saved = self._save(name, metrics, is_stopped)
        if self.config.fine_tune:
            self._save_encoder()
        return saved

    def _latents(self, one: Labelled) -> Tensor:
        """Those that the model reads."""
        return embed_sequence(self.model.autoencoder, one.frames()) if self.model.fine_tune else one.latents

    def _save_encoder(self) -> None:
        path = self.config.encoder_path
        path.parent.mkdir(parents=True, exist_ok=True)
        card = Card(
            name=f"{self.loaded.card.name}, encoder fine-tuned",
            training={"data": self.source.data, "command": self.commands, "steps": self.step, "seed": self.config.seed},
            data=self.source.data,
            licence=self.source.licence,
            notes=f"The encoder learnt {self.source.target.header} from sequences; the decoder stayed as it was, and no longer "
            "fits it.",
        )
        save_checkpoint(path, self.model.autoencoder, card)
        self.notify(f"the fine-tuned encoder is {path}")

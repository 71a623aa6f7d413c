"""Fixtures that the tests of pages share: an empty shelf of checkpoints, and small models on it."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.store.card import Card
from tae.store.checkpoint import save_checkpoint
from tae.ui.session import work


@pytest.fixture(autouse=True)
def no_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether work waits for a click hangs on this machine's speed, and on what else it does."""
    monkeypatch.setattr(work, "LONG_S", math.inf)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of `checkpoints/`."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setenv("TAE_CHECKPOINTS", str(folder))
    return folder


@pytest.fixture
def store(shelf: Path) -> Callable[..., Path]:
    """Saves a small model there."""

    def save(file: str, change: Callable[[TransformerAutoencoder], None] | None = None, **card: object) -> Path:
        model = TransformerAutoencoder(preset_config("tiny", encoder_layers=1, decoder_layers=1)).eval()
        if change:
            with torch.no_grad():
                change(model)
        fields = {"name": "A model", "training": {"steps": 1}, "metrics": {}, "data": "", "licence": "", "notes": ""}
        return save_checkpoint(shelf / file, model, Card(**{**fields, **card}))  # type: ignore[arg-type]

    return save

"""Names that users of AutoEncoder_TransformerV2_0 type."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tae


def test_their_presets_build_ours() -> None:
    assert list(tae.PRESET_CONFIGS) == list(tae.PRESETS)
    assert tae.create_autoencoder(**tae.PRESET_CONFIGS["tiny"]).config == tae.PRESETS["tiny"]


def test_a_map_is_saved_as_a_heatmap(tmp_path: Path) -> None:
    weights = torch.softmax(torch.randn(1, 12, 12), dim=-1)
    tae.visualize_attention_map(weights, tmp_path / "map.png", "layer_0")
    tae.visualize_attention_map(np.eye(16, dtype=np.float32), str(tmp_path / "map.svg"), "of $x$")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "of $x$" in (tmp_path / "map.svg").read_text()
    with pytest.raises(ValueError, match=r"map must be one map \(N, N\).*got \(2, 12, 12\)"):
        tae.visualize_attention_map(weights.repeat(2, 1, 1), tmp_path / "x.png")

"""Names that users of AutoEncoder_TransformerV2_0 type, for what has other names here."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tae.analysis.facts import UNIFORM_LIMIT
from tae.model.config import PRESETS, config_to_dict
from tae.plots.export.figures import attention_figure
from tae.plots.export.render import Format

PRESET_CONFIGS: dict[str, dict[str, Any]] = {name: config_to_dict(config) for name, config in PRESETS.items()}
"""`tae.PRESETS` as plain dicts."""


def visualize_attention_map(map: Any, save_path: str | Path, title: str = "") -> None:
    """Save one attention map as a heatmap, rows query, columns key; `attention_figure` does more.

    Args:
        map: Weights (N, N) or (1, N, N), an array or a tensor: one layer of `get_attention_maps`, of one image.
        save_path: File that is written: SVG where its name ends so, else PNG.
        title: Stands below.

    Raises:
        ValueError: If the map has another shape, or holds what is no number.
        OSError: If the file cannot be written.
    """
    weights = np.asarray(map.detach().float().cpu() if hasattr(map, "detach") else map, dtype=np.float32)
    weights = weights[0] if weights.ndim == 3 and len(weights) == 1 else weights
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or not weights.size or not np.isfinite(weights).all():
        raise ValueError(
            f"map must be one map (N, N) or (1, N, N) of finite weights, got {weights.shape}; take one layer of one image"
        )
    side = math.isqrt(len(weights))
    grid = (side, side) if side**2 == len(weights) else (1, len(weights))
    fmt: Format = "svg" if Path(save_path).suffix.lower() == ".svg" else "png"
    top = max(UNIFORM_LIMIT, float(weights.max()) * len(weights))
    Path(save_path).write_bytes(attention_figure(weights, grid, title, top, fmt))

"""Shared by tests of figures: maps and images to draw, and what the browser would show of a trace."""

import json
import re
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go


def random_map(num_tokens: int, seed: int = 0) -> np.ndarray:
    """(N, N) float32 whose rows sum to 1, far from uniform and from symmetric; read-only, as caches hand it out."""
    logits = 2 * np.random.default_rng(seed).standard_normal((num_tokens, num_tokens))
    weights = np.exp(logits)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def single_weight(num_tokens: int, query: int, key: int, weight: float = 0.5) -> np.ndarray:
    attention_map = np.zeros((num_tokens, num_tokens), np.float32)
    attention_map[query, key] = weight
    return attention_map


def grey_image(height: int = 40, width: int = 70) -> np.ndarray:
    image = np.random.default_rng(1).random((height, width)).astype(np.float32)
    image.flags.writeable = False
    return image


def traces(figure: go.Figure, kind: type) -> list:
    return [trace for trace in figure.data if isinstance(trace, kind)]


def hover(trace, x: object, y: object, z: object = None, customdata: object = None) -> str:
    """What the browser shows for one point: the template filled in, numbers in Python's format for d3's."""

    def fill(match: re.Match) -> str:
        value = {"x": x, "y": y, "z": z, "customdata": customdata}[match["name"]]
        if match["index"] is not None:
            value = value[int(match["index"])]  # type: ignore[index]
        return format(value, match["format"] or "")

    template = trace.hovertemplate.removesuffix("<extra></extra>")
    return re.sub(r"%\{(?P<name>\w+)(\[(?P<index>\d+)\])?(:(?P<format>[^}]*))?\}", fill, template)


def megabytes(figure: go.Figure) -> float:
    return len(str(figure.to_json())) / 1e6


def texts(figure: go.Figure) -> str:
    """All words of the layout."""
    layout = figure.to_dict()["layout"]
    return json.dumps({name: value for name, value in layout.items() if name != "template"}, default=float)


def bar_marker(figure: go.Figure):
    """The marker that carries the colour bar of an overlay."""
    (marker,) = [trace.marker for trace in traces(figure, go.Scatter) if trace.marker.showscale]
    return marker


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """WCAG 2's, from 1 to 21, of colours (red, green, blue) up to 255."""

    def luminance(colour: Sequence[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)

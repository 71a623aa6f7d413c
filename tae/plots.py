"""THROWAWAY until the real one lands."""

import numpy as np, plotly.graph_objects as go


def _f(z, **k):
    f = go.Figure(go.Heatmap(z=np.asarray(z, np.float32), colorscale="Cividis_r", **k))
    f.update_layout(
        height=420, margin=dict(l=40, r=10, t=10, b=40), paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)"
    )
    f.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain")
    f.update_xaxes(constrain="domain")
    return f


def plot_attention_map(m, grid, title="", zmax=None, quantity="weight"):
    return _f(m * len(m), zmin=0, zmax=zmax)


def plot_layer_grid(maps, grid, zmax):
    return _f(np.concatenate([m * len(m) for m in maps.values()], 1), zmin=0, zmax=zmax)


def plot_patch_attention(image, weights, grid, patch_size, query, zmax=None, smooth=False, incoming=False):
    return _f(np.asarray(weights).reshape(grid))


def selected_token(s):
    return None


def plot_signed_error(e, limit=None):
    return _f(e)


def worse_than(p, v, h):
    return 100 - float((np.asarray(p) < v).mean() * 100) if h else 0


def plot_distribution(p, v, l, h):
    return go.Figure(layout=dict(height=80))


def plot_training_curve(c):
    return go.Figure(go.Scatter(x=[p["step"] for p in c], y=[p["held_out_psnr"] for p in c]))

"""Interventions: attention replaced, heads knocked out, patches covered; what that does to the reconstruction.

A model is never changed, not even for a moment (no hooks, no state): one model serves many sessions at once. Whatever
is put in place of weights, heads or pixels leads away from the data that trained the network; it is named beside each
figure.
"""

from tae.causal.interventions import (
    EDITS,
    WEIGHTS,
    Edit,
    Intervention,
    Knockout,
    all_knockouts,
    from_name,
    from_text,
    to_text,
)
from tae.causal.knockouts import ZERO, Baseline, mean_baseline, reconstruct_knocked_out, resample_baseline
from tae.causal.occlusion import (
    Box,
    GradientInput,
    cover_of,
    foreground_tokens,
    gradient_x_input,
    occlusion_effect,
    region_inputs,
)
from tae.causal.predictors import (
    ATTENTION,
    GRADIENT,
    TRIVIAL,
    Interval,
    Scores,
    bootstrap_mean,
    predictors,
    score,
    score_over,
    spearman,
    top_overlap,
    trivial_predictors,
    which_wins,
)
from tae.causal.prefix import Prefix, make_prefix
from tae.causal.replacements import (
    Replacement,
    from_images,
    identity,
    mean_map,
    random_weights,
    reconstruct_with,
    swapped,
    uniform,
)

__all__ = [
    "ATTENTION",
    "EDITS",
    "GRADIENT",
    "TRIVIAL",
    "WEIGHTS",
    "ZERO",
    "Baseline",
    "Box",
    "Edit",
    "GradientInput",
    "Interval",
    "Intervention",
    "Knockout",
    "Prefix",
    "Replacement",
    "Scores",
    "all_knockouts",
    "bootstrap_mean",
    "cover_of",
    "foreground_tokens",
    "from_images",
    "from_name",
    "from_text",
    "gradient_x_input",
    "identity",
    "make_prefix",
    "mean_baseline",
    "mean_map",
    "occlusion_effect",
    "predictors",
    "random_weights",
    "reconstruct_knocked_out",
    "reconstruct_with",
    "region_inputs",
    "resample_baseline",
    "score",
    "score_over",
    "spearman",
    "swapped",
    "to_text",
    "top_overlap",
    "trivial_predictors",
    "uniform",
    "which_wins",
]

"""Interventions: attention replaced, heads knocked out, patches covered; what that does to the reconstruction.

A model is never changed, not even for a moment (no hooks, no state): one model serves many sessions at once. Whatever
is put in place of weights, heads or pixels leads away from the data that trained the network; it is named beside each
figure.
"""

from tae.analysis.causal.curves import Curves, deletion_insertion
from tae.analysis.causal.interventions import (
    Edit,
    Intervention,
    Knockout,
    all_knockouts,
    from_name,
    from_text,
    to_text,
)
from tae.analysis.causal.knockouts import ZERO, Baseline, mean_baseline, reconstruct_knocked_out, resample_baseline
from tae.analysis.causal.occlusion import (
    Box,
    cover_of,
    foreground_tokens,
    gradient_x_input,
    occlusion_effect,
    region_inputs,
)
from tae.analysis.causal.predictors import (
    ATTENTION,
    GRADIENT,
    MAPS,
    TRIVIAL,
    Interval,
    Scores,
    predictors,
    score,
    score_over,
    spearman,
    top_overlap,
    trivial_predictors,
    which_wins,
)
from tae.analysis.causal.prefix import make_prefix
from tae.analysis.causal.replacements import (
    from_images,
    identity,
    mean_map,
    random_weights,
    reconstruct_with,
    uniform,
)
from tae.analysis.causal.study import Study, read_study
from tae.analysis.causal.sweeps import Damage, RemovalCurve, Sweep, damage_of, head_sweep, psnr_each, removal_curve
from tae.analysis.causal.verdicts import (
    REPLACED_BY,
    Necessity,
    Verdict,
    headline,
    necessity,
    quick_necessity,
    verdict,
)

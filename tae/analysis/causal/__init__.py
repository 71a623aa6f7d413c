"""Interventions: attention replaced, heads knocked out, patches covered; what that does to the reconstruction.

A model is never changed, not even for a moment (no hooks, no state): one model serves many sessions at once. Whatever
is put in place of weights, heads or pixels leads away from the data that trained the network; it is named beside each
figure.
"""

from tae.analysis.causal.curves import Curves, deletion_insertion
from tae.analysis.causal.interventions import (
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
from tae.analysis.causal.knockouts import ZERO, Baseline, mean_baseline, reconstruct_knocked_out, resample_baseline
from tae.analysis.causal.occlusion import (
    Box,
    GradientInput,
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
    agreement,
    bootstrap_mean,
    predictors,
    score,
    score_over,
    spearman,
    top_overlap,
    trivial_predictors,
    which_wins,
)
from tae.analysis.causal.prefix import Prefix, make_prefix
from tae.analysis.causal.replacements import (
    Replacement,
    from_images,
    identity,
    mean_map,
    random_weights,
    reconstruct_with,
    swapped,
    uniform,
)
from tae.analysis.causal.study import Study, read_study, study_images, summarise
from tae.analysis.causal.sweeps import Damage, RemovalCurve, Sweep, damage_of, head_sweep, psnr_each, removal_curve
from tae.analysis.causal.verdicts import (
    PRACTICALLY_NOTHING_DB,
    REPLACED_BY,
    Necessity,
    Verdict,
    headline,
    necessity,
    quick_necessity,
    verdict,
)

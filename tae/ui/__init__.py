"""What the pages share: the view and its link, cached models and results, pictures, the sidebar."""

from tae.ui.models import Active, add_model, add_untrained, checkpoints_folder, load_model, model_title
from tae.ui.pictures import Chosen, add_pictures, remove_pictures, sample, uploaded
from tae.ui.results import (
    MAX_MAP_BYTES,
    Result,
    attention_heads,
    attention_maps,
    forward_seconds,
    map_summaries,
    recomputation_error,
    reconstruct,
    training_pace,
    without_attention,
)
from tae.ui.sidebar import fit_or_stop, panels, setup, setup_without_model
from tae.ui.view import DEFAULTS, choose, link, write_link

__all__ = [
    "Active",
    "Chosen",
    "DEFAULTS",
    "MAX_MAP_BYTES",
    "Result",
    "add_model",
    "add_pictures",
    "add_untrained",
    "attention_heads",
    "attention_maps",
    "checkpoints_folder",
    "choose",
    "fit_or_stop",
    "forward_seconds",
    "link",
    "load_model",
    "map_summaries",
    "model_title",
    "panels",
    "recomputation_error",
    "reconstruct",
    "remove_pictures",
    "sample",
    "setup",
    "setup_without_model",
    "training_pace",
    "uploaded",
    "without_attention",
    "write_link",
]

"""What the pages share: the view and its link, cached models and results, pictures, the sidebar."""

from tae.ui.guide import in_demo, prose
from tae.ui.models import (
    Active,
    add_model,
    add_untrained,
    checkpoint_files,
    checkpoints_folder,
    load_model,
    model_title,
    twin,
)
from tae.ui.pictures import Chosen, add_pictures, offered, remove_pictures, sample, uploaded
from tae.ui.results import (
    Result,
    fit,
    forward_seconds,
    reconstruct,
    training_pace,
)
from tae.ui.sidebar import fit_or_stop, panels, setup, setup_without_model, setup_without_picture
from tae.ui.view import DEFAULTS, checked, choose, link, write_link

__all__ = [
    "Active",
    "Chosen",
    "DEFAULTS",
    "Result",
    "add_model",
    "add_pictures",
    "add_untrained",
    "checked",
    "checkpoint_files",
    "checkpoints_folder",
    "choose",
    "fit",
    "fit_or_stop",
    "forward_seconds",
    "in_demo",
    "link",
    "load_model",
    "model_title",
    "offered",
    "panels",
    "prose",
    "reconstruct",
    "remove_pictures",
    "sample",
    "setup",
    "setup_without_model",
    "setup_without_picture",
    "training_pace",
    "twin",
    "uploaded",
    "write_link",
]

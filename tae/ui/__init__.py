"""The app's pages, in Streamlit: controls, one call into the core, one drawing.

- session: what a visitor's session holds: view and link, models, images, results, verdicts
- widgets: controls and drawings that several pages use
- shell: what stands around every page: sidebar, guide, tour, glossary
- explore: Explore
- attention: attention maps, for several pages
- causal: Ablation
- compare: Compare
- layers: Layers
- latent: Latent space
- sequences: Sequences
- checkpoints: Models
- train: Train
"""

from tae.ui.session.images import Chosen, add_images, offered, remove_images, sample, uploaded
from tae.ui.session.models import (
    Active,
    add_model,
    add_untrained,
    checkpoint_files,
    checkpoints_folder,
    keep_model,
    load_model,
    model_title,
    remove_model,
    twin,
)
from tae.ui.session.results import Result, fit, forward_seconds, reconstruct, training_pace
from tae.ui.session.scene import Scene
from tae.ui.session.verdicts import verdicts
from tae.ui.session.view import DEFAULTS, checked, choose, link, write_link
from tae.ui.shell.guide import in_demo, prose
from tae.ui.shell.sidebar import heading, panels, scene_or_stop, setup, setup_without_image, setup_without_model

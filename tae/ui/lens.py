"""The lens of a model on its page: found beside the checkpoint or fitted, and what a picture looks like through it."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import streamlit as st

from tae import lens, runs
from tae.checkpoint import Loaded
from tae.config import ModelConfig
from tae.images import Fitted
from tae.lens import Lens, depth_names
from tae.lens.__main__ import LensConfig, fit_to_file
from tae.ui.models import Active, checkpoint_files
from tae.ui.results import MODEL_LOCK, as_batch, digest_of, pass_seconds, read_only
from tae.ui.work import Progress, measured

PASSES = 2.5
"""Runs of an image through the whole model that fitting takes."""


@dataclass(frozen=True)
class Seen:
    """One part of the model, for one picture, through the lens.

    Attributes:
        part: "encoder" or "decoder".
        names: Of the depths, 0 to L.
        pictures: (L + 1, H, W) float32 in [0, 1]; read only.
        psnr: In dB.
        distance: See `tae.lens.View`; None without a lens.
        unusual: Which states are out of distribution; all False without a lens.
    """

    part: str
    names: list[str]
    pictures: np.ndarray
    psnr: list[float]
    distance: list[float] | None
    unusual: list[bool]


def seen(active: Active, fitted: Fitted, part: str, found: Lens | None, tuned: bool) -> Seen:
    """What each depth of a part gives of a picture."""
    mark = "" if found is None else f"{found.about}|{found.parts[part].psnr_tuned}"
    return _seen(active.loaded.digest, digest_of(fitted), part, tuned, mark, active.loaded, fitted, found)


@st.cache_resource(max_entries=32, show_spinner="Looking through the lens…")
def _seen(
    model_digest: str,
    digest: str,
    part: str,
    tuned: bool,
    mark: str,
    _loaded: Loaded,
    _fitted: Fitted,
    _lens: Lens | None,
) -> Seen:
    with MODEL_LOCK:
        view = lens.look(_loaded.model, as_batch(_fitted), part, _lens, tuned)
    unusual = view.is_unusual
    return Seen(
        part,
        depth_names(len(view.psnr) - 1),
        read_only(view.recons[:, 0, 0].clamp(0, 1).float().numpy()),
        view.psnr[:, 0].tolist(),
        None if view.distance is None else view.distance[:, 0].tolist(),
        [False] * len(view.psnr) if unusual is None else unusual[:, 0].tolist(),
    )


def stored_lens(active: Active) -> Lens | None:
    """The lens that lies beside the checkpoint; None where there is none.

    Raises:
        LensError: If there is one that does not fit, or is damaged.
    """
    path = checkpoint_files().get(active.key)
    if path is None:
        return None
    beside = lens.lens_path(path)
    try:
        info = beside.stat()
        return _load(str(beside), info.st_mtime_ns, info.st_size, active.loaded.digest, active.config)
    except FileNotFoundError:
        return None


@st.cache_resource(max_entries=8, show_spinner=False)
def _load(path: str, mtime_ns: int, size: int, digest: str, _config: ModelConfig) -> Lens:
    return lens.load_lens(Path(path), _config, digest)


def fitted_lens(active: Active) -> Lens | None:
    """Draws a button that fits a lens, then its progress; it is kept beside the checkpoint, or with one that was uploaded.

    Returns:
        None as long as there is none.

    Raises:
        ValueError: If it cannot be fitted.
        OSError: If its images cannot be read, or it cannot be written.
    """
    path = checkpoint_files().get(active.key)
    config = LensConfig(checkpoint=path or Path("model.safetensors"), data=training_data(active))
    seconds = PASSES * (config.train_images + config.test_images) * pass_seconds(active.config)

    def compute(progress: Progress) -> Lens:
        def tell(done: int, total: int) -> None:
            progress(done / total)

        if path is not None:
            return fit_to_file(config, tell)[1]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / config.checkpoint
            copy.write_bytes(st.session_state.uploaded_models[active.key][1])
            return fit_to_file(replace(config, checkpoint=copy), tell)[1]

    return measured("lens", active.loaded.digest, "Fit a lens", seconds, compute, ask=True)  # it may write a file


def training_data(active: Active) -> str:
    """Where the images are that a lens is fitted on: those of the run that made the checkpoint, else "demo"."""
    path = checkpoint_files().get(active.key)
    run = None if path is None else runs.read_run(runs.folder_of(path))
    return "demo" if run is None or run.config is None else run.config.data


def training_strips(active: Active) -> dict[str, Path]:
    """{step: picture} of what the run that made the checkpoint drew of held-out images; empty where it left none."""
    path = checkpoint_files().get(active.key)
    return {} if path is None else {str(int(one.stem)): one for one in runs.strips(runs.folder_of(path))}

"""The lens of a model on its page: found beside the checkpoint or fitted, and what an image looks like through it."""

import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import streamlit as st
import torch

from tae.analysis import lens
from tae.analysis.lens import Lens, depth_names
from tae.data.built_in import source_for
from tae.data.fit import Fitted
from tae.model.config import ModelConfig
from tae.model.metrics import measure
from tae.store.checkpoint import CheckpointError, Loaded, list_checkpoints, load_checkpoint
from tae.training.lens import LensConfig, fit_to_file
from tae.training.run import runs
from tae.ui.session.cache import MODEL_LOCK, kept, read_only
from tae.ui.session.models import Active, checkpoint_files, file_digest
from tae.ui.session.results import as_batch, pass_seconds
from tae.ui.session.scene import Scene
from tae.ui.session.work import Progress, measured

PASSES = 2.5  # runs of an image through the whole model that fitting takes
BYTES_PER_S = 2e8  # about how fast a checkpoint is read and checked


@dataclass(frozen=True)
class Seen:
    """One part of the model, for one image, through the lens."""

    part: str  # "encoder" or "decoder"
    names: list[str]  # of the depths, 0 to L
    images: np.ndarray  # (L + 1, H, W) float32 in [0, 1]; read only
    psnr: list[float]  # in dB
    distance: list[float] | None  # see `tae.analysis.lens.LensImages`; None without a lens
    unusual: list[bool]  # which states are out of distribution; all False without a lens


@dataclass(frozen=True)
class Moment:
    """The weights of a run after some of its steps."""

    key: str  # what the link calls it: the steps that its file is named by, or "end" for the checkpoint itself
    step: int  # steps that the weights have learnt, as its card says
    path: Path | None  # its file; None for the checkpoint itself
    error: str | None  # why it cannot be shown, as far as its header tells; a stranger's text
    size_bytes: int  # of the file


def seen(active: Active, fitted: Fitted, part: str, found: Lens | None, tuned: bool) -> Seen:
    """What each depth of a part gives of an image."""
    mark = "" if found is None else f"{found.about}|{found.parts[part].psnr_tuned}"
    return _seen(active.loaded, fitted, part, tuned, mark, found)


@kept("Looking through the lens…")
def _seen(loaded: Loaded, fitted: Fitted, part: str, tuned: bool, mark: str, _lens: Lens | None) -> Seen:
    with MODEL_LOCK:
        view = lens.look(loaded.model, as_batch(fitted), part, _lens, tuned)
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

    Raises LensError if there is one that does not fit, or is damaged.
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
    except OSError as error:  # a link to itself, a folder that may not be read
        raise lens.LensError(f"{beside.name}: cannot be read ({error.strerror or 'input/output error'})") from error


@kept()
def _load(path: str, mtime_ns: int, size: int, digest: str, _config: ModelConfig) -> Lens:
    return lens.load_lens(Path(path), _config, digest)


def fitted_lens(active: Active) -> Lens | None:
    """Draws a button that fits a lens, then its progress; it is kept beside the checkpoint, or with one that was uploaded.

    None as long as there is none. Raises ValueError if it cannot be fitted, OSError if its images cannot be read, or it
    cannot be written.
    """
    path = checkpoint_files().get(active.key)
    config = LensConfig(checkpoint=path or Path("model.safetensors"), data=training_data(active))

    def compute(progress: Progress) -> Lens:
        def tell(done: int, total: int) -> None:
            progress(done / total)

        if path is not None:
            return fit_to_file(config, tell)[1]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / config.checkpoint
            if active.key not in st.session_state.uploaded_models:
                raise ValueError("the checkpoint's file can no longer be read")
            shutil.copyfile(st.session_state.uploaded_models[active.key].path, copy)
            return fit_to_file(replace(config, checkpoint=copy), tell)[1]

    # It waits for a click, since it may write a file.
    passes = PASSES * (config.train_images + config.test_images)
    return measured(
        "lens", active.loaded.digest, "Fit a lens", lambda: passes * pass_seconds(active.config), compute, ask=True
    )


def training_data(active: Active) -> str:
    """Where the images are that a lens is fitted on: those of the run that made the checkpoint, else those built in."""
    path = checkpoint_files().get(active.key)
    run = None if path is None else runs.read_run(runs.folder_of(path))
    if run is not None and run.config is not None:
        return run.config.data
    return source_for(active.config, active.data).name


def training_strips(active: Active) -> dict[str, Path]:
    """{step: image} of what the run that made the checkpoint drew of held-out images; empty where it left none."""
    path = checkpoint_files().get(active.key)
    return {} if path is None else {str(int(one.stem)): one for one in runs.strips(runs.folder_of(path))}


def moments(active: Active) -> list[Moment]:
    """The snapshots of the run that made the checkpoint, by step, and the checkpoint among them; [] without a snapshot."""
    path = checkpoint_files().get(active.key)
    if path is None:
        return []
    run = active.loaded.card.training.get("run")
    beside = path.with_suffix(".snapshots")  # where they came with the checkpoint
    folder = beside if beside.is_dir() else runs.folder_of(path) / "snapshots"
    kept = {one.name for one in runs.by_step(folder, ".safetensors")}
    found = []
    for listed in list_checkpoints(folder):
        if listed.path.name not in kept:
            continue
        own = int(listed.path.stem)
        error = listed.error
        if listed.config is not None and listed.config != active.config:
            error = f"{listed.path.name}: it is a snapshot of another model"
        elif listed.card is not None and (run is None or f"run {run}." not in listed.card.notes):
            error = (
                f"{listed.path.name}: it is a snapshot of another training, not of the one that made this checkpoint"
            )
        step = own if listed.card is None else _steps(listed.card.training, own)
        found.append(Moment(str(own), step, listed.path, error, listed.size_bytes))
    if not found:
        return []
    end = _steps(active.loaded.card.training, max(one.step for one in found) + 1)
    found = [one for one in found if one.step != end]  # a run that was stopped there, and went on
    found.append(Moment("end", end, None, None, active.loaded.size_bytes))
    return sorted(found, key=lambda one: one.step)


def _steps(training: dict, default: int) -> int:
    """Steps by a card; an untrained model's card says nothing."""
    steps = training.get("steps", 0 if not training else default)
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and 0 <= steps < 10**12 else default


def at_moment(active: Active, moment: Moment) -> Active:
    """The model with the weights of a moment. Raises CheckpointError if its file is refused."""
    if moment.error is not None:
        raise CheckpointError(moment.error)
    if moment.path is None:
        return active
    try:
        info = moment.path.stat()
        digest = file_digest(str(moment.path), info.st_size, info.st_mtime_ns, info.st_ino)
    except OSError:
        raise CheckpointError(f"{moment.path.name}: it is no longer there") from None
    loaded = _load_snapshot(digest, moment.path)
    return Active(f"{active.key}@{moment.key}", loaded.card.name, loaded)


@kept("Loading the snapshot…")
def _load_snapshot(digest: str, _path: Path) -> Loaded:
    return load_checkpoint(_path)


def over_training(scene: Scene, moments: list[Moment]) -> dict[str, float] | None:
    """{moment's key: PSNR in dB of its own reconstruction of an image}, nan where it cannot be read; drawn with progress."""
    size = sum(moment.size_bytes for moment in moments)

    def compute(progress: Progress) -> dict[str, float]:
        found = {}
        for number, moment in enumerate(moments):
            progress(number / len(moments))
            found[moment.key] = _psnr(scene, moment)
        return found

    names = "|".join(f"{moment.key}:{_mark(moment)}" for moment in moments)
    key = f"{scene.key}|{names}"

    words = "Drawing the image with every snapshot"
    return measured(
        "moments", key, words, lambda: len(moments) * pass_seconds(scene.config) + size / BYTES_PER_S, compute
    )


def _mark(moment: Moment) -> str:
    """Changes when the file does."""
    try:
        return "" if moment.path is None else f"{moment.path.stat().st_mtime_ns}"
    except OSError:
        return "gone"


def _psnr(scene: Scene, moment: Moment) -> float:
    """Not kept among the loaded models: there may be many, and large ones. MODEL_LOCK is held."""
    if moment.error is not None:
        return math.nan
    try:
        model = scene.model if moment.path is None else load_checkpoint(moment.path).model
    except CheckpointError:
        return math.nan
    with torch.inference_mode():
        recon = model(scene.batch)[0].clamp(0, 1)[0, 0].numpy()
    return measure(scene.fitted.pixels, recon).psnr

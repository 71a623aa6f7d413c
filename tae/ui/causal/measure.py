"""What the page "Does it matter?" measures of a picture and a model, kept for all sessions; verdicts for other pages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch

from tae import causal
from tae.causal import Baseline, Box, Curves, Damage, Intervention, Necessity, Scores, Study, Sweep, Verdict
from tae.causal.interventions import check
from tae.checkpoint import Loaded
from tae.config import ModelConfig
from tae.datasets import DemoSource
from tae.images import Fitted, background_of, escape_markdown, fit_image
from tae.metrics import Quality, measure
from tae.ui import work
from tae.ui.models import Active, checkpoint_files
from tae.ui.pictures import Chosen
from tae.ui.results import MODEL_LOCK, Result, as_batch, digest_of, pass_seconds, read_only
from tae.ui.work import Progress, measured

OTHERS = 8
"""Other images whose attention makes the mean map; the first of them lends its own."""
MEAN_OVER = 64
"""Demo test images behind the baseline "mean", where they do not take too long."""
COVERS = {
    "white": "White",
    "background": "The background's grey",
    "mean": "The picture's mean grey",
    "blur": "The picture, blurred",
    "another": "The other picture",
}
BASELINES = {"mean": "Mean over test images", "zero": "Zero", "resample": "The other picture's"}


@dataclass(frozen=True)
class Scene:
    """What everything on the page is about.

    Attributes:
        active: The model.
        chosen: The picture.
        fitted: The picture as the model sees it.
        other_title: Of the picture that lends attention, heads, rows and patches; a stranger's text.
        other: That picture, at the same size.
    """

    active: Active
    chosen: Chosen
    fitted: Fitted
    other_title: str
    other: Fitted

    @property
    def key(self) -> str:
        """Names model and pictures in caches."""
        return f"{self.active.loaded.digest}|{digest_of(self.fitted)}|{digest_of(self.other)}"

    @property
    def config(self) -> ModelConfig:
        return self.active.config

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.config.grid_for(self.fitted.pixels.shape[1])

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def is_wide(self) -> bool:
        """Whether pictures go below each other."""
        height, width = self.fitted.pixels.shape
        return width > 2 * height

    def seconds(self, passes: float) -> float:
        """About how long so many runs of one image through the whole model take here."""
        return passes * pass_seconds(self.config) * self.num_tokens / self.config.num_tokens


@dataclass(frozen=True)
class Effect:
    """What covering patches does, beside what predicts it.

    Attributes:
        tokens: (T,) the patches that were covered.
        effect: (T,) mean squared change.
        predicted: {name: (N,)}, of attention, gradient and the trivial ones.
        scores: How well each tells the effect.
    """

    tokens: np.ndarray
    effect: np.ndarray
    predicted: dict[str, np.ndarray]
    scores: Scores


@dataclass(frozen=True)
class Changed:
    """A reconstruction with interventions.

    Attributes:
        plain: The undisturbed result.
        recon: (H, W) in [0, 1].
        quality: Its distance from the picture.
        damage: What was lost.
    """

    plain: Result
    recon: np.ndarray
    quality: Quality
    damage: Damage


def scene(active: Active, chosen: Chosen, fitted: Fitted, other: Chosen) -> Scene:
    """A picture, and another one brought to its size."""
    return Scene(active, chosen, fitted, other.title, fit_image(other.picture.pixels, fitted.pixels.shape))


# ------------------------------------------------------------------------------------------------ is the attention needed?


def find_necessity(scene: Scene) -> Necessity | None:
    """PSNR lost when attention is replaced."""
    layers = scene.config.encoder_layers + scene.config.decoder_layers

    def compute(progress: Progress) -> Necessity:
        images = as_batch(scene.fitted)
        return causal.necessity(scene.active.loaded.model, images, other_images(scene), progress=progress)

    passes = len(causal.REPLACED_BY) * (layers + 2) + 2 * OTHERS
    return measured("necessity", scene.key, "Replacing attention", lambda: scene.seconds(passes), compute)


def replaced(scene: Scene, part: str, place: str) -> dict[str, Result]:
    """{what stood in for the attention, a key of `causal.REPLACED_BY`: the reconstruction}; place as in `Necessity`."""
    return _replaced(scene.key, part, place, scene)


@st.cache_data(max_entries=64, show_spinner="Reconstructing without it…")
def _replaced(key: str, part: str, place: str, _scene: Scene) -> dict[str, Result]:
    model, image = _scene.active.loaded.model, as_batch(_scene.fitted)
    layers = None if place == "all" else [int(place)]
    with MODEL_LOCK:
        others = other_images(_scene)
        by_name = {
            "uniform": causal.uniform,
            "identity": causal.identity,
            "another": causal.from_images(model, others[:1], part),
            "mean": causal.mean_map(model, others, part),
            "random": causal.random_weights(),
        }
        recons = {
            name: causal.reconstruct_with(model, image, replace, part, layers) for name, replace in by_name.items()
        }
    return {name: _result(_scene.fitted, recon) for name, recon in recons.items()}


def study_of(active: Active) -> Study | None:
    """What `python -m tae.causal` found for this checkpoint, where its file lies beside it. Its texts want escaping."""
    path = checkpoint_files().get(active.key)
    if path is None:
        return None
    try:
        beside = path.with_suffix(".causal.json")
        return _study(str(beside), beside.stat().st_mtime_ns, active.loaded.digest)
    except (OSError, ValueError):  # none, or another checkpoint's
        return None


@st.cache_data(max_entries=16, show_spinner=False)
def _study(path: str, mtime_ns: int, digest: str) -> Study:
    return causal.read_study(path, digest)


def verdict_of(active: Active, part: str = "encoder") -> Verdict | None:
    """Whether a part's attention is needed, over demo test images; None where finding out would take long.

    From the study beside the checkpoint, else measured once on a few images. The sentence may be a stranger's text.
    """
    study = study_of(active)
    if study is not None:
        return study.verdict(part)
    if 8 * OTHERS * pass_seconds(active.config) > work.LONG_S:
        return None
    return causal.verdict(_quick_necessity(active.loaded.digest, active.loaded), part)


def verdict(active: Active, part: str = "encoder") -> None:
    """Draw the sentence that belongs above every view of maps which tell little about the picture; else nothing."""
    found = verdict_of(active, part)
    if found is not None and found.tells_little:
        st.warning(escape_markdown(found.sentence), icon=":material/wallpaper:")


@st.cache_data(max_entries=16, show_spinner="Is the attention needed?")
def _quick_necessity(model_digest: str, _loaded: Loaded) -> Necessity:
    model = _loaded.model
    height, width = model.config.input_size
    images = test_images(model.config, width or min(2 * height, model.config.max_width), OTHERS)
    with MODEL_LOCK:
        return causal.quick_necessity(
            model, ((images[number : number + 1], images[number - 1 : number or None]) for number in range(OTHERS))
        )


# ------------------------------------------------------------------------------------------------- heads, layers and MLPs


def baseline_of(scene: Scene, kind: str) -> Baseline:
    """What stands in for what is knocked out; kind: a key of `BASELINES`."""
    if kind == "zero":
        return causal.ZERO
    if kind == "resample":
        return _resample_baseline(f"{scene.active.loaded.digest}|{digest_of(scene.other)}", scene)
    count = MEAN_OVER if scene.seconds(MEAN_OVER) < work.LONG_S else OTHERS
    return _mean_baseline(scene.active.loaded.digest, scene.fitted.pixels.shape[1], count, scene.active.loaded)


@st.cache_resource(max_entries=4, show_spinner="Taking the mean over test images…")
def _mean_baseline(model_digest: str, width: int, count: int, _loaded: Loaded) -> Baseline:
    with MODEL_LOCK:
        return causal.mean_baseline(_loaded.model, test_images(_loaded.model.config, width, count))


@st.cache_resource(max_entries=4, show_spinner=False)
def _resample_baseline(key: str, _scene: Scene) -> Baseline:
    with MODEL_LOCK:
        return causal.resample_baseline(_scene.active.loaded.model, as_batch(_scene.other))


def find_sweep(scene: Scene, kind: str) -> Sweep | None:
    """Each head, each layer's attention and each MLP knocked out, one at a time."""
    passes = len(causal.all_knockouts(scene.config))

    def compute(progress: Progress) -> Sweep:
        return causal.head_sweep(scene.active.loaded.model, as_batch(scene.fitted), stand_in, progress=progress)

    stand_in = baseline_of(scene, kind)
    return measured("sweep", f"{scene.key}|{kind}", "Knocking out heads", lambda: scene.seconds(passes), compute)


def find_removal(scene: Scene, kind: str, sweep: Sweep) -> causal.RemovalCurve | None:
    """Heads removed one after another, the least important first, against random orders."""
    order = sweep.ranking()

    def compute(progress: Progress) -> causal.RemovalCurve:
        model = scene.active.loaded.model
        return causal.removal_curve(model, as_batch(scene.fitted), order, stand_in, progress=progress)

    stand_in = baseline_of(scene, kind)
    name = "Removing head after head"
    return measured("removal", f"{scene.key}|{kind}", name, lambda: scene.seconds(5 * len(order)), compute)


def interventions_of(text: str, config: ModelConfig, num_tokens: int) -> tuple[tuple[Intervention, ...], int]:
    """A link's interventions that fit the model, and how many did not."""
    kept: dict[str, Intervention] = {}
    refused = 0
    for name in text.split(",") if text else []:
        try:
            one = causal.from_name(name)
            check([one], config, num_tokens)
        except ValueError:
            refused += 1
        else:
            # One edit of a kind for each layer; a link with two of them keeps the last.
            kept[one.name if isinstance(one, causal.Knockout) else f"{one.part}/{one.layer}/{one.kind}"] = one
    return tuple(kept.values()), refused


def changed(scene: Scene, interventions: Sequence[Intervention], kind: str) -> Changed:
    """The reconstruction with interventions, beside the undisturbed one."""
    return _changed(scene.key, causal.to_text(interventions), kind, scene)


@st.cache_data(max_entries=256, show_spinner=False)
def _changed(key: str, text: str, kind: str, _scene: Scene) -> Changed:
    model, image = _scene.active.loaded.model, as_batch(_scene.fitted)
    some = causal.from_text(text)
    stand_in = baseline_of(_scene, kind)
    with MODEL_LOCK:
        prefix = causal.make_prefix(model, image)
        needs_donor = any(isinstance(one, causal.Edit) and one.needs_donor for one in some)
        donor = causal.make_prefix(model, as_batch(_scene.other)) if needs_donor else None
        recon, quality, damage = causal.damage_of(model, prefix, some, stand_in, donor)
    return Changed(_result(_scene.fitted, prefix.recon), recon.clamp(0, 1)[0, 0].numpy(), quality, damage)


# ------------------------------------------------------------------------------------------------------ patches covered


def cover(scene: Scene, name: str) -> float | str | torch.Tensor:
    """What the core takes as a baseline of occlusion; name: a key of `COVERS`."""
    if name == "another":
        return as_batch(scene.other)
    return {"white": 1.0, "background": float(background_of(scene.fitted.pixels))}.get(name, name)


def find_effect(
    scene: Scene, cover_name: str, with_blank: bool, region: Box | None, widget: str = "effect"
) -> Effect | None:
    """Each patch covered, the change measured, and how well attention, gradients and trivial guesses tell it."""
    image = as_batch(scene.fitted)
    tokens = torch.arange(scene.num_tokens) if with_blank else causal.foreground_tokens(image, scene.config)

    def compute(progress: Progress) -> Effect:
        model = scene.active.loaded.model
        predicted = {**causal.predictors(model, image), **causal.trivial_predictors(image, scene.config)}
        found = causal.occlusion_effect(
            model, image, cover(scene, cover_name), tokens, region=region, progress=progress
        )
        scores = causal.score(predicted, found, tokens)
        arrays = {name: read_only(one.numpy()) for name, one in predicted.items()}
        return Effect(read_only(tokens.numpy()), read_only(found.numpy()), arrays, scores)

    key = f"{scene.key}|{cover_name}|{with_blank}|{region}"
    return measured(widget, key, "Covering patches", lambda: scene.seconds(len(tokens) + 4), compute)


def find_curves(scene: Scene, cover_name: str, effect: Effect) -> dict[str, Curves] | None:
    """Deletion and insertion curves of every predictor.

    Raises:
        ValueError: If the cover changes nothing.
    """

    def compute(progress: Progress) -> dict[str, Curves]:
        maps = {name: torch.from_numpy(np.array(one)) for name, one in effect.predicted.items() if name != "random"}
        model, image = scene.active.loaded.model, as_batch(scene.fitted)
        return causal.deletion_insertion(model, image, maps, cover(scene, cover_name), progress=progress)

    passes = 2 * 12 * 16  # maps and random orders, both ways, in steps
    key = f"{scene.key}|{cover_name}"
    return measured("curves", key, "Covering and uncovering in order", lambda: scene.seconds(passes), compute)


def find_region(scene: Scene, box: Box, cover_name: str) -> dict[str, np.ndarray] | None:
    """{"gradient": (N,), "occlusion": (N,)}: which patches produce a region of the reconstruction."""

    def compute(progress: Progress) -> dict[str, np.ndarray]:
        model, image = scene.active.loaded.model, as_batch(scene.fitted)
        covered = causal.region_inputs(model, image, box, "occlusion", cover(scene, cover_name), progress)
        gradient = causal.region_inputs(model, image, box)
        return {"gradient": read_only(gradient.numpy()), "occlusion": read_only(covered.numpy())}

    key = f"{scene.key}|{cover_name}|{box}"
    return measured("region", key, "Covering patches", lambda: scene.seconds(scene.num_tokens), compute)


def other_images(scene: Scene) -> torch.Tensor:
    """(`OTHERS`, 1, H, W): the other picture, and demo test images that are neither it nor the picture itself."""
    shown = torch.cat([as_batch(scene.fitted), as_batch(scene.other)])
    return torch.cat([shown[1:], test_images(scene.config, shown.shape[3], OTHERS - 1, shown)])


def test_images(
    config: ModelConfig, width: int, count: int, besides: Sequence[torch.Tensor] | torch.Tensor = ()
) -> torch.Tensor:
    """Demo test images (count, 1, H, width) in [0, 1]; see `DemoSource.test_at`."""
    return DemoSource(config.input_size, config.max_width).test_at(width, count, besides)


def _result(fitted: Fitted, recon: torch.Tensor) -> Result:
    pixels = recon.clamp(0, 1)[0, 0].numpy()
    return Result(fitted, pixels, measure(fitted.pixels, pixels))

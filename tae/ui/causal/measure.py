"""What the page "Does it matter?" measures of a picture and a model, kept for all sessions; verdicts for other pages."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch

from tae.analysis import causal
from tae.analysis.causal import Baseline, Box, Curves, Damage, Intervention, Necessity, Scores, Sweep
from tae.analysis.causal.interventions import check
from tae.analysis.facts import is_wide
from tae.data.fit import Fitted, background_of, fit_image
from tae.model.config import ModelConfig
from tae.model.metrics import Quality, measure
from tae.ui.session import work
from tae.ui.session.models import Active
from tae.ui.session.pictures import Chosen
from tae.ui.session.results import MODEL_LOCK, Result, as_batch, digest_of, pass_seconds, read_only
from tae.ui.session.verdicts import OTHERS, test_images
from tae.ui.session.work import Progress, measured

MEAN_OVER = 64
"""Demo test images behind the baseline "mean"."""
COVERS = {
    "white": "White",
    "background": "The background's grey",
    "mean": "The picture's mean grey",
    "blur": "The picture, blurred",
    "another": "The other picture",
}
MEASURED = "measured effect"
"""Stands beside the maps that would tell it."""
OWN = "one more map"
"""The map that somebody chose to stand beside the others."""
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
        return is_wide(self.fitted.pixels.shape)

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

    def over(self, num_tokens: int, unmeasured: float = math.nan) -> np.ndarray:
        """(N,) the effect of every patch; `unmeasured` where none was measured."""
        whole = np.full(num_tokens, unmeasured, np.float64)
        whole[self.tokens] = self.effect
        return whole


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


# ------------------------------------------------------------------------------------------------- heads, layers and MLPs


def find_baseline(scene: Scene, kind: str, widget: str = "baseline") -> Baseline | None:
    """What stands in for what is knocked out; kind: a key of `BASELINES`."""
    width = scene.fitted.pixels.shape[1]
    model = scene.active.loaded.model
    if kind == "zero":
        return causal.ZERO
    if kind == "resample":
        about = digest_of(scene.other)

        def compute(progress: Progress) -> Baseline:
            return causal.resample_baseline(model, as_batch(scene.other))
    else:
        about = str(width)

        def compute(progress: Progress) -> Baseline:
            return causal.mean_baseline(model, test_images(scene.config, width, MEAN_OVER), progress=progress)

    key = f"{scene.active.loaded.digest}|{kind}|{about}"
    words = "Taking the mean over test images" if kind == "mean" else "Running the other picture"
    passes = MEAN_OVER if kind == "mean" else 1
    return measured(widget, key, words, lambda: scene.seconds(passes), compute, shelf=lambda _, key: _baselines(key))


@st.cache_resource(max_entries=4, show_spinner=False)
def _baselines(key: str) -> dict:
    return {}  # `measured` fills it


def find_sweep(scene: Scene, kind: str) -> Sweep | None:
    """Each head, each layer's attention and each MLP knocked out, one at a time."""
    key = f"{scene.key}|{kind}"
    known = work.known("sweep", key)
    if known is not None:  # its baseline may be gone, and is not missed
        return known
    stand_in = find_baseline(scene, kind)
    if stand_in is None:
        return None
    passes = len(causal.all_knockouts(scene.config))

    def compute(progress: Progress) -> Sweep:
        return causal.head_sweep(scene.active.loaded.model, as_batch(scene.fitted), stand_in, progress=progress)

    return measured("sweep", key, "Knocking out heads", lambda: scene.seconds(passes), compute)


def find_removal(scene: Scene, kind: str, sweep: Sweep) -> causal.RemovalCurve | None:
    """Heads removed one after another, the least important first, against random orders."""
    key = f"{scene.key}|{kind}"
    known = work.known("removal", key)
    if known is not None:
        return known
    order, stand_in = sweep.ranking(), find_baseline(scene, kind, "baseline_here")
    if stand_in is None:
        return None

    def compute(progress: Progress) -> causal.RemovalCurve:
        model = scene.active.loaded.model
        return causal.removal_curve(model, as_batch(scene.fitted), order, stand_in, progress=progress)

    return measured("removal", key, "Removing head after head", lambda: scene.seconds(5 * len(order)), compute)


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


def changed(scene: Scene, interventions: Sequence[Intervention], kind: str) -> Changed | None:
    """The reconstruction with interventions, beside the undisturbed one; None where the baseline was not asked for."""
    stand_in = find_baseline(scene, kind, "baseline_here")
    if stand_in is None:
        return None
    return _changed(scene.key, causal.to_text(interventions), kind, scene, stand_in)


@st.cache_data(max_entries=256, show_spinner=False)
def _changed(key: str, text: str, kind: str, _scene: Scene, _stand_in: Baseline) -> Changed:
    model, image = _scene.active.loaded.model, as_batch(_scene.fitted)
    some = causal.from_text(text)
    with MODEL_LOCK:
        prefix = causal.make_prefix(model, image)
        needs_donor = any(isinstance(one, causal.Edit) and one.needs_donor for one in some)
        donor = causal.make_prefix(model, as_batch(_scene.other)) if needs_donor else None
        recon, quality, damage = causal.damage_of(model, prefix, some, _stand_in, donor)
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


def with_map(effect: Effect, values: np.ndarray) -> Effect:
    """An effect beside one more map that may tell it, (N,)."""
    return _with_map(_digest(effect.tokens, effect.effect, values), effect, values)


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"|".join(one.tobytes() for one in arrays)).hexdigest()


@st.cache_resource(max_entries=16, show_spinner=False)
def _with_map(digest: str, _effect: Effect, _values: np.ndarray) -> Effect:
    predicted = {**_effect.predicted, OWN: read_only(_values)}
    tensors = {one: torch.from_numpy(np.array(values)) for one, values in predicted.items()}
    scores = causal.score(tensors, torch.from_numpy(np.array(_effect.effect)), _effect.tokens.tolist())
    return Effect(_effect.tokens, _effect.effect, predicted, scores)


def find_curves(scene: Scene, cover_name: str, effect: Effect, region: Box | None) -> dict[str, Curves] | None:
    """Deletion and insertion curves of every predictor, and of the measured effect itself.

    Raises:
        ValueError: If the cover changes nothing.
    """
    maps = {name: torch.from_numpy(np.array(one)) for name, one in effect.predicted.items() if name != "random"}
    maps[MEASURED] = torch.from_numpy(effect.over(scene.num_tokens, 0))

    def compute(progress: Progress) -> dict[str, Curves]:
        model, image = scene.active.loaded.model, as_batch(scene.fitted)
        covered_with = cover(scene, cover_name)
        return causal.deletion_insertion(model, image, maps, covered_with, region=region, progress=progress)

    passes = 2 * (len(maps) + 5) * 16  # maps and random orders, both ways, in steps
    key = f"{scene.key}|{cover_name}|{region}|{_digest(*(one.numpy() for one in maps.values()))}"
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


def _result(fitted: Fitted, recon: torch.Tensor) -> Result:
    pixels = recon.clamp(0, 1)[0, 0].numpy()
    return Result(fitted, pixels, measure(fitted.pixels, pixels))

"""Measurements of the page Ablation, kept for all sessions."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from tae.analysis.attention import received
from tae.analysis.causal import (
    curves,
    faithfulness,
    knockouts,
    occlusion,
    patching,
    predictors,
    replacements,
    sweeps,
    verdicts,
)
from tae.analysis.causal.interventions import Edit, Intervention, Knockout, all_knockouts
from tae.analysis.causal.pairs import Patched, against_third
from tae.analysis.causal.prefix import make_prefix
from tae.analysis.causal.relevance import relevance
from tae.analysis.maps import MapChoice, compute_map
from tae.data.fit import Fitted, background_of
from tae.model.metrics import Quality
from tae.ui.session import work
from tae.ui.session.cache import MODEL_LOCK, digest_of, kept, read_only
from tae.ui.session.results import Result, as_batch
from tae.ui.session.scene import Scene
from tae.ui.session.verdicts import OTHERS, study_of, test_images
from tae.ui.session.work import Progress, measured
from tae.web.report import ReportImage
from tae.web.report.pair import WAYS, find_pair, pair_page

MEAN_OVER = 64  # demo test images behind the baseline "mean"
COVERS = {
    "white": "White",
    "background": "The background's grey",
    "mean": "The image's mean grey",
    "blur": "The image, blurred",
    "mean image": "The mean of test images",
    "another": "The other image",
    "imputed": "What its surroundings suggest",
}
"""Those of a study by its keys, and one more."""
MEASURED = "measured effect"  # stands beside the maps that would tell it
OWN = "one more map"  # the map that somebody chose to stand beside the others
BASELINES = {"mean": "Mean", "zero": "Zero", "resample": "Resample"}


@dataclass(frozen=True)
class PairScene(Scene):
    """A model, an image, and another image that lends attention, heads, rows and patches."""

    other_title: str  # title of the other image; a stranger's text
    other: Fitted  # that image, at the same size

    @property
    def key(self) -> str:
        """Names model and both images in caches."""
        return f"{super().key}|{digest_of(self.other)}"


@dataclass(frozen=True)
class Effect:
    """The effect of covering patches, beside the maps that may predict it."""

    tokens: np.ndarray  # (T,) the patches that were covered
    effect: np.ndarray  # (T,) mean squared change
    predicted: dict[str, np.ndarray]  # {name: (N,)}, of attention, gradient and the trivial ones
    scores: predictors.Scores  # how well each tells the effect
    share_inside: float  # part of the effect inside the covered patches, in [0, 1]

    def over(self, num_tokens: int, unmeasured: float = math.nan) -> np.ndarray:
        """(N,) the effect of every patch; `unmeasured` where none was measured."""
        whole = np.full(num_tokens, unmeasured, np.float64)
        whole[self.tokens] = self.effect
        return whole


@dataclass(frozen=True)
class Changed:
    """A reconstruction with interventions."""

    plain: Result  # the undisturbed result
    recon: np.ndarray  # (H, W) in [0, 1]
    quality: Quality  # its distance from the image
    damage: sweeps.Damage  # what was lost


# ------------------------------------------------------------------------------------------------ is the attention needed?


def find_necessity(scene: PairScene) -> verdicts.Necessity | None:
    """PSNR lost when attention is replaced."""
    layers = scene.config.encoder_layers + scene.config.decoder_layers

    def compute(progress: Progress) -> verdicts.Necessity:
        return verdicts.necessity(scene.model, scene.batch, other_images(scene), progress=progress)

    passes = len(verdicts.REPLACED_BY) * (layers + 2) + 2 * OTHERS
    return measured("necessity", scene.key, "Replacing attention", lambda: scene.seconds(passes), compute)


@kept("Reconstructing without it…")
def replaced(scene: PairScene, part: str, place: str) -> dict[str, Result]:
    """{what stood in for the attention, a key of `causal.REPLACED_BY`: the reconstruction}; place as in `Necessity`."""
    model, layers = scene.model, None if place == "all" else [int(place)]
    with MODEL_LOCK:
        others = other_images(scene)
        by_name = {
            "uniform": replacements.uniform,
            "identity": replacements.identity,
            "another": replacements.from_images(model, others[:1], part),
            "mean": replacements.mean_map(model, others, part),
            "permuted": replacements.permuted_keys(),
        }
        recons = {
            name: replacements.reconstruct_with(model, scene.batch, replace, part, layers)
            for name, replace in by_name.items()
        }
    return {name: Result.of(scene.fitted, recon) for name, recon in recons.items()}


# ------------------------------------------------------------------------------------------------- heads, layers and MLPs


def find_baseline(scene: PairScene, kind: str, widget: str = "baseline") -> knockouts.Baseline | None:
    """The baseline for what is knocked out; kind: a key of `BASELINES`."""
    if kind == "zero":
        return knockouts.ZERO
    if kind == "resample":
        about = digest_of(scene.other)

        def compute(progress: Progress) -> knockouts.Baseline:
            return knockouts.resample_baseline(scene.model, as_batch(scene.other))
    else:
        about = f"{scene.width}|{MEAN_OVER}"

        def compute(progress: Progress) -> knockouts.Baseline:
            images = test_images(scene.active, scene.width, MEAN_OVER)
            return knockouts.mean_baseline(scene.model, images, progress=progress)

    key = f"{scene.active.loaded.digest}|{kind}|{about}"
    words = "Taking the mean over test images" if kind == "mean" else "Running the other image"
    passes = MEAN_OVER if kind == "mean" else 1
    lasting = scene.active.lasts and kind == "mean" and knockouts.Baseline  # the other is of a visitor's image
    return measured(widget, key, words, lambda: scene.seconds(passes), compute, lasting=lasting)


def find_sweep(scene: PairScene, kind: str) -> sweeps.Sweep | None:
    """Each head, each layer's attention and each MLP knocked out, one at a time."""
    key = f"{scene.key}|{kind}"
    known = work.known("sweep", key)
    if known is not None:  # its baseline may be gone, and is not missed
        return known
    stand_in = find_baseline(scene, kind)
    if stand_in is None:
        return None
    passes = len(all_knockouts(scene.config))

    def compute(progress: Progress) -> sweeps.Sweep:
        return sweeps.head_sweep(scene.model, scene.batch, stand_in, progress=progress)

    return measured("sweep", key, "Knocking out heads", lambda: scene.seconds(passes), compute)


def find_removal(scene: PairScene, kind: str, sweep: sweeps.Sweep) -> sweeps.RemovalCurve | None:
    """Heads removed one after another, the least important first, against random orders."""
    key = f"{scene.key}|{kind}"
    known = work.known("removal", key)
    if known is not None:
        return known
    order, stand_in = sweep.ranking(), find_baseline(scene, kind, "baseline_here")
    if stand_in is None:
        return None

    def compute(progress: Progress) -> sweeps.RemovalCurve:
        return sweeps.removal_curve(scene.model, scene.batch, order, stand_in, progress=progress)

    return measured("removal", key, "Removing head after head", lambda: scene.seconds(5 * len(order)), compute)


def changed(scene: PairScene, interventions: tuple[Intervention, ...], kind: str) -> Changed | None:
    """The reconstruction with interventions, beside the undisturbed one; None where the baseline was not asked for."""
    baseline = find_baseline(scene, kind, "baseline_here")
    return None if baseline is None else _changed(scene, interventions, kind, baseline)


@kept()
def _changed(
    scene: PairScene, interventions: tuple[Intervention, ...], kind: str, _baseline: knockouts.Baseline
) -> Changed:
    with MODEL_LOCK:
        prefix = make_prefix(scene.model, scene.batch)
        needs_donor = any(isinstance(one, Edit) and one.needs_donor for one in interventions)
        donor = make_prefix(scene.model, as_batch(scene.other)) if needs_donor else None
        recon, quality, damage = sweeps.damage_of(scene.model, prefix, interventions, _baseline, donor)
    plain = Result.of(scene.fitted, prefix.recon)
    return Changed(plain, read_only(recon.clamp(0, 1)[0, 0].numpy()), quality, damage)


# ----------------------------------------------------------------------------------- another image's states put in, cell by cell


@dataclass(frozen=True)
class PutIn:
    """One cell put in."""

    base: np.ndarray  # (H, W) in [0, 1], the undisturbed reconstruction of the image whose run is changed
    source: np.ndarray  # (H, W), that of the image that lends
    recon: np.ndarray  # (H, W), with the cell put in
    share: float  # of the way, see `patching.Way`
    closed: float
    paths: dict[str, float]  # {later place: share of the way through it alone}; empty for patches


def cells_of(scene: PairScene, states: str) -> list[Intervention]:
    """ "heads": each head, layer's attention and MLP; "patches": each patch of each layer."""
    config = scene.config
    return patching.head_cells(config) if states == "heads" else patching.patch_cells(config, scene.width)


def base_and_source(scene: PairScene, into: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The image whose run is changed, "a", the page's own, or "b", the other; and the image that lends its states."""
    own, other = scene.batch, as_batch(scene.other)
    return (own, other) if into == "a" else (other, own)


def find_estimated(scene: PairScene, states: str, into: str, slope_alone: bool = False) -> np.ndarray | None:
    """(K,) the share of the way of each cell by attribution patching; slope_alone: no attention is computed anew.

    Raises ValueError if there is no way.
    """
    base, source = base_and_source(scene, into)

    def compute(progress: Progress) -> np.ndarray:
        cells = cells_of(scene, states)
        return read_only(patching.attribution_patching(scene.model, base, source, cells, not slope_alone))

    # Two passes forward and one back, which takes twice as long; for patches the attention of each layer once more.
    name, key = "slope" if slope_alone else "estimated", f"{scene.key}|{states}|{into}"
    passes = 4 if slope_alone or states == "heads" else 12
    return measured(name, key, "Estimating", lambda: scene.seconds(passes), compute)


def find_patched(scene: PairScene, states: str, into: str) -> Patched | None:
    """Every cell put in. Raises ValueError if there is no way between the two reconstructions."""
    cells = cells_of(scene, states)

    def compute(progress: Progress) -> Patched:
        base, source = (make_prefix(scene.model, one) for one in base_and_source(scene, into))
        third = test_images(scene.active, scene.width, 1, torch.cat([base.images, source.images]))
        return against_third(scene.model, base, source, third, cells, progress)

    # A cell's run begins in its own layer: of the whole, .6 is left on the average.
    key = f"{scene.key}|{states}|{into}"
    return measured("patched", key, "Putting states in", lambda: scene.seconds(2 * 0.6 * len(cells)), compute)


def pair_reporter(scene: PairScene) -> Callable[[], bytes] | None:
    """Makes the HTML report of what was measured of both images; None where it would have to cover patches for long first."""
    effect = work.known("effect", effect_key(scene, "white", False, None))
    if effect is None and scene.seconds(scene.num_tokens) > work.LONG_S:
        return None
    a, b = (
        ReportImage(title=scene.chosen.title, fitted=scene.fitted),
        ReportImage(title=scene.other_title, fitted=scene.other),
    )
    measured_ways = {into: work.known("patched", f"{scene.key}|heads|{into}") for into in WAYS}
    known = {into: one for into, one in measured_ways.items() if one is not None}
    loaded, study = scene.active.loaded, study_of(scene.active)

    def make() -> bytes:
        with MODEL_LOCK.piece():
            found = find_pair(loaded, a, b, known, None if effect is None else effect.over(scene.num_tokens, 0))
        return pair_page(loaded, found, study, scene.active.key).encode()

    return make


@kept("Putting it in…")
def put_in(scene: PairScene, into: str, cell: Intervention) -> PutIn:
    """One cell put in, as an image, and through which later place it acts."""
    with MODEL_LOCK:
        base, source = (make_prefix(scene.model, one) for one in base_and_source(scene, into))
        recon = patching.patched(scene.model, base, source, [[cell]])
        paths = patching.path_patching(scene.model, base, source, cell) if isinstance(cell, Knockout) else {}
        way = patching.Way(base.recon, source.recon)
    before, lent, after = (read_only(one.clamp(0, 1)[0, 0].numpy()) for one in (base.recon, source.recon, recon))
    return PutIn(before, lent, after, float(way.share(recon)), float(way.closed(recon)), paths)


# ------------------------------------------------------------------------------------------------------ patches covered


def cover(scene: PairScene, name: str) -> float | str | torch.Tensor:
    """The cover as the core takes it; name: a key of `COVERS`."""
    if name == "another":
        return as_batch(scene.other)
    if name == "mean image":
        width = scene.fitted.pixels.shape[1]
        return test_images(scene.active, width, OTHERS).mean(dim=0, keepdim=True)
    return {"white": 1.0, "background": float(background_of(scene.fitted.pixels))}.get(name, name)


def effect_key(scene: PairScene, cover_name: str, with_blank: bool, region: occlusion.Box | None) -> str:
    """By what `find_effect` keeps its result."""
    return f"{scene.key}|{cover_name}|{with_blank}|{region}"


def find_effect(scene: PairScene, cover_name: str, with_blank: bool, region: occlusion.Box | None) -> Effect | None:
    """Each patch covered, the change measured, and how well attention, gradients and trivial guesses tell it."""
    image = scene.batch
    tokens = torch.arange(scene.num_tokens) if with_blank else occlusion.foreground_tokens(image, scene.config)

    def compute(progress: Progress) -> Effect:
        model = scene.model
        covered_with = cover(scene, cover_name)
        trivial = predictors.trivial_predictors(image, scene.config, covered_with)
        predicted = {**predictors.predictors(model, image, other_images(scene)), **trivial}
        found = occlusion.occlude(model, image, covered_with, tokens, region=region, progress=progress)
        scores = predictors.score(predicted, found.total, tokens)
        arrays = {name: read_only(one.numpy()) for name, one in predicted.items()}
        effect = read_only(found.total.numpy())
        return Effect(read_only(tokens.numpy()), effect, arrays, scores, found.share_inside)

    key = effect_key(scene, cover_name, with_blank, region)
    return measured("effect", key, "Covering patches", lambda: scene.seconds(len(tokens) + 4 + OTHERS), compute)


@kept()
def with_map(effect: Effect, values: np.ndarray) -> Effect:
    """An effect beside one more map that may tell it, (N,)."""
    predicted = {**effect.predicted, OWN: read_only(values)}
    tensors = {one: torch.from_numpy(np.array(values)) for one, values in predicted.items()}
    scores = predictors.score(tensors, torch.from_numpy(np.array(effect.effect)), effect.tokens.tolist())
    return replace(effect, predicted=predicted, scores=scores)


@dataclass(frozen=True)
class Tested:
    """Maps put to the test beyond one patch at a time; by predictor, and of the measured effect itself."""

    curves: dict[str, curves.Curves]
    infidelity: dict[str, float]
    sensitivity: dict[str, float]  # of maps alone


def find_tested(
    scene: PairScene, cover_name: str, effect: Effect, region: occlusion.Box | None, own: MapChoice
) -> Tested | None:
    """Deletion, insertion, infidelity of every predictor, and sensitivity of maps; own: the choice behind `OWN`.

    Raises ValueError if the cover changes nothing.
    """
    maps = {name: torch.from_numpy(np.array(one)) for name, one in effect.predicted.items() if name != "random"}
    maps[MEASURED] = torch.from_numpy(effect.over(scene.num_tokens, 0))

    def explain(image: torch.Tensor) -> dict[str, torch.Tensor]:
        more = {OWN: received(compute_map(scene.model, image, own))} if OWN in maps else {}
        return predictors.predictors(scene.model, image) | more

    def compute(progress: Progress) -> Tested:
        model, image, covered_with = scene.model, scene.batch, cover(scene, cover_name)
        tokens = torch.from_numpy(np.array(effect.tokens))
        drawn = curves.deletion_insertion(
            model, image, maps, covered_with, region=region, progress=lambda share: progress(0.7 * share)
        )
        told = faithfulness.infidelity(
            *(model, image, maps, tokens, covered_with),
            region=region,
            progress=lambda share: progress(0.7 + 0.1 * share),
        )
        return Tested(
            drawn,
            told,
            faithfulness.max_sensitivity(explain, image, progress=lambda share: progress(0.8 + 0.2 * share)),
        )

    passes = 2 * (len(maps) + 5) * 16  # maps and random orders, both ways, in steps
    passes += faithfulness.SETS + 8 * faithfulness.DRAWS
    arrays = [effect.tokens, *(one.numpy() for one in maps.values())]  # blank ones may change nothing, and be covered
    digest = hashlib.sha256(b"|".join(one.tobytes() for one in arrays)).hexdigest()
    key = f"{scene.key}|{cover_name}|{region}|{digest}"
    return measured("curves", key, "Putting maps to the test", lambda: scene.seconds(passes), compute)


def find_region(scene: PairScene, box: occlusion.Box, cover_name: str) -> dict[str, np.ndarray] | None:
    """{how: (N,)}: which patches produce a region, by "gradient", "occlusion" and "relevance"; "decoder": its positions."""

    def compute(progress: Progress) -> dict[str, np.ndarray]:
        model, image = scene.model, scene.batch
        covered = occlusion.region_inputs(model, image, box, "occlusion", cover(scene, cover_name), progress)
        gradient, relevant = occlusion.region_inputs(model, image, box), relevance(model, image, box)
        found = {"gradient": gradient, "occlusion": covered, "relevance": relevant.encoder, "decoder": relevant.decoder}
        return {how: read_only(one.numpy()) for how, one in found.items()}

    key = f"{scene.key}|{cover_name}|{box}"
    return measured("region", key, "Covering patches", lambda: scene.seconds(scene.num_tokens), compute)


def other_images(scene: PairScene) -> torch.Tensor:
    """(`OTHERS`, 1, H, W): the other image, and demo test images that are neither it nor the image itself."""
    shown = torch.cat([scene.batch, as_batch(scene.other)])
    return torch.cat([shown[1:], test_images(scene.active, shown.shape[3], OTHERS - 1, shown)])

"""Interventions over many images: what `python -m tae.causal` finds, and the file that a page reads it from."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch import Tensor

from tae.analysis.causal.faithfulness import RADIUS, SETS, SHARE, infidelity, max_sensitivity
from tae.analysis.causal.interventions import from_name
from tae.analysis.causal.knockouts import Baseline
from tae.analysis.causal.occlusion import COVERS, foreground_tokens, occlude
from tae.analysis.causal.pairs import (
    ERRORS,
    GROUPS,
    PairFigures,
    in_percent,
    means_over,
    over_pairs,
    pair_record,
    pairs_in_words,
)
from tae.analysis.causal.predictors import (
    agreement,
    as_json,
    bootstrap_mean,
    interval_of,
    number,
    over_covers,
    plain,
    predictors,
    score_over,
    trivial_predictors,
    which_wins,
)
from tae.analysis.causal.prefix import make_prefix
from tae.analysis.causal.sweeps import head_sweep
from tae.analysis.causal.verdicts import REPLACED_BY, Necessity, Verdict, necessity, verdict
from tae.data.batches import to_batch
from tae.data.fit import background_of
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import PARTS
from tae.store.regular import parse_json, read_regular

PROGRAM = "tae.causal"
FORMAT_VERSION = 5
READABLE = (3, 4, FORMAT_VERSION)  # 3 has no infidelity and no sensitivity, 4 no pairs
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OTHERS = 8  # other images whose attention stands in for an image's own: one lends its attention, all make the mean map
COVER_IMAGES = 32  # the first of the images: on these patches are covered, which costs most
PAIRS = 16  # of the first images, none in two of them, whose states are put into each other's run
MAX_BYTES = 1_000_000
_UNSEALED, _END = "0" * 64, b'"\n}\n'
_GROUPS = ("spearman", "overlap", "infidelity")  # of a cover, each with an interval for each predictor
_MEASURES = ("psnr_lost", "ssim_lost", "mse_gained")
_EARLIER = {"ink in the patch": "darkness of the patch", "decorative": "not needed", "wallpaper": "input-independent"}
"""{what a name was in files that were written before: what it is}."""


def study_images(
    model: TransformerAutoencoder, images: Sequence[np.ndarray], baseline: Baseline, first: int = 0
) -> Iterator[dict]:
    """All interventions on one image after another, from number `first` on; a reader that stops ends the work.

    Args:
        images: uint8 (H, W) in [0, 255], at least two; each is computed alone, at its own width.
        baseline: What stands in for what is knocked out.

    Yields:
        For each image plain JSON values: its PSNR, {knock-out: damage}, {part/place/replacement: PSNR lost}, and by cover the
        agreement of predictors with the effect of covering a patch that is not blank.

    Raises:
        ValueError: If there are fewer than two images, one does not fit, or the model draws no finite numbers from it.
    """
    if len(images) < 2:
        raise ValueError(f"images must be at least 2, for one lends its attention to another, got {len(images)}")
    parameter = next(model.parameters())
    for index in range(first, len(images)):
        image = to_batch([images[index]])[0].to(parameter)
        width = images[index].shape[1]
        places = [(index + step) % len(images) for step in range(1, min(OTHERS, len(images) - 1) + 1)]
        others = to_batch([_at_width(images[place], width) for place in places])[0].to(parameter)
        prefix = make_prefix(model, image)
        if not bool(prefix.recon.isfinite().all()):
            raise ValueError(f"the model draws no finite numbers from image {index}, so there is nothing to compare")
        sweep = head_sweep(model, prefix, baseline, with_ssim=True)
        lost = necessity(model, image, others).lost
        yield {
            "psnr": plain(sweep.plain.psnr),
            "damage": {
                one.name: [plain(getattr(damage, measure)) for measure in _MEASURES]
                for one, damage in sweep.damage.items()
            },
            "lost": {"/".join(key): plain(float(value[0])) for key, value in lost.items()},
            "covers": _covered(model, image, others) if index < COVER_IMAGES else {},
            "pair": _paired(model, image, others) if index in range(0, min(2 * PAIRS, len(images) - 1), 2) else {},
            "sensitivity": _sensitivity(model, image) if index < COVER_IMAGES else {},
        }


def _paired(model: TransformerAutoencoder, image: Tensor, others: Tensor) -> dict[str, dict[str, float | None]]:
    """The image and the one after it, and the one after that as the control; {} where there is no third."""
    if len(others) < 2:
        return {}
    found = pair_record(model, image, others[:1], others[1:2])
    return {group: {name: plain(value) for name, value in some.items()} for group, some in found.items()}


def _sensitivity(model: TransformerAutoencoder, image: Tensor) -> dict[str, float | None]:
    found = max_sensitivity(lambda one: predictors(model, one), image)
    return {name: plain(value) for name, value in found.items()}


def _covered(model: TransformerAutoencoder, image: Tensor, others: Tensor) -> dict[str, dict]:
    """What covering the patches of one image does, and how well it is told, by cover."""
    baselines: dict[str, float | str | Tensor] = {"white": 1.0, "mean": "mean", "blur": "blur"}
    baselines |= {"mean image": others.mean(dim=0, keepdim=True), "another": others[:1], "imputed": "imputed"}
    tokens, of_network, found = foreground_tokens(image, model.config), predictors(model, image, others), {}
    for name in COVERS:
        effect = occlude(model, image, baselines[name], tokens)
        trivial = trivial_predictors(image, model.config, baselines[name])
        maps = {**of_network, **trivial}
        spearmans, overlaps = agreement(maps, effect.total, tokens)
        unfaithful = (
            infidelity(model, image, maps, tokens, baselines[name]) if len(tokens) else dict.fromkeys(maps, math.nan)
        )
        found[name] = {
            "spearman": {one: plain(value) for one, value in spearmans.items()},
            "overlap": {one: plain(value) for one, value in overlaps.items()},
            "infidelity": {one: plain(value) for one, value in unfaithful.items()},
            "inside": plain(effect.share_inside),
        }
    return found


class CoverFigures(TypedDict):
    """Means over images of what covering their patches with one cover does, each with its interval."""

    count: int  # images
    spearman: dict[str, dict[str, float | None]]  # {predictor: rank correlation with the effect}
    overlap: dict[str, dict[str, float | None]]  # {predictor: share of the strongest patches in common}
    infidelity: dict[str, dict[str, float | None]]  # {predictor: infidelity}; empty in files of format 3
    inside: dict[str, float | None]  # share of the effect inside the covered patch


@dataclass(frozen=True)
class Study:
    """Interventions over many images. One that was read from a file may be a stranger's: its texts want escaping."""

    checkpoint_sha256: str
    data: str  # what the images are, in words
    num_images: int
    baseline: str  # what stood in for what was knocked out, in words
    psnr: list[float | None]  # quantiles (`QUANTILES`) over images of the undisturbed reconstructions, in dB
    damage: dict[str, dict[str, list[float | None]]]
    """{name of a knock-out: {"psnr_lost", "ssim_lost", "mse_gained": quantiles over images}}."""
    necessity: dict[str, dict[str, float | None]]  # {"part/place/replaced by": mean PSNR lost in dB, with its interval}
    covers: dict[str, "CoverFigures"]  # {key of `COVERS`: how well the effect of covering patches with it is told}
    sensitivity: dict[str, dict[str, float | None]]  # {map: largest sensitivity}; empty in files of format 3
    pairs: (
        PairFigures | None
    )  # states of one image in another's run; None in files of formats 3 and 4, or without pairs
    verdicts: dict[str, dict[str, str]]  # {part: its kind and its sentence}
    agreement: str  # whether attention or a simple baseline tells the effect better, in words

    def verdict(self, part: str) -> Verdict:
        """The verdict on a part's attention; its sentence may be a stranger's text."""
        return Verdict(part, "all", self.verdicts[part]["kind"], self.verdicts[part]["sentence"])

    def median_damage(self, knockout: str, measure: str = "psnr_lost") -> float:
        """The median damage of a knock-out by its name; nan where it is unknown."""
        found = self.damage.get(knockout, {}).get(measure)
        middle = found[QUANTILES.index(0.5)] if found else None
        return math.nan if middle is None else middle


def summarise(records: Sequence[dict], sha256: str, data: str, baseline: str, has_attention: bool = True) -> Study:
    """The medians, quantiles and means of at least one record that `study_images` yielded."""
    if not records:
        raise ValueError("images must be at least one, got none")

    def column(group: str, name: str) -> np.ndarray:
        return np.array([number(record[group][name]) for record in records])

    damage = {
        name: {
            measure: _quantiles([number(record["damage"][name][place]) for record in records])
            for place, measure in enumerate(_MEASURES)
        }
        for name in records[0]["damage"]
    }
    lost = {tuple(name.split("/")): column("lost", name) for name in records[0]["lost"]}
    found = Necessity(np.array([number(record["psnr"]) for record in records]), lost, has_attention)
    scores, covers = {}, {}
    for cover in records[0]["covers"]:
        those = [record["covers"][cover] for record in records if record["covers"]]
        columns = {
            group: {name: np.array([number(one[group][name]) for one in those]) for name in those[0][group]}
            for group in ("spearman", "overlap")
        }
        found_here = scores[cover] = score_over(columns["spearman"], columns["overlap"])
        covers[cover] = CoverFigures(
            count=len(those),
            spearman={name: as_json(one) for name, one in found_here.spearman.items()},
            overlap={name: as_json(one) for name, one in found_here.overlap.items()},
            infidelity=_means([one["infidelity"] for one in those]),
            inside=as_json(bootstrap_mean(np.array([number(one["inside"]) for one in those]))),
        )
    pairs = [record["pair"] for record in records if record["pair"]]
    verdicts = {part: verdict(found, part) for part in PARTS}
    told = (
        which_wins(scores["white"], COVERS["white"]),
        over_covers({COVERS[name]: one for name, one in scores.items()}),
    )
    return Study(
        checkpoint_sha256=sha256,
        data=data,
        num_images=len(records),
        baseline=baseline,
        psnr=_quantiles(found.psnr),
        damage=damage,
        necessity={"/".join(key): as_json(found.mean(*key)) for key in found.lost},
        covers=covers,
        sensitivity=_means([record["sensitivity"] for record in records if record["sensitivity"]]),
        pairs=over_pairs(pairs) if pairs else None,
        verdicts={part: {"kind": one.kind, "sentence": one.sentence} for part, one in verdicts.items()},
        agreement=" ".join(filter(None, told)),
    )


def to_json(study: Study) -> bytes:
    """The file that ships beside a checkpoint, as <checkpoint's name without its ending>.causal.json."""
    values = {"program": PROGRAM, "format_version": FORMAT_VERSION, **asdict(study), "seal": _UNSEALED}
    return _sealed((json.dumps(values, allow_nan=False, indent=1) + "\n").encode())


def _sealed(content: bytes) -> bytes:
    """With the SHA-256 of all else in place of the last line's seal; the same where that was right already."""
    start = len(content) - len(_END) - len(_UNSEALED)
    bare = content[:start] + _UNSEALED.encode() + content[-len(_END) :]
    return content[:start] + hashlib.sha256(bare).hexdigest().encode() + content[-len(_END) :]


def read_study(path: Path | str, checkpoint_sha256: str) -> Study:
    """The inverse of `to_json`, for the checkpoint that it was made of.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another checkpoint's, damaged, or not such a file.
    """
    path = Path(path)
    try:
        content = read_regular(path, MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    values = parse_json(content, path.name)
    named = values if isinstance(values, dict) else {}
    program, version = named.pop("program", None), named.pop("format_version", None)
    if program != PROGRAM or version not in READABLE:
        raise ValueError(f"{path.name} must be written by python -m tae.causal, format {FORMAT_VERSION}")
    if not content.endswith(_END) or _sealed(content) != content:
        raise ValueError(f"{path.name} is damaged: its seal does not fit; make it anew with python -m tae.causal")
    del values["seal"]
    values = _renamed(values)
    if values.get("checkpoint_sha256") != checkpoint_sha256:
        raise ValueError(f"{path.name} is of another checkpoint; make it anew with python -m tae.causal")
    if version < FORMAT_VERSION:
        values["pairs"] = None
    if version == 3:
        with suppress(KeyError, AttributeError, TypeError):  # what else is wrong is found below
            values["sensitivity"] = {}
            for figures in values["covers"].values():
                figures["infidelity"] = {}
    if not _is_sound(values):
        raise ValueError(f"{path.name} does not hold the figures that belong there")
    return Study(**values)


def to_markdown(study: Study, name: str) -> str:
    """The figures for a reader; `name` is the checkpoint's, fit to stand in Markdown."""
    places = list(dict.fromkeys(tuple(key.split("/")[:2]) for key in study.necessity))
    lines = [f"# Does the attention matter? {name}", ""]
    lines += [f"{study.num_images} images ({study.data}), checkpoint SHA-256 {study.checkpoint_sha256[:16]}.", ""]
    for part in PARTS:
        columns = [place for own, place in places if own == part]
        lines += [
            study.verdicts[part]["sentence"],
            "",
            f"| {part} attention replaced by | {' | '.join('all' if one == 'all' else f'layer {one}' for one in columns)} |",
            "| --- " * (len(columns) + 1) + "|",
        ]
        for key, words in REPLACED_BY.items():
            cells = [_cell(study.necessity[f"{part}/{place}/{key}"]["value"], " dB") for place in columns]
            lines.append(f"| {words} | {' | '.join(cells)} |")
        lines += ["", "PSNR lost, mean over images.", ""]
    lines += [
        f"| knocked out (replaced by {study.baseline}) | PSNR lost, median (5% to 95%) | SSIM lost, median |",
        "| --- | --- | --- |",
    ]
    order = sorted(study.damage, key=lambda one: -number(study.damage[one]["psnr_lost"][2]))
    for knockout in order:
        low, _, middle, _, high = study.damage[knockout]["psnr_lost"]
        lines.append(
            f"| {from_name(knockout).title} | {_cell(middle)} dB ({_cell(low)} to {_cell(high)}) | "
            f"{_cell(study.damage[knockout]['ssim_lost'][2], digits=3)} |"
        )
    covers = [(COVERS.get(name, name), figures) for name, figures in study.covers.items()]
    lines += [
        "",
        "One at a time: two heads that stand in for each other look dispensable, each alone.",
        "",
        study.agreement,
        "",
        f"| tells the effect of covering a patch with | {' | '.join(cover for cover, _ in covers)} |",
        "| --- " * (len(covers) + 1) + "|",
    ]
    for one in covers[0][1]["spearman"]:
        cells = (_cell(figures["spearman"][one]["value"]) for _, figures in covers)
        lines.append(f"| {one} | {' | '.join(cells)} |")
    lines.append(
        f"| share of the effect inside the patch | {' | '.join(_cell(each['inside']['value']) for _, each in covers)} |"
    )
    lines += ["", f"Spearman's rank correlation, mean over the first {covers[0][1]['count']} images.", ""]
    if study.sensitivity:  # older files have none
        lines += [*_infidelities(study, covers)]
    if study.pairs is not None:
        lines += [*_pairs(study.pairs)]
    return "\n".join([*lines, ""])


def _pairs(figures: PairFigures) -> Iterator[str]:
    yield ""
    yield pairs_in_words(figures)
    yield ""
    yield "| put into another image's run | share of the way | of a third image's | squared distance closed | both ways apart |"
    yield "| --- | --- | --- | --- | --- |"
    groups = [figures[group] for group in ("share", "control", "closed", "apart")]
    for name in sorted(figures["share"], key=lambda name: -number(figures["share"][name]["value"])):
        cells = (in_percent(interval_of(group[name])) for group in groups)
        yield f"| {from_name(name).title} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Activation patching (Vig 2020, Meng 2022; both ways after Heimersheim & Nanda 2024): the states of one image put into "
        "the run of another, one part at a time. Share of the way: how far the reconstruction went towards the other's, along "
        f"the straight line. Figures: {means_over(figures['count'])} (bootstrap over pairs)."
    )


def _infidelities(study: Study, covers: Sequence[tuple[str, CoverFigures]]) -> Iterator[str]:
    yield f"| infidelity, patches covered with | {' | '.join(cover for cover, _ in covers)} | sensitivity |"
    yield "| --- " * (len(covers) + 2) + "|"
    for one in covers[0][1]["infidelity"]:
        cells = [str(interval_of(figures["infidelity"][one])) for _, figures in covers]
        cells.append(str(interval_of(study.sensitivity[one])) if one in study.sensitivity else "")
        yield f"| {one} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Infidelity: how far the sum of a map over a tenth of the patches that are not blank is from what covering these "
        "changes, with the best factor; 0 is all told, 1 no better than a flat map, more is worse. Sensitivity: the largest "
        f"change of the map, as a share of it, when pixels change by up to {RADIUS:g}. Both Yeh 2019; means and 95% intervals "
        "over the same images."
    )


def fingerprint(sha256: str, images: Sequence[np.ndarray], baseline: str) -> str:
    """SHA-256 of all that a study's figures depend on: work that was begun for another one is not gone on with."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {sha256} {baseline} {OTHERS} {SETS} {SHARE}".encode())
    for image in images:
        digest.update(f"{image.shape}".encode() + image.tobytes())
    return digest.hexdigest()


def _at_width(pixels: np.ndarray, width: int) -> np.ndarray:
    """uint8 (H, W) -> (H, width): cut on the right, or filled up with the grey of its border."""
    missing = width - pixels.shape[1]
    if missing <= 0:
        return np.ascontiguousarray(pixels[:, :width])
    return np.pad(pixels, ((0, 0), (0, missing)), constant_values=int(background_of(pixels)))


def _renamed(values: Any) -> Any:
    """JSON with the names of today."""
    if isinstance(values, dict):
        return {_EARLIER.get(name, name): _renamed(value) for name, value in values.items()}
    return _EARLIER.get(values, values) if isinstance(values, str) else values


def _is_sound(values: dict) -> bool:
    """Whether a stranger's values are of the kinds that `Study` names."""
    try:
        study = Study(**values)
        groups = [study.necessity, *(one[kind] for one in study.covers.values() for kind in _GROUPS), study.sensitivity]
        groups.append({name: one["inside"] for name, one in study.covers.items()})
        pairs = study.pairs
        if pairs is not None:
            groups += [pairs[group] for group in (*GROUPS, "estimate")]
        numbers = [*study.psnr]
        numbers += [one for knockout in study.damage.values() for row in knockout.values() for one in row]
        numbers += [one for group in groups for interval in group.values() for one in interval.values()]
        rows = [study.psnr, *(row for knockout in study.damage.values() for row in knockout.values())]
        texts = [study.data, study.baseline, study.agreement]
        texts += [one[key] for part in PARTS for one in [study.verdicts[part]] for key in ("kind", "sentence")]
        return (
            all(one is None or (isinstance(one, (int, float)) and not isinstance(one, bool)) for one in numbers)
            and all(len(row) == len(QUANTILES) for row in rows)
            and all(set(knockout) == set(_MEASURES) for knockout in study.damage.values())
            and all(set(interval) == {"value", "low", "high"} for group in groups for interval in group.values())
            and all(isinstance(text, str) and len(text) < 2000 for text in texts)
            and type(study.num_images) is int
            and study.num_images > 0
            and "white" in study.covers
            and study.covers.keys() <= COVERS.keys()
            and all(set(one) == {"count", "inside", *_GROUPS} for one in study.covers.values())
            and all(
                type(one["count"]) is int and one["spearman"].keys() == one["overlap"].keys()
                for one in study.covers.values()
            )
            and all(from_name(name) for name in study.damage)
            and (pairs is None or _are_pairs(pairs))
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


def _are_pairs(figures: PairFigures) -> bool:
    cells = figures["share"].keys()
    return (
        set(figures) == {"count", "estimate", *GROUPS}
        and type(figures["count"]) is int
        and all(figures[group].keys() == cells for group in GROUPS)
        and set(figures["estimate"]) == set(ERRORS)
        and all(from_name(name) for name in cells)
    )


def _quantiles(values: Sequence[float] | np.ndarray) -> list[float | None]:
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return [None] * len(QUANTILES)
    return [plain(float(value)) for value in np.quantile(finite, QUANTILES)]


def _means(records: Sequence[dict]) -> dict[str, dict[str, float | None]]:
    """{name: the mean over records of {name: figure}, with its interval}."""
    names = records[0] if records else {}
    return {name: as_json(bootstrap_mean(np.array([number(one[name]) for one in records]))) for name in names}


def _cell(value: float | None, unit: str = "", digits: int = 2) -> str:
    return "not defined" if value is None else f"{value:.{digits}f}{unit}"

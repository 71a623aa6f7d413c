"""Two images in a report: states of one put into the run of the other, measured, estimated and along paths; and relevance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tae.analysis.causal.interventions import Intervention, Knockout
from tae.analysis.causal.occlusion import foreground_tokens, occlude
from tae.analysis.causal.pairs import Patched, against_third, in_percent, means_over
from tae.analysis.causal.patching import attribution_patching, head_cells, patched, path_patching
from tae.analysis.causal.predictors import interval_of, spearman
from tae.analysis.causal.prefix import make_prefix
from tae.analysis.causal.relevance import relevance
from tae.analysis.causal.study import Study
from tae.analysis.facts import TWO_IMAGES, WARNINGS, marked
from tae.analysis.numbers import percent
from tae.data.built_in import source_for
from tae.data.encode import encode_png
from tae.data.fit import fit_image
from tae.model.autoencoder import TransformerAutoencoder
from tae.plots.export import render
from tae.store.checkpoint import Loaded
from tae.web.explorer import standalone
from tae.web.explorer.payload import Note
from tae.web.report import markup
from tae.web.report.caveats import of_origin
from tae.web.report.findings import as_batch
from tae.web.report.request import ReportImage

WAYS = {
    "b": "A's states into B's run: what is enough to bring A back (denoising)",
    "a": "B's states into A's run: what A cannot do without (noising)",
}
STRONGEST = 12  # cells that a table lists; the grid holds all
NO_WAY = Note("Both images give the same reconstruction: there is no way between them.", "warning")


@dataclass(frozen=True)
class Way:
    """One direction: cells of one image in the run of the other."""

    patched: Patched
    estimate: np.ndarray  # (K,) shares of the way, by gradient
    strongest: Intervention  # the cell that goes farthest either way
    images: dict[
        str, np.ndarray
    ]  # {what: (H, W) in [0, 1]}: the run's own reconstruction, with that cell, and the goal
    paths: dict[str, float]  # {later place: share of the way of the strongest cell through it alone}


@dataclass(frozen=True)
class Pair:
    """Two images through one model."""

    a: ReportImage
    b: ReportImage
    ways: dict[str, Way]  # by a key of `WAYS`; empty where there is no way
    maps: dict[
        str, np.ndarray
    ]  # {what: (N,)} of A: relevance in both parts, and the effect of covering a patch with white
    agreement: float  # rank correlation of the encoder's relevance with that effect, over patches that are not blank


def find_pair(
    loaded: Loaded,
    a: ReportImage,
    b: ReportImage,
    known: Mapping[str, Patched] | None = None,
    effect: np.ndarray | None = None,
) -> Pair:
    """Measure two images in both directions; B is brought to A's size.

    Args:
        known: {key of `WAYS`: what was measured already}; where it is given, no other direction is measured.
        effect: (N,) of covering each patch of A with white, 0 for blank ones; None: it is measured.
    """
    model, config = loaded.model, loaded.model.config
    if b.fitted.pixels.shape != a.fitted.pixels.shape:
        b = replace(b, fitted=fit_image(b.fitted.pixels, a.fitted.pixels.shape, b.fit))
    one, other = as_batch(a.fitted.pixels), as_batch(b.fitted.pixels)
    third = source_for(config, loaded.card.data).test_at(one.shape[3], 1, torch.cat([one, other]))
    images = {"b": (other, one), "a": (one, other)}
    try:
        ways = {
            into: _way(model, *images[into], third, None if known is None else known[into], into)
            for into in WAYS
            if known is None or into in known
        }
    except ValueError:
        ways = {}
    tokens, relevant = foreground_tokens(one, config), relevance(model, one)
    if effect is None:
        measured = torch.zeros_like(relevant.encoder)
        measured[tokens] = occlude(model, one, tokens=tokens).total
        effect = measured.numpy()
    maps = {
        "relevance, encoder": relevant.encoder.numpy(),
        "relevance, decoder": relevant.decoder.numpy(),
        "effect of covering with white": effect,
    }
    return Pair(a, b, ways, maps, spearman(relevant.encoder[tokens], effect[tokens.numpy()]))


def _way(
    model: TransformerAutoencoder, base: Tensor, source: Tensor, third: Tensor, known: Patched | None, into: str
) -> Way:
    cells = head_cells(model.config)
    runs = make_prefix(model, base), make_prefix(model, source)
    found = known or against_third(model, *runs, third, cells)
    strongest = cells[int(np.abs(found.found.share).argmax())]
    recons = (runs[0].recon, patched(model, *runs, [[strongest]]), runs[1].recon)
    whose = ("B", "A") if into == "b" else ("A", "B")
    names = f"{whose[0]}'s reconstruction", f"with {whose[1]}'s {strongest.title}", f"{whose[1]}'s reconstruction"
    images = {name: recon.clamp(0, 1)[0, 0].numpy() for name, recon in zip(names, recons, strict=True)}
    assert isinstance(strongest, Knockout)
    estimate = attribution_patching(model, base, source, cells)
    return Way(found, estimate, strongest, images, path_patching(model, *runs, strongest))


def pair_page(loaded: Loaded, found: Pair, study: Study | None = None, checkpoint_file: str = "") -> str:
    """A whole page on two images, as HTML; study: what `python -m tae.causal` found, whose pairs stand beside this one."""
    title = markup.text(f"Two images: {found.a.title} and {found.b.title}", 250)
    file = markup.text(checkpoint_file or "file not known here")
    about = f"Model {markup.text(loaded.card.name)}, {file}, SHA-256 {loaded.digest[:16]}."
    body = f"""<main>
<header>
<h1>{title}</h1>
<p class="about">{about} This file is complete: it asks for nothing from anywhere.</p>
</header>
{markup.notes_html(of_origin(loaded.card))}{pair_section(loaded, found, study)}</main>
"""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return standalone.html_page(title, policy, markup.style(), body)


def pair_section(loaded: Loaded, found: Pair, study: Study | None = None) -> str:
    """What is measured of two images, and what each number is, as HTML."""
    inputs = {f"A: {found.a.title}": found.a.fitted.pixels, f"B: {found.b.title}": found.b.fitted.pixels}
    parts = [f"<section>\n<h2>States of one image in the run of another</h2>\n{_images(loaded, inputs)}"]
    if not found.ways:
        parts.append(markup.notes_html([NO_WAY]))
    parts += [_way_html(loaded, words, found.ways[into], study) for into, words in WAYS.items() if into in found.ways]
    parts.append(_relevance_html(loaded, found))
    definitions = [(term.capitalize(), text) for term, text in TWO_IMAGES.items()]
    definitions += [
        (
            "What is put in",
            "A state as it is in the other image's undisturbed run; nothing is replaced by zero or a mean.",
        ),
        ("Both directions", "Heimersheim & Nanda 2024. They differ where parts stand in for each other."),
        ("A third image", "A test image. Of three images equally unlike each other the third lies half the way along."),
    ]
    parts.append(f"<h3>What the numbers are</h3>\n{markup.pairs(definitions)}</section>\n")
    return "".join(parts)


def _way_html(loaded: Loaded, words: str, way: Way, study: Study | None) -> str:
    config, own, third = loaded.model.config, way.patched.found, way.patched.control
    columns = [*(f"head {head}" for head in range(config.num_heads)), "all heads", "MLP"]
    shares = own.share.reshape(-1, len(columns))
    layers = [own.cells[row * len(columns)] for row in range(len(shares))]
    grid = [
        [f"{first.part} {first.layer}", *(percent(share) for share in row)]
        for first, row in zip(layers, shares, strict=True)
    ]
    figures = study.pairs if study is not None else None
    head = ["Put in", "Share of the way", "By gradient", "A third image's", "Squared distance closed"]
    head += [] if figures is None else [means_over(figures["count"]).capitalize()]
    rows = []
    for number in np.argsort(-np.abs(own.share), kind="stable")[:STRONGEST].tolist():
        values = (own.share[number], way.estimate[number], third.share[number], own.closed[number])
        over = [] if figures is None else [in_percent(interval_of(figures["share"][own.cells[number].name]))]
        rows.append([own.cells[number].title, *(percent(value, 1) for value in values), *over])
    error = own.error_of(way.estimate)
    number = own.cells.index(way.strongest)
    paths = [[name, percent(share, 1)] for name, share in way.paths.items()] + [
        ["in all", percent(own.share[number], 1)]
    ]
    return f"""<h3>{markup.text(words)}</h3>
{_images(loaded, way.images)}
<h4>Share of the way, part by part</h4>
{markup.table(["Layer", *columns], grid)}
<h4>The strongest</h4>
{markup.table(head, rows)}
<p>Estimated by gradient (attribution patching) all {len(own.cells)} shares correlate with what was measured at
{error.correlation:.2f}, their ranks at {error.rank_correlation:.2f}; the largest deviation is {percent(error.deviation, 1)},
{markup.text(error.worst.title)}.</p>
<h4>Paths of {markup.text(way.strongest.title)}</h4>
{markup.table(["Through", "Share of the way"], paths)}
"""


def _relevance_html(loaded: Loaded, found: Pair) -> str:
    config, shape = loaded.model.config, found.a.fitted.pixels.shape
    grid, (tile_height, tile_width) = config.grid_for(shape[1]), config.tile_size
    drawn = {"A": found.a.fitted.pixels}
    for name, values in found.maps.items():
        cells = np.kron((values / (values.max() or 1)).reshape(grid), np.ones((tile_height, tile_width)))
        coloured = render.colours("attention")(cells[: shape[0], : shape[1]])[..., :3]
        drawn[f"{name}, to {values.max():.2g}"] = np.round(255 * coloured).astype(np.uint8)
    agree = "not defined" if np.isnan(found.agreement) else f"{found.agreement:.2f}"
    return (
        f"<h3>Relevance in A for the ink of its reconstruction</h3>\n{_images(loaded, drawn)}<p>Each map has its own colours, "
        f"from 0; dark is high. Relevance in the encoder and the effect agree at {agree} (rank correlation over patches that are "
        "not blank).</p>\n"
    )


def _images(loaded: Loaded, images: Mapping[str, np.ndarray]) -> str:
    """Images side by side, each with its caption."""
    warning = WARNINGS[loaded.card.origin]
    wide = " wide" if any(image.shape[1] > 2 * image.shape[0] for image in images.values()) else ""
    cells = "".join(
        f'<figure><img class="pixels" src="{markup.uri(encode_png(pixels))}" alt="{markup.text(name, 250)}">'
        f"<figcaption>{markup.text(marked(name, warning), 300)}</figcaption></figure>"
        for name, pixels in images.items()
    )
    return f'<div class="three{wide}">{cells}</div>\n'

"""The report as HTML: one file, no request, nothing of a stranger's that is not escaped."""

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import torch

from tae.analysis import facts
from tae.analysis.causal.study import Study
from tae.analysis.causal.verdicts import Verdict
from tae.analysis.heads import Spread
from tae.analysis.numbers import percent
from tae.data.encode import encode_png
from tae.data.fit import FIT_MODES
from tae.model.config import size_in_words
from tae.plots.export import figures, render
from tae.plots.export.heads import measures_figure, overview_figure
from tae.plots.quality import METRICS
from tae.plots.style import ERROR_COLOURS, Quantity
from tae.store.checkpoint import Loaded
from tae.store.names import plain_text
from tae.web.explorer import standalone
from tae.web.explorer.payload import DIRECTIONS, RANGES, Note
from tae.web.report import markup
from tae.web.report.caveats import NOT_EXPLANATION, ONE_TOKEN, of_origin
from tae.web.report.findings import Attention, Findings, differs, explorable, find, held_out, statuses
from tae.web.report.pair import find_pair, pair_section
from tae.web.report.request import ReportImage, ReportMap

IMAGE_BYTES = 4_800_000  # of one image: what its figures leave of it is filled with maps for the explorer
REPORT_BYTES = 40_000_000  # of all images together: where there are many, each has fewer maps
MAX_IMAGES = 50
FINER = {"psnr": "{:.2f} dB"}  # a file that is kept says a digit more than the page


def report(
    loaded: Loaded,
    images: Sequence[ReportImage],
    view: ReportMap | None = None,
    *,
    other: ReportImage | None = None,
    study: Study | None = None,
    checkpoint_file: str = "",
    left_out: Sequence[tuple[str, str]] = (),
    spreads: Mapping[str, Spread] | None = None,
    verdicts: Sequence[Verdict] = (),
    made: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """Run images through a model and write all that a colleague needs to look at its attention.

    Args:
        loaded: The checkpoint, on the CPU.
        images: At least one, at most `MAX_IMAGES`, of the model's size.
        view: The map and patch shown first, and as figures; None: the average of the encoder's layers.
        other: A second image: states of each of `images` are put into its run, and the other way round.
        study: What `python -m tae.causal` found, whose pairs of images stand beside these.
        checkpoint_file: Name of its file.
        left_out: (name, reason) of images that could not be read.
        spreads: {part: the measures of test images}, drawn behind the image's own.
        verdicts: Whether the attention of a part is needed; those that say that its maps tell little stand at the top.
        made: When; None: now.
        progress: Called with (images done, images in all).

    Returns:
        A UTF-8 HTML file: under 5 MB for one image of up to 1024 patches.

    Raises:
        ValueError: If the number of images, the view or an image's size does not fit.
    """
    if not 1 <= len(images) <= MAX_IMAGES:
        raise ValueError(f"images must be from 1 to {MAX_IMAGES} in one report, got {len(images)}")
    view = view or ReportMap()
    view.choice.check(loaded.model.config)
    share = min(IMAGE_BYTES, REPORT_BYTES // len(images))
    sections, explorers = [], []
    for number, image in enumerate(images):
        found = find(loaded, image, view)
        before, after = _image(loaded, found, view, number, spreads or {})
        explorer = ""
        if found.attention is not None:
            element_id = f"explorer-{number + 1}"
            budget = share - len(before.encode()) - len(after.encode())
            explorer = _explorer(loaded, found, found.attention, view, element_id, budget)
            explorers.append(element_id)
        pair = "" if other is None else pair_section(loaded, find_pair(loaded, image, other), study)
        sections.append(before + explorer + after + pair)
        if progress:
            progress(number + 1, len(images))
    script = standalone.script_text(explorers) if explorers else ""
    sources = f"script-src {standalone.script_hash(script)}; " if explorers else ""
    policy = (
        f"default-src 'none'; {sources}img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    shown = markup.text(images[0].title) if len(images) == 1 else f"{len(images)} images"
    title = f"Where attention was placed: {shown}"
    when = (made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M %Z").strip()
    little = [Note(verdict.sentence, "warning") for verdict in verdicts if verdict.tells_little]
    notes = [*of_origin(loaded.card), *little, NOT_EXPLANATION]
    contents = ""
    if len(images) > 1:
        items = "".join(
            f'<li><a href="#image-{n}">{markup.text(one.title)}</a></li>' for n, one in enumerate(images, 1)
        )
        contents = f'<nav aria-labelledby="contents"><h2 id="contents">Contents</h2><ol>{items}</ol></nav>\n'
    if left_out:
        items = "".join(f"<li>{markup.text(name)}: {markup.text(reason, 300)}</li>" for name, reason in left_out)
        contents += f"<section><h2>Left out</h2><p>These could not be read:</p><ul>{items}</ul></section>\n"
    head = markup.style() + (standalone.style_tag() if explorers else "")
    about = (
        f"Model {markup.text(loaded.card.name)}, made {when}. This file is complete: it asks for nothing from anywhere."
    )
    body = f"""<main>
<header>
<h1>{title}</h1>
<p class="about">{about}</p>
</header>
{markup.notes_html(notes)}{contents}{"".join(sections)}
<section id="model">
<h2>The model</h2>
{markup.pairs(_about_model(loaded, checkpoint_file))}
</section>
<section id="settings">
<h2>Settings of this report</h2>
{markup.pairs(_about_view(loaded, view))}
</section>
</main>
{standalone.script_tag(script) if explorers else ""}"""
    return standalone.html_page(title, policy, head, body).encode()


def _image(
    loaded: Loaded, found: Findings, view: ReportMap, number: int, spreads: Mapping[str, Spread]
) -> tuple[str, str]:
    """An image's section, before and after the explorer."""
    image = found.image
    height, width = image.fitted.pixels.shape
    told = [f"{width}x{height} pixels as the model sees it", *image.origin, *image.fitted.notes]
    if image.fitted.notes:
        told.append(f"how images come to the model's size: {FIT_MODES[image.fit].lower()}")
    before = f"""<section class="image" id="image-{number + 1}">
<h2>{markup.text(image.title)}</h2>
<p class="about">{"; ".join(markup.text(fact, 400).rstrip(".") for fact in told)}.</p>
{markup.notes_html(found.notes)}
<h3>Image, reconstruction, error</h3>
{_reconstruction(loaded, found)}
{_metrics(loaded, found)}
"""
    if found.attention is None:
        return before + markup.notes_html([ONE_TOKEN]) + "</section>\n", ""
    after = _chosen_view(loaded, found, found.attention, view)
    after += _overview(loaded, found, found.attention, view)
    after += _measures(loaded, found, found.attention, spreads)
    return before, after + "</section>\n"


def _reconstruction(loaded: Loaded, found: Findings) -> str:
    image, recon = found.image.fitted.pixels, found.recon
    error = recon - image
    limit = max(float(np.abs(error).max()), 0.05)
    coloured = np.round(255 * render.colours("error")((error / limit + 1) / 2)[..., :3]).astype(np.uint8)
    legend = (
        f'<span class="bar" style="background: linear-gradient(to right, {", ".join(ERROR_COLOURS)})"></span>'
        f"<span>-{limit:.2f} too dark</span><span>0</span><span>too light +{limit:.2f}</span>"
    )
    drawn_from = f"Reconstruction, drawn from {loaded.model.config.latent_dim} numbers"
    drawn = [
        (image, "The image as the model saw it", "Image, as the model saw it"),
        (recon, "The reconstruction", facts.marked(drawn_from, facts.WARNINGS[loaded.card.origin])),
        (coloured, "Signed error on colours centred on zero", "Error, reconstruction - image"),
    ]
    cells = [
        f'<figure><img class="pixels" src="{markup.uri(encode_png(pixels))}" alt="{alt}"><figcaption>{caption}</figcaption>'
        + (f'<div class="legend">{legend}</div>' if pixels is coloured else "")
        + "</figure>"
        for pixels, alt, caption in drawn
    ]
    wide = " wide" if facts.is_wide(image.shape) else ""
    return f'<div class="three{wide}">{"".join(cells)}</div>\n'


def _metrics(loaded: Loaded, found: Findings) -> str:
    percentiles = held_out(loaded)
    count = loaded.card.metrics.get("count")
    rows = []
    for metric, (label, pattern, _, meaning) in METRICS.items():
        pattern = FINER.get(metric, pattern)
        value = getattr(found.quality, metric)
        place = "no test figures in the card"
        if metric in found.worse_than:
            worse = found.worse_than[metric]
            place = f"better than {100 - worse:.0f}% (median {pattern.format(percentiles[metric][50])})"
        rows.append([label, pattern.format(value) if np.isfinite(value) else "-", place, meaning])
    images = f"the {count} test images" if isinstance(count, int) and percentiles else "the checkpoint's test images"
    return markup.table(["Measure", "This image", f"Among {images}", "What it is"], rows)


def _explorer(
    loaded: Loaded, found: Findings, attention: Attention, view: ReportMap, element_id: str, budget: int
) -> str:
    notes = of_origin(loaded.card) + _of_the_maps(view)
    status = statuses(loaded.model.config, attention.errors)
    made, missing = explorable(loaded.model, found.image, view, attention.query, attention.tops, notes, status, budget)
    said, here = "", [entry["name"] for entry in made["maps"]]
    if missing:
        are_few = len(here) < len(missing)
        listed = f"In this file: {_listed(here)}." if are_few else f"Left out: {_listed(missing)}."
        said = (
            f"<p>{len(here)} of {len(here) + len(missing)} maps are in this file, so that it stays small; the others are "
            f"greyed in the lists. {listed}</p>"
        )
    return (
        "<h3>Explore</h3>\n<p>Move the pointer over the image: the colours show where the patch under it places "
        "weight. Click to pin a patch. Keys are listed below the image.</p>\n"
        f'<noscript><p>The explorer needs JavaScript; the figures below do not.</p></noscript>\n<div class="explorer">'
        f"{standalone.fragment(made, element_id)}</div>\n{said}\n"
    )


def _of_the_maps(view: ReportMap) -> list[Note]:
    """Notes that hold for each map of the explorer, not only for the one that it opens with."""
    notes = []
    if view.choice.weighting == "values":
        notes.append("All maps here: weights times the length of the value vector that each moves; rows sum to 1.")
    if view.choice.discard:
        notes.append(f"Rollouts here: the smallest {percent(view.choice.discard)} of each row were dropped.")
    return [Note(text) for text in notes]


def _listed(names: Sequence[str]) -> str:
    """ "decoder/0/max, decoder/0/min" as "decoder layer 0: max, min"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        part, layer, head = name.split("/")
        where = f"{part} {'layer ' * layer.isdecimal()}{layer}"
        groups.setdefault(where, []).append(f"head {head}" if head.isdecimal() else head)
    return "; ".join(f"{where}: {', '.join(heads)}" for where, heads in groups.items())


def _chosen_view(loaded: Loaded, found: Findings, attention: Attention, view: ReportMap) -> str:
    config, choice = loaded.model.config, view.choice
    warning = facts.WARNINGS[loaded.card.origin]
    title = choice.title(config)
    quantity: Quantity = "spread" if choice.head == "spread" else "weight"
    row, column = divmod(attention.query, attention.grid[1])
    num_tokens = len(attention.weights)
    low, high = (float(end) * num_tokens for end in (attention.weights.min(), attention.weights.max()))
    of_layers = attention.errors[choice.part]
    error = of_layers[int(choice.layer)] if choice.layer.isdecimal() else max(of_layers)
    status = (
        f"{title}; query patch {attention.query} (row {row}, column {column}); N {num_tokens}; head_dim "
        f"{config.head_dim}; {low:.2g} to {high:.3g} x uniform, colours to {attention.top:.3g} ({RANGES[view.range]}); "
        f"{differs(error)}; drawn patch by patch, not smoothed"
    )
    short = f"{_names(loaded, found)} · {title} · colours to {attention.top:.3g}"
    direction = DIRECTIONS[view.direction]
    weights = attention.weights[:, attention.query] if view.direction == "to" else attention.weights[attention.query]
    on_image = figures.patch_figure(
        found.image.fitted.pixels,
        weights,
        attention.grid,
        config.tile_size[0],
        attention.query,
        f"{direction} · query patch {attention.query} (row {row}, column {column}) · {short}",
        attention.top,
        "png",
        warning,
        quantity,
    )
    weights, grid, top = attention.weights, attention.grid, attention.top
    heatmap = figures.attention_figure(weights, grid, short, top, "png", warning, quantity)
    drawn = markup.figure(
        on_image, f"The image with the weights of patch {attention.query} over it: {title}", direction
    )
    described = f"Attention map, rows query, columns key: {title}"
    drawn += markup.figure(heatmap, described, "Rows: query, columns: key; dark = high", 640)
    mind = "<h4>What to mind</h4>\n" + markup.notes_html(attention.notes) if attention.notes else ""
    return f'<h3>{title}</h3>\n{drawn}<p class="status">{status}.</p>\n{mind}'


def _overview(loaded: Loaded, found: Findings, attention: Attention, view: ReportMap) -> str:
    drawn, top = "", attention.tops["shared"]
    values = ", weighted by value norms" if view.choice.weighting == "values" else ""
    for part, cells in attention.heads.items():
        caption = f"{part.capitalize()}, every layer and head{values}"
        png = overview_figure(
            cells,
            f"{_names(loaded, found)} · {caption} · N {len(attention.weights)} · colours to {top:.3g} x uniform",
            top,
            "png",
            facts.WARNINGS[loaded.card.origin],
            attention.merged,
        )
        drawn += markup.figure(png, f"Attention maps of all heads and layers of the {part}", caption)
    return (
        f'<h3>All layers and heads</h3>\n{drawn}<p class="status">Rows: layers, columns: heads; in each map rows are '
        f"queries and columns keys. One colour range for all, 0 to {top:.3g} x uniform, where 99.5% of the weights of "
        "the strongest layer end; what is stronger looks as dark. Drawn patch by patch, not smoothed.</p>\n"
    )


def _measures(loaded: Loaded, found: Findings, attention: Attention, spreads: Mapping[str, Spread]) -> str:
    drawn = ""
    for part, own in attention.measures.items():
        spread = spreads.get(part)
        behind = f", behind it {spread.num_images} test images" if spread else ""
        svg = measures_figure(
            own,
            attention.uniform,
            f"{_names(loaded, found)} · {part.capitalize()}",
            "svg",
            facts.WARNINGS[loaded.card.origin],
            spread,
        )
        caption = f"{part.capitalize()}: each measure over the layers{behind}"
        drawn += markup.figure(svg, f"Measures of the heads over the layers of the {part}", caption, 1072, "svg+xml")
    return f"<h3>Layers and heads in numbers</h3>\n{drawn}"


def _about_model(loaded: Loaded, checkpoint_file: str) -> list[tuple[str, str]]:
    config, card = loaded.model.config, loaded.card
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    patch = "one token, the whole image" if config.patch_size is None else f"{config.patch_size} pixels a side"
    rows = [
        ("Name", card.name),
        ("File", checkpoint_file or "not known here"),
        ("SHA-256 of the file" if loaded.size_bytes else "SHA-256 of the config", loaded.digest),
        ("Preset", config.preset or "none, a shape of its own"),
        ("Image size, width x height", size_in_words(config.input_size)),
        ("Patch", patch),
        ("Layers", f"{config.encoder_layers} in the encoder, {config.decoder_layers} in the decoder"),
        ("Heads", f"{config.num_heads} in each layer, head_dim {config.head_dim}"),
        ("Latent", f"{config.latent_dim} numbers for an image"),
        ("Parameters", f"{parameters:,}"),
        ("Trained", {"trained": "yes", "untrained": "NO: random weights", "unknown": "not known"}[card.origin]),
        ("Training data", card.data or "not said in its card"),
        ("Licence of the data", card.licence or "not said in its card"),
    ]
    training = card.training | ({"command": card.command} if card.command else {})
    named = {"steps": "Training steps", "command": "Training command", "hardware": "Trained on"}
    rows += [(label, str(training[name])) for name, label in named.items() if name in training]
    psnr, count = card.metrics.get("psnr"), card.metrics.get("count")
    if isinstance(psnr, (int, float)):
        rows.append(("Test PSNR", f"{psnr:.2f} dB" + (f", mean of {count} images" if count else "")))
    if card.notes:
        rows.append(("Notes", card.notes))
    return rows


def _about_view(loaded: Loaded, view: ReportMap) -> list[tuple[str, str]]:
    choice = view.choice
    foreground = "the patch of the foreground that has the strongest weight"
    unit = "x uniform: a weight times the number of patches N; 1 is what each would get if all were treated alike"
    return [
        ("Map shown first", choice.title(loaded.model.config)),
        ("Part, layer, head", choice.name),
        ("Weighting", {"weights": "attention weights", "values": "weights times value norms"}[choice.weighting]),
        ("Dropped for rollout", f"{percent(choice.discard)} of each row" if choice.discard else "nothing"),
        ("Query", foreground if view.query is None else f"patch {view.query}"),
        ("Direction", DIRECTIONS[view.direction]),
        ("Colour range", RANGES[view.range]),
        ("Unit", unit),
        ("Software", f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}"),
    ]


def _names(loaded: Loaded, found: Findings) -> str:
    """The image and the model, in captions."""
    return f"{plain_text(found.image.title, 120)} · {plain_text(loaded.card.name, 120)}"

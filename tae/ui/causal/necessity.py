"""Is it needed? Attention replaced by something else, as images and as a table of losses."""

import streamlit as st

from tae.analysis.causal.predictors import interval_of
from tae.analysis.causal.verdicts import REPLACED_BY, RULES, Necessity, verdict
from tae.analysis.numbers import signed
from tae.data.encode import encode_png
from tae.model.config import PARTS
from tae.store.names import escape_markdown
from tae.ui.causal import measure
from tae.ui.causal.controls import no_study
from tae.ui.causal.headline import change_of, change_over
from tae.ui.causal.measure import PairScene
from tae.ui.session import verdicts
from tae.ui.session.results import reconstruct
from tae.ui.session.view import choose
from tae.ui.shell.sidebar import panels
from tae.ui.widgets.downloads import download_table, export
from tae.ui.widgets.report import download_report
from tae.ui.widgets.table import table

TESTS = "all, test set"
SHORT = {
    "needed": ":material/check_circle: needed, image by image",
    "input-independent": ":material/wallpaper: input-independent, another image's attention does as well",
    "not needed": ":material/wallpaper: not needed, uniform attention does as well",
    "undecided": ":material/help: on the border, cannot be told",
    "none": ":material/info: one token, whose weight is always 1",
}
"""A verdict without the numbers, which stand above and below."""


def is_it_needed(scene: PairScene, found: Necessity) -> None:
    found_of = {part: verdict(found, part) for part in PARTS}
    st.markdown(
        "  \n".join(f"**{part.capitalize()}**: {SHORT[one.kind]}" for part, one in found_of.items()),
        help="\n\n".join(one.sentence for one in found_of.values()),
    )
    with st.expander("What the verdicts mean", icon=":material/table:"):
        table([dict(zip(("verdict", "when", "why"), rule, strict=True)) for rule in RULES], "What the verdicts mean")
        st.caption(
            "Weights are replaced in all layers, the rest works as trained. Over test images the whole 95% interval (bootstrap "
            "over images) must lie there; one image has none. Control: its own weights on permuted keys, as sharp, elsewhere."
        )
    with st.container(horizontal=True):
        part = choose("part", st.segmented_control, "Part", list(PARTS), format_func=str.capitalize)
        place = choose("place", st.segmented_control, "Layers", found.places(part), format_func=place_title)
    images_without(scene, part, place)
    st.markdown(f"**Change of PSNR without the attention of the {part}**, in dB", help=method(scene))
    losses = losses_of(found, part)
    rows = [
        {name: value if isinstance(value, str) else change_of(value, 2) for name, value in one.items()}
        for one in losses
    ]
    study = verdicts.study_of(scene.active)
    if study is not None:
        of_tests = [study.necessity.get(f"{part}/all/{name}") for name in REPLACED_BY]
        told = [change_over(interval_of(one)) if one else "–" for one in of_tests]
        rows = [{**row, TESTS: words} for row, words in zip(rows, told, strict=True)]
    table(rows, f"Change of PSNR without the attention of the {part}")
    if study is None:
        no_study(scene)
    else:
        st.caption(
            f"Test set: {escape_markdown(study.data)}, mean of {study.num_images} images.",
            help="\n\n".join(escape_markdown(study.verdicts[one]["sentence"]) for one in PARTS),
        )
    about = scene.chosen.named(scene.active)
    whole = [
        {**about, "part": one, "replaced by": row["replaced by"], "layers": name, "psnr_lost_db": value}
        for one in PARTS
        for row in losses_of(found, one)
        for name, value in row.items()
        if name != "replaced by"
    ]
    with export():
        download_report(scene)
        download_table("Losses (CSV)", whole, f"{scene.stem}_necessity")


def method(scene: PairScene) -> str:
    return (
        f"Another image: {escape_markdown(scene.other_title)}, head by head, from its own undisturbed pass. Mean map: over it "
        f"and {verdicts.OTHERS - 1} test images. Permuted keys: as sharp as its own, elsewhere. Above 0: the "
        "reconstruction became better."
    )


def losses_of(found: Necessity, part: str) -> list[dict[str, str | float]]:
    return [
        {
            "replaced by": str(row["replaced_by"]),
            **{place_title(place).lower(): value for place, value in row.items() if place != "replaced_by"},
        }
        for row in found.table(part)
    ]


def place_title(place: str) -> str:
    return "All" if place == "all" else f"Layer {place}"


def images_without(scene: PairScene, part: str, place: str) -> None:
    results = measure.replaced(scene, part, place)
    own = reconstruct(scene.active, scene.chosen)
    cells = [("own attention", own), *((REPLACED_BY[name], result) for name, result in results.items())]
    if scene.is_wide:
        frames = panels(scene.fitted.pixels, len(cells))
    else:
        height, width = scene.fitted.pixels.shape
        st.html(
            f"<style>.st-key-causal_images img {{aspect-ratio: {width} / {height}}}</style>"
        )  # before they are there
        row = st.container(horizontal=True, key="causal_images")
        frames = [row.container(width=140, gap="xsmall") for _ in cells]
    for frame, (words, result) in zip(frames, cells, strict=True):
        title = words.partition(" (")[0].removeprefix("the ").removeprefix("its ")
        with frame:
            st.image(encode_png(result.recon), width="stretch", alt=f"Reconstruction with: {title}")
            lost = "" if result is own else f" ({signed(result.quality.psnr - own.quality.psnr)})"
            st.caption(f"{title[0].upper()}{title[1:]}: **{result.quality.psnr:.1f} dB**{lost}")

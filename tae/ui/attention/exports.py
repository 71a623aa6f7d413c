"""Downloads of the map on display: report, figures, numbers; and how to read it."""

import numpy as np
import streamlit as st

from tae.plots.export import figures, render, tables
from tae.plots.export.heads import measures_figure, overview_figure
from tae.store.names import safe_name
from tae.ui.attention import measure
from tae.ui.attention.controls import WEIGHTINGS
from tae.ui.attention.explore import Shown
from tae.ui.attention.numbers import rows_of
from tae.ui.session.scene import Scene
from tae.ui.widgets.downloads import download
from tae.ui.widgets.report import download_report
from tae.web.explorer.payload import DIRECTIONS
from tae.web.report.request import ReportMap


def exports(scene: Scene, shown: Shown) -> None:
    warning = scene.active.warning
    choice, view, grid = shown.choice, shown.view, shown.grid
    stem = f"{scene.stem}_{choice.part}"
    how = "_value_norms" * (choice.weighting == "values") + f"_discard_{choice.discard:g}" * bool(choice.discard)
    one = f"{stem}_{choice.layer}_{choice.head}{how}"
    caption = f"{scene.chosen.title} · {scene.active.title} · {shown.status}"
    top = measure.range_tops(scene, "weights")["shared"]
    about = f"{scene.about} · {choice.part.capitalize()}"
    plain = WEIGHTINGS["weights"].lower()  # of what is not weighted by value norms, whatever is on display
    maps_caption = (
        f"{about}, all layers and their average, mean of {scene.config.num_heads} heads · {plain} · N {len(shown.weights)} · "
        f"colours to {top:.3g} x uniform"
    )

    def one_heatmap(fmt: render.Format) -> bytes:
        return figures.attention_figure(shown.weights, grid, caption, shown.zmax, fmt, warning, shown.quantity)

    def all_layers(fmt: render.Format) -> bytes:
        maps = measure.attention_maps(scene, choice.part)
        return figures.layer_grid_figure(maps, grid, maps_caption, top, fmt, warning)

    def on_image(fmt: render.Format) -> bytes:
        weights = shown.weights[:, view.query] if view.direction == "to" else shown.weights[view.query]
        return figures.patch_figure(
            scene.fitted.pixels,
            weights,
            grid,
            scene.config.tile_size[0],
            view.query,
            f"{DIRECTIONS[view.direction]} · {caption}",
            shown.zmax,
            fmt,
            warning,
            shown.quantity,
        )

    def all_heads(fmt: render.Format) -> bytes:
        top = measure.range_tops(scene, choice.weighting)["shared"]
        merged = -(-len(shown.weights) // measure.THUMBNAIL)
        caption = f"{about}, every head · {WEIGHTINGS[choice.weighting].lower()} · colours to {top:.3g} x uniform"
        cells = measure.thumbnails(scene, choice.part, choice.weighting)
        return overview_figure(cells, caption, top, fmt, warning, merged)

    def statistics() -> dict[str, np.ndarray]:
        return measure.head_statistics(scene, choice.part)

    def measures(fmt: render.Format) -> bytes:
        uniform = measure.uniform_statistics(scene)
        return measures_figure(statistics(), uniform, f"{about}, heads in numbers · {plain}", fmt, warning)

    provenance = {
        "Image": scene.chosen.title,
        "Checkpoint": scene.active.title,
        "Origin": scene.active.loaded.card.origin,
        "Part": choice.part,
    }
    drawings = {
        "Matrix": one_heatmap,
        "Map on the image": on_image,
        "All layers": all_layers,
        "All heads": all_heads,
        "In numbers": measures,
    }
    download_report(scene, ReportMap(choice=choice, query=view.query, direction=view.direction, range=view.range))
    for label, make in drawings.items():
        with st.container(horizontal=True):
            for fmt in render.FORMATS:
                download(
                    f"{label} ({fmt.upper()})",
                    lambda make=make, fmt=fmt: make(fmt),
                    f"{one if make in (one_heatmap, on_image) else stem}_{safe_name(label)}.{fmt}",
                    key=f"attention_{label}_{fmt}",
                )
    with st.container(horizontal=True):
        download(
            "All maps (NPZ)",
            lambda: tables.maps_npz(measure.attention_maps(scene, choice.part), caption=maps_caption),
            f"{stem}_maps.npz",
        )
        download(
            "Heads in numbers (CSV)",
            lambda: tables.metrics_csv([provenance | row for row in rows_of(statistics())]),
            f"{stem}_heads.csv",
        )
        if len(shown.weights) <= 400:
            download("All weights (CSV)", lambda: tables.maps_csv(shown.weights, grid, shown.quantity), f"{one}.csv")
        else:
            st.caption("CSV up to 400 patches; this map has more, take the NPZ.")


def how_to_read() -> None:
    st.markdown(
        """
- **Dark is high.** Colours count in *x uniform*: 1 is the weight that every patch would get if all were treated alike, 1/N.
- **A dark column** is a patch that many others read. **A dark diagonal**: patches read themselves. **Stripes beside the
  diagonal**: neighbours in the row or in the rows above and below.
- **Mean of heads** hides that heads differ. Look at the spread, then at single heads.
- **Where weight was placed is not why.** Two layers can undo each other, values can be near zero, and other weights can give
  the same output. What a patch or a head is good for shows only when it is ablated and the reconstruction is measured.
- **Padding** beside an image that does not fill whole patches takes part only as far as its patch holds real pixels.
        """
    )

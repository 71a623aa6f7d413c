"""The strips and their figures to take along; and how to read them."""

import numpy as np
import streamlit as st

from tae.analysis.lens import Lens
from tae.model.config import PARTS
from tae.plots.export import render, tables
from tae.plots.export.strips import strips_figure
from tae.store.names import escape_markdown
from tae.ui.layers.fitted import provenance
from tae.ui.layers.measure import Seen
from tae.ui.layers.strips import status
from tae.ui.session.scene import Scene
from tae.ui.widgets.downloads import download, download_figure


def exports(scene: Scene, seen: dict[tuple[str, str], Seen], found: Lens | None, way: str) -> None:
    shown = {part: seen[part, way] for part in PARTS}
    stem = f"{scene.stem}_layers_{way}"
    about = ". ".join(
        [
            f"{scene.chosen.title} · {scene.active.title}",
            *(status(scene.active, one, found, way) for one in shown.values()),
        ]
    )

    def figure(fmt: render.Format) -> bytes:
        rows = [
            [
                (image, f"{part}, {name}: {psnr:.1f} dB{', out of distribution' * unusual}")
                for image, name, psnr, unusual in zip(one.images, one.names, one.psnr, one.unusual, strict=True)
            ]
            for part, one in shown.items()
        ]
        return strips_figure(rows, about, fmt, scene.active.warning)

    def arrays() -> bytes:
        held = {"image": scene.fitted.pixels}
        for part, one in shown.items():
            held |= {f"{part}_{way}": one.images, f"{part}_psnr_db": np.array(one.psnr)}
            if one.distance is not None:
                held[f"{part}_distance"] = np.array(one.distance)
        return tables.maps_npz(held, caption=about)

    def rows() -> bytes:
        made = []
        for (part, one_way), one in seen.items():
            means = None if found is None else getattr(found.parts[part], f"psnr_{one_way}")
            for depth, name in enumerate(one.names):
                made.append(
                    {
                        **scene.chosen.named(scene.active),
                        "origin": scene.active.loaded.card.origin,
                        "part": part,
                        "depth": depth,
                        "state": name,
                        "lens": one_way,
                        "psnr_db": one.psnr[depth],
                        "psnr_db_test_mean": None if means is None else means[depth],
                        "distance_x_usual": None if one.distance is None else one.distance[depth],
                        "out_of_distribution": None if one.distance is None else one.unusual[depth],
                    }
                )
        return tables.metrics_csv(made)

    download_figure("Strips", figure, stem)
    download("Images (NPZ)", arrays, f"{stem}.npz")
    download("PSNR by depth (CSV)", rows, f"{stem}.csv")


def how_to_read(found: Lens | None) -> None:
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(
            """
- **A state** is what the network holds of the image after so many layers. The last one of each strip is the model's own
  reconstruction.
- **Raw** shows what would come out if the remaining layers were left out. Early states look strange because the drawing step
  was never trained on them; that does not mean that they hold nothing.
- **Tuned** asks another question: is the content there, in a form that a linear map can read? A good tuned image says that
  it is there, not that the network reads it that way.
- **Out of distribution** means: farther from the mean of what the drawing step usually gets than any test image's own last
  state.
- Raw: nostalgebraist 2020, *the logit lens*. Tuned: Belrose 2023, *the tuned lens*, here with least squares on images.
            """
            + ("" if found is None else f"- The lens was {escape_markdown(provenance(found))}.")
        )

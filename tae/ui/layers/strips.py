"""The strip in which the image forms, and PSNR by depth."""

import math

import numpy as np
import streamlit as st

from tae.analysis.lens import Lens
from tae.analysis.numbers import signed
from tae.plots.latent import plot_lens_psnr, plot_lens_strip
from tae.store.names import escape_markdown
from tae.ui.layers.measure import Seen
from tae.ui.session.models import Active
from tae.ui.widgets.charts import chart, drawn, image_chart

WAYS = {"tuned": "Tuned", "raw": "Raw"}


def warn(shown: list[Seen], way: str) -> None:
    flags = [flag for one in shown for flag in one.unusual]
    if any(flags):
        st.warning(
            f"**Framed: {sum(flags)} of {len(flags)} states are out of distribution**; these images may say more about the "
            "last step, which draws them, than about the layer."
            + (" **Tuned** is nearer to what it knows." if way == "raw" else ""),
            icon=":material/warning:",
        )


def strip(active: Active, seen: Seen, found: Lens | None, way: str, key: str = "strip") -> None:
    st.markdown(f"**{seen.part.capitalize()}**: {words(seen)}")
    image_chart(
        drawn(plot_lens_strip, seen.images, seen.names, seen.psnr, seen.unusual),
        f"layers_{key}_{seen.part}",
        f"The image after each layer of the {seen.part}, {way}: "
        + ", ".join(f"{name} {psnr:.1f} dB" for name, psnr in zip(seen.names, seen.psnr, strict=True)),
    )
    st.caption(escape_markdown(status(active, seen, found, way)))


def words(seen: Seen) -> str:
    """Where the image forms, for somebody who never saw a network."""
    first, last = seen.psnr[0], seen.psnr[-1]
    if not (math.isfinite(first) and math.isfinite(last)):
        return "exact copies have no PSNR to compare."
    gains = np.diff(seen.psnr)
    best, worst = int(gains.argmax()), int(gains.argmin())
    if gains[best] >= 0.05:
        most = f"layer {best} adds most ({signed(gains[best])} dB)"
    elif gains[worst] <= -0.05:
        most = f"no layer adds anything, and layer {worst} takes most away ({signed(gains[worst])} dB)"
    else:
        most = "no layer adds anything"
    return f"{first:.1f} dB before its first layer, {last:.1f} dB after its last; {most}."


def status(active: Active, seen: Seen, found: Lens | None, way: str) -> str:
    """The images named in one line; holds a stranger's text."""
    facts = [active.warning] if active.warning else []
    facts += [seen.part.capitalize(), WAYS[way].lower(), f"latent {active.config.latent_dim}"]
    if found is None or seen.distance is None:
        return " · ".join([*facts, "no lens: whether states are out of distribution is not known"])
    facts.append(
        f"distance of states {min(seen.distance):.2g} to {max(seen.distance):.2g}, out of distribution above "
        f"{found.parts[seen.part].limit:.1f}"
    )
    return " · ".join(facts)


def by_depth(raw: Seen, tuned: Seen | None, found: Lens | None) -> None:
    of_tests = None if found is None else found.parts[raw.part]
    st.markdown(
        f"**PSNR by depth, {raw.part}**",
        help="Open points: raw states out of distribution." if any(raw.unusual) else None,
    )
    figure = drawn(
        plot_lens_psnr,
        raw.names,
        raw.psnr,
        None if tuned is None else tuned.psnr,
        None if of_tests is None else of_tests.psnr_raw,
        None if of_tests is None else of_tests.psnr_tuned,
        raw.unusual,
    )
    chart(figure, f"layers_psnr_{raw.part}", f"PSNR after each layer of the {raw.part}")

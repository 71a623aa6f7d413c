"""The page Layers: what the model makes of a picture after each layer, drawn by the network's own last steps."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import streamlit as st
from PIL import Image

from tae import export, ui
from tae.checkpoint import CheckpointError
from tae.config import PARTS
from tae.datasets import DemoSource
from tae.export_strip import strips_figure
from tae.images import Fitted, encode_png, escape_markdown, safe_name
from tae.lens import Lens, LensError
from tae.plots.latent import plot_lens_psnr, plot_lens_strip, plot_moments
from tae.ui import lens
from tae.ui.lens import Moment, Seen

WAYS = {"tuned": "Tuned", "raw": "Raw"}


def main() -> None:
    active, chosen = ui.setup("Layers")
    st.title("Layers")
    ui.prose(
        "Where in the network does the picture form? Through a [[lens]], the [[state]] after each [[layer]] is drawn as an "
        "image: of the [[encoder]] by the whole [[decoder]], of the decoder by its last step. **Raw** takes the state as it is; "
        "**tuned** first carries it to where the last layer would have it, by the best linear map."
    )
    fitted = ui.fit_or_stop(active, chosen)
    found = find_lens(active)
    way = "raw"
    if found is not None:
        way = ui.choose(
            "lens",
            st.segmented_control,
            "State of a layer",
            list(WAYS),
            format_func=lambda way: WAYS[way],
            label_visibility="collapsed",
        )
    ways = ("raw",) if found is None else tuple(WAYS)
    seen = {(part, one): lens.seen(active, fitted, part, found, one == "tuned") for part in PARTS for one in ways}
    warn([seen[part, way] for part in PARTS], way)
    for part in PARTS:
        strip(active, seen[part, way], found, way)
    if found is not None:
        st.caption(f"The lens was {escape_markdown(provenance(found))}.")
    for part, place in zip(PARTS, st.columns(2), strict=True):
        with place:
            by_depth(seen[part, "raw"], seen.get((part, "tuned")), found)
    over_training(active, chosen, fitted)
    with st.container(key="expert_exports"):
        exports(active, chosen, fitted, seen, found, way)
        how_to_read()
    ui.write_link()


def find_lens(active: ui.Active) -> Lens | None:
    """The checkpoint's lens, or a way to come by one; None, and raw pictures only, meanwhile."""
    try:
        found = lens.stored_lens(active)
    except LensError as error:
        st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
        return None
    if found is not None or not active.is_trained:
        return found
    with st.container(key="expert_fit"):
        data = lens.training_data(active)
        told = "the demo images" if data == "demo" else "the images of its training"
        sentence = f"**No lens has been fitted for this checkpoint**, so pictures are raw. Fitting takes {told}."
        if data == "demo" and active.loaded.card.data != DemoSource.data:
            sentence += (
                " It was trained on others, on which a lens would be better: "
                "`python -m tae.lens --checkpoint <file> --data <your images>`."
            )
        notice = st.empty()
        notice.info(sentence, icon=":material/straighten:")
        try:
            found = lens.fitted_lens(active)
        except (ValueError, OSError) as error:
            st.error(f"No lens could be fitted: {escape_markdown(str(error))}", icon=":material/error:")
        if found is not None:
            notice.empty()
        return found


def warn(shown: list[Seen], way: str) -> None:
    flags = [flag for one in shown for flag in one.unusual]
    if any(flags):
        st.warning(
            f"**Framed pictures are drawn from states out of distribution** ({sum(flags)} of {len(flags)}): what draws them "
            "was never trained on anything like it, so that they may say more about that step than about the layer."
            + (" The tuned pictures are drawn from states that are nearer to what it knows." if way == "raw" else ""),
            icon=":material/warning:",
        )


def strip(active: ui.Active, seen: Seen, found: Lens | None, way: str, key: str = "strip") -> None:
    st.markdown(f"**{seen.part.capitalize()}**: {words(seen)}")
    st.plotly_chart(
        plot_lens_strip(seen.pictures, seen.names, seen.psnr, seen.unusual),
        key=f"layers_{key}_{seen.part}",
        config={"displayModeBar": False},
        alt=f"The picture after each layer of the {seen.part}, {way}: "
        + ", ".join(f"{name} {psnr:.1f} dB" for name, psnr in zip(seen.names, seen.psnr, strict=True)),
    )
    st.caption(escape_markdown(status(active, seen, found, way)))


def words(seen: Seen) -> str:
    """Where the picture forms, for somebody who never saw a network."""
    first, last = seen.psnr[0], seen.psnr[-1]
    if not (math.isfinite(first) and math.isfinite(last)):
        return "exact copies have no PSNR to compare."
    gains = np.diff(seen.psnr)
    best = int(gains.argmax())
    most = f"layer {best} adds most ({gains[best]:+.1f} dB)" if gains[best] >= 0.05 else "no layer adds anything"
    return (
        f"before its first layer the picture can be drawn at {first:.1f} dB, after its last at {last:.1f} dB; {most}."
    )


def status(active: ui.Active, seen: Seen, found: Lens | None, way: str) -> str:
    """Which pictures these are, in one line; holds a stranger's text."""
    facts = [] if active.is_trained else ["UNTRAINED MODEL: random weights"]
    facts += [seen.part.capitalize(), WAYS[way].lower(), f"{len(seen.names) - 1} layers"]
    facts += [f"latent {active.config.latent_dim}"]
    if found is None or seen.distance is None:
        return " · ".join([*facts, "no lens, so how unusual the states are is not known"])
    facts.append(
        f"states {min(seen.distance):.2g} to {max(seen.distance):.3g} times as far from the mean as those that are usually "
        f"drawn; out of distribution above {found.parts[seen.part].limit:.2f}"
    )
    return " · ".join(facts)


def provenance(found: Lens) -> str:
    """Where a lens is from; holds a stranger's text."""
    told = {name: found.about.get(name, "unknown") for name in ("train_images", "test_images", "data")}
    return "fitted on {train_images} training images and measured on {test_images} test images ({data})".format(**told)


def by_depth(raw: Seen, tuned: Seen | None, found: Lens | None) -> None:
    of_tests = None if found is None else found.parts[raw.part]
    st.markdown(f"**PSNR by depth, {raw.part}**")
    st.plotly_chart(
        plot_lens_psnr(
            raw.names,
            raw.psnr,
            None if tuned is None else tuned.psnr,
            None if of_tests is None else of_tests.psnr_raw,
            None if of_tests is None else of_tests.psnr_tuned,
            raw.unusual,
        ),
        key=f"layers_psnr_{raw.part}",
        config={"displayModeBar": False},
        alt=f"PSNR after each layer of the {raw.part}",
    )
    if any(raw.unusual):
        st.caption("Open points: raw states out of distribution.")


@st.fragment
def over_training(active: ui.Active, chosen: ui.Chosen, fitted: Fitted) -> None:
    """The picture through the snapshots of the checkpoint's run; else held-out reconstructions, where it left them."""
    moments, strips = lens.moments(active), lens.training_strips(active)
    if not moments and not strips:
        return
    st.subheader("Over training time")
    if moments:
        through_snapshots(active, chosen, fitted, moments)
    else:
        through_strips(strips)
    ui.write_link()


def through_snapshots(active: ui.Active, chosen: ui.Chosen, fitted: Fitted, moments: list[Moment]) -> None:
    """The strips of both parts by the weights of a moment, and the picture's PSNR over all of them."""
    st.markdown(
        "The same picture by the weights as they were on the way: move the slider back in time. These pictures are raw, since "
        "a lens belongs to the weights that it was fitted for, and none was fitted for those on the way."
    )
    by_key = {moment.key: moment for moment in moments}
    if st.session_state.moment not in by_key:
        st.session_state.moment = "end"
    key = ui.choose(
        "moment", st.select_slider, "Training step", list(by_key), format_func=lambda key: moment_title(by_key[key])
    )
    moment = by_key[key]
    try:
        then = lens.at_moment(active, moment)
    except CheckpointError as error:
        st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
    else:
        if not then.is_trained:
            st.error(
                "**Untrained.** These are the random weights that the training began with.", icon=":material/warning:"
            )
        for part in PARTS:
            strip(then, lens.seen(then, fitted, part, None, False), None, "raw", "moment")
    psnr = lens.over_training(active, fitted, moments)
    if psnr is None:
        return
    steps, values = [one.step for one in moments], [psnr[one.key] for one in moments]
    st.markdown(f"**PSNR of this picture over the training**: {course(steps, values)}")
    st.plotly_chart(
        plot_moments(steps, values, moment.step),
        key="layers_moments",
        config={"displayModeBar": False},
        alt=f"PSNR of this picture over training steps: {course(steps, values)}",
    )
    st.caption("Of the reconstruction, the last picture of each strip; the ring is the step chosen above.")
    rows = [
        {"image": chosen.title, "checkpoint": active.title, "step": step, "trained": step > 0, "psnr_db": value}
        for step, value in zip(steps, values, strict=True)
    ]
    with st.container(key="expert_moments"):
        st.download_button(
            "PSNR over the training (CSV)",
            lambda: export.metrics_csv(rows),
            f"{safe_name(chosen.title)}_training.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def moment_title(moment: Moment) -> str:
    told = " (the checkpoint)" if moment.path is None else " (cannot be read)" if moment.error else ""
    return f"{moment.step:,}{told}"


def course(steps: list[int], psnr: list[float]) -> str:
    """How a picture came about in training, in words."""
    read = [(step, value) for step, value in zip(steps, psnr, strict=True) if math.isfinite(value)]
    lost = len(steps) - len(read)
    told = f" {lost} of {len(steps)} are left out: they cannot be read, or are exact." if lost else ""
    if len(read) < 2:
        return f"too few snapshots tell.{told}"
    (first, low), (last, high) = read[0], read[-1]
    if high - low < 0.1:
        return f"from step {first:,} to step {last:,} it gained nothing ({low:.1f} to {high:.1f} dB).{told}"
    half = next(step for step, value in read if value >= (low + high) / 2)
    return (
        f"from {low:.1f} dB after step {first:,} to {high:.1f} dB after step {last:,}; by step {half:,} half of the gain or "
        f"more was there.{told}"
    )


def through_strips(strips: dict[str, Path]) -> None:
    """Held-out reconstructions, as the training drew them."""
    steps = list(strips)
    if st.session_state.moment not in steps:
        st.session_state.moment = steps[-1]
    step = steps[0]
    if len(steps) > 1:
        step = ui.choose(
            "moment", st.select_slider, "After training step", steps, format_func=lambda step: f"{int(step):,}"
        )
    try:
        pixels = np.asarray(Image.open(strips[step]).convert("L"))
    except OSError:
        st.caption("This picture can no longer be read.")
    else:
        st.image(encode_png(pixels), alt=f"Held-out images above their reconstructions after step {step}")
        st.caption(
            f"Not your picture: held-out images above their reconstructions after step {int(step):,}, as the training drew "
            "them. The weights of that moment were not kept, so its layers cannot be shown."
        )


def exports(
    active: ui.Active,
    chosen: ui.Chosen,
    fitted: Fitted,
    seen: dict[tuple[str, str], Seen],
    found: Lens | None,
    way: str,
) -> None:
    shown = {part: seen[part, way] for part in PARTS}
    untrained = not active.is_trained
    stem = f"{'UNTRAINED_' * untrained}{safe_name(chosen.title)}_layers_{way}"
    about = ". ".join(
        [f"{chosen.title} · {active.title}", *(status(active, one, found, way) for one in shown.values())]
    )

    def figure(fmt: export.Format) -> bytes:
        rows = [
            [
                (picture, f"{part}, {name}: {psnr:.1f} dB{', out of distribution' * unusual}")
                for picture, name, psnr, unusual in zip(one.pictures, one.names, one.psnr, one.unusual, strict=True)
            ]
            for part, one in shown.items()
        ]
        return strips_figure(rows, about, fmt, untrained)

    def arrays() -> bytes:
        held = {"image": fitted.pixels}
        for part, one in shown.items():
            held |= {f"{part}_{way}": one.pictures, f"{part}_psnr_db": np.array(one.psnr)}
            if one.distance is not None:
                held[f"{part}_distance"] = np.array(one.distance)
        return export.maps_npz(held, caption=about)

    def rows() -> bytes:
        made = []
        for (part, one_way), one in seen.items():
            means = None if found is None else getattr(found.parts[part], f"psnr_{one_way}")
            for depth, name in enumerate(one.names):
                made.append(
                    {
                        "image": chosen.title,
                        "checkpoint": active.title,
                        "trained": active.is_trained,
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
        return export.metrics_csv(made)

    with st.popover("Take it with you", icon=":material/download:"), st.container(horizontal=True):
        for fmt, mime in export.FORMATS:
            st.download_button(
                f"Strips ({fmt.upper()})", partial(figure, fmt), f"{stem}.{fmt}", mime, on_click="ignore"
            )
        st.download_button("Pictures (NPZ)", arrays, f"{stem}.npz", "application/octet-stream", on_click="ignore")
        st.download_button("PSNR by depth (CSV)", rows, f"{stem}.csv", "text/csv", on_click="ignore")


def how_to_read() -> None:
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(
            """
- **A state** is what the network holds of the picture after so many layers. The last one of each strip is the model's own
  reconstruction.
- **Raw** shows what would come out if the remaining layers were left out. Early states look strange because the drawing step
  was never trained on them; that does not mean that they hold nothing.
- **Tuned** asks another question: is the content there, in a form that a linear map can read? A good tuned picture says that
  it is there, not that the network reads it that way.
- **Out of distribution** means: farther from the mean of what the drawing step usually gets than any test image's own last
  state.
- Raw: nostalgebraist 2020, *the logit lens*. Tuned: Belrose 2023, *the tuned lens*, here with least squares on images.
            """
        )


main()

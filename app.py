"""The page Reconstruct, and the app's entry point: pictures beside what the model makes of them.

streamlit run app.py
"""

import numpy as np
import streamlit as st

from tae import export, plots, ui
from tae.gallery import gallery
from tae.images import SUFFIXES, ImageError, encode_png, escape_markdown, safe_name
from tae.ui import windows
from tae.ui.charts import picture_chart
from tae.ui.downloads import download

PER_PAGE = 24


def main() -> None:
    active, chosen = ui.setup("Reconstruct")
    st.title("Reconstruct")
    ui.prose(
        f"The [[encoder]] squeezes a picture into **{active.config.latent_dim} numbers**, its [[latent]], and the [[decoder]] "
        "draws it again from these alone. Drag pictures in, or choose a sample."
    )
    with st.container(key="expert_drop"):
        drop_zone()
    own = ui.uploaded()
    view = "one"
    if len(own) > 1:
        st.session_state.setdefault("reconstruct_view", view)
        view = st.segmented_control(
            "View",
            ["one", "all"],
            format_func=lambda view: "One picture" if view == "one" else f"All of yours ({len(own)})",
            required=True,
            key="reconstruct_view",
            persist_state="session",
        )
    if view == "one":
        one_picture(active, chosen)
        samples(active)
    else:
        all_pictures(active, own)
    ui.write_link()


def drop_zone() -> None:
    state = st.session_state
    files = st.file_uploader(
        "Your pictures: PNG, JPEG, WebP, BMP, GIF, TIFF or .npy, up to 20 MB each. They stay on this machine.",
        type=[suffix.lstrip(".") for suffix in SUFFIXES],
        accept_multiple_files=True,
        key=f"reconstruct_files_{state.upload_round}",
    )
    if files:
        state.upload_problems = ui.add_pictures(files)
        state.upload_round += 1  # a fresh widget: what has been read is listed as "Yours", not a second time here
        st.rerun()
    for problem in state.get("upload_problems", []):
        st.error(escape_markdown(problem), icon=":material/broken_image:")
    if ui.uploaded() and st.button(
        f"Forget my {len(ui.uploaded())} pictures", icon=":material/delete:", type="tertiary"
    ):
        forget_dialog()


@st.dialog("Forget your pictures?")
def forget_dialog() -> None:
    st.write("They are removed from this session; your files stay where they are.")
    if st.button("Forget them", type="primary"):
        ui.remove_pictures()
        st.session_state.upload_problems = []
        st.rerun()


def one_picture(active: ui.Active, chosen: ui.Chosen) -> None:
    if windows.by_window(active, chosen):
        windows.show(active, chosen, origin(chosen))
        return
    ui.fit_or_stop(active, chosen)
    result = ui.reconstruct(active, chosen)
    given, seen, recon, error = ui.panels(result.fitted.pixels, 4)
    with given:
        picture_cell("You gave" if chosen.sample is None else "Sample", chosen.picture.original)
        st.caption(origin(chosen))
    with seen:
        picture_cell("The model saw", result.fitted.pixels)
        st.caption(escape_markdown("; ".join(result.fitted.notes)) or "Exactly this picture, pixel by pixel.")
    with recon:
        picture_cell("Reconstruction", result.recon)
        st.caption(f"Drawn from {active.config.latent_dim} numbers by {escape_markdown(active.title)}.")
    with error:
        st.markdown("**Error**, reconstruction − image")
        picture_chart(
            plots.plot_signed_error(result.recon - result.fitted.pixels),
            key="reconstruct_error",
            config={"displayModeBar": False},
            alt="Signed error of every pixel, on a colour scale centred on zero",
        )
    verdict(active, result)
    measures(active, result)
    downloads(active, chosen, result)


def picture_cell(title: str, pixels: np.ndarray) -> None:
    st.markdown(f"**{title}**")
    factor = max(1, round(400 / max(pixels.shape[:2])))  # nearest, so that the browser's smoothing adds nothing
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    st.image(encode_png(enlarged), width="stretch", alt=title)


def origin(chosen: ui.Chosen) -> str:
    height, width = chosen.picture.pixels.shape
    notes = [f"{width}x{height} pixels", *chosen.picture.notes]
    if chosen.sample is not None:
        notes.append(chosen.sample.note)
    return escape_markdown(f"{chosen.title}: " + "; ".join(notes))


def verdict(active: ui.Active, result: ui.Result) -> None:
    """One sentence: how this compares with the pictures that the checkpoint was tested on."""
    if not active.is_trained:
        return
    percentiles = active.test_percentiles.get("psnr")
    if not percentiles:
        st.info("This checkpoint's card has no test figures to compare with.", icon=":material/info:")
        return
    psnr = result.quality.psnr
    worse = plots.worse_than(np.array(percentiles), psnr, True)
    share = "all" if worse > 99.5 else f"{worse:.0f} %"
    median = f"(median {percentiles[50]:.1f} dB)"
    if worse >= 95:
        st.warning(
            f"**PSNR {psnr:.1f} dB: worse than {share} of the test images** {median}. This picture is unlike what "
            "the model was trained on, and the model fails on it.",
            icon=":material/trending_down:",
        )
    elif worse > 75:
        st.info(
            f"**PSNR {psnr:.1f} dB: worse than {worse:.0f} % of the test images** {median}: harder than most, still "
            "within their range.",
            icon=":material/trending_down:",
        )
    else:
        st.success(
            f"**PSNR {psnr:.1f} dB: better than {100 - worse:.0f} % of the test images** {median}: the kind of picture "
            "that the model was trained on.",
            icon=":material/check:",
        )


def measures(active: ui.Active, result: ui.Result) -> None:
    for column, (metric, (label, pattern, higher_is_better, explanation)) in zip(
        st.columns(4), plots.METRICS.items(), strict=True
    ):
        value = getattr(result.quality, metric)
        with column:
            st.metric(label, pattern.format(value) if np.isfinite(value) else "–", help=explanation)
            percentiles = active.test_percentiles.get(metric)
            if percentiles and np.isfinite(value):
                st.plotly_chart(
                    plots.plot_distribution(np.array(percentiles), value, label, higher_is_better),
                    key=f"reconstruct_{metric}",
                    config={"displayModeBar": False},
                    alt=f"{label} of this picture among the test images",
                )


def downloads(active: ui.Active, chosen: ui.Chosen, result: ui.Result) -> None:
    name = f"{'' if active.is_trained else 'UNTRAINED_'}{safe_name(chosen.title)}"
    image, recon = result.fitted.pixels, result.recon
    note = "" if active.is_trained else "UNTRAINED MODEL: random weights. "
    caption = f"{note}{chosen.title} · {active.title} · PSNR {result.quality.psnr:.2f} dB"

    def comparison(fmt: export.Format) -> bytes:
        return export.comparison_figure(image, recon, caption, fmt, untrained=not active.is_trained)

    def error() -> bytes:
        return export.error_figure(image, recon, caption, "png", untrained=not active.is_trained)

    def everything() -> bytes:
        row = {"image": chosen.title, "checkpoint": active.title, **result.quality.as_dict()}
        return export.zip_files(
            {
                f"{name}_image.png": encode_png(image),
                f"{name}_reconstruction.png": encode_png(recon),
                f"{name}_error.png": error(),
                f"{name}_comparison.png": comparison("png"),
                f"{name}_comparison.svg": comparison("svg"),
                f"{name}_arrays.npz": export.maps_npz(
                    {"image": image, "reconstruction": recon, "error": recon - image}, caption=caption
                ),
                f"{name}_metrics.csv": export.metrics_csv([row]),
            }
        )

    with st.container(horizontal=True, key="expert_downloads"):
        files = [
            ("Reconstruction (PNG)", "reconstruction.png", lambda: encode_png(recon)),
            ("Error (PNG)", "error.png", error),
            ("Side by side (PNG)", "comparison.png", lambda: comparison("png")),
            ("Side by side (SVG)", "comparison.svg", lambda: comparison("svg")),
            ("Everything (ZIP)", "everything.zip", everything),
        ]
        for label, suffix, make in files:
            download(label, make, f"{name}_{suffix}")


def samples(active: ui.Active) -> None:
    """Thumbnails to choose from, one section for each kind of picture."""
    st.subheader("Samples")
    chosen_key = st.session_state.image
    available = list(gallery(active.config.input_size, active.config.max_width).values())
    for kind in dict.fromkeys(one.kind for one in available):
        st.markdown(f"**{kind}**")
        with st.container(horizontal=True, vertical_alignment="bottom", key=f"samples_{kind.split()[0].lower()}"):
            for one in (one for one in available if one.kind == kind):
                small = thumbnail(ui.sample(one.key, one).picture.original)
                width = max(112, min(336, small.shape[1]))
                with st.container(width=width):
                    st.image(encode_png(small), width=min(width, small.shape[1]), alt=one.title)
                    st.button(
                        one.title,
                        key=f"sample_{one.key}",
                        on_click=pick,
                        args=(one.key,),
                        width="stretch",
                        type="primary" if one.key == chosen_key else "secondary",
                        help=one.note,
                    )


def pick(key: str) -> None:
    st.session_state.image = key


def thumbnail(pixels: np.ndarray, side: int = 112) -> np.ndarray:
    """A picture for a button: at most `side` pixels high and three times as wide."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side * 3, side))
    return np.asarray(image)


def all_pictures(active: ui.Active, own: list[ui.Chosen]) -> None:
    results: list[tuple[ui.Chosen, ui.Result]] = []
    bar = st.progress(0.0, "Reconstructing…")
    for number, chosen in enumerate(own, start=1):
        try:
            results.append((chosen, ui.reconstruct(active, chosen)))
        except ImageError as error:
            remedy = (
                " Under **One picture** it is shown window by window." if windows.is_possible(active, chosen) else ""
            )
            st.error(f"{escape_markdown(chosen.title)}: {escape_markdown(str(error))}.{remedy}")
        bar.progress(number / len(own), f"Reconstructing… {number} of {len(own)}")
    bar.empty()
    if not results:
        return
    orders = {
        "Worst first": lambda pair: pair[1].quality.psnr,
        "Best first": lambda pair: -pair[1].quality.psnr,
        "By name": lambda pair: pair[0].title,
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.selectbox("Order", list(orders), width=180)
        pages = -(-len(results) // PER_PAGE)
        page = st.number_input("Page", 1, pages, 1, width=120) if pages > 1 else 1
        rows = [
            {"image": chosen.title, "checkpoint": active.title, **result.quality.as_dict()}
            for chosen, result in results
        ]
        download("Metrics (CSV)", lambda: export.metrics_csv(rows), "metrics.csv")
        download(
            "All reconstructions (ZIP)",
            lambda: export.zip_files(
                {
                    f"{number:03}_{safe_name(chosen.title)}_reconstruction.png": encode_png(result.recon)
                    for number, (chosen, result) in enumerate(results, start=1)
                }
                | {"metrics.csv": export.metrics_csv(rows)}
            ),
            "reconstructions.zip",
        )
    results.sort(key=orders[order])
    st.caption("Left: what the model saw. Right: its reconstruction.")
    columns = st.columns(4)
    for number, (chosen, result) in enumerate(results[(page - 1) * PER_PAGE : page * PER_PAGE]):
        with columns[number % 4], st.container(border=True):
            pair = np.concatenate([result.fitted.pixels, result.recon], axis=0 if result.recon.shape[1] > 300 else 1)
            st.image(encode_png(pair), width="stretch", alt=f"{chosen.title} and its reconstruction")
            st.markdown(f"{escape_markdown(chosen.title)}  \n**{result.quality.psnr:.1f} dB**")
            st.button("Open", key=f"open_{chosen.key}", on_click=open_one, args=(chosen.key,), width="stretch")


def open_one(key: str) -> None:
    pick(key)
    st.session_state.reconstruct_view = "one"


main()

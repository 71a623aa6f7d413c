"""Several images at once."""

import numpy as np
import streamlit as st

from tae import ui
from tae.data.decode import ImageError
from tae.data.encode import encode_png
from tae.plots.export import tables
from tae.store.names import escape_markdown, safe_name
from tae.ui.explore import windows
from tae.ui.explore.shelf import pick
from tae.ui.widgets.downloads import download

PER_PAGE = 24


def all_images(active: ui.Active, own: list[ui.Chosen]) -> None:
    results: list[tuple[ui.Chosen, ui.Result]] = []
    bar = st.progress(0.0, "Reconstructing…")
    for number, chosen in enumerate(own, start=1):
        try:
            results.append((chosen, ui.reconstruct(active, chosen)))
        except ImageError as error:
            remedy = " Under **One image** it is shown window by window." if windows.is_possible(active, chosen) else ""
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

        def metrics() -> bytes:
            rows = ({**chosen.named(active), **result.figures} for chosen, result in results)
            return tables.metrics_csv([*rows])

        download("Metrics (CSV)", metrics, "metrics.csv")
        download(
            "All reconstructions (ZIP)",
            lambda: tables.zip_files(
                {
                    f"{number:03}_{safe_name(chosen.title)}_reconstruction.png": encode_png(result.recon)
                    for number, (chosen, result) in enumerate(results, start=1)
                }
                | {"metrics.csv": metrics()}
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

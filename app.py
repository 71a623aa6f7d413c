"""The page Reconstruct, and the app's entry point: images beside what the model makes of them.

streamlit run app.py
"""

import streamlit as st

from tae import ui
from tae.ui.home.drop import drop_zone
from tae.ui.home.many import all_images
from tae.ui.home.one import one_image
from tae.ui.home.samples import samples


def main() -> None:
    active, chosen = ui.setup("Reconstruct")
    st.title("Reconstruct")
    ui.prose(
        f"The [[encoder]] squeezes an image into **{active.config.latent_dim} numbers**, its [[latent]], and the [[decoder]] "
        "draws it again from these alone. Drag images in, or choose a sample."
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
            format_func=lambda view: "One image" if view == "one" else f"All of yours ({len(own)})",
            required=True,
            key="reconstruct_view",
            persist_state="session",
        )
    if view == "one":
        one_image(active, chosen)
        samples(active)
    else:
        all_images(active, own)
    ui.write_link()


main()

"""The page Latent space: a map of the test set, neighbours, ways between images, sliders along directions, the spectrum."""

import streamlit as st

from tae import ui
from tae.data.built_in import is_built_in, source_for
from tae.store.names import escape_markdown
from tae.ui.latent.between import between
from tae.ui.latent.directions import directions
from tae.ui.latent.map import map_section
from tae.ui.latent.measure import SpaceScene, find_tests, layout
from tae.ui.latent.spectrum import spectrum

SECTIONS = {
    "map": "Map",
    "between": "Between two images",
    "directions": "Directions",
    "spectrum": "How many dimensions",
}


def main() -> None:
    active, chosen = ui.setup("Latent space")
    ui.heading("Latent space")
    scene = ui.scene_or_stop(active, chosen)
    tests = find_tests(active)
    if tests is not None:
        try:
            layout(active, tests, "pca")
        except ValueError as error:  # all the same, or no numbers
            st.error(
                f"There is no space to look at: {escape_markdown(str(error))}. Choose another checkpoint.",
                icon=":material/error:",
            )
        else:
            section(SpaceScene(active, chosen, scene.fitted, tests))
    ui.write_link()


def section(scene: SpaceScene) -> None:
    card = scene.active.loaded.card
    if not scene.active.is_random and not is_built_in(card.data):
        learnt = (
            "Nothing says from which images this model learnt."
            if scene.active.warning
            else "This model learnt from others, whose map may look quite different."
        )
        st.info(
            f"The test set here is of {escape_markdown(source_for(scene.config, card.data).data)}. {learnt}",
            icon=":material/info:",
        )
    name = ui.choose("latent", st.segmented_control, "Section", SECTIONS, label_visibility="collapsed")
    {"map": map_section, "between": between, "directions": directions, "spectrum": spectrum}[name](scene)


main()

"""The checkpoint's lens, or a way to come by one."""

import streamlit as st

from tae.analysis.lens import Lens, LensError, lens_path
from tae.data.built_in import is_built_in
from tae.store.names import escape_markdown
from tae.training.config import COMPOSED
from tae.ui.layers import measure
from tae.ui.session.deletion import offer_deletion
from tae.ui.session.models import Active, checkpoint_files


def find_lens(active: Active) -> Lens | None:
    """The checkpoint's lens, or a way to come by one; None, and raw images only, meanwhile."""
    try:
        found = measure.stored_lens(active)
    except LensError as error:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.warning(escape_markdown(str(error)), icon=":material/broken_image:")
            offer_deletion(lens_path(checkpoint_files()[active.key]))
        return None
    if found is not None or active.is_random:
        return found
    with st.container(key="expert_fit"):
        data = measure.training_data(active)
        told = "images that come with the package" if data in COMPOSED else "the images of its training"
        sentence = f"**No lens has been fitted for this checkpoint**, so images are raw. Fitting takes {told}."
        if data in COMPOSED and not is_built_in(active.data):
            sentence += (
                " It was trained on others, on which a lens would be better: "
                "`python -m tae.lens --checkpoint <file> --data <your images>`."
            )
        notice = st.empty()
        notice.info(sentence, icon=":material/straighten:")
        try:
            found = measure.fitted_lens(active)
        except (ValueError, OSError) as error:
            st.error(f"No lens could be fitted: {escape_markdown(str(error))}", icon=":material/error:")
        if found is not None:
            notice.empty()
        return found


def provenance(found: Lens) -> str:
    """Where a lens is from; holds a stranger's text."""
    told = {name: found.about.get(name, "unknown") for name in ("train_images", "test_images", "data")}
    return "fitted on {train_images} training images and measured on {test_images} test images ({data})".format(**told)

"""The page Explore, and the app's entry point: an image, its reconstruction, every attention head, and what ablating one does.

streamlit run app.py
"""

from tae import ui
from tae.ui.explore import page


def main() -> None:
    active, chosen = ui.setup("Explore", page.STYLE)
    page.explore(active, chosen)


main()

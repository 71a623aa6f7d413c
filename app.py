"""The page Explore, and the app's entry point: an image, its reconstruction, every attention head, and what ablating one does.

streamlit run app.py
"""

import streamlit as st
from starlette.middleware import Middleware

from tae.app import Guarded, lifespan, routes, say_error


def main() -> None:
    from tae import ui
    from tae.ui.explore import page

    active, chosen = ui.setup("Explore")
    page.explore(active, chosen)


if __name__ == "__main__":  # a visitor's page
    main()
else:  # the server, by whom this file is imported
    app = st.App(
        __file__, routes=routes(), lifespan=lifespan, middleware=[Middleware(Guarded)], on_script_error=say_error
    )

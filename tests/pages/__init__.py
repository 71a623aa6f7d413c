"""The pages without a browser: how a test opens one and reads what it shows."""

import numpy as np
from streamlit.testing.v1 import AppTest

from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tests import ROOT

DEMO = "demo_tiny_201x201_p16.safetensors"


PAGES = {
    "Reconstruct": "app.py",
    "Attention": "pages/attention.py",
    "Does it matter?": "pages/causal.py",
    "Compare": "pages/compare.py",
    "Layers": "pages/layers.py",
    "Latent space": "pages/latent.py",
    "Sequences": "pages/sequences.py",
    "Models": "pages/models.py",
    "Train": "pages/train.py",
}


HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) $x$ :material/bolt: **b**"


def open_page(page: str = "Reconstruct", **link: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    return go(app, page)  # a link opens its page at once


def go(app: AppTest, page: str) -> AppTest:
    """Another page of the same session."""
    app.switch_page(PAGES[page]).run()
    assert not app.exception
    return app


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def texts(app: AppTest, *kinds: str) -> str:
    """Everything that is written on the page and in the sidebar, in elements of these kinds."""
    kinds = kinds or ("markdown", "caption", "error", "warning", "info", "success", "title", "subheader")
    return "\n".join(element.value for kind in kinds for element in getattr(app, kind))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def drop(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    app.file_uploader[0].set_value([(name, data, "application/octet-stream") for name, data in files])
    return run(app)


def png(pixels: np.ndarray) -> bytes:
    return encode_png(pixels.astype(np.uint8))


def image(index: int) -> bytes:
    return png(compose_square("test", index))


def build_untrained(app: AppTest, size: str = "201x201", patch: str = "16") -> AppTest:
    go(app, "Models")
    app.segmented_control[0].set_value("Untrained model")
    run(app)
    by_label = {box.label: box for box in app.selectbox}
    by_label["Input"].set_value(size)
    by_label["Patch"].set_value(patch)
    next(button for button in app.button if button.label == "Build and use").click()
    return run(app)


def bring(app: AppTest, name: str, data: bytes) -> AppTest:
    go(app, "Models")
    app.segmented_control[0].set_value("Bring a checkpoint")
    run(app)
    app.file_uploader("models_upload").set_value((name, data, "application/octet-stream"))
    return run(app)

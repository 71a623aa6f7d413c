"""The pages without a browser: how a test opens one and reads what it shows."""

import base64
import html
import json
import re
from typing import Any

import numpy as np
import torch
from streamlit.testing.v1 import AppTest

from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.store.card import Card
from tae.ui.session.models import checkpoints_folder
from tests import ROOT

DEMO = "demo_tiny_201x201_p16.safetensors"
FIRST = "drops_tiny_201x201_p16.safetensors"
"""What the app opens with."""


TITLES = {"Layers": "Representations", "Latent space": "Representations", "Train": "Models"}
"""Titles of the pages that are not their own."""
COUNT = 200
"""Images of the map's test set here: the page's thousand take five times as long."""

PAGES = {
    "Explore": "app.py",
    "Ablation": "pages/causal.py",
    "Compare": "pages/compare.py",
    "Layers": "pages/layers.py",
    "Latent space": "pages/latent.py",
    "Sequences": "pages/sequences.py",
    "Models": "pages/models.py",
    "Train": "pages/train.py",
}


HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) $x$ :material/bolt: **b**"


VERY_SMALL = {"input_size": (32, 32), "patch_size": 8, "latent_dim": 16, "encoder_layers": 1, "decoder_layers": 1}


def very_small(seed: int = 2, spread: float = 0.1, **fields: object) -> TransformerAutoencoder:
    """A model none of whose weights has a special value; fields replace those of `VERY_SMALL`."""
    torch.manual_seed(seed)
    model = TransformerAutoencoder(preset_config("tiny", **{**VERY_SMALL, **fields})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def card(**fields: object) -> Card:
    """Of a model that was trained, and says nothing else."""
    plain = {"name": "A model", "training": {"steps": 1}, "metrics": {}, "data": "", "licence": "", "notes": ""}
    return Card(**{**plain, **fields})  # type: ignore[arg-type]


def flatten(model: TransformerAutoencoder) -> None:
    """Without queries and keys, the first layer's attention is uniform."""
    model.encoder.blocks[0].attn.qkv.weight[:256] = 0  # type: ignore[union-attr, index]
    model.encoder.blocks[0].attn.qkv.bias[:256] = 0  # type: ignore[union-attr, index]


def blow_up(model: TransformerAutoencoder) -> None:
    """It draws no finite numbers any more."""
    for parameter in model.decoder.parameters():
        parameter.fill_(1e38)


def open_page(page: str = "Explore", **link: str) -> AppTest:
    """A page with the garments' checkpoint, where the link names no other."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if (checkpoints_folder() / DEMO).exists():
        link = {"checkpoint": DEMO, **link}
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


def said_plainly(app: AppTest, *kinds: str) -> str:
    """What is written, without the backslashes that keep a stranger's text from being Markdown."""
    return texts(app, *kinds).replace("\\", "")


def assert_harmless(shown: str) -> None:
    """Nothing of `HOSTILE` is HTML or Markdown."""
    assert "<img" not in shown.replace("\\<img", "") and "](javascript" not in shown
    assert " $x$" not in shown and " **b**" not in shown and " :material/bolt:" not in shown


def tables(app: AppTest) -> list[list[dict[str, str]]]:
    """The rows of each `tae.ui.widgets.table`: {column: text}."""
    found = []
    for one in app.get("html"):
        heads, *rows = [
            [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)<", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", one.proto.body)
        ] or [[]]
        if rows:
            found.append([dict(zip(heads, row, strict=True)) for row in rows])
    return found


def charts(app: AppTest) -> list[dict]:
    """The page's figures as they go to the browser."""
    return [json.loads(one.proto.spec) for one in app.get("plotly_chart")]  # type: ignore[attr-defined]


def numbers(values: Any) -> list[float]:
    """A trace's numbers, which may come packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"])).tolist()
    return list(values)


def component(app: AppTest, key: str) -> dict:
    """What a component of ours was given, but for its arrays."""
    (found,) = [one.proto for one in app.get("bidi_component") if one.proto.id.endswith(f"-{key}")]  # type: ignore[attr-defined]
    return json.loads(found.mixed.json if found.WhichOneof("data") == "mixed" else found.json)


def status(app: AppTest, part: str = "encoder") -> str:
    """What stands below the maps of a part."""
    return component(app, "explorer")["status"][part]


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
    app.segmented_control("models_view").set_value("Untrained model")
    run(app)
    by_label = {box.label: box for box in app.selectbox}
    by_label["Input"].set_value(size)
    by_label["Patch"].set_value(patch)
    next(button for button in app.button if button.label == "Build and use").click()
    return run(app)


def bring(app: AppTest, name: str, data: bytes) -> AppTest:
    go(app, "Models")
    app.segmented_control("models_view").set_value("Load checkpoint")
    run(app)
    app.file_uploader[0].set_value((name, data, "application/octet-stream"))
    return run(app)

"""From a picture chosen, and from the pointer moved, to everything painted: the explorer, Plotly heatmaps, BertViz.

    python -m benchmarks.explorer

Needs an installed Chromium. Explorer and Plotly are two views of one page (`benchmarks/explorer_page.py`) and get the same
maps of the same pictures: the average and each layer of the encoder at N = 169 and 800, the average at 3040. The Plotly
page sends them as float32 heatmaps and draws a patch's weights anew on a click, as far as Streamlit lets it. They take turns in
one run; times are of the browser's clock, bytes those on the web socket. BertViz is measured where it is installed; it is
no dependency. Writes `benchmarks/results/explorer.json` and `explorer.md`; about 10 minutes.
"""

import importlib.util
import os
import statistics
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from playwright.sync_api import Browser, Page

from benchmarks import RESULTS, keep
from tae.data.batches import to_batch
from tae.data.demo import DemoSource
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tests.browser import ROOT, running_browser
from tests.served import running_app

NOT_INSTALLED = "not measured: bertviz is not installed"
MAX_BERTVIZ_PAIRS = 10**7
"""Weights in one page at most; their text takes some 20 bytes each."""
MAX_OPENED = 10**8
"""Bytes of a page that is handed to the browser."""
PAINTED = """
const twice = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
const explorer = () => {
  for (const node of document.querySelectorAll("[data-testid^='stBidiComponent'], [data-testid^='stBidiComponent'] *"))
    if (node.shadowRoot?.querySelector(".tae-explorer")) return node.shadowRoot.querySelector(".tae-explorer");
};
const drawn = (selector, count) => {
  const images = [...document.querySelectorAll(`${selector} .heatmaplayer image`)];
  return images.length >= count && images.every(image => (image.getAttribute("href") || "").length > 30);
};
"""


@dataclass(frozen=True)
class ExplorerConfig:
    tokens: tuple[int, ...] = (169, 800, 3040)
    """Which settings."""
    pictures: int = 5
    """Measured after a first one that warms up."""
    moves: int = 60
    """Moves of the pointer, from patch to patch."""
    clicks: int = 5
    """On a patch of the Plotly page."""
    results: Path = field(default=RESULTS, metadata={"help": "Folder of the result files."})


def main(config: ExplorerConfig) -> None:
    rows = []
    with running_page() as address, running_browser() as browser:
        for tokens in config.tokens:
            rows += [measure(browser, address, method, tokens, config) for method in ("explorer", "plotly")]
            rows.append(bertviz(browser, tokens))
            print(*rows[-3:], sep="\n", flush=True)
    result = {"rows": rows, "load": os.getloadavg()[0], "pictures": config.pictures}
    keep("explorer", result, table(result), config.results)


def running_page() -> AbstractContextManager[str]:
    """The page on a free port of this machine."""
    return running_app("benchmarks/explorer_page.py", PYTHONPATH=str(ROOT))


def measure(browser: Browser, address: str, method: str, tokens: int, config: ExplorerConfig) -> dict:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    received = [0]
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda frame: received.__setitem__(0, received[0] + len(frame))),
    )
    page.set_default_timeout(300_000)
    page.goto(f"{address}/?method={method}&tokens={tokens}")
    page.get_by_role("heading", name=f"{method} {tokens} 0").wait_for()
    page.wait_for_timeout(5000)
    times, sizes = [], []
    for number in range(1, config.pictures + 2):
        before = received[0]
        times.append(page.evaluate(chosen(method, tokens, number % 8)))
        page.wait_for_timeout(500)
        sizes.append(received[0] - before)
    row = {
        "tokens": tokens,
        "method": method,
        "chosen_ms": statistics.median(times[1:]),
        "bytes": int(statistics.median(sizes[1:])),
    }
    if method == "explorer":
        row |= {"moved_ms": moves(page, config.moves), "moved_bytes": 0}
    else:
        before = received[0]
        row["moved_ms"] = clicks(page, config)
        row["moved_bytes"] = (received[0] - before) // config.clicks
    page.close()
    return row


def chosen(method: str, tokens: int, number: int) -> str:
    """Clicks "Next picture" and waits until all that belongs to that picture has been painted; milliseconds."""
    maps = 1 if tokens > 1000 else 4
    is_painted = (
        f'explorer()?.dataset.state === "ready" && explorer().textContent.includes("Image {number}")'
        if method == "explorer"
        else f'drawn("[class*=st-key-maps_{number}]", {maps}) && drawn("[class*=st-key-patch_{number}_]", 1)'
    )
    return f"""async () => {{
      {PAINTED}
      const button = [...document.querySelectorAll("button")].find(one => one.textContent.includes("Next picture"));
      const started = performance.now();
      button.click();
      while (!({is_painted})) await new Promise(requestAnimationFrame);
      await twice();
      return performance.now() - started;
    }}"""


def moves(page: Page, count: int) -> float:
    """Median milliseconds from a pointer's move to the end of its painting, as the explorer itself notes them."""
    area = page.locator('.tae-explorer [role="application"]').bounding_box()
    assert area is not None
    page.evaluate("performance.clearMeasures()")
    for step in range(count):
        share = (step + 0.5) / count
        page.mouse.move(
            area["x"] + area["width"] * share, area["y"] + area["height"] * (0.2 + 0.6 * ((step * 7) % 10) / 10)
        )
        page.wait_for_timeout(30)
    durations = page.evaluate("performance.getEntriesByName('tae-explorer-paint').map(entry => entry.duration)")
    return statistics.median(durations)


def clicks(page: Page, config: ExplorerConfig) -> float:
    """Median milliseconds from a click on a patch until its weights have been painted."""
    times = []
    for step in range(config.clicks):
        plot = page.locator('[class*="st-key-patch_"] .nsewdrag').first
        area = plot.bounding_box()
        assert area is not None
        before = page.evaluate("document.querySelector('[class*=st-key-patch_]').className")
        started = time.perf_counter()
        page.mouse.click(area["x"] + area["width"] * (0.15 + 0.13 * step), area["y"] + area["height"] * 0.4)
        page.evaluate(
            f"""async before => {{
              {PAINTED}
              const there = () => document.querySelector("[class*=st-key-patch_]");
              while (!there() || there().className === before || !drawn("[class*=st-key-patch_]", 1))
                await new Promise(requestAnimationFrame);
              await twice();
            }}""",
            before,
        )
        times.append(1000 * (time.perf_counter() - started))
        page.wait_for_timeout(1500)
    return statistics.median(times)


def bertviz(browser: Browser, tokens: int) -> dict:
    """BertViz's head view of all layers and heads: its bytes, and what it asks of the internet before it draws."""
    row: dict[str, Any] = {"tokens": tokens, "method": "BertViz"}
    if importlib.util.find_spec("bertviz") is None:
        return row | {"note": NOT_INSTALLED}
    from bertviz import head_view  # type: ignore[import-not-found]

    shape = {169: ((201, 201), 16), 800: ((152, 1280), 16), 3040: ((152, 1280), 8)}[tokens]
    config = preset_config("tiny", input_size=shape[0], patch_size=shape[1])
    pairs = config.encoder_layers * config.num_heads * tokens**2
    if pairs > MAX_BERTVIZ_PAIRS:
        return row | {"note": f"not tried: {pairs / 1e6:.0f} million weights as text"}
    torch.manual_seed(0)
    model = TransformerAutoencoder(config).eval()
    image = to_batch(DemoSource(config.input_size).test(1))[0]
    heads = [model.get_attention_heads(image, layer) for layer in range(config.encoder_layers)]
    names = [
        f"row {token // config.grid_for(shape[0][1])[1]} column {token % config.grid_for(shape[0][1])[1]}"
        for token in range(tokens)
    ]
    started = time.perf_counter()
    made = head_view(heads, names, html_action="return")
    seconds = time.perf_counter() - started
    row |= {"bytes": len(made.data.encode()), "made_ms": 1000 * seconds}
    if row["bytes"] > MAX_OPENED:
        return row | {"note": "not opened"}
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    require = '<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/require.min.js"></script>'
    page.set_content(f"<!doctype html>{require}{made.data}", wait_until="commit", timeout=300_000)
    page.wait_for_timeout(3000)
    painted = page.locator("svg").count()
    page.close()
    said = "drawn" if painted else "nothing drawn without"
    note = f"scripts asked of the internet: {len(asked)}; {said}"
    return row | {"note": note}


def table(result: dict) -> str:
    lines = [
        "| N | method | picture chosen to painted | bytes | pointer to painted | bytes |",
        "| --- " * 6 + "|",
    ]
    ours: dict = {}
    for row in result["rows"]:
        ours = row if row["method"] == "explorer" else ours
        if row["method"] == "BertViz":
            size = f"{row['bytes'] / 1e6:.2f} MB" if "bytes" in row else ""
            lines.append(f"| {row['tokens']} | BertViz, all heads | {row['note']} | {size} | | |")
            continue
        name = {"explorer": "explorer, pointer moved", "plotly": "float32 Plotly heatmaps, patch clicked"}[
            row["method"]
        ]
        times = [
            f"{row[kind]:.0f} ms" + (f" ({row[kind] / ours[kind]:.1f} x)" if row is not ours else "")
            for kind in ("chosen_ms", "moved_ms")
        ]
        lines.append(
            f"| {row['tokens']} | {name} | {times[0]} | {row['bytes'] / 1e6:.2f} MB | {times[1]} | "
            f"{row['moved_bytes'] / 1e6:.2f} MB |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {result['pictures']} pictures; in brackets the ratio to the explorer. Maps: the average and each "
            "layer at 169 and 800, the average at 3040, where the explorer merges 2x2 patches and says so. A move is timed to "
            "the end of drawing, which the next refresh of the screen shows; the rest to the second frame after it. Tiny, "
            f"random weights, maps computed before. Load of the machine at the end: {result['load']:.0f}.",
            "",
            "Command: `python -m benchmarks.explorer`",
            "",
        ]
    )


if __name__ == "__main__":
    main(tyro.cli(ExplorerConfig, description=__doc__))

"""How the pages come: the first image, what moves meanwhile, a change of page, a move over the head grid, a head ablated.

    python -m benchmarks.screens

Needs an installed Chromium. A cold start is a fresh server and a fresh browser; a warm page is opened by a second visitor of a
server that has shown it before. Layout shift is the browser's own sum (CLS), without what a person's input moves. Writes
`benchmarks/results/screens.json` and `screens.md`; about three minutes.
"""

import os
import platform
import re
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from playwright.sync_api import Browser, Page, expect

from benchmarks import grid, keep
from tests.browser import OFFERED, running_browser, settle
from tests.served import running_app

PAGES = {
    "Explore": "/",
    "Ablation": "/causal",
    "Compare": "/compare",
    "Layers": "/layers",
    "Latent space": "/latent",
    "Sequences": "/sequences",
    "Models": "/models",
    "Train": "/train",
}
SHIFTS = """
globalThis.shift = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
WORDS = """() => {
  const said = (node) => [node.innerText ?? "", ...[...node.querySelectorAll("*")].filter(one => one.shadowRoot)
    .map(one => [...one.shadowRoot.children].map(child => child.innerText ?? "").join(" "))].join(" ");
  const written = said(document.querySelector('[data-testid="stMain"]')).split(/\\s+/);
  return written.filter(word => /\\p{L}{2}/u.test(word) && !/^[a-z]+(_[a-z]+)+$/.test(word)).length;
}"""
"""Words beside the menu, those in our components included; not the names of icons."""
PAINTED = "[data-testid=stImage] img, .tae-canvas, .js-plotly-plot .main-svg, [data-testid=stFileUploader]"
"""What an image is on a page; on the page Train, which has none at first, where it begins."""


@dataclass(frozen=True)
class ScreensConfig:
    moves: int = 60
    """Moves of the pointer over the image of Explore."""
    clicks: int = 5
    """Heads ablated, one after the other."""


def main(config: ScreensConfig) -> None:
    rows: list[dict[str, Any]] = []
    with running_app() as address:
        with running_browser() as browser:
            rows.append({"page": "Explore, cold start", **opened(browser, address)})
        with running_browser() as browser:
            for path in PAGES.values():  # so that what they compute is kept
                opened(browser, address + path)
            rows += [{"page": name, **opened(browser, address + path)} for name, path in PAGES.items()]
            felt = interactions(browser, address, config)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"load {os.getloadavg()[0]:.0f} at the end",
        "pages": rows,
        "felt": felt,
    }
    keep("screens", result, table(result))


def visitor(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.context.add_cookies([{"name": OFFERED[0], "value": OFFERED[1], "url": address}])
    page.add_init_script(SHIFTS)
    return page


def opened(browser: Browser, address: str) -> dict[str, float]:
    """Seconds to the first image and to rest, the layout shift until then, and how many words stand on the page."""
    page = visitor(browser, address)
    started = time.perf_counter()
    page.goto(address)
    page.locator(PAINTED).first.wait_for(timeout=120_000)
    first = time.perf_counter() - started
    settle(page)
    rest = time.perf_counter() - started
    shift, words = page.evaluate("globalThis.shift"), page.evaluate(WORDS)
    page.context.close()
    return {"first_image_s": first, "rest_s": rest, "layout_shift": shift, "words": words}


def interactions(browser: Browser, address: str, config: ScreensConfig) -> dict[str, float]:
    """Medians of what a person does on Explore: milliseconds of a move's painting, seconds of an ablation and a page change."""
    page = visitor(browser, address)
    page.goto(address)
    settle(page)
    image = page.locator(".tae-explorer [role=application]")
    box = image.bounding_box()
    assert box
    page.evaluate("performance.clearMeasures()")
    for move in range(config.moves):
        page.mouse.move(box["x"] + (0.1 + 0.8 * (move * 0.37 % 1)) * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_timeout(40)
    paints = page.evaluate("performance.getEntriesByName('tae-explorer-paint').map(entry => entry.duration)")
    ablations = []
    for head in range(config.clicks):
        name = f"{('encoder', 'decoder')[head % 2]}/{head // 2}/0"
        started = time.perf_counter()
        page.locator(f".tae-heads-cell[data-name='{name}']").click()
        expect(page.locator(".tae-explorer")).to_have_attribute("data-ablated", re.compile(re.escape(name)))
        ablations.append(time.perf_counter() - started)
        settle(page)
    changes = []
    for title in ("Compare", "Explore", "Sequences", "Explore"):
        started = time.perf_counter()
        page.get_by_test_id("stSidebar").get_by_role("link", name=title, exact=True).click()
        page.get_by_role("heading", level=1, name=title, exact=True).wait_for()
        page.locator(PAINTED).first.wait_for()
        changes.append(time.perf_counter() - started)
        settle(page)
    page.context.close()
    return {
        "move_ms": statistics.median(paints),
        "slowest_move_ms": max(paints),
        "ablation_s": statistics.median(ablations),
        "page_change_s": statistics.median(changes),
    }


def table(result: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    felt = result["felt"]
    rows = [
        [
            row["page"],
            *(f"{row[name]:.1f}" for name in ("first_image_s", "rest_s")),
            f"{row['layout_shift']:.2f}",
            row["words"],
        ]
        for row in result["pages"]
    ]
    return [
        *grid(["page, 1400x900", "first image (s)", "at rest (s)", "layout shift", "words"], rows),
        "",
        f"Explore, N = 169: a move of the pointer paints the image and 34 maps in {felt['move_ms']:.0f} ms (median; at most "
        f"{felt['slowest_move_ms']:.0f}), an ablated head's reconstruction stands after {felt['ablation_s']:.2f} s, another page "
        f"shows its image after {felt['page_change_s']:.1f} s. Machine: {result['machine']}.",
    ]


if __name__ == "__main__":
    main(tyro.cli(ScreensConfig, description=__doc__))

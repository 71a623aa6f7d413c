"""How the pages come: the first image, what moves meanwhile, a change of page, a move over the head grid, a head ablated; how
many words they say, and what the tasks of a first-time user take.

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
from benchmarks.tasks import walk
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
  let count = 0;
  const isSeen = (text) => {
    const parent = text.parentElement, range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (!parent || parent.closest("option, script, style, [data-testid=stIconMaterial]") || box.width < 2) return false;
    if (!parent.checkVisibility({ visibilityProperty: true, opacityProperty: true })) return false;
    for (let node = parent; node; node = node.parentElement) { // what is there for screen readers alone is one pixel
      const { width, height } = node.getBoundingClientRect();
      if (getComputedStyle(node).overflow !== "visible" && (width <= 1 || height <= 1)) return false;
    }
    return true;
  };
  const read = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.currentNode; node; node = walker.nextNode()) {
      if (node.shadowRoot) read(node.shadowRoot);
      if (node.nodeType === Node.TEXT_NODE && isSeen(node))
        count += node.data.split(/\\s+/).filter(word => /\\p{L}{2}/u.test(word)).length;
    }
  };
  read(document.querySelector('[data-testid="stMain"]'));
  return count;
}"""
"""Words on a page beside the menu, below the fold and in our components, too; not the names of icons or what a menu holds."""
BEFORE = {
    **{"Explore": 271 + 239, "Ablation": 377, "Compare": 233, "Layers": 337, "Latent space": 225, "Sequences": 482},
    **{"Models": 497, "Train": 132},
}
"""Words on the first tab before they were halved, counted by eye; Explore was two pages, Reconstruct and Attention."""
PAINTED = "[data-testid=stImage] img, .tae-canvas, .js-plotly-plot .main-svg"
"""What an image is on a page; on the page Train, the chart of the memory that a run takes."""


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
            tasks = list(walk(visitor(browser, address), address))
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"load {os.getloadavg()[0]:.0f} at the end",
        "pages": rows,
        "felt": felt,
        "tasks": [{"task": name, "before": before, **after} for name, before, after in tasks],
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
            BEFORE.get(row["page"], BEFORE["Explore"]),
        ]
        for row in result["pages"]
    ]
    return [
        *grid(["page, 1400x900", "first image (s)", "at rest (s)", "layout shift", "words", "words before"], rows),
        "",
        f"Explore, N = 169: a move of the pointer paints the image and 34 maps in {felt['move_ms']:.0f} ms (median; at most "
        f"{felt['slowest_move_ms']:.0f}), an ablated head's reconstruction stands after {felt['ablation_s']:.2f} s, another page "
        f"shows its image after {felt['page_change_s']:.1f} s. Machine: {result['machine']}.",
        "",
        *grid(
            ["task, 1400x900", "clicks before", "clicks", "scrolls"],
            [[one[name] for name in ("task", "before", "clicks", "scrolls")] for one in result["tasks"]],
        ),
        "",
        "Before: as a new user walked them. A scroll: what is to be clicked or read stood outside the window.",
    ]


if __name__ == "__main__":
    main(tyro.cli(ScreensConfig, description=__doc__))

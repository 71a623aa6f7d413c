"""The benchmark of the explorer: its page gives both methods the same maps, and its table takes the ratio to the explorer."""

import os

import pytest

from benchmarks import explorer
from tests.browser import CHROMIUM


def test_table_puts_plotly_beside_the_explorer_of_the_same_n() -> None:
    ours = {
        "tokens": 169,
        "method": "explorer",
        "chosen_ms": 200.0,
        "bytes": 300_000,
        "moved_ms": 2.0,
        "moved_bytes": 0,
    }
    theirs = {**ours, "method": "plotly", "chosen_ms": 1000.0, "moved_ms": 500.0, "moved_bytes": 100_000}
    bertviz = {"tokens": 169, "method": "BertViz", "note": explorer.NOT_INSTALLED}
    table = explorer.table({"rows": [ours, theirs, bertviz], "pictures": 5, "load": 1.0})
    (line,) = [line for line in table.splitlines() if "Plotly" in line]
    assert "1000 ms (5.0 x)" in line and "500 ms (250.0 x)" in line and "0.10 MB" in line
    assert "python -m benchmarks.explorer" in table and explorer.NOT_INSTALLED in table


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium or Chrome is installed")
def test_both_ways_are_painted_and_measured(browser) -> None:
    config = explorer.ExplorerConfig(pictures=1, moves=5, clicks=1)
    with explorer.running_page() as address:
        ours, theirs = (explorer.measure(browser, address, method, 169, config) for method in ("explorer", "plotly"))
    assert ours["bytes"] > 4 * 169**2 * 2 and theirs["bytes"] > 4 * 169**2 * 4  # four maps in 16 bits, in 32 bits
    assert 0 < ours["moved_ms"] < theirs["moved_ms"] and theirs["moved_bytes"] > ours["moved_bytes"] == 0

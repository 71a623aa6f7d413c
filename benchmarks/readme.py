"""Puts the measured tables into the README and into benchmarks/README.md, between their markers.

python -m benchmarks.readme
"""

import json
import re
from pathlib import Path
from textwrap import fill

from benchmarks import RESULTS, grid
from tae.model.config import size_in_words

PAGES = (Path(__file__).parents[1] / "README.md", Path(__file__).parent / "README.md")


def filled(text: str) -> str:
    """A page's text with each `<!-- name -->...<!-- /name -->` holding `benchmarks/results/name.md`, or an excerpt of these."""

    def table(found: re.Match) -> str:
        name = found[1]
        made = EXCERPTS[name]() if name in EXCERPTS else (RESULTS / f"{name}.md").read_text().strip()
        return f"<!-- {name} -->\n{made}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


def tables(name: str) -> list[list[list[str]]]:
    """The tables of a result: rows of cells, the header first."""
    found = re.findall(r"(?:^\|.*\n?)+", (RESULTS / f"{name}.md").read_text(), re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in one.split("\n") if row and "---" not in row]
        for one in found
    ]


def checkpoints() -> list[dict]:
    """The shipped checkpoints as `benchmarks.quality` measured them."""
    return json.loads((RESULTS / "quality.json").read_text())["checkpoints"]


def demo_models() -> str:
    """What the demo checkpoints reach, and what is ahead of them; a dash: not measured."""
    methods = ("tae", "mean image", "PCA", "convolutional autoencoder")
    rows = []
    for one in checkpoints():
        psnr = {row["method"]: f"{row['psnr']:.2f}" for row in one["rows"]}
        share = one["baselines"].get("conv", {}).get("share", 1)
        if share < 1:
            psnr["convolutional autoencoder"] += f" ({share:.0%} of the training)"
        rows.append([f"`{one['name']}`", *(psnr.get(method, "-") for method in methods)])
    header = ["test PSNR (dB), 128 numbers an image", "this model", "mean image", "PCA", "convolutional autoencoder"]
    return "\n".join(grid(header, rows))


def demo_attention() -> str:
    """What is lost where the encoder's attention is replaced."""
    shown = checkpoints()
    rows = [[name, *(f"{one['loss_db'][name]['all']:.2f} dB" for one in shown)] for name in shown[0]["loss_db"]]
    titles = [f"{one['name'].split('_')[0]} {size_in_words(one['model']['input_size'])}" for one in shown]
    header = ["PSNR lost where the encoder's attention is replaced by", *titles]
    return "\n".join(grid(header, rows))


def demo_presets() -> str:
    """The presets at 201x201 in patches of 16."""
    header, *rows = tables("presets")[0]
    kept = [header.index(name) for name in header if name not in ("one token", "1280x152, patch 16")]
    return "\n".join(grid([header[place] for place in kept], [[row[place] for place in kept] for row in rows]))


def tried() -> str:
    """What was tried to break it, and what came of it."""
    (_, kills), *rows = tables("reliability")[0][1:]
    counts = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) of (\d+)", kills)]
    equal, tried = map(sum, zip(*counts, strict=True))
    told = [f"{len(counts)} commands killed at every touch of a file, {equal} of {tried} go on to equal contents"]
    told += [f"{what}, {came}" for what, came in rows]
    return fill(f"Tried by `python -m benchmarks.reliability`: {'; '.join(told)}.", 120)


EXCERPTS = {"demo_models": demo_models, "demo_attention": demo_attention, "demo_presets": demo_presets, "tried": tried}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))

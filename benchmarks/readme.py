"""Puts the measured tables into the README and into benchmarks/README.md, between their markers.

python -m benchmarks.readme
"""

import re
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGES = (Path(__file__).parents[1] / "README.md", Path(__file__).parent / "README.md")
SIZES = ("201x201", "1280x152", "Xx152")


def filled(text: str) -> str:
    """A page's text with each `<!-- name -->...<!-- /name -->` holding `benchmarks/results/name.md`, or an excerpt of these."""

    def table(found: re.Match) -> str:
        name = found[1]
        made = EXCERPTS[name]() if name in EXCERPTS else (RESULTS / f"{name}.md").read_text().strip()
        return f"<!-- {name} -->\n\n{made}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


def tables(name: str) -> list[list[list[str]]]:
    """The tables of a result: rows of cells, the header first."""
    found = re.findall(r"(?:^\|.*\n?)+", (RESULTS / f"{name}.md").read_text(), re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in one.split("\n") if row and "---" not in row]
        for one in found
    ]


def of_each_size(header: str, row: str, column: int) -> list[str]:
    """One cell for each demo checkpoint, from the tables whose header begins so; row: how it begins."""
    found = [one for name in ("quality", "necessity", "rails") for one in tables(name) if header in one[0][0]]
    return [next(cells[column] for cells in one[1:] if cells[0].startswith(row)) for one in found]


def written(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


def demo_models() -> str:
    """What the demo checkpoints reach, and what is ahead of them."""
    methods = {
        "this model": "tae",
        "mean image": "mean image",
        "PCA, as many numbers": "PCA",
        "convolutional autoencoder": "convolutional",
    }
    columns = [of_each_size("128 numbers for", row, 1) for row in methods.values()]
    rows = [
        [f"`demo_tiny_{size}_p{patch}`", *(column[number] for column in columns)]
        for number, (size, patch) in enumerate(zip(SIZES, (16, 32, 32), strict=True))
    ]
    return (
        written(["test PSNR (dB), 128 numbers an image", *methods], rows)
        + "\n\nCommands: `python -m benchmarks.quality`, `python -m benchmarks.rails`"
    )


def demo_attention() -> str:
    """What is lost where the encoder's attention is replaced."""
    names = ("uniform weights", "another image's attention", "mean map of other images")
    rows = [[name, *of_each_size("encoder attention replaced by", name, 1)] for name in names]
    return (
        written(["PSNR lost where the encoder's attention is replaced by", *SIZES], rows)
        + "\n\nCommands: `python -m benchmarks.necessity`, `python -m benchmarks.rails`"
    )


def demo_presets() -> str:
    """The presets at 201x201 in patches of 16."""
    header, *rows = tables("presets")[0]
    kept = [header.index(name) for name in header if name not in ("one token", "1280x152, patch 16")]
    return (
        written([header[place] for place in kept], [[row[place] for place in kept] for row in rows])
        + "\n\nCommand: `python -m benchmarks.presets`"
    )


EXCERPTS = {"demo_models": demo_models, "demo_attention": demo_attention, "demo_presets": demo_presets}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))

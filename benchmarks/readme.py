"""Puts the measured tables into the README, between their markers.

python -m benchmarks.readme
"""

import re
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def filled(text: str) -> str:
    """A README's text with each `<!-- name -->...<!-- /name -->` holding `benchmarks/results/name.md`."""

    def table(found: re.Match) -> str:
        name = found[1]
        return f"<!-- {name} -->\n\n{(RESULTS / f'{name}.md').read_text().strip()}\n\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))

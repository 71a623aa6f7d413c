"""A first page for the browser: Streamlit's own page with the app's style in it, the title, and what every page loads anyway.

Streamlit's page is empty until its script has run and the server has answered, and an app's style comes only after that, so
that whatever stands by then moves. Here the style stands from the first byte, and room for the sidebar is kept.

- first.css: the style of all pages
- first.js: how wide the visitor left the sidebar; a step back is a page
"""

import functools
import html
import re
from collections.abc import Sequence
from pathlib import Path

PAGES = {
    "Explore": ("app.py", ":material/grid_on:"),
    "Ablation": ("pages/causal.py", ":material/science:"),
    "Compare": ("pages/compare.py", ":material/join:"),
    "Layers": ("pages/layers.py", ":material/stacks:"),
    "Latent space": ("pages/latent.py", ":material/scatter_plot:"),
    "Sequences": ("pages/sequences.py", ":material/animated_images:"),
    "Models": ("pages/models.py", ":material/deployed_code:"),
    "Train": ("pages/train.py", ":material/model_training:"),
}
"""{title: (script, icon)} of the app's pages."""
TABS = {"Representations": ("Layers", "Latent space"), "Models": ("Models", "Train")}
"""Pages that are one in the menu, where they stand under the first one's icon."""
CHUNKS = (
    *(
        "Html",
        "PageLink",
        "Selectbox",
        "ButtonGroup",
        "Button",
        "Checkbox",
        "FileUploader",
        "BidiComponent",
        "rehype-raw",
    ),
    *("ImageList", "Metric", "Progress", "Spinner", "NumberInput", "Slider", "DownloadButton", "TextInput"),
)
"""Parts of Streamlit's script that pages ask for, each only once it is drawn; meanwhile a box of another height stands there."""
BEGIN_WITH_CHARTS = ("Layers", "Latent space", "Sequences", "Models", "Train")
"""Pages whose first image Plotly draws: its 5 MB are read and parsed while the page's script runs."""
_OWN = Path(__file__).parent


def group_of(page: str) -> str:
    """What the menu calls a page."""
    return next((name for name, pages in TABS.items() if page in pages), page)


def first_pages(static: Path) -> dict[str, str]:
    """{a page's address below the app's: what a browser gets there}, from Streamlit's folder of static files."""
    addresses = {title: Path(path).stem if "/" in path else "" for title, (path, _) in PAGES.items()}
    return {address: first_page(static, title) for title, address in addresses.items()}


def first_page(static: Path, title: str) -> str:
    """Streamlit's page as this app hands it out for the page of that title."""
    page = (static / "index.html").read_text(encoding="utf-8")
    needed, all_of_them = chunks(static)
    if title in BEGIN_WITH_CHARTS:
        all_of_them = tuple(dict.fromkeys((*all_of_them, *chunks(static, ("PlotlyChart",))[1])))
    ahead = "".join(f'<link rel="modulepreload" crossorigin href="./{path}">' for path in all_of_them)
    imports = "".join(f'import("./{path}");' for path in needed)
    frame = f'<div class="tae-first" aria-hidden="true"><div></div><p>{html.escape(group_of(title))}</p></div>'
    style = f"<style>{(_OWN / 'first.css').read_text(encoding='utf-8')}</style>"
    script = f"<script>{(_OWN / 'first.js').read_text(encoding='utf-8')}</script>"
    for mark, instead in {
        "<title>Streamlit</title>": f"<title>{html.escape(title)} · tae</title>",
        "</head>": f'{ahead}<script type="module">{imports}</script></head>',
        # Below what Streamlit's script adds to the head, so that of two rules the app's counts.
        '<div id="root"></div>': f'{script}<div id="root">{frame}</div>{style}',
    }.items():
        if mark not in page:
            raise ValueError(f"Streamlit's index.html must hold {mark}; requirements.txt names the version that does")
        page = page.replace(mark, instead, 1)
    return page


@functools.cache
def chunks(static: Path, names: Sequence[str] = CHUNKS) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of parts of the script, and these with all that they import, below Streamlit's folder of static files."""
    folder = static / "static" / "js"
    needed = [path for chunk in names for path in sorted(folder.glob(f"{chunk}.*.js"))]
    found: dict[str, None] = {}
    waiting = [*needed]
    while waiting:
        path = waiting.pop(0)
        if path.name not in found:
            found[path.name] = None
            imported = re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', path.read_text(encoding="utf-8"))
            waiting += [folder / name for name in imported]
    return tuple(f"static/js/{path.name}" for path in needed), tuple(f"static/js/{name}" for name in found)

import re
from pathlib import Path

import pytest
from streamlit import file_util

from tae.ui.shell.sidebar import SIDEBAR
from tae.web import first

STATIC = Path(file_util.get_static_dir())


def test_every_page_begins_with_its_title_and_the_style_of_all() -> None:
    pages = first.first_pages(STATIC)
    assert list(pages) == ["", "causal", "compare", "layers", "latent", "sequences", "models", "train"]
    for title, page in zip(first.PAGES, pages.values(), strict=True):
        assert f"<title>{title} · tae</title>" in page
        assert f"<p>{first.group_of(title)}</p>" in page
        assert ('modulepreload" crossorigin href="./static/js/PlotlyChart.' in page) == (
            title in first.BEGIN_WITH_CHARTS
        )
        # Below the head, to which Streamlit's script adds its own.
        assert page.index("<body>") < page.index((Path(first.__file__).with_name("first.css")).read_text())


def test_a_page_that_is_not_streamlit_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>Streamlit</title><body></body>")
    with pytest.raises(ValueError, match="must hold </head>"):
        first.first_page(tmp_path, "Explore")


def test_every_part_of_the_script_is_one_of_streamlit_s_and_comes_with_what_it_imports() -> None:
    needed, everything = first.chunks(STATIC)
    assert [re.sub(r"static/js/([\w-]+)\..*", r"\1", path) for path in needed] == list(first.CHUNKS)
    assert set(needed) < set(everything)
    assert all((STATIC / path).is_file() for path in everything)


def test_as_much_room_is_kept_as_the_sidebar_takes() -> None:
    style = Path(first.__file__).with_name("first.css").read_text()
    assert set(re.findall(r"--tae-sidebar, (\w+)\)", style)) == {f"{SIDEBAR}px"}

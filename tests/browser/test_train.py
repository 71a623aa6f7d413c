"""The page Train as a person uses it: a real server, a real Chromium, real trainings in processes of their own."""

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tae import load_checkpoint
from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.training import runs
from tests.browser import MARKS, ROOT, assert_fits, drop, looks, running_app, saved, settle

pytestmark = MARKS
DEMO = "demo_tiny_201x201_p16.safetensors"
LONG = 120_000
"""Milliseconds that a machine under load may take to load PyTorch and train a little."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in place of `checkpoints/`, so that nothing here touches the project's."""
    folder = tmp_path_factory.mktemp("shelf") / "checkpoints"
    folder.mkdir()
    shutil.copy(ROOT / "checkpoints" / DEMO, folder)
    return folder


@pytest.fixture(scope="module")
def address(shelf: Path) -> Iterator[str]:
    with running_app(TAE_CHECKPOINTS=str(shelf)) as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen images of a user's own, and one that is none."""
    home = tmp_path_factory.mktemp("home") / "my shoes"
    home.mkdir()
    for number in range(24):
        (home / f"img{number}.png").write_bytes(image(number))
    (home / "broken.png").write_bytes(b"nothing")
    return home


@pytest.fixture(autouse=True)
def ended(shelf: Path) -> Iterator[None]:
    """No training outlives its test."""
    yield
    for run in runs.list_runs(shelf):
        if run.is_active:
            runs.end_now(run)


def image(number: int) -> bytes:
    return encode_png(compose_square("test", number, side=60 + number))


def fill(page: Page, label: str, value: object) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(str(value))
    box.press("Enter")
    page.wait_for_timeout(300)
    settle(page)


def ask(page: Page, name: str, steps: int) -> None:
    """Fill in what makes a training small."""
    page.get_by_test_id("stMain").get_by_text("Advanced", exact=True).click()
    values = {"Height": 32, "Width": 32, "Steps": steps, "Images a step": 4, "Latent": 16, "Heads": 2}
    values |= {"Encoder layers": 1, "Decoder layers": 1, "CPU threads": 1, "Eval every": 5, "Log every": 1}
    for label, value in (values | {"Held out images": 4, "Name": name}).items():
        box = page.get_by_label(label, exact=True)
        box.fill(str(value))
        box.press("Enter")
    page.get_by_test_id("stCode").filter(has_text=f"{name.replace(' ', '_')}.safetensors").wait_for()
    page.get_by_test_id("stCode").filter(has_text="--held-out-images 4").wait_for()
    settle(page)


def start(page: Page) -> None:
    page.get_by_role("button", name="Start training").click()
    page.get_by_role("button", name="Stop training").or_(page.get_by_role("button", name="Delete…")).first.wait_for(
        timeout=LONG
    )


def button(page: Page, name: str):
    return page.get_by_test_id("stMain").get_by_role("button", name=name)


def step_shown(page: Page) -> int:
    words = page.get_by_test_id("stProgress").inner_text()
    found = re.search(r"step ([\d,]+)", words)
    assert found, words
    return int(found[1].replace(",", ""))


def test_from_a_folder_to_an_open_checkpoint_with_a_stop_on_the_way(open_page, folder: Path, shelf: Path) -> None:
    page = open_page("/train")
    fill(page, "Folder, file or pattern", folder)
    page.get_by_text("images to train on").wait_for()
    assert page.locator(".st-key-train_preview img").count() == 8
    assert page.get_by_text("What it will take").is_visible()
    ask(page, "My shoes", steps=60_000)
    assert "--data" in page.get_by_test_id("stCode").inner_text()
    start(page)

    page.wait_for_url("**run=My_shoes*")
    page.get_by_test_id("stPlotlyChart").nth(1).wait_for(timeout=LONG)
    strip = page.get_by_alt_text("Held-out images above their reconstructions")
    strip.wait_for(timeout=LONG)
    first, first_strip = step_shown(page), strip.get_attribute("alt")
    expect(page.get_by_test_id("stMetric").filter(has_text="Held-out PSNR")).to_contain_text("dB")
    page.wait_for_function(
        "alt => document.querySelector('[data-testid=stImage] img')?.alt !== alt", arg=first_strip, timeout=LONG
    )
    assert step_shown(page) > first  # nobody touched the page

    later = open_page("/train")  # another tab, or coming back: it is found
    assert "task=runs" in later.url and "run=My_shoes" in later.url
    expect(button(later, "Stop training")).to_be_visible()
    later.close()

    button(page, "Stop training").click()
    button(page, "Resume").wait_for(timeout=LONG)
    settle(page)
    stopped = step_shown(page)
    expect(page.locator(".stMarkdownBadge")).to_contain_text("stopped")
    assert f"after step {stopped}" in (strip.get_attribute("alt") or "")  # the images followed to the end
    assert button(page, "Delete…").is_visible()

    button(page, "Resume").click()
    button(page, "Stop training").wait_for(timeout=LONG)
    page.wait_for_function(
        """step => Number(/step ([\\d,]+)/.exec(document.querySelector('[data-testid="stProgress"]')?.innerText)?.[1]
            .replaceAll(',', '')) > step""",
        arg=stopped,
        timeout=LONG,
    )
    button(page, "Stop training").click()
    button(page, "Open in the app").wait_for(timeout=LONG)
    settle(page)
    name, content = saved(page, "Log (CSV)")
    assert name == "My_shoes.csv" and content.decode().startswith("step,loss,")
    steps = [int(line.split(",")[0]) for line in content.decode().splitlines()[1:]]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > stopped

    button(page, "Open in the app").click()
    page.get_by_role("heading", name="Reconstruct", exact=True).wait_for()
    settle(page)
    assert "checkpoint=My_shoes.safetensors" in page.url
    expect(page.get_by_test_id("stSidebar").get_by_role("combobox").first).to_have_value("My shoes")
    page.get_by_alt_text("Reconstruction", exact=True).wait_for()
    card = load_checkpoint(shelf / "My_shoes.safetensors").card
    assert card.name == "My shoes" and card.data == "folder my shoes" and str(folder.parent) not in str(card)


def test_finished_training_comes_to_the_sidebar_and_goes_when_asked_twice(open_page, shelf: Path) -> None:
    page = open_page("/train")
    page.get_by_role("radio", name="Demo garments").click()
    page.get_by_text("composed without end").wait_for()
    settle(page)
    ask(page, "Little demo", steps=10)
    start(page)
    button(page, "Open in the app").wait_for(timeout=LONG)
    settle(page)
    expect(page.locator(".stMarkdownBadge")).to_contain_text("finished")
    assert step_shown(page) == 10
    slider = page.get_by_role("slider")  # two strips: after 5 steps, and after 10
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_alt_text("after step 5", exact=False).wait_for()
    settle(page)
    page.get_by_test_id("stSidebar").get_by_role("combobox").click()
    page.get_by_role("option", name="Little demo").wait_for()
    page.keyboard.press("Escape")

    button(page, "Delete…").click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Keep it").click()
    dialog.wait_for(state="detached")
    assert (shelf / "runs" / "Little_demo").is_dir()
    button(page, "Delete…").click()
    dialog.get_by_text("Delete its checkpoint, too").click()
    page.wait_for_timeout(500)
    dialog.get_by_role("button", name="Delete", exact=True).click()
    dialog.wait_for(state="detached")
    settle(page)
    assert not (shelf / "runs" / "Little_demo").exists() and not (shelf / "Little_demo.safetensors").exists()
    assert (shelf / DEMO).exists()


def test_dropped_zip_becomes_a_run_with_its_own_images(open_page, shelf: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(12):
            archive.writestr(f"photos/img{number}.png", image(number))
    page = open_page("/train")
    page.get_by_role("radio", name="Images or ZIP").click()
    page.locator('[data-testid="stFileUploaderDropzone"]').wait_for()
    settle(page)
    drop(page, ("photos.zip", buffer.getvalue()), ("one.png", image(20)), ("no.png", b"nothing"))
    page.get_by_text("13 images dropped").wait_for()
    assert "no.png" in page.get_by_test_id("stMain").inner_text()
    ask(page, "Dropped", steps=5)
    start(page)
    button(page, "Open in the app").wait_for(timeout=LONG)
    images = shelf / "runs" / "Dropped" / "images"
    assert len(list(images.rglob("*.png"))) == 13
    assert not list((shelf / "runs").glob(".dropped-*"))


def test_watching_neither_moves_nor_fades_anything_under_the_reader(open_page, folder: Path) -> None:
    page = open_page("/train", height=600)
    fill(page, "Folder, file or pattern", folder)
    ask(page, "Long", steps=60_000)
    start(page)
    strip = page.get_by_alt_text("Held-out images above their reconstructions")
    strip.wait_for(timeout=LONG)
    page.get_by_role("slider").wait_for(timeout=LONG)
    strip.scroll_into_view_if_needed()
    page.evaluate("""() => {
        window.looks = new Set();
        const look = () => {
            const image = document.querySelector('[data-testid="stImage"] img');
            const box = image?.closest('[data-testid="stElementContainer"]');
            window.looks.add(box ? `${Math.round(image.getBoundingClientRect().top)} ${getComputedStyle(box).opacity}` : "");
            requestAnimationFrame(look);
        };
        look();
    }""")
    before = step_shown(page)
    page.wait_for_timeout(10_000)
    assert step_shown(page) > before
    (look,) = page.evaluate("[...window.looks]")
    assert look.endswith(" 1")
    button(page, "Stop training").click()
    button(page, "Resume").wait_for(timeout=LONG)


@pytest.mark.parametrize("task", ["new", "runs", "compare"])
def test_page_fits_its_window_in_both_themes(
    open_page: Callable[..., Page], folder: Path, shelf: Path, task: str
) -> None:
    for name in ("one run of a long name that goes on", "another"):
        home = shelf / "runs" / name
        if not home.exists():
            home.mkdir(parents=True)
            (home / "config.json").write_text("{}")
            for step in (10, 20):
                runs.append_log(home, {"step": step, "loss": 1 / step, "held_out_psnr": 10.0 + step})
            runs.write_status(home, "finished", "", 20, 20)
    page = open_page(f"/train?task={task}&run=another")
    if task == "new":
        fill(page, "Folder, file or pattern", folder)
    for width, scheme in looks(page):
        assert assert_fits(page, width, scheme) == (1 if task == "new" else 2)

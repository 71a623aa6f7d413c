"""The page Train as a person uses it: a real server, a real Chromium, real trainings in processes of their own."""

import csv
import io
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tae import load_checkpoint
from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.training.run import runs
from tae.training.trainer import train
from tests.browser import MARKS, ROOT, assert_fits, drop, link, looks, saved, settle, visit
from tests.served import running_app
from tests.training.small import small_config

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
    values = {"Height": 32, "Width": 32, "Steps": steps, "Batch size": 4, "CPU threads": 1}
    values |= {"Eval every": 5, "Log every": 1}
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


def assert_nothing_moves_while_it_is_watched(page: Page, strip: Locator) -> None:
    """Nobody touches the page: new images come, and neither move nor fade under the reader."""
    page.set_viewport_size({"width": 1400, "height": 600})
    strip.scroll_into_view_if_needed()
    settle(page)
    before = step_shown(page)
    page.evaluate("""() => {
        window.looks = new Set();
        window.alts = new Set();
        const look = () => {
            const image = document.querySelector('[data-testid="stImage"] img');
            const box = image?.closest('[data-testid="stElementContainer"]');
            window.looks.add(box ? `${Math.round(image.getBoundingClientRect().top)} ${getComputedStyle(box).opacity}` : "");
            window.alts.add(image?.alt);
            requestAnimationFrame(look);
        };
        look();
    }""")
    page.wait_for_function("window.alts.size > 2", timeout=LONG)
    assert step_shown(page) > before
    (look,) = page.evaluate("[...window.looks]")
    assert look.endswith(" 1")


@contextmanager
def halted(run: Path) -> Iterator[None]:
    """The training waits: it would have one of two cores for itself while a page is looked at."""
    number = int((run / "pid").read_text())
    os.kill(number, signal.SIGSTOP)
    yield
    os.kill(number, signal.SIGCONT)


def test_from_dropped_images_to_an_open_checkpoint_with_a_stop_on_the_way_and_away_with_it(
    open_page, shelf: Path
) -> None:
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
    ask(page, "My shoes", steps=60_000)
    run = shelf / "runs" / "My_shoes"
    start(page)

    page.wait_for_url("**run=My_shoes*")
    page.get_by_test_id("stPlotlyChart").nth(1).wait_for(timeout=LONG)
    strip = page.get_by_alt_text("Held-out images above their reconstructions")
    strip.wait_for(timeout=LONG)
    expect(page.get_by_test_id("stMetric").filter(has_text="Held-out PSNR")).to_contain_text("dB")
    slider = page.get_by_role("slider")
    slider.wait_for(timeout=LONG)
    assert_nothing_moves_while_it_is_watched(page, strip)

    with halted(run):
        later = open_page("/train")  # another tab, or coming back: it is found
        assert "task=runs" in later.url and "run=My_shoes" in later.url
        expect(button(later, "Stop training")).to_be_visible()
        later.close()

    button(page, "Stop training").click()
    button(page, "Resume").wait_for(timeout=LONG)
    settle(page)
    stopped = step_shown(page)
    assert len(list((run / "images").rglob("*.png"))) == 13 and not list((shelf / "runs").glob(".dropped-*"))
    expect(page.locator(".stMarkdownBadge")).to_contain_text("stopped")
    newest = strip.get_attribute("alt") or ""
    assert f"after step {stopped}" in newest  # the images followed to the end
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("newest => !document.querySelector(`img[alt='${newest}']`)", arg=newest)
    settle(page)

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
    page.get_by_role("heading", name="Explore", exact=True).wait_for()
    settle(page)
    assert "checkpoint=My_shoes.safetensors" in page.url
    expect(page.get_by_test_id("stSidebar").get_by_role("combobox").first).to_have_value("My shoes")
    page.get_by_role("button", name="Reconstruction", exact=True).wait_for()
    assert load_checkpoint(shelf / "My_shoes.safetensors").card.name == "My shoes"

    visit(page, "/train?task=runs&run=My_shoes")
    button(page, "Delete…").click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    dialog.get_by_role("button", name="Keep it").click()
    dialog.wait_for(state="detached")
    assert run.is_dir()
    button(page, "Delete…").click()
    dialog.get_by_text("Delete its checkpoint, too").click()
    page.wait_for_timeout(500)
    dialog.get_by_role("button", name="Delete", exact=True).click()
    dialog.wait_for(state="detached")
    settle(page)
    assert not run.exists() and not (shelf / "My_shoes.safetensors").exists() and (shelf / DEMO).exists()


def test_page_fits_its_window_in_both_themes(open_page: Callable[..., Page], folder: Path, shelf: Path) -> None:
    for name in ("one run of a long name that goes on", "another"):
        home = shelf / "runs" / name
        home.mkdir(parents=True)
        (home / "config.json").write_text("{}")
        for step in (10, 20):
            runs.append_log(home, {"step": step, "loss": 1 / step, "held_out_psnr": 10.0 + step})
        runs.write_status(home, "finished", "", 20, 20)
    page = open_page("/train?task=new")
    for task in ("new", "runs", "compare"):
        if task == "new":
            fill(page, "Folder, file or pattern", folder)
        else:
            visit(page, f"/train?task={task}&run=another")
        for width, scheme in looks(page):
            assert assert_fits(page, width, scheme) == (1 if task == "new" else 2)


def test_training_time_is_walked_through_by_the_keyboard_on_the_page_layers(open_page, shelf: Path) -> None:
    list(train(small_config(shelf / "walked.safetensors", input_size=(32, 32), steps=32, snapshots=4)))
    page = open_page("/layers?depths=training&image=garment-30&checkpoint=walked.safetensors", height=1200)
    then = page.locator(".st-key-layers_moment_encoder")
    told = then.locator(".annotation-text").all_text_contents()
    slider = page.get_by_role("slider", name="Training step")
    slider.press("ArrowLeft")
    page.wait_for_url("**moment=18*")
    settle(page)
    assert then.locator(".annotation-text").all_text_contents() != told
    slider.press("Home")
    page.wait_for_url("**moment=0*")
    expect(page.get_by_test_id("stAlert").filter(has_text="Untrained")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Export").click()
    rows = list(csv.DictReader(io.StringIO(saved(page, "PSNR over the training (CSV)")[1].decode())))
    assert [row["step"] for row in rows] == ["0", "2", "8", "18", "32"]
    assert link(open_page("/layers?" + page.url.partition("?")[2]))["moment"] == "0"

"""The app as a person uses it: a real server, a real Chromium; nothing may go wrong on the console or be fetched from afar."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect
from skimage import data as skimage_data

from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.data.limits import MAX_FILE_BYTES
from tae.model.autoencoder import TransformerAutoencoder
from tae.model.config import preset_config
from tae.store.checkpoint import save_checkpoint
from tests.browser import MARKS, drop, link, saved, settle
from tests.pages import card

pytestmark = MARKS
HOSTILE = "<img src=x onerror=alert(1)> ![a](http:%2F%2Fexample.org%2Fx.png) $x$ **b**"


def image(index: int) -> bytes:
    return encode_png(compose_square("test", index))


def photograph() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skimage_data.camera()).save(buffer, "JPEG")
    return buffer.getvalue()


def status(page: Page) -> str:
    """The line below the map."""
    return page.locator(".tae-explorer .tae-status").inner_text()


def cell(page: Page, name: str) -> Locator:
    """A map of the head grid."""
    return page.locator(f".tae-heads-cell[data-name='{name}']")


def ablated(page: Page, *names: str) -> None:
    """Wait until these and no others are ablated, and the reconstruction without them is drawn."""
    expect(page.locator(".tae-explorer")).to_have_attribute("data-ablated", " ".join(names))


def outcome(page: Page) -> Locator:
    return page.locator(".tae-outcome-figure")


def plot_area(page: Page, number: int) -> dict:
    box = page.locator('[data-testid="stPlotlyChart"]').nth(number).locator(".nsewdrag").first.bounding_box()
    assert box is not None
    return dict(box)


def test_first_screen_holds_image_reconstruction_and_every_head_without_scrolling(open_page) -> None:
    page = open_page("/")
    figures = page.locator(".tae-explorer .tae-main .tae-canvas, .tae-outcome-figure .tae-canvas").all()
    assert len(figures) == 2
    for figure in figures:
        box = figure.bounding_box()
        assert box and box["y"] + box["height"] < 900 and box["width"] > 300
    cells = page.locator(".tae-heads-cell")
    expect(cells).to_have_count(2 * (3 * 5 + 2))  # heads and mean of each layer, average and rollout, in both parts
    lowest = max(cells.all(), key=lambda one: (one.bounding_box() or {"y": 0})["y"]).bounding_box()
    assert lowest and lowest["y"] + lowest["height"] < 900
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()").endswith("Ablation"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/causal*")
    settle(page)
    assert page.get_by_role("heading", name="Ablation", exact=True).is_visible()


def test_a_click_on_a_head_ablates_it_and_the_reconstruction_beside_it_changes(visit, open_page) -> None:
    page = visit("/")
    picture = outcome(page).locator(".tae-canvas")
    before = picture.screenshot()
    expect(cell(page, "encoder/0/0")).to_have_attribute("title", re.compile("PSNR without it"))  # the bars are there
    cell(page, "encoder/0/0").click()
    ablated(page, "encoder/0/0")
    expect(outcome(page)).to_contain_text(re.compile(r"dB \(−\d+\.\d\)"))
    expect(outcome(page)).to_contain_text("replaced by its mean over 64 test images")
    assert picture.screenshot() != before
    page.locator(".tae-heads-row").nth(1).click()
    ablated(page, "encoder/0/0", "encoder/1/attention")
    outcome(page).get_by_role("button", name="Change").click()
    expect(outcome(page)).to_contain_text("ablated − undisturbed")
    settle(page)
    other = open_page(page.url.replace(page.url.split("/?")[0], ""))
    ablated(other, "encoder/0/0", "encoder/1/attention")  # the link holds it
    outcome(page).get_by_role("button", name="Undo").click()
    ablated(page, "encoder/0/0")
    grid = page.get_by_role("grid")
    grid.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    ablated(page)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tae-heads-cell.tae-at")).to_have_attribute(
        "aria-label", re.compile("Encoder, layer 0, head 1, strongest .* PSNR without it")
    )
    page.keyboard.press("Enter")
    ablated(page, "encoder/0/1")
    outcome(page).get_by_role("button", name="Reset").click()
    ablated(page)
    page.mouse.move(5, 5)
    settle(page)
    assert picture.screenshot() == before


def test_photograph_and_garment_dragged_in_are_reconstructed_beside_broken_files(open_page) -> None:
    page = open_page("/")
    before = outcome(page).locator(".tae-canvas").screenshot()
    drop(page, ("photograph.jpg", photograph()), ("cut.png", image(3)[:300]), ("text.tiff", b"no image"))
    expect(page.locator(".tae-shelf-item[aria-selected=true]")).to_have_attribute(
        "aria-label", re.compile("photograph.jpg")
    )
    assert outcome(page).locator(".tae-canvas").screenshot() != before
    assert page.get_by_text("scaled from 512x512 to 201x201").is_visible()
    alerts = page.get_by_test_id("stAlert").all_inner_texts()
    assert sum("cut.png" in alert for alert in alerts) == sum("text.tiff" in alert for alert in alerts) == 1
    assert any("unlike what the model was trained on" in alert for alert in alerts)
    assert not any("/" in alert.replace("n/a", "") for alert in alerts if "cut.png" in alert)  # no path of this machine
    drop(page, ("garment.png", image(3)))
    assert "unlike" not in " ".join(page.get_by_test_id("stAlert").all_inner_texts())
    page.get_by_role("button", name="Export").click()
    name, content = saved(page, "Reconstruction (PNG)")
    assert name == "garment.png_reconstruction.png" or name.startswith("garment")
    assert Image.open(io.BytesIO(content)).size == (201, 201)


def test_18_69_72_76_hostile_uploads_do_no_harm_and_outlive_a_reload_a_checkpoint_of_30_mb_too(
    open_page, tmp_path: Path
) -> None:
    page = open_page("/")
    (large := tmp_path / "large.png").write_bytes(bytes(MAX_FILE_BYTES + 1))
    with page.expect_response(lambda one: "/upload_file/" in one.url and one.request.method == "PUT") as sent:
        page.locator("input[type=file]").set_input_files(large)
    page.get_by_text("large.png: the file must be at most 20 MB").wait_for()
    place, allowed = sent.value.url, {"X-Xsrftoken": sent.value.request.headers["x-xsrftoken"]}
    file: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": image(3)}
    for to, headers, parts, status in (
        (place, {}, ("file",), 403),
        (place[:-8] + "00000000", allowed, ("file",), 403),
        (place, allowed, ("one", "two"), 400),
    ):
        assert page.request.put(to, headers=headers, multipart=dict.fromkeys(parts, file)).status == status
    drop(page, (f"{HOSTILE}.png", image(3)), (f"{HOSTILE}2.png", b"broken"))
    main = page.get_by_test_id("stMain")
    assert "onerror=alert(1)" in main.inner_text()
    assert main.locator('img[src="x"]').count() == 0 and main.locator(".katex").count() == 0
    page.get_by_role("button", name="Export").click()
    name, content = saved(page, "Matrix (SVG)")
    assert "<img" not in content.decode() and "/" not in name and "<" not in name
    page.goto(page.url.replace("/?", "/models?"))
    settle(page)
    page.get_by_text("Load checkpoint").click()
    settle(page)
    model = TransformerAutoencoder(preset_config("small"))
    path = save_checkpoint(tmp_path / f"{HOSTILE}.safetensors", model, card(name=HOSTILE))
    assert path.stat().st_size > 29e6
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text("is in use.").wait_for()
    settle(page)
    page.reload()
    settle(page)
    assert link(page)["checkpoint"].startswith("upload-") and link(page)["image"].startswith("upload-")
    assert (
        "latent 256" in page.get_by_test_id("stSidebar").inner_text() and page.get_by_text("is not here").count() == 0
    )


def test_many_images_make_a_sorted_grid_and_can_be_taken_along(open_page) -> None:
    page = open_page("/")
    noise = np.random.default_rng(0).integers(0, 256, (201, 201), dtype=np.uint8)
    drop(page, *[(f"garment {index}.png", image(index)) for index in range(3)], ("noise.png", encode_png(noise)))
    page.get_by_text("All of yours (4)").click()
    page.get_by_role("button", name="Export").click()
    page.get_by_text("Metrics (CSV)").wait_for()
    settle(page)
    cards = page.get_by_test_id("stMain").get_by_test_id("stButton").filter(has_text="Open")
    expect(cards).to_have_count(4)
    rows = list(csv.DictReader(io.StringIO(saved(page, "Metrics (CSV)")[1].decode())))
    assert {row["image"] for row in rows} == {"garment 0.png", "garment 1.png", "garment 2.png", "noise.png"}
    worst = min(rows, key=lambda row: float(row["psnr"]))
    assert worst["image"] == "noise.png"
    shown = page.get_by_alt_text("and its reconstruction")
    assert shown.first.get_attribute("alt") == "noise.png and its reconstruction"
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "Reconstructions (ZIP)")[1]))
    assert len(archive.namelist()) == 4 and archive.testzip() is None
    cards.first.click()
    page.locator(".tae-explorer").wait_for()
    settle(page)
    assert "noise.png: 201x201" in page.get_by_test_id("stMain").inner_text()


def test_everything_of_one_image_comes_as_a_zip(visit) -> None:
    page = visit("/?image=garment-30")
    page.get_by_role("button", name="Export").click()
    archive = zipfile.ZipFile(io.BytesIO(saved(page, "Everything (ZIP)")[1]))
    own = (
        "arrays.npz",
        "comparison.png",
        "comparison.svg",
        "error.png",
        "image.png",
        "metrics.csv",
        "reconstruction.png",
    )
    names = {*archive.namelist()}
    assert {f"Jeans_{end}" for end in own} < names and "Jeans_encoder_maps.npz" in names  # the maps' are with them
    assert not any(name.endswith(".zip") for name in names)
    assert archive.testzip() is None and all(one.file_size for one in archive.infolist())
    arrays = np.load(io.BytesIO(archive.read("Jeans_arrays.npz")))
    np.testing.assert_array_equal(arrays["error"], arrays["reconstruction"] - arrays["image"])
    assert saved(page, "Error (PNG)")[1].startswith(b"\x89PNG")


def test_removing_images_asks_first_and_the_shelf_is_chosen_from_by_click_and_keyboard(open_page) -> None:
    page = open_page("/")
    drop(page, ("mine.png", image(3)))
    chosen = page.locator(".tae-shelf-item[aria-selected=true]")
    page.get_by_role("button", name="Remove my image").click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    expect(chosen).to_have_attribute("aria-label", re.compile("mine.png"))
    page.get_by_role("button", name="Remove my image").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(chosen).to_have_attribute("aria-label", "Sandal with heel")
    page.locator(".tae-shelf-item").nth(3).click()
    page.wait_for_url("**image=*")
    settle(page)
    second = link(page)["image"]
    page.get_by_role("listbox", name="Images").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function(f"!location.search.includes('image={second}')")
    page.reload()
    settle(page)
    assert "mine.png" not in page.get_by_role("listbox", name="Images").inner_text()


def explorer_place(page: Page, row: int, column: int, side: int = 0) -> tuple[float, float]:
    """Where a patch of a 201x201 image lies on the screen: 12 whole patches of 16 pixels, and 9 of a thirteenth."""
    area = page.locator('.tae-explorer [role="application"]').nth(side).bounding_box()
    assert area
    scale = area["width"] / 201
    return area["x"] + scale * (16 * column + 4), area["y"] + scale * (16 * row + 4)


def explorer_says(page: Page) -> str:
    return page.locator(".tae-explorer").inner_text()


def test_pointer_reads_patches_and_the_link_restores_the_pinned_one(visit, open_page) -> None:
    page = visit("/?layer=1", height=1300, scheme="dark")
    page.mouse.move(*explorer_place(page, 4, 9))
    expect(page.locator(".tae-explorer")).to_contain_text("query patch 61 (row 4, column 9)")
    assert link(page)["query"] != "61"  # moving alone asks nothing of the server
    for row, column in ((4, 9), (12, 12)):
        page.mouse.click(*explorer_place(page, row, column))
        page.wait_for_url(f"**query={13 * row + column}*")
        settle(page)
    assert link(page)["pins"] == "61,168"
    table = page.get_by_test_id("stDataFrame")
    assert table.is_visible()
    page.get_by_role("button", name="Attended by").click()
    page.wait_for_url("**direction=to*")
    settle(page)
    other = open_page(page.url.replace(page.url.split("/?")[0], ""))
    expect(other.locator(".tae-explorer .tae-status")).to_have_text(status(page))
    assert link(other) == link(page)
    assert "Encoder, layer 1, mean of heads" in status(other) and "patch 168" in status(other)


def hover(page: Page, number: int, x: float = 0.5, y: float = 0.5) -> str:
    """What the figure says under the pointer."""
    area = plot_area(page, number)
    page.mouse.move(area["x"] + area["width"] * x + 3, area["y"] + area["height"] * y)
    page.mouse.move(area["x"] + area["width"] * x, area["y"] + area["height"] * y)
    label = page.locator(".hoverlayer .hovertext").first
    label.wait_for()
    page.wait_for_timeout(400)  # the label of the first move goes when that of the second comes
    return label.text_content() or ""


def test_the_heatmap_names_what_is_pointed_at_and_a_box_shows_that_part_and_a_button_the_whole(visit) -> None:
    page = visit("/?layer=0&section=heatmap")
    page.get_by_test_id("stPlotlyChart").first.scroll_into_view_if_needed()
    said = hover(page, 0, 2.5 / 169, 40.8 / 169)
    assert "query 40 (row 3, column 1)" in said and "key 2 (row 0, column 2)" in said
    assert "x uniform" in said and "spread between heads" in said
    expect(page.locator(".tae-explorer")).to_have_attribute("data-query", "40")  # the row is the patch on the image
    page.locator(".tae-explorer [role=application]").scroll_into_view_if_needed()
    page.mouse.move(*explorer_place(page, 4, 9))
    expect(page.locator(".tae-explorer")).to_have_attribute("data-query", "61")
    plot = page.get_by_test_id("stPlotlyChart").first
    line, cells = plot.locator("[data-tae-row]").bounding_box(), plot.locator(".nsewdrag").first.bounding_box()
    assert line and cells and abs((line["y"] + 1 - cells["y"]) / cells["height"] - 61.5 / 169) < 0.01
    plot.scroll_into_view_if_needed()
    area = plot_area(page, 0)
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.6, steps=5)
    page.mouse.up()
    page.wait_for_url("**region=*")
    settle(page)
    first, last = link(page)["region"].split("x")[0].split("-")
    assert 82 <= int(first) <= 87 and 99 <= int(last) <= 104
    said = hover(page, 0)
    assert int(first) < int(said.split("query ")[1].split()[0]) < int(last)
    page.get_by_role("button", name="Show the whole map").click()
    page.wait_for_function("!location.search.includes('region=')")
    settle(page)


def test_a_section_that_is_chosen_comes_into_view_and_later_runs_move_nothing(visit) -> None:
    page = visit("/")
    page.set_viewport_size({"width": 1400, "height": 900})
    sections, main = page.locator(".st-key-choose_section button"), page.locator(".stMain")
    sections.filter(has_text="Matrix").focus()
    page.keyboard.press("Enter")
    settle(page)
    box = page.get_by_test_id("stPlotlyChart").first.bounding_box()
    assert box and box["y"] > 0 and box["y"] + box["height"] <= 900
    expect(sections.filter(has_text="Matrix")).to_be_focused()
    main.evaluate("node => node.scrollTo({top: 0})")
    cell(page, "encoder/0/0").click()
    ablated(page, "encoder/0/0")
    settle(page)
    assert main.evaluate("node => node.scrollTop") == 0


def test_a_head_of_the_overview_opens_in_the_explorer(visit) -> None:
    page = visit("/?section=overview")
    page.get_by_test_id("stPlotlyChart").scroll_into_view_if_needed()
    area = plot_area(page, 0)
    page.mouse.click(area["x"] + area["width"] * 0.9, area["y"] + area["height"] * 0.85)
    page.wait_for_url("**head=3*")
    settle(page)
    assert link(page)["layer"] == "2" and "Encoder, layer 2, head 3" in status(page)


def test_keys_step_through_layers_heads_and_patches(visit) -> None:
    page = visit("/?query=84", height=1300)
    page.mouse.click(*explorer_place(page, 6, 6))
    page.wait_for_url("**pins=84*")
    settle(page)
    for keys, expected in (("]", "layer=rollout"), ("]", "layer=0"), (".", "head="), ("ArrowRight", "query=85")):
        page.keyboard.press(keys)
        page.wait_for_url(f"**{expected}*")
    settle(page)
    expect(page.locator(".tae-explorer .tae-status")).to_contain_text("layer 0")
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('pins=')")


def test_two_images_move_under_one_pointer(visit) -> None:
    page = visit("/compare?layer=0&b_image=garment-30&b_layer=0&b_head=mean", height=1300)
    for side in (0, 1):
        page.mouse.move(*explorer_place(page, 5, 3, side))
        expect(page.locator(".tae-explorer")).to_have_attribute("data-query", "68")
        page.mouse.move(*explorer_place(page, 0, 0, side))
    assert "Correlation" in page.get_by_test_id("stMain").inner_text()
    page.get_by_role("button", name="Untrained model").click()
    page.wait_for_url("**b_checkpoint=twin*")
    settle(page)
    assert "B: UNTRAINED MODEL" in explorer_says(page)


def test_card_is_taken_along_and_maps_of_an_untrained_model_that_are_not_there_yet_are_fetched(open_page) -> None:
    page = open_page("/models")
    table = page.get_by_test_id("stDataFrame").bounding_box()
    assert table
    page.mouse.click(table["x"] + 17, table["y"] + 52)  # its first row
    expect(page.get_by_role("heading", name="Drops, square")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="Export").click()
    card = json.loads(saved(page, "Card (JSON)")[1])
    page.keyboard.press("Escape")
    assert card["training"]["command"] and card["metrics"]["psnr"] > 20
    assert len(card["metrics"]["percentiles"]["psnr"]) == 101
    page.get_by_role("radio", name="Untrained model").click()
    page.get_by_role("combobox", name="Input").click()
    page.get_by_role("option", name="1280x152", exact=True).click()
    settle(page)
    page.get_by_role("button", name="Build and use").click()
    warning = page.get_by_test_id("stAlert").filter(has_text="Untrained.")
    warning.wait_for()
    red, *others = warning.locator("p").first.evaluate(
        "node => getComputedStyle(node).color.match(/\\d+/g).map(Number)"
    )
    assert red > 1.5 * max(others)
    page.get_by_role("link", name="Explore").click()
    page.get_by_role("heading", name="Explore", exact=True).wait_for()
    settle(page)
    assert "N = 800" in status(page)
    expect(page.locator(".tae-heads-cell")).to_have_count(34)  # merged, since all of them whole would be 44 MB
    page.get_by_role("button", name="Decoder").click()
    page.wait_for_url("**part=decoder*")
    expect(page.locator(".tae-explorer")).to_contain_text("Decoder, average of layers, mean of heads · N = 800 · 0.0")
    page.go_back()  # one press a page, whatever was chosen on it
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_visible()


def test_attention_can_be_taken_along(visit) -> None:
    page = visit("/?layer=2&image=garment-30")
    page.get_by_role("button", name="Export").click()
    name, content = saved(page, "Report (HTML)")
    assert name.endswith("_report.html") and content.startswith(b"<!doctype html>") and len(content) < 5_000_000
    for label in ("Matrix", "Map on the image", "All layers", "All heads", "In numbers"):
        name, content = saved(page, f"{label} (PNG)")
        assert Image.open(io.BytesIO(content)).width > 600 and name.endswith(".png")
        svg = saved(page, f"{label} (SVG)")[1].decode()
        assert svg.startswith("<?xml") and "<script" not in svg
    maps = np.load(io.BytesIO(saved(page, "All maps (NPZ)")[1]))
    assert set(maps) == {"layer_0", "layer_1", "layer_2", "average", "caption"}
    np.testing.assert_allclose(maps["average"], (maps["layer_0"] + maps["layer_1"] + maps["layer_2"]) / 3, atol=1e-6)
    plain_name, content = saved(page, "All weights (CSV)")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert len(rows) == 169**2
    weights = np.array([float(row["weight"]) for row in rows]).reshape(169, 169)
    np.testing.assert_allclose(weights, maps["layer_2"], rtol=1e-5, atol=1e-9)
    heads = list(csv.DictReader(io.StringIO(saved(page, "Heads in numbers (CSV)")[1].decode())))
    assert len(heads) == 12 and (heads[0]["Image"], heads[0]["Origin"], heads[0]["Part"]) == (
        "Jeans",
        "trained",
        "encoder",
    )
    page = visit("/?layer=2&image=garment-30&weighting=values")
    page.get_by_role("button", name="Export").click()
    name, content = saved(page, "All weights (CSV)")
    assert name == plain_name.replace(".csv", "_value_norms.csv")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert not np.allclose([float(row["weight"]) for row in rows], weights.flatten(), rtol=0.1)


def test_a_comparison_can_be_taken_along(visit) -> None:
    page = visit("/compare?layer=0&b_layer=2&b_head=mean")
    page.get_by_role("button", name="Export").click()
    assert Image.open(io.BytesIO(saved(page, "Side by side (PNG)")[1])).width > 900
    assert saved(page, "Side by side (SVG)")[1].startswith(b"<?xml")
    arrays = np.load(io.BytesIO(saved(page, "Both maps (NPZ)")[1]))
    np.testing.assert_allclose(arrays["difference_x_uniform"], (arrays["a"] - arrays["b"]) * 169, atol=1e-4)
    rows = list(csv.DictReader(io.StringIO(saved(page, "Distance of each query (CSV)")[1].decode())))
    assert len(rows) == 169 and all(0 <= float(row["jensen_shannon_distance"]) <= 1 for row in rows)

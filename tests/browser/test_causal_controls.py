"""The page Does it matter?, control by control, in a real browser: each changes what is shown, the link and the exports."""

import csv
import io

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser import MARKS, link, saved, settle

pytestmark = MARKS


@pytest.fixture
def window_height() -> int:
    return 1200


def table(page: Page, label: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(saved(page, label)[1].decode())))


def press(page: Page, label: str, field: str) -> None:
    """Choose one of several, and wait until the link holds it: field=value."""
    page.get_by_role("radio", name=label, exact=True).click()
    page.wait_for_url(f"**{field}*")
    settle(page)


def test_part_layer_and_other_image_choose_what_is_replaced(open_page) -> None:
    page = open_page("/causal?image=garment-30")
    images = page.get_by_test_id("stMain").get_by_test_id("stImage")
    expect(images).to_have_count(6)  # its own attention, and five that stand in for it
    main = page.get_by_test_id("stMain")
    before = main.get_by_test_id("stCaptionContainer").all_inner_texts()
    press(page, "Decoder", "part=decoder")
    expect(main).to_contain_text("PSNR lost when the attention of the decoder is replaced")
    press(page, "Layer 1", "place=1")
    assert main.get_by_test_id("stCaptionContainer").all_inner_texts() != before
    page.get_by_role("combobox", name="The other image").click()
    page.get_by_role("option").nth(3).click()
    page.wait_for_url("**other=*")
    settle(page)
    assert link(page)["part"] == "decoder" and link(page)["place"] == "1"


def test_baseline_of_the_ranking_is_chosen_and_goes_along(open_page) -> None:
    page = open_page("/causal?causal=ranking&image=garment-30")
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("replaced by its mean over")
    press(page, "The other image's", "baseline=resample")
    expect(main).to_contain_text("replaced by what it adds for")
    press(page, "Zero", "baseline=zero")
    page.get_by_text("As a table, with layers and MLPs").click()
    expect(page.get_by_role("button", name="Ranking (CSV)")).to_be_visible()
    settle(page)
    rows = table(page, "Ranking (CSV)")
    assert len(rows) == 36 and {row["replaced_by"] for row in rows} == {"zero"}
    (told,) = {row["test images replaced by"] for row in rows}  # the study's baseline is its own
    assert told == "mean over 512 images"
    lost = [float(row["MSE gained"]) for row in rows]
    assert lost == sorted(lost, reverse=True)


def test_cover_blank_patches_and_box_choose_what_is_measured(open_page) -> None:
    page = open_page("/causal?causal=effect&image=garment-30&box=40-90x60-120")
    main = page.get_by_test_id("stMain")
    press(page, "The image's mean grey", "cover=mean")
    expect(main).to_contain_text("covered with: the image's mean grey")
    main.get_by_text("Cover blank patches, too").click()
    page.wait_for_url("**blank=on*")
    expect(main).to_contain_text("169 of 169 patches covered")
    settle(page)
    main.get_by_text("Only the box counts").click()
    page.wait_for_url("**boxed=on*")
    expect(main).to_contain_text("change counted over the box")
    settle(page)
    main.get_by_text("One more map, of any layer and head").click()
    press(page, "2", "layer=2")
    press(page, "Weighted by value norms", "weighting=values")
    expect(main).to_contain_text("It joins the maps, the scores and the curves below")
    rows = table(page, "Effect and maps (CSV)")
    assert "one_more_map" in rows[0]
    assert {row["one_more_map_is"] for row in rows} == {"Encoder, layer 2, mean of 4 heads, weighted by value norms"}
    assert len(rows) == 169 and not any(np.isnan(float(row["measured_effect"])) for row in rows)
    assert {row["covered_with"] for row in rows} == {"The image's mean grey"}
    assert {row["counted_over"] for row in rows} == {"rows 40 to 89, columns 60 to 119"}
    arrays = np.load(io.BytesIO(saved(page, "Effect and maps (NPZ)")[1]))
    np.testing.assert_allclose(arrays["measured_effect"], [float(row["measured_effect"]) for row in rows], rtol=1e-4)
    assert "the image's mean grey" in str(arrays["caption"])


def test_box_moves_by_the_keyboard_and_its_cover_is_told(open_page) -> None:
    page = open_page("/causal?causal=region&image=garment-30&box=40-90x60-120")
    page.get_by_role("slider", name="Rows").first.press("ArrowRight")
    page.wait_for_url("**box=41-90x60-120*")
    settle(page)
    press(page, "The background's grey", "cover=background")
    arrays = np.load(io.BytesIO(saved(page, "Box and maps (NPZ)")[1]))
    assert arrays["box"].tolist() == [41, 60, 90, 120] and "the background's grey" in str(arrays["caption"])


def test_temperature_and_reset_follow_the_keys(open_page) -> None:
    page = open_page("/causal?causal=knock&image=garment-30")
    psnr = page.get_by_test_id("stMetricValue").first
    before = psnr.inner_text()
    page.get_by_text("Edit a layer's attention").click()
    page.get_by_role("slider").first.press("End")
    page.wait_for_url("**temperature*")
    expect(psnr).not_to_have_text(before)
    settle(page)
    assert link(page)["changes"] == "encoder/0/temperature=5"
    page.get_by_role("button", name="Reset").click()
    expect(psnr).to_have_text(before)

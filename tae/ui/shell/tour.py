"""The steps of the guided tour, and of the story for showing the app to colleagues: data only.

What they say of the demo checkpoint's heads and images is measured by `tests/ui/test_tour.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CHECKPOINT = "demo_tiny_201x201_p16.safetensors"  # both are about this one


@dataclass(frozen=True)
class Step:
    """One stop."""

    title: str  # a few words
    text: str
    """Markdown in which [[terms]] of `tae.ui.shell.glossary` explain themselves; {latent_dim} is the model's. In the
    story one sentence, drawn large."""
    page: str  # its title
    view: Mapping[str, str] = field(default_factory=dict)  # fields of the link that differ from their defaults
    invitation: str = ""  # what to try there, in the same Markdown
    hides: tuple[str, ...] = ()
    """Keys of what would push the point off the screen; the columns that it stands in go with it."""


_GARMENT = "garment-84"
_CLOSE = {"layer": "0", "head": "3"}
_FAR = {"layer": "2", "head": "1"}
_PATCH = {"query": "70"}
_ALL_HEADS = "encoder/0/attention,encoder/1/attention,encoder/2/attention"
_TWO_IMAGES = {
    "image": _GARMENT,
    "layer": "2",
    "head": "2",
    "query": "95",
    "b_image": "garment-30",
    "b_part": "encoder",
    "b_layer": "2",
    "b_head": "2",
}

TOUR: tuple[Step, ...] = (
    Step(
        "An image, squeezed and drawn again",
        "The [[encoder]] squeezes this garment into its [[latent]], {latent_dim} numbers. From these alone the "
        "[[decoder]] draws the [[reconstruction]]. Compare the two; Error, above the second, shows where they differ.",
        "Explore",
        {"image": _GARMENT},
        "Choose another image below, or drop one of your own. Photographs fail, and the page says so.",
    ),
    Step(
        "Where weight was placed",
        "The encoder cuts the image into [[patches]], and each takes in something of the others. The map shows in "
        "which shares: dark is much [[weight]], counted in [[x uniform]].",
        "Explore",
        {"image": _GARMENT, **_PATCH},
        "Point at the image, or tap it: that patch is the [[query]]; dark patches get its weight. Click to keep one.",
    ),
    Step(
        "Heads differ",
        "Each [[layer]] has several [[heads]]. This one, layer 0, head 3, stays close: it places most of its weight on "
        "the patch itself and on its direct neighbours.",
        "Explore",
        {"image": _GARMENT, **_CLOSE, **_PATCH},
        "Point at layer 2, head 1 in the grid: it places almost no weight nearby. The mean of the heads would hide both.",
    ),
    Step(
        "Two of anything, side by side",
        "Layer 2, head 2 on two images, under one pointer and in one range of colours. If its weights were a fixed "
        "layout, the two maps would not differ.",
        "Compare",
        _TWO_IMAGES,
        "Point at either image, or tap it, then put another layer, head, image or checkpoint on one side.",
    ),
    Step(
        "Does it matter?",
        "Where weight was placed is not yet what mattered. So the [[heads]] of the encoder are ablated, and the image "
        "is drawn once more: what is lost, in decibels of [[PSNR]], is what they were good for here.",
        "Explore",
        {"image": _GARMENT, "changes": _ALL_HEADS},
        "Reset, then click a single head in the grid: the bars below the maps tell what each costs.",
    ),
)

STORY: tuple[Step, ...] = (
    Step(
        "Explore",
        "An image goes in, {latent_dim} numbers remain, and from these alone it is drawn again.",
        "Explore",
        {"image": _GARMENT},
    ),
    Step(
        "Explore",
        "On the way, every patch takes in something of the others: dark is where one placed much weight.",
        "Explore",
        {"image": _GARMENT, **_PATCH},
    ),
    Step(
        "Close",
        "Some heads stay close: this one places most of its weight on the patch itself and its neighbours.",
        "Explore",
        {"image": _GARMENT, **_CLOSE, **_PATCH},
    ),
    Step(
        "Far",
        "Others reach past their neighbours: this one places almost no weight nearby.",
        "Explore",
        {"image": _GARMENT, **_FAR, **_PATCH},
    ),
    Step(
        "Two images",
        "Another image, other weights: this head is no fixed layout.",
        "Compare",
        _TWO_IMAGES,
        hides=("choose_part", "choose_b_part"),
    ),
    Step(
        "Ablated",
        "Ablate the encoder's heads, and the image is lost: these weights are used.",
        "Explore",
        {"image": _GARMENT, "changes": _ALL_HEADS},
    ),
    Step(
        "Its limits",
        "A photograph is unlike anything it was trained on: the model fails, and the page says so.",
        "Explore",
        {"image": "cat"},
    ),
    Step("Your turn", "Which image shall we try next?", "Explore", {"image": "square-2"}),
)

"""The words of this field that the app uses, each in a sentence or two, and texts in which they explain themselves."""

import re
import zlib
from dataclasses import dataclass

from tae.analysis.causal.faithfulness import RADIUS
from tae.analysis.facts import IS_SINK, TWO_IMAGES
from tae.store.names import escape_markdown


@dataclass(frozen=True)
class Term:
    """One word and what it means here."""

    name: str  # as the pages spell it
    text: str  # one or two plain sentences
    also: tuple[str, ...] = ()  # other forms and names of the same thing


TERMS: tuple[Term, ...] = (
    Term(
        "ablation",
        "A part's output replaced by zero, by its mean over test images, or by another image's (resample; Chan 2022): what is "
        "lost is what it was for (Michel 2019).",
        ("ablate", "ablated"),
    ),
    Term(
        "activation patching",
        TWO_IMAGES["activation patching"],
        ("patching",),
    ),
    Term(
        "attention",
        "How patches exchange information: each takes in something of the others, in shares that add up to 1. "
        "The shares say where weight was placed, not what mattered.",
    ),
    Term(
        "attention distance",
        "How far from the asking patch its weight lies, in pixels, averaged over its shares.",
        ("mean distance", "distance"),
    ),
    Term(
        "attention map",
        "A square table of weights: one row for each query, one column for each key. Dark cells hold much weight.",
        ("attention maps", "map", "maps"),
    ),
    Term(
        "attention weight",
        "The share that one patch, the query, gives to another, the key. All weights of a query add up to 1.",
        ("attention weights", "weight", "weights"),
    ),
    Term(
        "attribution patching",
        TWO_IMAGES["attribution patching"],
    ),
    Term(
        "CKA",
        "How alike two states of a network are over many images, whatever rotation and scale lie between: 1 is the same, "
        "0 unrelated (Kornblith 2019).",
        ("centred kernel alignment",),
    ),
    Term("decoder", "The half of the model that draws an image from the latent."),
    Term("encoder", "The half of the model that reads an image and writes the latent."),
    Term(
        "entropy",
        "How evenly a patch spreads its weight, as a share of the most even spread: 1 is all patches alike, "
        "0 is everything on a single one.",
    ),
    Term(
        "foreground MSE",
        "Mean squared error over the pixels that are not white, so that empty paper earns nothing. Lower is better.",
    ),
    Term(
        "fusion",
        "How the maps of several heads become one: their mean, their largest, or their smallest weights, rows made to sum to 1 "
        "again. Each way hides something.",
    ),
    Term(
        "head",
        "Each layer attends several times side by side, with different weights; each of these is a head.",
        ("heads",),
    ),
    Term(
        "head_dim",
        "How many numbers a head works with. With more patches than that, different weights can give the same "
        "result, so single weights should not be over-read (Brunner 2020).",
    ),
    Term(
        "imputation",
        "Covering a patch with what the pixels around it suggest, and a little noise, so that neither the shape nor the grey "
        "of the cover tells anything (Rong 2022).",
    ),
    Term(
        "infidelity",
        "How far a map's sum over covered patches is from what covering them does, at its best scale: 0 tells all, 1 is no "
        "better than a flat map, more is worse (Yeh 2019).",
    ),
    Term(
        "Jensen-Shannon distance",
        "How much two ways of placing weight differ: 0 is no difference, 1 is not one patch in common.",
    ),
    Term("key", "The patch that is asked: one column of an attention map.", ("keys",)),
    Term(
        "kind of head",
        "What a head does on average, by thresholds of measured numbers: local reaches at most half as far as uniform "
        "attention, mixed is none of the kinds.",
        ("kinds of heads",),
    ),
    Term(
        "latent",
        "The short list of numbers that a whole image is squeezed into. The decoder sees these and nothing else.",
        ("embedding",),
    ),
    Term(
        "layer",
        "One round in which all patches exchange information. Layers follow each other; 0 is the first.",
        ("layers",),
    ),
    Term(
        "lens",
        "Draws the state after a layer as an image, as if the layers behind it were left out. Tuned, a fitted linear map "
        "first carries the state to where the last layer would have it (Belrose 2023).",
    ),
    Term(
        "N",
        "The number of patches of an image: an attention map has as many rows and as many columns.",
        ("N =", "number of patches"),
    ),
    Term(
        "occlusion",
        "A patch is covered; its effect is the mean squared change of the reconstruction (Zeiler & Fergus 2014). Control: what "
        "the cover itself changes in the image.",
        ("covered",),
    ),
    Term(
        "participation ratio",
        "Over how many directions a set of latents spreads its variance: 1 where all lies along one, k where k share it "
        "evenly. The others are not unused: they draw what few images differ in.",
    ),
    Term("patch", "A small square cut from the image. The model works on patches, not on pixels.", ("patches",)),
    Term(
        "path patching",
        TWO_IMAGES["path patching"],
    ),
    Term(
        "principal component",
        "The direction along which a set of latents varies most; the second is the one along which what is left varies "
        "most, and so on.",
        ("principal components", "principal direction", "principal directions", "PCA"),
    ),
    Term(
        "PSNR",
        "Peak signal-to-noise ratio, in decibels: how close the reconstruction is to the image. Higher is better; "
        "+6 dB halves the RMS error.",
    ),
    Term("query", "The patch that asks: one row of an attention map.", ("queries",)),
    Term(
        "recomputation error",
        "A check of the maps, whose weights are computed anew: how far the values that they mix are at most from those that the "
        "model itself mixed. As small as rounding, where all is well.",
    ),
    Term("reconstruction", "The image that the decoder draws from the latent.", ("reconstructions",)),
    Term(
        "relevance",
        TWO_IMAGES["relevance"],
        ("gradient-weighted attention",),
    ),
    Term(
        "rollout",
        "The maps of all layers multiplied together, counting what passes each layer unchanged: a rough account of "
        "which patches can have reached which (Abnar and Zuidema 2020).",
    ),
    Term(
        "sensitivity",
        f"The largest change of a map, as a share of it, when no pixel changes by more than {RADIUS:g}: 0 is a map that does "
        "not tremble (Yeh 2019).",
    ),
    Term(
        "share of the way",
        TWO_IMAGES["share of the way"],
    ),
    Term(
        "sink",
        f"A patch that receives {IS_SINK}. Often the model parks weight there, whatever the patch holds.",
        ("sinks",),
    ),
    Term(
        "spread between heads",
        "The standard deviation of a weight between the heads of a layer: high where their mean hides that they differ.",
        ("spread",),
    ),
    Term(
        "SSIM",
        "Structural similarity: 1 is a perfect copy. It flatters mostly blank images; read it beside the "
        "foreground MSE.",
    ),
    Term(
        "state",
        "The numbers that the network holds of the image at one place inside it, such as after its second layer. Each "
        "layer adds something to them.",
        ("states", "state of a layer"),
    ),
    Term(
        "t-SNE",
        "A map that keeps neighbours together: images with similar latents lie close. How far groups lie apart, how large "
        "they are, and where left and right are says nothing (van der Maaten and Hinton 2008).",
    ),
    Term("token", "The list of numbers that stands for one patch inside the model.", ("tokens",)),
    Term(
        "uniform attention",
        "Every patch gives every patch the same weight: 1/N, where N is the number of patches.",
        ("uniform", "uniform weights"),
    ),
    Term(
        "value-weighted attention",
        "Each weight times the length of what it carries over: a large weight on an empty message moves little "
        "(Kobayashi 2020).",
        ("weighted by value norms", "value norms"),
    ),
    Term(
        "x uniform",
        "The unit of all weights here: 1 is the weight that every patch would get if all were treated alike, "
        "3 is three times that.",
    ),
)
"""In the order of the alphabet."""

_BY_FORM = {form.casefold(): term for term in TERMS for form in (term.name, *term.also)}


def find(form: str) -> Term:
    """The term with this name or other form, in small letters or large. Raises ValueError if there is none."""
    term = _BY_FORM.get(form.casefold())
    if term is None:
        raise ValueError(f"unknown term {form!r}; choose from: {', '.join(term.name for term in TERMS)}")
    return term


def marked(text: str) -> str:
    """Markdown in which [[term]] and [[what is shown|term]] explain themselves, drawn with the style of all pages.

    A term can be reached by pointer, by the Tab key and by touch, and is read out together with its explanation. The renderer
    has to let HTML through; other HTML in the text is made to show as text, and what comes from strangers has gone through
    `escape_markdown`, as everywhere. Raises ValueError if a term is unknown.
    """
    # A backslash and what follows it are one: an escaped bracket begins no term, an escaped < no tag.
    pieces = re.compile(r"\\.|\[\[(?P<shown>[^\[\]|]+)(?:\|(?P<name>[^\[\]|]+))?\]\]|<", re.DOTALL)
    number = zlib.crc32(text.encode())  # two texts on a page have ids of their own

    def replaced(match: re.Match[str]) -> str:
        if match["shown"] is None:
            return r"\<" if match[0] == "<" else match[0]
        shown, term = match["shown"], find(match["name"] or match["shown"])
        name = f"term-{number:x}-{match.start()}"
        return (
            f'<span class="term" tabindex="0" role="button" aria-describedby="{name}">{escape_markdown(shown)}'
            f'<span role="tooltip" id="{name}">{escape_markdown(term.text)}</span></span>'
        )

    return pieces.sub(replaced, text)


def search(words: str) -> list[Term]:
    """The terms whose name, other forms or text hold all of these words; by name first, the one of this very name before all."""
    wanted, typed = words.casefold().split(), words.casefold().strip()
    found = [
        term
        for term in TERMS
        if all(word in " ".join((term.name, *term.also, term.text)).casefold() for word in wanted)
    ]

    def place(term: Term) -> tuple[bool, bool]:
        forms = [form.casefold() for form in (term.name, *term.also)]
        return typed not in forms, not all(word in " ".join(forms) for word in wanted)

    return sorted(found, key=place) if wanted else found

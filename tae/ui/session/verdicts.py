"""Whether a model needs its attention: the study beside it, or a quick measurement."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import streamlit as st
import torch

from tae.analysis.causal.interventions import Knockout
from tae.analysis.causal.study import QUANTILES, Study, read_study
from tae.analysis.causal.verdicts import Necessity, Verdict, quick_necessity, verdict
from tae.analysis.numbers import signed
from tae.data.built_in import source_for
from tae.model.config import ModelConfig
from tae.store.names import escape_markdown
from tae.ui.session import work
from tae.ui.session.cache import kept
from tae.ui.session.deletion import offer_deletion
from tae.ui.session.models import Active, checkpoint_files
from tae.ui.session.results import pass_seconds
from tae.ui.session.work import Progress, measured

OTHERS = 8  # other images whose attention makes the mean map; the first of them lends its own


def study_of(active: Active) -> Study | None:
    """What `python -m tae.causal` found for this checkpoint, where its file lies beside it. Its texts want escaping."""
    return _found_study(active)[0]


def _found_study(active: Active) -> tuple[Study | None, str]:
    """The study, or why the file that lies there is none."""
    path = checkpoint_files().get(active.key)
    if path is None:
        return None, ""
    try:
        beside = _study_path(path)
        return _study(str(beside), beside.stat().st_mtime_ns, active.loaded.digest), ""
    except OSError:  # there is none
        return None, ""
    except ValueError as error:
        return None, str(error)


def _study_path(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".causal.json")


@kept()
def _study(path: str, mtime_ns: int, digest: str) -> Study:
    return read_study(path, digest)


def verdict_of(active: Active, part: str = "encoder") -> Verdict | None:
    """Whether a part's attention is needed, over demo test images; None where nobody has measured it yet.

    From the study beside the checkpoint, else from what `verdicts` measured. The sentence may be a stranger's text.
    """
    study = study_of(active)
    if study is not None:
        return study.verdict(part)
    found = work.known(_name_of_quick(active), active.loaded.digest)
    return None if found is None else verdict(found, part)


def verdicts(active: Active, parts: Sequence[str]) -> None:
    """Draw the sentences that belong above every view of maps which tell little about the image; else nothing.

    Where no study stands beside the checkpoint, a few demo test images are measured first, of a large model upon a click.
    """
    study, broken = _found_study(active)
    if broken:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f":material/broken_image: {escape_markdown(broken)}", width="content")
            offer_deletion(_study_path(checkpoint_files()[active.key]))
    if study is None and _find_quick(active) is None:
        return
    for part in parts:
        found = verdict_of(active, part)
        if found is not None and found.tells_little:
            st.warning(escape_markdown(found.sentence), icon=":material/wallpaper:")


def lost_over_tests(study: Study | None, head: Knockout) -> tuple[str, str]:
    """The median change of PSNR over test images with the head ablated, and how it came about; or that nobody measured it."""
    figures = study.damage.get(head.name, {}).get("psnr_lost") if study is not None else None
    lost = [one for one in figures or () if one is not None]
    if study is None or len(lost) < len(QUANTILES):
        return "not measured", "`python -m tae.causal` measures it, and so does Ablation on one image."
    low, middle, high = (signed(-lost[QUANTILES.index(at)]) for at in (0.95, 0.5, 0.05))
    told = f"Change of PSNR, median of {study.num_images} test images; 5 to 95%: {low} to {high} dB. In its place: "
    return f"{middle} dB", told + escape_markdown(study.baseline) + "."


def _name_of_quick(active: Active) -> str:
    """Names the measurement, and its buttons: two models may wait for a click on one page."""
    return f"verdict_{active.loaded.digest[:8]}"


def _find_quick(active: Active) -> Necessity | None:
    model, config = active.loaded.model, active.config

    def compute(progress: Progress) -> Necessity:
        images = test_images(active, usual_width(config), OTHERS)

        def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for number in range(OTHERS):
                progress(number / OTHERS)
                yield images[number : number + 1], images[number - 1 : number or None]

        return quick_necessity(model, pairs())

    words = f"Is the attention of {escape_markdown(active.title)} needed? Measuring {OTHERS} test images"
    name, key = _name_of_quick(active), active.loaded.digest
    return measured(name, key, words, lambda: 8 * OTHERS * pass_seconds(config), compute)


def usual_width(config: ModelConfig) -> int:
    """Width of test images that stand for all: the model's, or twice its height where it takes any."""
    height, width = config.input_size
    return width or min(2 * height, config.max_width)


def test_images(
    active: Active, width: int, count: int, besides: Sequence[torch.Tensor] | torch.Tensor = ()
) -> torch.Tensor:
    """Test images (count, 1, H, width) in [0, 1]; see `tae.data.composed.BuiltIn.test_at`."""
    return source_for(active.config, active.data).test_at(width, count, besides)

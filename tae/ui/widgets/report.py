"""The report of an image, which every page that shows one hands over."""

from collections.abc import Callable

from tae.analysis.heads import Spread
from tae.model.config import PARTS
from tae.ui.session.cache import MODEL_LOCK
from tae.ui.session.models import Active
from tae.ui.session.results import fit_mode
from tae.ui.session.scene import Scene
from tae.ui.session.verdicts import verdict_of
from tae.ui.session.work import known
from tae.ui.widgets.downloads import download
from tae.web.report.request import ReportImage, ReportMap

HEADS = "heads"
"""Names the measures of test images in caches."""


def download_report(scene: Scene, shown: ReportMap | None = None, label: str = "Report (HTML)") -> None:
    """A button for the report of a scene's image; shown: its first map, else the encoder's average."""
    download(
        label,
        report_maker(scene, shown or ReportMap()),
        f"{scene.stem}_report.html",
        icon=":material/description:",
        type="primary",
        help="Image, reconstruction, the explorer with all maps, figures, settings and what to mind, in one file that "
        "opens offline.",
    )


def report_maker(scene: Scene, shown: ReportMap) -> Callable[[], bytes]:
    """Makes the report, once somebody asks for it; it then has no session to read from."""
    active, chosen = scene.active, scene.chosen
    origin = (*chosen.image.notes, *([chosen.sample.note] if chosen.sample else []))
    image = ReportImage(
        title=chosen.title, fitted=scene.fitted, origin=origin, fit=fit_mode(active, chosen.image.pixels, chosen.digest)
    )
    found = {part: spread_of(active, part) for part in PARTS}
    spreads = {part: spread for part, spread in found.items() if spread is not None}
    verdicts = [verdict for part in PARTS if (verdict := verdict_of(active, part)) is not None]

    def make() -> bytes:
        from tae.web.report import report

        with MODEL_LOCK:
            return report(active.loaded, [image], shown, checkpoint_file=active.key, spreads=spreads, verdicts=verdicts)

    return make


def spread_of(active: Active, part: str) -> Spread | None:
    """How the measures of a part's heads spread over test images; None where nobody has measured it yet."""
    return known(HEADS, f"{active.loaded.digest}|{part}")

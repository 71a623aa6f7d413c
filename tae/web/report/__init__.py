"""One self-contained HTML file for a colleague: pictures, reconstructions, the explorer, figures, and what to mind.

    report(load_checkpoint(path), [ReportPicture(title="shirt.png", fitted=fit_image(pixels, config.input_size))])

`python -m tae.explain` makes it without the app, `tae.show` puts the explorer alone into a notebook.
"""

from tae.web.report.page import MAX_PICTURES, PICTURE_BYTES, REPORT_BYTES, report
from tae.web.report.view import ReportPicture, ReportView

__all__ = ["MAX_PICTURES", "PICTURE_BYTES", "REPORT_BYTES", "ReportPicture", "ReportView", "report"]

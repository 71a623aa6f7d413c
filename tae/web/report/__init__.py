"""One self-contained HTML file for a colleague: images, reconstructions, the explorer, figures, and what to mind.

    report(load_checkpoint(path), [ReportImage(title="shirt.png", fitted=fit_image(pixels, config.input_size))])

`python -m tae.explain` makes it without the app, `tae.show` puts the explorer, or what is measured of two images, into a
notebook.
"""

from tae.web.report.page import IMAGE_BYTES, MAX_IMAGES, REPORT_BYTES, report
from tae.web.report.request import ReportImage, ReportMap

"""The page "Does it matter?": what it measures, and its sections, a file each; verdicts for other pages."""

from tae.ui.session.verdicts import study_of, verdict_of, verdicts

__all__ = ["study_of", "verdict_of", "verdicts"]

"""Open the pages in a browser; options are those of `streamlit run`.

    tae app
    tae app --server.port 8600 --server.headless true

Checkpoints and runs lie in the folder `checkpoints`: the repository's, or, where the package was installed, that of the
folder in which the command is started; where there is none, it is made, with the demo checkpoints.
"""

import os
import shutil
import sys
from collections.abc import Sequence

from tae.cli import door
from tae.store.places import APP, IS_INSTALLED, ROOT


@door("stopped")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    folder = ROOT / "checkpoints"
    if IS_INSTALLED and not folder.exists() and not os.environ.get("TAE_CHECKPOINTS"):
        shutil.copytree(APP / "checkpoints", folder)
        print(f"the demo checkpoints lie in {folder}", flush=True)
    from streamlit.web import cli as streamlit

    words = sys.argv[1:] if arguments is None else arguments
    streamlit.main(["run", str(APP / "app.py"), *words], prog_name="streamlit", standalone_mode=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

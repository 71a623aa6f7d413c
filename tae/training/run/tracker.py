"""Where the figures of a run go besides its own log: a CSV file, Weights & Biases or MLflow.

Their packages are no part of this one, and are imported only when they are asked for. Where they send the figures is theirs
to know: WANDB_PROJECT, MLFLOW_TRACKING_URI and their like.
"""

import csv
import json
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tae.store.atomic import write_whole
from tae.store.regular import read_json
from tae.training.command import TrackerName
from tae.training.run import runs


class Tracker(Protocol):
    """What is told of a run, by the process that writes its log."""

    def log(self, record: dict) -> None:
        """One logged step: {"step": ..., name: number, ...}."""
        ...

    def end(self, figures: dict[str, float]) -> None:
        """The final figures."""
        ...

    def close(self) -> None:
        """No more is told by this process."""
        ...


def check_tracker(name: TrackerName | None) -> None:
    """Refuse a tracker before anything is read.

    Raises:
        ValueError: If its package is not installed.
    """
    if name in _PACKAGED:
        _package(name)


def open_tracker(name: TrackerName, folder: Path, title: str, settings: dict[str, Any], is_new: bool) -> Tracker:
    """A tracker of the run in a folder.

    Args:
        name: Which.
        folder: The run's own.
        title: The run's name, for people.
        settings: What was asked for: plain values.
        is_new: False: the run was resumed, and its figures go on where they were told before.

    Raises:
        ValueError: If its package is not installed, or does not begin.
    """
    if name == "csv":
        return CsvTracker(folder)
    kept = folder / "tracker.json"  # by which name the tracker knows the run
    known = None if is_new or not kept.is_file() else read_json(kept).get(name)
    package = _package(name)
    try:
        tracker = _PACKAGED[name](package, title, settings, known, folder)
    except Exception as error:  # whatever a service raises where nobody is logged in, or no network is
        raise ValueError(
            f"tracker {name} must let the run in, and says {type(error).__name__}: {error}; or leave --tracker out"
        ) from error
    write_whole(kept, [json.dumps({name: tracker.id}).encode()])
    return tracker


class CsvTracker:
    """`metrics.csv` in the run's folder: a column a name, a row a logged step; it needs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "metrics.csv"
        self._write_all()

    def _write_all(self) -> None:
        rows = runs.log_rows(self.folder)
        self._names = list(rows[0]) if rows else []
        with open(self.path, "w", newline="") as file:
            writer = csv.DictWriter(file, self._names)
            if rows:
                writer.writeheader()
            writer.writerows(rows)

    def log(self, record: dict) -> None:
        """Append a row; a new name rewrites the file with one more column."""
        if not record.keys() <= set(self._names):
            self._write_all()  # with a new column; the record is in the run's log already
            return
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._names).writerow(record)

    def end(self, figures: dict[str, float]) -> None:
        """They are on the card."""

    def close(self) -> None:
        """Nothing is held open."""


class _WandbTracker:
    """Weights & Biases."""

    def __init__(self, wandb: Any, title: str, settings: dict[str, Any], known: str | None, folder: Path) -> None:
        project = os.environ.get("WANDB_PROJECT", "tae")
        told = {"id": known, "resume": "allow"} if known else {"config": settings}
        self._run = wandb.init(project=project, name=title, dir=str(folder), **told)
        self.id: str = self._run.id

    def log(self, record: dict) -> None:
        self._run.log(_numbers(record), step=record["step"])

    def end(self, figures: dict[str, float]) -> None:
        self._run.summary.update({f"final/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        self._run.finish()


class _MlflowTracker:
    """MLflow."""

    def __init__(self, mlflow: Any, title: str, settings: dict[str, Any], known: str | None, folder: Path) -> None:
        self._mlflow = mlflow
        self.id: str = mlflow.start_run(run_id=known, run_name=None if known else title).info.run_id
        if not known:
            mlflow.log_params(settings)

    def log(self, record: dict) -> None:
        self._mlflow.log_metrics(_numbers(record), step=record["step"])

    def end(self, figures: dict[str, float]) -> None:
        self._mlflow.log_metrics({f"final/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        self._mlflow.end_run()


_PACKAGED = {"wandb": _WandbTracker, "mlflow": _MlflowTracker}


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"tracker {name} must have the package {name}, which cannot be imported here ({error}); run pip install {name}, "
            "or take --tracker csv, which needs none"
        ) from None


def _numbers(record: dict) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "step"}

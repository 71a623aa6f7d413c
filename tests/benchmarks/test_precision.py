"""The benchmark of precisions runs, and its table is that of its figures."""

import json

import pytest

from benchmarks import precision


@pytest.mark.slow
def test_every_part_of_a_step_is_measured() -> None:
    (row,) = precision.measure(precision.PrecisionConfig(presets=("tiny",), batch_size=1, rounds=1))
    assert set(row["seconds"]) == {"passes fp32", "passes bf16", "library's Muon", "Muon fp32", "Muon bf16"}
    assert min(row["seconds"].values()) > 0 and {row["passes in"], row["Muon in"]} <= {"fp32", "bf16"}


def test_table_is_that_of_the_committed_figures() -> None:
    result = json.loads((precision.RESULTS / "precision.json").read_text())
    assert (precision.RESULTS / "precision.md").read_text() == precision.written(result) + "\n"

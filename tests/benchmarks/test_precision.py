"""The benchmark of precisions runs."""

import pytest

from benchmarks import precision


@pytest.mark.slow
def test_every_part_of_a_step_is_measured() -> None:
    (row,) = precision.measure(precision.PrecisionConfig(presets=("tiny",), batch_size=1, rounds=1))
    assert set(row["seconds"]) == {"passes fp32", "passes bf16", "library's Muon", "Muon fp32", "Muon bf16"}
    assert min(row["seconds"].values()) > 0 and {row["passes in"], row["Muon in"]} <= {"fp32", "bf16"}

"""The sweep of shapes: candidates of one kind see the same images for the same time."""

import json
from pathlib import Path

import pytest

from benchmarks import sweep


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rails", "squares"])
def test_a_candidate_is_trained_and_measured(kind: sweep.Kind, tmp_path: Path) -> None:
    shapes = {"rails": sweep.rail_model(76, 32, layers=1, width=None), "squares": sweep.square_model("tiny", 67)}
    record = sweep.try_out(sweep.Candidate(shapes[kind], batch_size=2), cpu_seconds=0.5)
    assert record["steps"] >= 1 and 3 < record["psnr"] < 40
    assert record["num_tokens"] == {"rails": 2 * 13, "squares": 3 * 3}[kind]
    assert bool(record["lost"]) == (kind == "squares")
    sweep.store(tmp_path, kind, record)
    sweep.store(tmp_path, kind, {**record, "psnr": 12.5})
    sweep.store(tmp_path, kind, {**record, "name": "better", "psnr": 13.5})
    assert [one["psnr"] for one in json.loads((tmp_path / "sweep.json").read_text())[kind]] == [13.5, 12.5]
    table = (tmp_path / "sweep.md").read_text()
    assert table.index("13.50") < table.index("12.50") and f"benchmarks.sweep {kind}`" in table


@pytest.mark.parametrize("kind", ["rails", "squares"])
def test_candidates_of_one_kind_differ_in_name(kind: sweep.Kind) -> None:
    names = [one.name for one in sweep.CANDIDATES[kind]]
    assert len(set(names)) == len(names)

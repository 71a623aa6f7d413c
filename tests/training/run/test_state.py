"""Training state on disk: exact round trips, the newest whole one is found, whatever else lies there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tae.training.run.state import TrainState, load_newest, save_state, state_files


def state(step: int = 1, seed: int = 0) -> TrainState:
    generator = torch.Generator().manual_seed(seed)
    tensors = {"model.a": torch.randn(3, 4, generator=generator), "optim.a.step": torch.tensor(7.0)}
    return TrainState(step, tensors, {"curve": [{"step": 1, "loss": 0.5}], "name": "ä ‮"})


def test_a_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(12))
    assert path.name == "state-00000012.safetensors"
    loaded, torn = load_newest(tmp_path)
    assert loaded is not None and torn == []
    assert (loaded.step, loaded.values) == (12, state(12).values)
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in state(12).tensors.items())
    assert load_file(path).keys() == state().tensors.keys()  # any safetensors reader opens it


def test_61_64_the_newest_two_are_kept_and_steps_decide_which(tmp_path: Path) -> None:
    for step in (5, 30, 100_000_000, 7):  # saved last, but not the newest
        save_state(tmp_path, state(step))
    assert [path.name for path in state_files(tmp_path)] == [
        "state-100000000.safetensors",
        "state-00000030.safetensors",
    ]
    loaded, _ = load_newest(tmp_path)
    assert loaded is not None and loaded.step == 100_000_000


def test_a_damaged_state_is_passed_over_for_the_one_before_it(tmp_path: Path) -> None:
    save_state(tmp_path, state(1, seed=1))
    newest = save_state(tmp_path, state(2, seed=2))
    whole = newest.read_bytes()
    for data in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        newest.write_bytes(data)
        loaded, torn = load_newest(tmp_path)
        assert loaded is not None and loaded.step == 1
        assert len(torn) == 1 and torn[0].startswith("state-00000002.safetensors is passed over: the file is ")


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(3))
    renamed = tmp_path / "state-00000009.safetensors"
    renamed.write_bytes(path.read_bytes())
    (tmp_path / "state-00000008.safetensors").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "state-00000007.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    loaded, torn = load_newest(tmp_path)
    assert loaded is not None and loaded.step == 3
    assert "not of the step that its name says" in torn[0]
    assert "pickle" in torn[1] and "folder" in torn[2]
    assert load_newest(tmp_path / "nowhere") == (None, [])


def test_what_is_no_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_state(tmp_path, TrainState(1, {}, {"loss": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_the_state_says_what_it_is(tmp_path: Path) -> None:
    raw = save_state(tmp_path, state(3)).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"]["program"] == "tae training"
    assert json.loads(header["__metadata__"]["state"])["step"] == 3

"""Which precision a run takes: as asked, or what this machine measured once and keeps."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tae import TransformerAutoencoder
from tae.model.config import preset_config
from tae.training import precision
from tae.training.precision import faster, pick_muon_precision, pick_precision

CONFIG = preset_config("tiny", input_size=(16, 16), patch_size=8, latent_dim=16, encoder_layers=1, decoder_layers=1)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of this machine's answers, in a folder that is not yet there."""
    monkeypatch.setenv("TAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision.json"


def nothing() -> Callable[[], None]:
    """What is measured where measurements are told what to say."""
    return lambda: None


def answer(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> list[int]:
    """Let measurements say so; returns a list that grows with each."""
    asked = []
    monkeypatch.setattr(precision, "_measured", lambda makers: asked.append(1) or {"fp32": fp32, "bf16": bf16})
    return asked


def test_what_is_asked_is_taken_unmeasured(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    asked = answer(monkeypatch, 1, 1)
    assert [pick_precision(one, CPU, CONFIG, 2) for one in ("bf16", "fp16", "fp32")] == ["bf16", "fp16", "fp32"]
    assert pick_muon_precision("bf16", TransformerAutoencoder(CONFIG)) == "bf16"
    for has_bf16 in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bf16: has)
        assert pick_precision("auto", CUDA, CONFIG, 2) == ("bf16" if has_bf16 else "fp16")
    assert not asked and not kept.exists()


def test_bf16_is_taken_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    for number, (bf16, expected) in enumerate([(0.5, "bf16"), (0.85, "bf16"), (0.86, "fp32"), (30.0, "fp32")]):
        answer(monkeypatch, 1.0, bf16)
        assert faster(f"question {number}", nothing, nothing) == expected


def test_answer_is_kept_for_this_machine_and_shape(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    asked = answer(monkeypatch, 1.0, 0.5)
    model = TransformerAutoencoder(CONFIG)
    assert pick_precision("auto", CPU, CONFIG, 2) == pick_muon_precision("auto", model) == "bf16"
    assert len(asked) == 2
    answer(monkeypatch, 0.5, 1.0)
    assert pick_precision("auto", CPU, CONFIG, 2) == pick_muon_precision("auto", model) == "bf16"
    assert pick_precision("auto", CPU, CONFIG, 1) == "fp32"  # another shape
    (machine,) = (answers := json.loads(kept.read_text()))
    assert torch.__version__ in machine and len(answers[machine]) == 3
    monkeypatch.setattr(precision, "_processor", lambda: "another")
    assert pick_precision("auto", CPU, CONFIG, 2) == "fp32"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"machine": {"question": {"fp32": "fast"}}}', '{"machine": 1}'])
def test_a_file_of_something_else_is_written_anew(monkeypatch: pytest.MonkeyPatch, kept: Path, text: str) -> None:
    kept.parent.mkdir()
    kept.write_text(text)
    answer(monkeypatch, 1.0, 0.5)
    assert faster("question", nothing, nothing) == "bf16"
    answer(monkeypatch, 0.5, 1.0)
    assert faster("question", nothing, nothing) == "bf16"


def test_without_a_place_to_keep_it_the_answer_holds_for_this_process(
    monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    kept.parent.write_text("a file, where the folder would be")
    monkeypatch.setattr(precision, "_UNWRITTEN", {})
    answer(monkeypatch, 1.0, 0.5)
    assert faster("question", nothing, nothing) == "bf16"
    answer(monkeypatch, 0.5, 1.0)
    assert faster("question", nothing, nothing) == "bf16"


def test_measuring_times_both_and_draws_no_numbers(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    monkeypatch.setattr(precision, "SECONDS", 0.001)
    model = TransformerAutoencoder(CONFIG)
    before = torch.random.get_rng_state()
    pick_precision("auto", CPU, CONFIG, 2)
    pick_muon_precision("auto", model)
    assert torch.equal(before, torch.random.get_rng_state())
    answers = next(iter(json.loads(kept.read_text()).values()))
    assert [question.split(",")[0] for question in answers] == ["block", "muon"]
    assert all(set(took) == {"fp32", "bf16"} and min(took.values()) > 0 for took in answers.values())

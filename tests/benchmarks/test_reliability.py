"""The reliability command finds what it looks for: sound programs hold, and broken ones are seen to break."""

import random
from pathlib import Path

import pytest

from benchmarks import reliability
from benchmarks.reliability import Entry, ReliabilityConfig, corpus, entries, fuzzed, mutated
from tests.data.files import encode, ramp

KINDS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "NPY", "ZIP", "checkpoint", "sequence model")
KINDS += ("training state", "lens", "part of embeddings", "cached embeddings", "study", "JSON", "CSV")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    return entries(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", KINDS)
def test_9_mutated_inputs_are_read_or_refused_by_our_own_errors(kind: str, kinds: dict[str, Entry]) -> None:
    assert tuple(kinds) == KINDS
    assert fuzzed(kinds[kind], count=100, seed=1) == (100, [])


def test_a_reader_that_breaks_is_caught_and_its_input_made_small() -> None:
    def read(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("not ours")
        if data[:1] == b"b":
            raise ValueError("ours")

    tried, crashers = fuzzed(Entry([b"a" * 200], read, (ValueError,)), count=300)
    assert tried == 300 and crashers and {*crashers} == {b"\xff"}


def test_mutated_inputs_are_mostly_new() -> None:
    chance = random.Random(0)
    assert len({mutated(bytes(range(200)), chance) for _ in range(500)}) > 450


def test_31_every_flipped_bit_is_found_in_every_kind_of_sealed_file() -> None:
    found = reliability.flips(ReliabilityConfig(flips=40))
    assert len(found) == 7 and all(one == {"flips": 40, "found": 40} for one in found.values())


def test_files_of_a_folder_are_counted_by_ending_and_by_what_becomes_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(ramp(), "PNG"))
    (tmp_path / "b.PNG").write_bytes(b"no image")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c").write_bytes(b"")
    found = corpus(ReliabilityConfig(corpus=tmp_path))
    assert found == {".png": {"read": 1, "refused": 1}, "none": {"refused": 1}}

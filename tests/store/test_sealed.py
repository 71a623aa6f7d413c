"""Sealed files: what is written comes back to the bit, what is damaged or strange is refused with a reason."""

import hashlib
import io
import math
import os
import pickle
import random
import resource
import signal
import socket
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tae.store import sealed
from tae.store.regular import parse_json, to_json
from tae.store.sealed import Contents, SealedFile, check_tensors, describe
from tests.store import reference
from tests.store.reference import Raw, pack, tensors_of, texts_of, unpack


class Refused(ValueError):
    pass


KIND = SealedFile(program="test", texts=("about", "notes"), version=2, what="a test", error=Refused, is_finite=True)
TEXTS = ['{"name":"Kleiderbügel 衣架"}', "three lines"]
TENSORS = {
    "matrix": torch.arange(12.0).view(3, 4) / 7,
    "half": torch.linspace(-1, 1, 5).to(torch.float16),
    "short": torch.linspace(-1, 1, 3).to(torch.bfloat16),
    "number": torch.tensor(7.0),
    "nothing": torch.empty(0, 3),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    KIND.write(path, TEXTS, TENSORS)
    return path.read_bytes()


def read(source: Path | bytes, name: str | None = None) -> Contents:
    with KIND.open(source, name) as file:
        return file.read()


def refusal(source: Path | bytes, name: str | None = "a.safetensors") -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(Refused) as caught:
        read(source, name)
    return str(caught.value)


def forge(tensors: Raw, **texts: str | None) -> bytes:
    given = {"program": "test", "format_version": "2", "about": TEXTS[0], "notes": TEXTS[1], **texts}
    return reference.forge(tensors, given, ["format_version", "about", "notes"])


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return describe(tensors) == describe(TENSORS) and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Turn a hang into a failure."""

    def fail(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- what is written comes back --------------------------------------------------------------------------------


def test_a_file_comes_back_to_the_bit_from_disk_and_from_memory(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    path.chmod(0o444)
    (tmp_path / "link").symlink_to(path)
    for source in (path, tmp_path / "link", saved):
        with KIND.open(source) as file:
            assert file.size == len(saved) and file.described == describe(TENSORS)
            assert [file.texts["about"], file.texts["notes"]] == TEXTS
            assert file.json("about") == {"name": "Kleiderbügel 衣架"}
            contents = file.read()
        assert same(contents.tensors)
        assert contents.digest == hashlib.sha256(saved).hexdigest()
    KIND.write(tmp_path / "b", TEXTS, contents.tensors)
    assert (tmp_path / "b").read_bytes() == saved


def test_the_safetensors_library_reads_our_files_and_we_those_that_it_rewrote(saved: bytes) -> None:
    assert same(safetensors.torch.load(saved))
    assert int.from_bytes(saved[:8], "little") % 8 == 0  # its tensors are aligned, as the library's are
    by_library = safetensors.torch.save(safetensors.torch.load(saved), texts_of(saved))
    backwards = forge(dict(reversed(tensors_of(saved).items())), sha256=texts_of(saved)["sha256"])
    for rewritten in (by_library, backwards):
        assert same(read(rewritten).tensors)


def test_the_seal_is_what_the_documentation_says(saved: bytes) -> None:
    assert texts_of(forge(tensors_of(saved)))["sha256"] == texts_of(saved)["sha256"]


def test_a_kind_without_a_program_seals_its_texts_alone(saved: bytes, tmp_path: Path) -> None:
    kind = SealedFile(texts=("key",))
    kind.write(tmp_path / "a", ["k"], TENSORS)
    forged = reference.forge(tensors_of(saved), {"key": "k"}, ["key"])
    assert texts_of((tmp_path / "a").read_bytes()) == texts_of(forged) and texts_of(forged).keys() == {"key", "sha256"}
    with kind.open(tmp_path / "a") as file:
        assert same(file.read().tensors)
    with pytest.raises(ValueError, match="^the file is empty"), kind.open(b""):  # neither a name nor a class of its own
        pass
    with pytest.raises(FileNotFoundError), kind.open(tmp_path / "none"):
        pass


# --- other files -----------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it runs code: it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def pickles(bomb: Bomb) -> Iterator[tuple[str, bytes]]:
    for protocol in range(6):
        yield f"pickle {protocol}", pickle.dumps(bomb, protocol)
    for is_zip in (True, False):
        buffer = io.BytesIO()
        torch.save({"weights": bomb}, buffer, _use_new_zipfile_serialization=is_zip)
        yield f"torch, {'zip' if is_zip else 'legacy'}", buffer.getvalue()
    inner = pickle.dumps(bomb)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("pickle")
        member.size = len(inner)
        tar.addfile(member, io.BytesIO(inner))
    yield "tar", buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../archive/data.pkl", inner)
        archive.writestr("inner.safetensors", inner)
    yield "zip with entries that climb", buffer.getvalue()
    broken = bytearray(buffer.getvalue())
    broken[14] ^= 0xFF
    yield "zip with a bad checksum", bytes(broken)
    yield "pickle where a header belongs", pack(b"{" + inner)
    yield "safetensors with a pickle for a text", pack({"__metadata__": {"about": inner.decode("latin-1")}})


def test_20_21_pickles_are_refused_behind_every_extension_and_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.is_dir(), "the bomb is live"
    marker.rmdir()
    for kind, data in pickles(Bomb(marker)):
        for extension in (".pt", ".pkl", ".safetensors"):
            path = tmp_path / f"model{extension}"
            path.write_bytes(data)
            said = refusal(path, None)
            assert said.startswith(f"model{extension}: ") and not marker.exists(), kind
        if not kind.startswith(("safetensors", "pickle where")):
            assert "only safetensors are read, because pickles can run code" in said, kind


def test_other_files_are_refused_by_what_they_look_like() -> None:
    for data, reason in [
        (b"", "empty"),
        (b"\x00", "not a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "a zip file, as torch.save writes"),
        (pickle.dumps([1]), "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"GGUF\x03\x00\x00\x00" + bytes(100), "a GGUF file"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy file"),
        (b"<html><body>404 not found", "not a safetensors file"),
        (bytes(10_000), "not a safetensors file"),
        (b'{"weights": [1, 2, 3]}', "not a safetensors file"),
    ]:
        assert reason in refusal(data)


def test_37_files_of_other_programs_are_named_as_such(saved: bytes) -> None:
    for tensors in (
        {"vit.embeddings.cls_token": torch.zeros(1, 1, 8), "classifier.weight": torch.zeros(3, dtype=torch.float64)},
        {"state.0.step": torch.ones(1, dtype=torch.int64)},
        {"tensor": torch.zeros(3, dtype=torch.complex64)},
        {},
        TENSORS,
    ):
        said = refusal(safetensors.torch.save(tensors, {"format": "pt"}))
        assert said.startswith(f"a.safetensors: not a test; found {len(tensors)} tensors")
        assert not tensors or any(f"such as {name}" in said for name in tensors)
    assert "not a test (its program is 'tae lens'); found" in refusal(forge(tensors_of(saved), program="tae lens"))
    assert "not a test; found" in refusal(forge(tensors_of(saved), program="<b>"))


# --- damage ----------------------------------------------------------------------------------------------------


def test_30_a_file_cut_anywhere_or_with_more_behind_it_is_refused(saved: bytes) -> None:
    for place in range(len(saved)):
        assert place < 9 or "the file is cut short" in refusal(saved[:place])
        refusal(saved[:place])
    assert "1 bytes that belong to no tensor" in refusal(saved + b"\x00")


def test_a_flipped_bit_is_found(saved: bytes) -> None:
    for place in range(len(saved)):
        damaged = bytearray(saved)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        said = refusal(bytes(damaged))
    assert "damaged" in said  # it was the last byte of the last tensor


def test_numbers_must_be_finite_where_a_kind_says_so(saved: bytes, tmp_path: Path) -> None:
    free = SealedFile(program="test", texts=KIND.texts, version=2)
    for value, dtype in ((math.nan, "F32"), (math.inf, "F16"), (-math.inf, "BF16")):
        broken = torch.zeros(16, dtype=sealed.DTYPES[dtype])
        broken[7] = value
        forged = forge({"bias": (dtype, [16], broken.view(torch.uint8).numpy().tobytes())})
        assert f"the tensor bias holds NaN or infinity as {dtype}" in refusal(forged)
        with free.open(forged) as file:
            assert file.read().tensors["bias"].isfinite().sum() == 15
        path = tmp_path / "a.safetensors"
        path.write_bytes(saved)
        with pytest.raises(Refused, match="^a.safetensors: the tensor bias holds NaN or infinity"):
            KIND.write(path, TEXTS, {"bias": broken})
        assert path.read_bytes() == saved and os.listdir(tmp_path) == ["a.safetensors"]


def test_27_other_types_are_described_and_never_read(saved: bytes) -> None:
    for dtype in ("I64", "F64", "C64", "BOOL", "F8_E4M3", "U8", "f32", "Float", "", "<img src=x>"):
        said = refusal(forge({**tensors_of(saved), "half": (dtype, [16], bytes(64))}))
        assert "its tensors must be F32, F16, BF16, got" in said and "<" not in said


# --- texts -----------------------------------------------------------------------------------------------------


def test_38_another_format_version_is_refused_with_its_number_before_anything_else_is_judged() -> None:
    for version, reason in [
        ("3", "it has format 3, and this program reads up to 2: update the program"),
        ("999999999", "it has format 999999999"),
        ("0", "must be a number from 1, got 0"),
        ("-1", "got -1"),
        ("1.0", "got 1.0"),
        ("", "got none"),
        ("１", "got ?"),
        ("9" * 5000, "got 9999"),
        (None, "got none"),
    ]:
        assert reason in refusal(forge({}, format_version=version, about="?"))
    read(forge({}, format_version="1"))


def test_texts_must_be_there_and_have_the_seal(saved: bytes) -> None:
    tensors = tensors_of(saved)
    for name in ("about", "notes", "sha256"):
        assert f"its metadata lack {name}" in refusal(forge(tensors, **{name: None}))
    for sha256 in ("", "0" * 64, "x", texts_of(saved)["sha256"].upper()):
        assert "damaged" in refusal(forge(tensors, sha256=sha256))
    for name in ("format_version", "about", "notes"):
        changed = {**texts_of(saved), name: "1"}
        assert "damaged" in refusal(forge(tensors, **changed))


BAD_JSON = ["", "{", '{"x":NaN}', "\ufeff{}", '{"a":1,"a":1}', '{"a":{"b":1,"b":1}}', "[" * 100_000, "{'a':1}"]
BAD_JSON += ["cos\nsystem\n(S'x'\ntR.", '{}{"a":1}', "{/**/}", '{"a":01}', '{"a":0x10}', "Infinity", "[-Infinity]"]
BAD_JSON += ["9" * 5000, "1" * 41]


def test_json_is_strict() -> None:
    for text in BAD_JSON:
        with pytest.raises(ValueError, match="^its config is not valid JSON: ") as caught:
            parse_json(text, "its config")
        assert len(str(caught.value)) < 200 and "set_int_max_str_digits" not in str(caught.value)
    with pytest.raises(ValueError, match="JSON"):
        parse_json(b'{"\xff":1}', "it")
    with pytest.raises(ValueError, match="JSON"):
        to_json([math.nan])
    assert parse_json(to_json({"ä": [1, 2.5, None, 10**39]}), "it") == {"ä": [1, 2.5, None, 10**39]}


def test_28_tensors_that_are_not_expected_are_named_five_of_each_kind() -> None:
    expected = {f"w{number}": (4, 2) for number in range(8)}
    found = {name: ("F32", shape) for name, shape in expected.items()}
    check_tensors(found, expected)
    for shape in [(2, 4), (8,), (4, 2, 1), (3, 2), (), (0,)]:
        with pytest.raises(ValueError) as caught:
            check_tensors({**found, "w3": ("F32", shape)}, expected)
        assert f"; 1 of another shape: w3 (expected [4, 2], found {[*shape]})" in str(caught.value)
    with pytest.raises(ValueError, match=r"; 8 missing: w0, w1, w2, w3, w4, \.\.\.; 1 unexpected: \?b\?$"):
        check_tensors({"<b>": ("F32", (1,))}, expected)
    with pytest.raises(ValueError, match=r"; 1 of a type other than F32, F16, BF16: w0 \(I64\)$"):
        check_tensors({**found, "w0": ("I64", (4, 2))}, expected)


# --- headers ---------------------------------------------------------------------------------------------------


def entry(begin: int, end: int, shape: list | None = None, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


LYING_HEADERS = {
    "length 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "length 2^64 - 1": b"\xff" * 8 + b"{}",
    "length 99,999,999": (99_999_999).to_bytes(8, "little") + b"{}",
    "length 0": bytes(8) + b"{}",
    "length 1": (1).to_bytes(8, "little") + b"{}",
    "no header": (2).to_bytes(8, "little"),
    "just over 1 MB": pack(b"{" + b" " * 2**20 + b"}"),
    "a million million elements": pack({"a": entry(0, 4 * 10**12)}, bytes(64)),
    "2^62 elements": pack({"a": entry(0, 0, [0, 2**62])}),
    "2^62 x 4 elements": pack({"a": entry(0, 4, [2**62, 4])}, bytes(4)),
    "endless digits": pack(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', bytes(4)),
    "100 dimensions": pack({"a": entry(0, 4, [1] * 100)}, bytes(4)),
    "stride 0": pack({"a": {**entry(0, 4), "strides": [0]}}, bytes(4)),
    "overlap": pack({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "same bytes twice": pack({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)),
    "hole": pack({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
    "hole at the start": pack({"a": entry(4, 8)}, bytes(8)),
    "rest": pack({"a": entry(0, 4)}, bytes(8)),
    "end before begin": pack({"a": entry(4, 0, [0])}, bytes(4)),
    "negative": pack({"a": entry(-4, 0, [1])}, bytes(4)),
    "fraction": pack({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, bytes(4)),
    "true": pack({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)),
    "texts": pack({"a": {"dtype": "F32", "shape": "1", "data_offsets": "04"}}, bytes(4)),
    "three offsets": pack({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, bytes(4)),
    "no offsets": pack({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "dtype of another kind": pack({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "null": pack({"a": None}),
    "metadata not texts": pack({"__metadata__": {"program": 1}}),
    "metadata a list": pack({"__metadata__": ["program"]}),
    "deep": pack(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "not UTF-8": pack(b'{"\xff\xfe":{}}'),
    "NaN in a shape": pack(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
    "the same key twice": pack(b'{"a":1,"a":1}'),
    "metadata twice": pack(b'{"__metadata__":{},"__metadata__":{}}'),
}


def test_32_33_a_header_that_lies_is_refused_for_next_to_no_memory() -> None:
    for what, data in LYING_HEADERS.items():
        tracemalloc.start()
        said = refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "not a test" not in said, what  # it does not come as far as that
        assert len(said) < 200 and said.isprintable(), what
        assert peak < 5e6, what


def test_a_header_too_large_is_refused_unread(tmp_path: Path) -> None:
    names = (b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(400_000))
    assert "its header must be from 2 to 1048576 bytes, got" in refusal(pack(b"{" + b",".join(names) + b"}"))
    assert "at most 10000 tensors, got 10001" in refusal(pack({f"{n}": entry(0, 0) for n in range(10_001)}))
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.write((90 * 2**20).to_bytes(8, "little") + b"{}")
        file.truncate(8 + 90 * 2**20)
    assert "its header must be" in refusal(path)
    os.truncate(path, 9 * 2**30)  # takes no room on the disk
    with no_longer_than(10):
        assert "at most 8 GiB" in refusal(path)


def test_34_names_of_tensors_are_shown_escaped_and_short(saved: bytes) -> None:
    hostile = ["../../x", "<img src=x onerror=a()>", "![x](http://a)", "a\u202eb\u200bc", "\ud800", "", "a\nb", "\0"]
    for name in [*hostile, "x" * 500_000]:
        for said in (
            refusal(forge({**tensors_of(saved), name: ("F32", [1], bytes(4))}, program="other")),
            refusal(pack({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))),
            refusal(pack({name: 3})),
        ):
            assert len(said) < 300
            assert not set("<>[]!*`$\n\u202e\u200b\0\ud800") & set(said)


@settings(max_examples=150)
@given(st.binary(max_size=200), st.binary(max_size=50))
def test_any_bytes_are_refused(header: bytes, data: bytes) -> None:
    refusal(header)
    refusal(pack(b"{" + header, data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["F16", "tae"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=8,
)


def mutate(value: object, data: st.DataObject) -> object:
    """The same JSON with one thing in it changed, added or left out."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(value)))
        rest = {name: kept for name, kept in value.items() if name != key}
        way = data.draw(st.sampled_from(["change", "change", "change", "rename", "leave out", "add"]))
        if way == "rename":
            return {**rest, data.draw(st.text(max_size=10)): value[key]}
        if way == "add":
            return {**value, data.draw(st.text(max_size=10)): data.draw(JSON)}
        return rest if way == "leave out" else {**rest, key: mutate(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [mutate(item, data) if number == place else item for number, item in enumerate(value)]
    if isinstance(value, int) and data.draw(st.booleans()):
        return value + data.draw(st.integers(-16, 16))
    return data.draw(JSON)


@settings(max_examples=200)
@given(data=st.data())
def test_any_change_of_the_header_is_refused_or_harmless(data: st.DataObject, saved: bytes) -> None:
    header, content = unpack(saved)
    try:
        contents = read(pack(mutate(header, data), content), "it")  # type: ignore[arg-type]
    except Refused as error:
        assert str(error).startswith("it: ")
    else:
        assert same(contents.tensors)


# --- files and folders -----------------------------------------------------------------------------------------


def test_errors_name_the_file_and_never_its_folder(saved: bytes, tmp_path: Path) -> None:
    for name, shown in {"a.safetensors": "a.safetensors", "b\u202e\n<c>.safetensors": "b <c>.safetensors"}.items():
        (tmp_path / name).write_bytes(saved[:-1])
        said = refusal(tmp_path / name, None)
        assert said.startswith(f"{shown}: the file is cut short") and str(tmp_path) not in said
    for name in ("../../etc/x.bin", "C:\\users\\x.bin", "\\\\host\\share\\x.bin", "/x.bin"):
        assert refusal(b"", name) == "x.bin: the file is empty"
    assert len(refusal(b"", "n" * 10_000)) < 120
    assert refusal(b"", "\u200b") == "checkpoint: the file is empty"


def test_what_is_no_regular_file_is_refused_and_never_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    names = ["folder", "pipe", "dangling", "loop", "socket", "missing", "a\0b", "\udcff", "x" * 300, "pipe/x"]
    with listener, no_longer_than(10):
        for path in [tmp_path / name for name in names] + [Path("/dev/zero"), Path("/dev/null"), Path("/")]:
            assert str(tmp_path) not in refusal(path, None)
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match="path must be a new or a regular file"):
            KIND.write(place, TEXTS, TENSORS)


def test_a_pipe_put_in_place_after_the_check_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    regular = os.stat(__file__)
    monkeypatch.setattr("tae.store.regular.os.stat", lambda path: regular)
    with no_longer_than(10):
        assert "only regular files" in refusal(tmp_path / "pipe")


def test_a_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("tae.store.regular.os.open", fail)
    assert "only regular files" in refusal(Path("/dev/zero"))


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    KIND.write(path, TEXTS, {"large": torch.zeros(100_000)})  # more than a buffer has read ahead
    with pytest.raises(Refused, match="became shorter while it was read"), KIND.open(path) as file:
        os.truncate(path, path.stat().st_size - 1)
        file.read()


def test_an_unreadable_file_is_refused_with_the_reason(
    tmp_path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tae.store.regular.os.open", deny)
    assert refusal(path) == "a.safetensors: cannot be read (Permission denied)"


def test_texts_that_make_the_header_too_large_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its header must be at most 1048576 bytes"):
        KIND.write(tmp_path / "a", ['"' * 2**20, ""], TENSORS)
    with pytest.raises(ValueError, match="dtype must be one of torch.float32, torch.float16, torch.bfloat16, got"):
        KIND.write(tmp_path / "a", TEXTS, {"a": torch.zeros(1, dtype=torch.float64)})
    with pytest.raises(FileNotFoundError):
        KIND.write(tmp_path / "nowhere" / "a", TEXTS, TENSORS)
    assert os.listdir(tmp_path) == []


def test_odd_file_names_work_and_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for name in ("with space", "-dash", "new\nline", "ünï", "x" * 255):
        KIND.write(tmp_path / name, TEXTS, TENSORS)
        assert same(read(tmp_path / name).tensors)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # the system then refuses in the middle
    try:
        with pytest.raises(OSError):
            KIND.write(path, TEXTS, {"large": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == saved and os.listdir(tmp_path) == ["a.safetensors"]

"""Files on their way to the server: announced ones only, within bounds, and a sentence for each that is not."""

import pytest
from starlette.exceptions import HTTPException
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from tae.ui.session import arrivals
from tae.ui.session.arrivals import Arrivals


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """The server's, taken over while it runs, and small."""
    monkeypatch.setattr(arrivals, "MB", 1)
    manager = MemoryUploadedFileManager("/upload")
    manager.__class__ = Arrivals
    manager.begin()  # type: ignore[attr-defined]
    assert isinstance(manager, Arrivals)
    return manager


def send(files: Arrivals, *sizes: int, name: str = "a.png", session: str = "mine") -> list[str]:
    """Files of one drop; their ids."""
    announced = files.get_upload_urls(session, [name] * len(sizes))
    for info, size in zip(announced, sizes, strict=True):
        files.add_file(session, UploadedFileRec(info.file_id, name, "", bytes(size)))
    return [info.file_id for info in announced]


def held(files: Arrivals, ids: list[str], session: str = "mine") -> list[int]:
    return [len(file.data) for file in files.get_files(session, ids)]


def test_72_a_file_that_no_page_asked_for_is_refused(files: Arrivals) -> None:
    (asked,) = send(files, 5)
    for session, file in (("mine", "made up"), ("other", asked)):
        with pytest.raises(HTTPException) as refused:
            files.add_file(session, UploadedFileRec(file, "a.png", "", b"1"))
        assert refused.value.status_code == 403
    assert held(files, [asked]) == [5] and held(files, [asked], "other") == []


def test_18_each_kind_has_its_limit_and_nothing_is_held_of_what_passes_it(files: Arrivals) -> None:
    for name, most in (("a.safetensors", 5 * 1024), ("a.ZIP", 500), ("a.png", 300), ("a.safetensors.png", 300)):
        small, large = (send(files, size, name=name)[0] for size in (most, most + 1))
        assert held(files, [small, large]) == [most, 0] and "at most" in files.refused[large]
        files.remove_session_files("mine")
    assert not files.refused
    (pickle,) = send(files, 4000, name="old.pth")
    assert held(files, [pickle]) == [64] and not files.refused


def test_18_what_waits_for_a_session_is_bounded_and_what_no_widget_fetches_makes_room(files: Arrivals) -> None:
    first, second = send(files, 300, 300), send(files, 300)
    assert held(files, first[:1]) == [300]  # as a widget does at each run
    third = send(files, 300)
    assert held(files, [*first, *second, *third]) == [300, 300, 300]
    assert files.get_files("mine", first[1:]) == [] and not files.refused
    together = send(files, 300, 300, 300, 300)
    assert held(files, together) == [300, 300, 300, 0] and "drop fewer files" in files.refused[together[3]]
    assert held(files, third) == [] and send(files, 300, session="other")


def test_67_one_session_cannot_take_the_memory_of_all(files: Arrivals) -> None:
    for session in ("one", "two"):
        (whole,) = send(files, 5 * 1024, name="a.safetensors", session=session)
        assert held(files, [whole], session) == [5 * 1024]
    (third,) = send(files, 5 * 1024, name="a.safetensors")
    assert held(files, [third]) == [0] and "try again in a minute" in files.refused[third]
    assert held(files, send(files, 300)) == [300]
    files.remove_session_files("one")
    assert held(files, send(files, 5 * 1024, name="a.safetensors")) == [5 * 1024]

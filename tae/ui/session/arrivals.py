"""Files that arrived for a page, as the server holds them: bounded for each kind of file, each session, and all together.

Streamlit's upload route takes whatever is within `server.maxUploadSize` from whoever has a session, and holds it in memory
until the session ends. Here only what a page asked for arrives; of what is too large nothing is kept but a sentence, which the
page says in its place; what was taken, or was never fetched by a widget, makes room.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from starlette.exceptions import HTTPException
from streamlit.runtime import exists, get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec, UploadFileUrlInfo

from tae.store.names import PICKLES, plain_text
from tae.store.refusals import log_refused

MB = 1024**2
MAX_MB = {".safetensors": 5 * 1024, ".zip": 500}
"""Largest files by their endings: checkpoints of every preset, ZIPs of images."""
OTHER_MB = 300
"""Largest file of any other ending: images, stacks, videos, tables, whose readers have limits of their own."""
SESSION_MB = {True: 5 * 1024, False: 1024}
"""Most that waits for one session: with checkpoints and ZIPs; of all else."""
ALL_MB = 12 * 1024
MAX_ASKED = 20_000  # files that a session may announce before the first of them is forgotten


class Arrivals(MemoryUploadedFileManager):
    """Streamlit's files on their way, within bounds; see `watch`."""

    def begin(self) -> None:
        self._bounds = threading.RLock()
        self._asked: dict[str, OrderedDict[str, int]] = {}  # {session: {file: number of the request that announced it}}
        self._touched: dict[str, OrderedDict[str, None]] = {}  # {session: files, the longest unfetched first}
        self._request = 0
        self.refused: dict[str, str] = {}  # {file: why nothing of it is kept}

    def get_upload_urls(self, session_id: str, file_names: Sequence[str]) -> list[UploadFileUrlInfo]:
        found = super().get_upload_urls(session_id, file_names)
        with self._bounds:
            self._request += 1
            asked = self._asked.setdefault(session_id, OrderedDict())
            asked.update((info.file_id, self._request) for info in found)
            while len(asked) > MAX_ASKED:
                asked.popitem(last=False)
        return found

    def get_files(self, session_id: str, file_ids: Sequence[str]) -> list[UploadedFileRec]:
        with self._bounds:
            touched = self._touched.get(session_id, OrderedDict())
            for file_id in file_ids:
                if file_id in touched:
                    touched.move_to_end(file_id)
        return super().get_files(session_id, file_ids)

    def add_file(self, session_id: str, file: UploadedFileRec) -> None:
        """Hold a file that was announced. Raises HTTPException for any other."""
        with self._bounds:
            request = self._asked.get(session_id, {}).get(file.file_id)
            if request is None:
                raise HTTPException(status_code=403, detail="No page of this session asked for this file")
            self.remove_file(session_id, file.file_id)
            if file.name.lower().endswith(PICKLES):
                file = file._replace(data=file.data[:64])  # they are not read, only called by name
            refusal = too_large(file.name, len(file.data)) or self._no_room(session_id, file, request)
            if refusal:
                digest = hashlib.sha256(file.data[: 16 * MB]).hexdigest()  # the server waits meanwhile
                log_refused(digest, Path(file.name).suffix[:12] or "unknown", len(file.data), ValueError(refusal))
                self.refused[file.file_id] = refusal
                file = file._replace(data=b"")
            touched = self._touched.setdefault(session_id, OrderedDict())
            touched[file.file_id] = None
            while len(touched) > MAX_ASKED:  # of no bytes, or refused
                self.remove_file(session_id, next(iter(touched)))
            super().add_file(session_id, file)

    def remove_file(self, session_id: str, file_id: str) -> None:
        with self._bounds:
            self._touched.get(session_id, {}).pop(file_id, None)
            self.refused.pop(file_id, None)
            super().remove_file(session_id, file_id)

    def remove_session_files(self, session_id: str) -> None:
        with self._bounds:
            for file_id in self._touched.pop(session_id, {}):
                self.refused.pop(file_id, None)
            self._asked.pop(session_id, None)
            super().remove_session_files(session_id)

    def _no_room(self, session_id: str, file: UploadedFileRec, request: int) -> str | None:
        """Why a session holds no more; what waits from earlier requests, the longest unfetched first, makes room."""
        for of_all in (True, False):
            if of_all or not is_large(file.name):
                most = SESSION_MB[of_all] * MB
                for other in [*self._touched.get(session_id, {})]:
                    if self._waiting(session_id, of_all) + len(file.data) <= most:
                        break
                    if self._asked[session_id].get(other, 0) < request:
                        self.remove_file(session_id, other)
                if self._waiting(session_id, of_all) + len(file.data) > most:
                    return f"more than {in_words(SESSION_MB[of_all])} at once; drop fewer files at a time"
        if self._total_bytes + len(file.data) > ALL_MB * MB:
            return "the server holds as many uploads as it can; try again in a minute"
        return None

    def _waiting(self, session_id: str, of_all: bool) -> int:
        files = self.file_storage.get(session_id, {}).values()
        return sum(len(file.data) for file in files if of_all or not is_large(file.name))


def is_large(name: str) -> bool:
    return Path(name).suffix.lower() in MAX_MB


def too_large(name: str, size: int) -> str | None:
    """Why a file of this ending and size is not taken; None where it is."""
    most = most_mb(Path(name).suffix.lower())
    if size <= most * MB:
        return None
    return f"the file must be at most {in_words(most)}, got {in_words(size / MB)}"


def most_mb(ending: str) -> int:
    """Megabytes of the largest file of an ending; `server.maxUploadSize` may be less than its kind's."""
    return min(MAX_MB.get(ending, OTHER_MB), st.get_option("server.maxUploadSize"))


def in_words(megabytes: float) -> str:
    return f"{megabytes / 1024:.3g} GB" if megabytes >= 1024 else f"{megabytes:.3g} MB"


def watch() -> None:
    """Put the server's files within bounds; called by every page, as nothing of ours runs before the first one."""
    if exists():
        manager = get_instance().uploaded_file_mgr
        with _WATCHING:
            if type(manager) is MemoryUploadedFileManager:
                Arrivals.begin(manager)  # type: ignore[arg-type]
                manager.__class__ = Arrivals  # the routes hold this very object


_WATCHING = threading.Lock()


def refusal_of(file: UploadedFile) -> str | None:
    """Why nothing of a file that a widget gave was kept, with its name; None where it is whole."""
    context = get_script_run_ctx()
    refused = context.uploaded_file_mgr.refused if context and isinstance(context.uploaded_file_mgr, Arrivals) else {}
    why = refused.get(file.file_id)
    return f"{plain_text(file.name)}: {why}" if why else None


def let_go(files: Sequence[UploadedFile]) -> None:
    """Free what a page has taken."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        for file in files:
            context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)

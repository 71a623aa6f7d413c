"""A visitor of the app without a browser: speaks what Streamlit's page speaks, and keeps what the page would show."""

import asyncio
import hashlib
import http.cookiejar
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

COOKIES = "tae_tour=offered"
"""A visitor who has been offered the tour."""
Path = tuple[int, ...]


class Visitor:
    """One session of the app at an address.

    Attributes:
        shown: {place on the page: what stands there}, after the last run.
        received: Bytes that the server has sent.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.shown: dict[Path, Element] = {}
        self.received = 0
        self._values: dict[str, WidgetState] = {}
        self._known: dict[str, ForwardMsg] = {}  # what a browser keeps, so that it is not sent again
        self._query = self._page = self._session = self._xsrf = ""
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> "Visitor":
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        await asyncio.to_thread(lambda: opener.open(f"{self.address}/_stcore/health", timeout=60).close())
        self._xsrf = next((cookie.value or "" for cookie in jar if cookie.name == "_streamlit_xsrf"), "")
        self._socket = await connect(
            f"{self.address.replace('http', 'ws', 1)}/_stcore/stream",
            subprotocols=["streamlit", self._xsrf or "none"],  # type: ignore[list-item]
            additional_headers={"Cookie": f"{COOKIES}; _streamlit_xsrf={self._xsrf}"},
            max_size=None,
            ping_interval=None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def open(self, page: str = "", **view: str) -> None:
        """Go to a page, by its name in the address ("": the first one), with fields of the view as in a link."""
        if self._page != page:
            self._values.clear()
        self._page, self._query = page, urlencode(view)
        await self._run()

    async def set(self, widget: str, **value: Any) -> None:
        """Set a widget, by a piece of its id, as a person would; value: a field of `WidgetState`."""
        self._values[self.id_of(widget)] = WidgetState(id=self.id_of(widget), **value)
        await self._run()
        for id in [id for id, state in self._values.items() if state.WhichOneof("value") == "trigger_value"]:
            del self._values[id]

    def id_of(self, widget: str) -> str:
        """The id of the widget of which this is a piece. Raises LookupError if it is not on the page."""
        for element in self.shown.values():
            kind = getattr(element, element.WhichOneof("type") or "", None)
            if (id := getattr(kind, "id", "")) and widget in id:
                return id
        raise LookupError(f"no widget {widget!r} is on the page")

    def has(self, widget: str) -> bool:
        try:
            return bool(self.id_of(widget))
        except LookupError:
            return False

    async def drop(self, widget: str, *files: tuple[str, bytes]) -> None:
        """Let files fall into a drop zone."""
        message = BackMsg()
        message.file_urls_request.request_id = uuid.uuid4().hex
        message.file_urls_request.session_id = self._session
        message.file_urls_request.file_names.extend(name for name, _ in files)
        await self._send(message)
        answer = await self._until(lambda one: one.WhichOneof("type") == "file_urls_response")
        state = WidgetState(id=self.id_of(widget))
        for (name, data), urls in zip(files, answer.file_urls_response.file_urls, strict=True):
            await asyncio.to_thread(self._put, urls.upload_url, name, data)
            one = state.file_uploader_state_value.uploaded_file_info.add(
                name=name, size=len(data), file_id=urls.file_id
            )
            one.file_urls.CopyFrom(urls)
        self._values[state.id] = state
        await self._run()

    def _put(self, path: str, name: str, data: bytes) -> None:
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={edge}",
            "Cookie": f"_streamlit_xsrf={self._xsrf}",
            "X-Xsrftoken": self._xsrf,
        }
        body = head + data + f"\r\n--{edge}--\r\n".encode()
        request = urllib.request.Request(f"{self.address}{path}", body, headers, method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def texts(self, kind: str) -> Sequence[Any]:
        """All elements of a kind, such as "markdown", in the page's order."""
        places = sorted(self.shown)
        return [getattr(self.shown[one], kind) for one in places if self.shown[one].WhichOneof("type") == kind]

    def numbers(self, without: Callable[[Element], bool] = lambda _: False) -> Counter[str]:
        """Digests of all that stands on the page, but for empty places and a download's secret name.

        without: Tells what is passed over.
        """
        found: Counter[str] = Counter()
        for element in self.shown.values():
            kind = element.WhichOneof("type")
            if kind == "empty" or without(element):
                continue
            if kind == "download_button":
                element = Element.FromString(element.SerializeToString())
                element.download_button.ClearField("deferred_file_id")
            found[hashlib.sha256(element.SerializeToString(deterministic=True)).hexdigest()] += 1
        return found

    async def _run(self) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name = self._query, self._page
        state.widget_states.widgets.extend(self._values.values())
        state.cached_message_hashes.extend(self._known)
        await self._send(message)
        await self.rest()

    async def rest(self) -> None:
        """Wait until the script has run to its end."""
        finished = ForwardMsg.FINISHED_EARLY_FOR_RERUN
        while finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            finished = (await self._until(lambda one: one.WhichOneof("type") == "script_finished")).script_finished

    async def _send(self, message: BackMsg) -> None:
        assert self._socket is not None
        await self._socket.send(message.SerializeToString())

    async def _until(self, is_awaited: Callable[[ForwardMsg], bool]) -> ForwardMsg:
        assert self._socket is not None
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            self.received += len(data)
            message = ForwardMsg.FromString(data)
            if message.WhichOneof("type") == "ref_hash":
                kept = ForwardMsg.FromString(self._known[message.ref_hash].SerializeToString())
                kept.metadata.CopyFrom(message.metadata)
                message = kept
            elif message.metadata.cacheable:
                self._known[message.hash] = message
            self._take(message)
            if is_awaited(message):
                return message

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            session = message.new_session
            self._session = session.initialize.session_id or self._session
            self.shown.clear()
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "delta":
            path = tuple(message.metadata.delta_path)
            for place in [place for place in self.shown if place[: len(path)] == path]:
                del self.shown[place]
            if message.delta.WhichOneof("type") == "new_element":
                self.shown[path] = message.delta.new_element

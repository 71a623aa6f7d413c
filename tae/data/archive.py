"""A stranger's ZIP to a folder of images: under generated names, or one clear `ArchiveError`, whatever the bytes are.

What the archive says of itself is checked before a member is opened, and what is inflated is counted all the same.
Nothing in it decides where anything is written.
"""

import io
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tae.data.decode import FORMATS, format_of
from tae.data.foreign import what_it_is
from tae.data.limits import MAX_FILE_BYTES, ImageError
from tae.data.stacks import NAMES_FILE, count_frames, read_frame
from tae.store.names import likely_text, natural_order, plain_text

MAX_ARCHIVE_BYTES = 2 * 1024**3
MAX_ENTRIES = 10_000
MAX_INFLATED_BYTES = 4 * 1024**3
MAX_RATIO = 100  # inflated to packed bytes of all members together; blank images alone come near it
RATIO_FREE_BYTES = 64 * 1024**2  # archives that inflate to less than this may have any ratio
MAX_DIRECTORY_BYTES = 16 * 1024**2  # largest list of members at the archive's end, which is read whole
MAX_NAME = 1000

_CHUNK = 1024**2
_ENTRY = b"PK\x01\x02"


class ArchiveError(ValueError):
    """An archive is refused: one sentence for its user, without a path."""


@dataclass(frozen=True)
class Unpacked:
    """The result of unpacking an archive."""

    count: int  # images in the folder, frames of stacks counted one by one
    skipped: list[tuple[str, str]]
    """(name, reason) of each member that is left out; names are made harmless to show."""


def unpack_images(
    archive: bytes | Path,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
) -> Unpacked:
    """Write the images of a ZIP into a new folder, as 000001.png and so on; all of them, or the folder is not made.

    The bytes of an image or stack stay as they are; its ending is that of its content, and the numbers follow the natural
    order of the members' names. The file names.json says which member each came from. Folders, hidden members and
    what macOS adds are passed over; a link, a device, and a name that leads out of the folder cost their own member alone.
    `progress` is called with (members looked at, members in all).

    Raises:
        ArchiveError: If it is no sound ZIP, passes a limit, is encrypted, holds members that overlap, or if no member is an
            image that can be read.
        ValueError: If the folder is neither missing nor empty.
        OSError: If a file cannot be read or written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder must be missing or empty, got {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name[:40]}.{uuid.uuid4().hex}.tmp")
    try:
        beside.mkdir()
        with _Careful(io.BytesIO(archive) if isinstance(archive, bytes) else io.FileIO(archive)) as file:
            unpacked = _unpack(file, beside, progress, max_inflated_bytes)
        if folder.exists():
            folder.rmdir()
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return unpacked


class _Careful(io.BufferedReader):
    """A file that gives no more at once than a sound ZIP's list of members takes: the parser asks for what it says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise ArchiveError(
                f"the ZIP's list of members must be at most {MAX_DIRECTORY_BYTES // 1024**2} MB; split it"
            )
        return super().read(size)


def _unpack(
    file: _Careful, folder: Path, progress: Callable[[int, int], None] | None, max_inflated_bytes: int
) -> Unpacked:
    with _opened(file) as archive:
        _check_members(archive.infolist(), archive.start_dir, max_inflated_bytes)
        members = [(_name_of(member), member) for member in archive.infolist()]
        members = [(path, member) for path, member in members if not _is_passed_over(path, member)]
        members.sort(key=lambda one: natural_order(one[0]))
        inflate = _Inflater(archive, max_inflated_bytes)
        names: dict[str, str] = {}
        skipped: list[tuple[str, str]] = []
        count = 0
        for number, (path, member) in enumerate(members, start=1):
            name = plain_text(path, 120)
            try:
                _check_member(path, member)
                kept = keep(folder, len(names) + 1, path, inflate(member))
            except ImageError as error:
                skipped.append((name, str(error)))
            else:
                names[kept.name] = name
                count += count_frames(kept)
            if progress:
                progress(number, len(members))
    if not names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
        raise ArchiveError(f"the ZIP must hold an image that can be read, got none{': ' if reasons else ''}{reasons}")
    (folder / NAMES_FILE).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    return Unpacked(count, skipped)


def keep(folder: Path, number: int, name: str, content: bytes) -> Path:
    """Write an image or stack of a stranger into a folder, as 000001.png and so on, if a frame of it can be read.

    Raises ImageError, and leaves nothing, if none can.
    """
    kind = format_of(content[:64])
    if kind is None:
        raise ImageError(f"not a supported image: got {what_it_is(content, name)}")
    file = folder / f"{number:06}{FORMATS[kind].endings[0]}"
    file.write_bytes(content)
    try:
        read_frame(file)
    except ImageError:
        file.unlink()
        raise
    return file


def _name_of(member: zipfile.ZipInfo) -> str:
    """A member's path, with / between folders; a name that is not said to be UTF-8 is what its bytes most likely mean."""
    name = member.orig_filename
    if not member.flag_bits & 0x800 and not name.isascii():
        name = likely_text(name.encode("cp437"))
    return re.sub(r"^(\./+)+", "", name.replace("\\", "/"))


def _opened(file: _Careful) -> zipfile.ZipFile:
    """Read the list of members, once it is known to be short: the parser makes an object of each entry that it finds.

    Raises ArchiveError if it is no ZIP, or passes a limit.
    """
    size = file.seek(0, os.SEEK_END)
    if size > MAX_ARCHIVE_BYTES:
        raise ArchiveError(
            f"the ZIP must be at most {MAX_ARCHIVE_BYTES // 1024**2} MB, got {size // 1024**2} MB; split it"
        )
    file.seek(0)
    # Every entry begins with this mark, whatever number of them the archive declares.
    entries, window = 0, b""
    while chunk := file.read(_CHUNK):
        window = window[1 - len(_ENTRY) :] + chunk
        entries += window.count(_ENTRY)
        if entries > MAX_ENTRIES:
            raise ArchiveError(f"the ZIP must hold at most {MAX_ENTRIES} files, got more; split it")
    try:
        if zipfile.is_zipfile(file):
            return zipfile.ZipFile(file)
    except ArchiveError:
        raise
    except Exception as error:  # broken lists make the parser raise nearly anything
        raise ArchiveError("the ZIP is damaged; pack the images again") from error
    raise ArchiveError("not a ZIP, or one that is cut short; pack the images again")


def _check_members(members: list[zipfile.ZipInfo], directory: int, max_inflated_bytes: int) -> None:
    """Refuse an archive, by an ArchiveError, for what its list of members says of their names, kinds, sizes and places.

    The list begins at `directory`, which is the end of the last member.
    """
    for member in members:
        name = plain_text(_name_of(member))
        if member.flag_bits & 0x2041:  # encrypted, strongly encrypted, or with its name hidden
            raise ArchiveError(f"the ZIP must not be encrypted, and {name} is; pack it without a password")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > max_inflated_bytes:
        raise ArchiveError(
            f"the ZIP must unpack to at most {max_inflated_bytes // 1024**2} MB, got {total // 1024**2} MB; split it"
        )
    if total > max(RATIO_FREE_BYTES, MAX_RATIO * packed):
        raise ArchiveError(
            f"the ZIP must not unpack to more than {MAX_RATIO} times its size, got {total // max(1, packed)} times; "
            "pack fewer blank images, or save them as PNG"
        )
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = [member.header_offset for member in ordered[1:]] + [directory]
    for member, end in zip(ordered, ends, strict=False):
        # 30 bytes and the name stand before the content; more can, but never less.
        if member.header_offset + 30 + len(member.orig_filename) + member.compress_size > end:
            raise ArchiveError("the files in the ZIP overlap, as in a ZIP made to do harm; pack the images again")


def _check_member(path: str, member: zipfile.ZipInfo) -> None:
    """Leave a member out, by an ImageError, for what it is or where its name leads; nothing is ever written by that name."""
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ImageError("a link or device, which is not followed; pack the image itself")
    if len(path) > MAX_NAME or re.search(r"^/|^[A-Za-z]:|\0|(^|/)\.\.(/|$)", path):
        raise ImageError(f"its name must stay within the ZIP, with at most {MAX_NAME} characters; rename it")


class _Inflater:
    """Members' contents, counted while they grow: what the archive says of their sizes is not believed."""

    def __init__(self, archive: zipfile.ZipFile, max_bytes: int) -> None:
        self.archive = archive
        self.left = max_bytes

    def __call__(self, member: zipfile.ZipInfo) -> bytes:
        """One member's content.

        Raises ImageError if it cannot be read, or is larger than an image may be; ArchiveError if all so far became
        larger than `max_bytes`.
        """
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ImageError("packed in a way that is not read; pack it with the usual method, deflate")
        if member.file_size > MAX_FILE_BYTES:
            raise ImageError(f"larger than {MAX_FILE_BYTES // 1024**2} MB unpacked; scale the image down")
        content = bytearray()
        try:
            with self.archive.open(member) as file:
                while chunk := file.read(_CHUNK):
                    self.left -= len(chunk)
                    if self.left < 0:
                        raise ArchiveError("the ZIP unpacks to more than a ZIP may; pack fewer images")
                    content += chunk
        except ArchiveError:
            raise
        except Exception as error:  # a wrong checksum, and nearly anything else
            raise ImageError("damaged within the archive; pack it again") from error
        return bytes(content)


def _is_passed_over(path: str, member: zipfile.ZipInfo) -> bool:
    parts = path.split("/")
    return (
        path.endswith("/")
        or member.is_dir()
        or parts[0] == "__MACOSX"
        or any(part.startswith(".") and part not in (".", "..") for part in parts)
    )

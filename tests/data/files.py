"""Image files of every format, also such as no program writes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tae.data.stacks import read_frame

PNG_START = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    return PNG_START + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))


def png(rows: bytes, width: int, height: int, bits: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG from packed rows, which Pillow cannot write for every depth."""
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    data = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return png_header(width, height, bits, colour) + extra + data


def tiff(
    values: np.ndarray, *, sample_format: int = 1, tags: dict[int, int] | None = None, packed: bool = False
) -> bytes:
    """A TIFF of one strip, in the byte order of its values: (H, W), or (3, H, W) for separate planes."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    planes, height, width = values.shape if values.ndim == 3 else (1, *values.shape)
    bodies = [plane.tobytes() for plane in values.reshape(planes, height, width)]
    bodies = [zlib.compress(body) for body in bodies] if packed else bodies
    all_tags: dict[int, tuple[int, ...]] = {
        256: (width,),
        257: (height,),
        258: (values.dtype.itemsize * 8,) * planes,
        259: (8 if packed else 1,),
        262: (1 if planes == 1 else 2,),
        277: (planes,),
        278: (height,),
        284: (1 if planes == 1 else 2,),
        339: (sample_format,) * planes,
        **{tag: (value,) for tag, value in (tags or {}).items()},
    }
    count = len(all_tags) + 2
    after = 8 + 2 + 12 * count + 4
    extra = b""
    place = after + 200
    all_tags[273] = tuple(place + sum(map(len, bodies[:number])) for number in range(planes))
    all_tags[279] = tuple(map(len, bodies))
    entries = b""
    for tag, numbers in sorted(all_tags.items()):
        body = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            extra, body = extra + body, struct.pack(f"{order}I", after + len(extra))
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + body
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return start + struct.pack(f"{order}H", count) + entries + bytes(4) + extra.ljust(200, b"\0") + b"".join(bodies)


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=True)
    return buffer.getvalue()


def npy_header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def ramp(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 7 + columns * 5) % 256).astype(np.uint8)


def colours(height: int = 24, width: int = 32) -> np.ndarray:
    grey = ramp(height, width)
    return np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., :3].astype(float) @ [0.299, 0.587, 0.114] / 255


def stack(count: int = 5, height: int = 24, width: int = 32) -> np.ndarray:
    return np.stack([np.roll(ramp(height, width), 3 * number, axis=1) for number in range(count)])


def pages(images: list[Image.Image], **options: object) -> bytes:
    buffer = io.BytesIO()
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


def chained(*files: bytes) -> bytes:
    """One-page TIFF files as the pages of one file."""
    order = "<" if files[0][:2] == b"II" else ">"
    whole = bytearray(files[0])
    for file in files[1:]:
        start = len(whole)
        moved = bytearray(file)
        (count,) = struct.unpack_from(order + "H", moved, 8)
        for place in range(10, 10 + 12 * count, 12):
            tag, kind, length, value = struct.unpack_from(order + "HHII", moved, place)
            if tag == 273 or length > 1:
                struct.pack_into(order + "I", moved, place + 8, value + start - 8)
        last = last_link(whole, order)
        struct.pack_into(order + "I", whole, last, start)
        whole += moved[8:]
    return bytes(whole)


def last_link(file: bytes | bytearray, order: str) -> int:
    """Where the last page's link to the next one lies."""
    place = 4
    while struct.unpack_from(order + "I", file, place)[0]:
        (start,) = struct.unpack_from(order + "I", file, place)
        place = start + 2 + 12 * struct.unpack_from(order + "H", file, start)[0]
    return place


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def as_bytes(path: Path, frame: int) -> np.ndarray:
    return np.round(read_frame(path, frame).pixels * 255).astype(np.uint8)


FILES: dict[str, bytes] = {
    "png": encode(ramp(), "PNG"),
    "png colour": encode(colours(), "PNG"),
    "png palette": encode(Image.fromarray(colours()).quantize(17), "PNG"),
    "jpeg": encode(colours(), "JPEG"),
    "jpeg progressive": encode(colours(), "JPEG", progressive=True, exif=exif(6)),
    "webp": encode(colours(), "WEBP"),
    "webp lossless": encode(colours(), "WEBP", lossless=True),
    "bmp": encode(colours(), "BMP"),
    "gif": encode(ramp(), "GIF"),
    "gif animated": encode(ramp(), "GIF", save_all=True, append_images=[Image.fromarray(255 - ramp())]),
    "tiff": encode(colours(), "TIFF"),
    "tiff deflate": encode(colours(), "TIFF", compression="tiff_adobe_deflate"),
    "tiff lzw": encode(ramp(), "TIFF", compression="tiff_lzw"),
    "npy": npy(ramp()),
    "ppm": encode(ramp(), "PPM"),
    "avif": encode(colours(), "AVIF"),
    "jpeg2000": encode(ramp(), "JPEG2000"),
}

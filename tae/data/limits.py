"""Bounds of the files that are read: size and number; `ImageError`."""

MAX_FILE_BYTES = 20 * 1024**2
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000
MAX_PIECES = 400_000  # reads, chunks or strips of one file: Pillow makes Python objects of each


class ImageError(ValueError):
    """An image is refused: one sentence for its user, without a path."""


def check_bytes(size: int, what: str = "file") -> None:
    """Refuse what is too large to be read whole."""
    if size > MAX_FILE_BYTES:
        raise ImageError(
            f"the {what} must be at most {MAX_FILE_BYTES // 1024**2} MB, got {size / 1024**2:.1f} MB; "
            "scale the image down or save it with compression"
        )


def check_size(width: int, height: int) -> None:
    """Refuse an image without pixels, or with too many."""
    if width < 1 or height < 1:
        raise ImageError(f"the image must have at least one pixel, got {width}x{height}; choose another")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise too_large(f", got {width}x{height}")


def too_large(got: str = "") -> ImageError:
    """The error of an image with too many pixels."""
    limits = f"{MAX_PIXELS // 10**6} million pixels and {MAX_SIDE} a side"
    return ImageError(f"the image must have at most {limits}{got}; scale it down or crop it")


def check_pieces(count: int) -> None:
    """Refuse a file that would become millions of objects."""
    if count > MAX_PIECES:
        raise ImageError("the file is cut into far too many pieces; save it again, for example as PNG")

"""Files that are not read, by name, and what to do with them."""

import re
from pathlib import Path

_EXPORT = "export it as PNG, JPEG or TIFF"
_RAW = "develop it, and export it as 16-bit TIFF or PNG"
_SCIENCE = "export its images as TIFF, or save the array with numpy.save"
_STARTS = {
    "HEIC": (
        rb".{4}ftyp(hei|hev|mif|msf)",
        "export it as JPEG or PNG; an iPhone does so under Settings, Camera, Formats",
    ),
    "AVIF": (rb".{4}ftyp(avif|avis)", "export it as PNG, which needs no decoder that is not here"),
    "camera RAW": (rb".{4}ftypcrx|FUJIFILMCCD-RAW|IIR[OS]\x08|IIU\0|\0MRM|FOVb", _RAW),
    "a video": (rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", "drop it on the page Sequences, or export its frames"),
    "JPEG XL": (rb"\xff\x0a|\0\0\0\x0cJXL ", _EXPORT),
    "JPEG 2000": (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", _EXPORT),
    "PDF": (rb"%PDF", "export its page as PNG"),
    "SVG, HTML or XML": (rb"(\xef\xbb\xbf)?\s*<", "export it as PNG at the size that you want"),
    "EPS": (rb"%!PS|\xc5\xd0\xd3\xc6", "export it as PNG at the size that you want"),
    "ZIP": (
        rb"PK\x03\x04",
        "unpack it; the page Train takes a ZIP of images as it is, and of an .npz the arrays by numpy.save",
    ),
    "PSD": (rb"8BPS", "export it from Photoshop as PNG or TIFF"),
    "ICO": (rb"\0\0[\1\2]\0", "export its largest image as PNG"),
    "FITS": (rb"SIMPLE  =", _SCIENCE),
    "HDF5 or MATLAB": (rb"\x89HDF\r\n|MATLAB 5", _SCIENCE),
    "a microscope's own format": (rb"ZISRAWFILE|\x70\0\0\0.{4}\x2a|\xda\xce\xbe\x0a|\xd0\xcf\x11\xe0", _SCIENCE),
    "OpenEXR": (rb"v/1\x01", _EXPORT),
    "Radiance HDR": (rb"#\?RADIANCE", _EXPORT),
    "WMF or EMF": (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", _EXPORT),
    "GIMP's own format": (rb"gimp xcf", _EXPORT),
}
"""Title -> how such a file begins, what to do."""
_ENDINGS = {
    "HEIC": (".heic", ".heif", ".hif"),
    "DICOM": (".dcm", ".dicom"),
    "camera RAW": tuple(
        f".{one}" for one in re.findall(r"\w+", "dng nef nrw cr2 cr3 crw arw sr2 raf orf rw2 pef srw x3f raw 3fr iiq")
    ),
    "SVG, HTML or XML": (".svg", ".svgz"),
    "PSD": (".psd", ".psb"),
    "TGA": (".tga",),
    "ICO": (".ico", ".cur", ".icns"),
    "JPEG XL": (".jxl",),
    "OpenEXR": (".exr",),
    "FITS": (".fits", ".fit"),
    "PDF": (".pdf",),
}
_REMEDIES = {title: remedy for title, (_, remedy) in _STARTS.items()} | {
    "DICOM": "export it as 16-bit PNG or TIFF, or numpy.save what pydicom's pixel_array gives",
    "TGA": "export it as PNG",
}
ENDINGS = tuple(ending for endings in _ENDINGS.values() for ending in endings)
"""Endings of image files that are not read, which a drop may offer so that they are called by name."""


def what_it_is(data: bytes, name: str = "") -> str:
    """The name of a kind of file that is not read, and what to do: "HEIC; export it as JPEG ..."."""
    title = "DICOM" if data[128:132] == b"DICM" else None
    for kind, (start, _) in _STARTS.items():
        title = title or (kind if re.match(start, data[:64], re.DOTALL) else None)
    if title is None and data[-18:-2] == b"TRUEVISION-XFILE":
        title = "TGA"
    title = title or by_ending(Path(name).suffix)
    return f"{title}; {_REMEDIES[title]}" if title else "something else; save it as one of these"


def by_ending(ending: str) -> str | None:
    """What files of an ending are, where they are images that are not read."""
    return next((title for title, endings in _ENDINGS.items() if ending.lower() in endings), None)


def remedy(title: str) -> str:
    """What to do with a file of a kind that is not read."""
    return _REMEDIES[title]

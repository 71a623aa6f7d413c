"""Numbers to take along: NPZ, CSV that no spreadsheet runs, ZIP."""

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tae.plots.maps import EXACT_TOKENS
from tae.plots.style import Quantity
from tae.store.names import safe_name

FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # the wide forms, too, start a formula in some spreadsheets


def maps_npz(arrays: Mapping[str, np.ndarray], **texts: str) -> bytes:
    """Arrays by name, and texts about them, as one NPZ file that `np.load` opens without pickles."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{name: np.array(text) for name, text in texts.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def maps_csv(attention_map: np.ndarray, grid: tuple[int, int], quantity: Quantity = "weight") -> bytes:
    """One map (N, N) of at most 400 tokens, else ValueError, as a table, one line for each pair of patches."""
    num_tokens = len(attention_map)
    if num_tokens > EXACT_TOKENS:
        raise ValueError(f"a CSV must have at most {EXACT_TOKENS} tokens, got {num_tokens}; take the NPZ")
    columns = grid[1]
    rows = (
        {
            "query": query,
            "query_row": query // columns,
            "query_column": query % columns,
            "key": key,
            "key_row": key // columns,
            "key_column": key % columns,
            quantity: str(attention_map[query, key]),  # the fewest digits that read back as the same number
            "x_uniform": str(attention_map[query, key] * num_tokens),
        }
        for query in range(num_tokens)
        for key in range(num_tokens)
    )
    return _csv(list(rows))


def metrics_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """One line for each image; texts that a spreadsheet would run as a formula get a leading apostrophe."""
    return _csv([{name: _inert(value) for name, value in row.items()} for row in rows])


def smaller_png(png: bytes) -> bytes:
    """The image in 256 colours: less than half the bytes, and colours that nobody tells apart (within 2%)."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Files by name as a ZIP with plain, unique member names; the same files give the same bytes."""
    buffer = io.BytesIO()
    taken: set[str] = set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            plain = safe_name(_shortened(name))
            stem, dot, suffix = plain.rpartition(".") if "." in plain else (plain, "", "")
            number = 1
            while plain.lower() in taken:
                number += 1
                plain = f"{stem}-{number}{dot}{suffix}"
            taken.add(plain.lower())
            archive.writestr(zipfile.ZipInfo(plain, (2000, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA_STARTS else value


def _shortened(name: str) -> str:
    """Beginning and end of a long name: one image's files differ at the end, where their kind stands too."""
    last = re.split(r"[/\\]", name)[-1]
    return last if len(last) <= 60 else f"{last[:24]}_{last[-34:]}"

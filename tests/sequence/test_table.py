"""Tables beside frames: every way to find a frame's row gives the same numbers, and what does not fit is said."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tae.sequence.table import Column, Table, TableError, Tables, class_name, class_numbers, read_table

SPEEDS = ["1.5", "2.5", "", "4.5"]
FRAMES = [f"frame_{number:03}.png" for number in (9, 10, 11, 12)]


def write(path: Path, *lines: str, separator: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(line.replace("|", separator) for line in lines).encode(encoding))
    return path


def speeds(table: Table, *match: object) -> list[float]:
    found = table.match(*match)  # type: ignore[arg-type]
    assert found is not None
    column = table.column("speed")
    assert column is not None
    return [float(column.numbers[row]) if row >= 0 else np.nan for row in found.rows]


def test_headers_are_names_and_units_and_columns_are_found_by_either() -> None:
    table = Table("x.csv", tuple(Column(header, ("1",)) for header in ("velocity (cm/s)", "x (cm)", "x [px]", "y")))
    assert [(one.name, one.unit) for one in table.columns] == [
        ("velocity", "cm/s"),
        ("x", "cm"),
        ("x", "px"),
        ("y", ""),
    ]
    assert table.column("Velocity") is table.column("velocity (cm/s)") is table.columns[0]
    assert table.column("x [px]") is table.columns[2] and table.column("z") is None
    with pytest.raises(TableError, match=r"several columns x: x \(cm\), x \[px\]; give one with its unit"):
        table.column("x")


def test_every_way_to_write_a_table_gives_the_same_numbers(tmp_path: Path) -> None:
    rows = [f"{name}|{speed}" for name, speed in zip(FRAMES, SPEEDS, strict=True)]
    files = [
        write(tmp_path / "plain.csv", "file|speed (µm/s)", *rows),
        write(tmp_path / "tab.tsv", "file|speed (µm/s)", *rows, separator="\t", encoding="utf-8-sig"),
        write(
            tmp_path / "german.csv",
            "file|speed (µm/s)",
            *(row.replace(".5", ",5") for row in rows),
            separator=";",
            encoding="cp1252",
        ),
        write(tmp_path / "words.csv", "file|speed (µm/s)", *(row if row[-1] != "|" else f"{row}NaN" for row in rows)),
        write(tmp_path / "comma.tsv", "file|speed (µm/s)", *(row.replace(".5", ",5") for row in rows), separator="\t"),
        write(
            tmp_path / "signed.csv", "file|speed (µm/s)", *(row.replace("|", "|+") for row in rows if row[-1] != "|")
        ),
        write(tmp_path / "excel.csv", "sep=;", "file|speed (µm/s)||", *(f"{row}||" for row in rows), separator=";"),
        write(tmp_path / "wide.csv", "", " |", "file|speed (µm/s)", *(f"{row}|" for row in rows), encoding="utf-16"),
        write(
            tmp_path / "quoted.csv",
            'file| "speed (µm/s)"',
            *(row.replace("|", '| "') + '"' for row in rows),
        ),
        write(tmp_path / "index.csv", "|file|speed (µm/s)", *(f"{number}|{row}" for number, row in enumerate(rows))),
        tmp_path / "mac.csv",
        tmp_path / "table.parquet",
    ]
    files[-2].write_bytes(files[0].read_bytes().replace(b"\n", b"\r"))
    numbers = [float(speed) if speed else None for speed in SPEEDS]
    pq.write_table(pa.table({"file": FRAMES, "speed (µm/s)": numbers}), files[-1])
    for file in files:
        table = read_table(file)
        column = table.column("speed")
        assert [one.header for one in table.columns] == ["file", "speed (µm/s)"]
        assert column is not None and column.unit == "µm/s" and column.is_number
        expected = [1.5, 2.5, 4.5] if file.stem == "signed" else [1.5, 2.5, np.nan, 4.5]
        np.testing.assert_array_equal(column.numbers, expected)
    (tmp_path / "exponents.tsv").write_text("x\ty\n-1,5E+1\t0001_01\n,5\t2\n")
    x, y = read_table(tmp_path / "exponents.tsv").columns
    assert x.numbers.tolist() == [-15, 0.5] and not y.is_number


def test_rows_find_their_frames_by_name_by_sequence_and_in_order(tmp_path: Path) -> None:
    named = [f"{name}|{speed}" for name, speed in zip(FRAMES, SPEEDS, strict=True)]
    expected = [1.5, 2.5, np.nan, 4.5]
    paths = [f"a/{name}" for name in FRAMES]
    nameless = [""] * 4
    for lines, match in (
        (["file|speed", *reversed(named)], ("a", FRAMES, True)),
        (["file|speed", *(row.replace(".png", "") for row in named)], ("a", FRAMES, True)),
        (["file|speed", *(f"/data/{row}" for row in reversed(named))], ("a", FRAMES, True)),
        (["file|speed", *(f"C:\\data\\{row.upper()}" for row in reversed(named))], ("a", FRAMES, True)),
        (["file|speed", *(f"/data/a/{row}" for row in reversed(named))], ("a", paths, False)),
        (["dark|file|speed", *(f"{FRAMES[0]}|{row}" for row in reversed(named))], ("a", FRAMES, True)),
        (["dark|speed", *(f"{FRAMES[0]}|{speed}" for speed in SPEEDS)], ("a", FRAMES, True)),
        (["time|speed", *(f"12:30:0{row}|{speed}" for row, speed in enumerate(SPEEDS))], ("a", FRAMES, True)),
        (["speed", *SPEEDS], ("a", FRAMES, True)),
        (["speed", *SPEEDS], ("a.gif", nameless, True)),
        (["file|speed", *(f"a/{row}" for row in named), "b/frame_009.png|7"], ("a", paths, False)),
        (["what|file|speed", *(f"a|{row}" for row in named), "b|frame_009.png|7"], ("a", paths, False)),
        (["what|speed", *(f"a|{speed}" for speed in SPEEDS), "b|7"], ("a.gif", nameless, False)),
    ):
        table = read_table(write(tmp_path / "t.csv", *lines))
        np.testing.assert_array_equal(speeds(table, *match), expected)
    table = read_table(write(tmp_path / "t.csv", "recording|speed", "a|3", "b|5"))
    assert speeds(table, "a.gif", ["", ""], False) == [3, 3] and table.match("c", ["", ""], False) is None
    assert table.match("x/a", ["", ""], False, False) is None  # where another one is y/a
    table = read_table(write(tmp_path / "t.csv", "file|speed", "a/1.png|3", "1.png|5", "b/1.png|7"))
    assert speeds(table, "", ["1.png", "a/1.png"], True) == [5, 3]
    table = read_table(write(tmp_path / "t.csv", "recording|speed", "water_1.5|3", "water_1.7|5"))
    for sequence, speed in (("water_1.5", 3), ("water_1.7.gif", 5)):
        assert speeds(table, sequence, ["", ""], False) == [speed] * 2
    assert table.match("water_1", [""], False) is None and table.match("", ["", ""], False) is None


def test_a_class_is_called_by_its_value_and_none_are_merged() -> None:
    cells = ["1", "1.0", "1e0", "1234567", "1234568", "0.1234567", "left"]
    assert [*map(class_name, cells)] == ["1", "1", "1", "1234567", "1234568", "0.1234567", "left"]
    np.testing.assert_array_equal(class_numbers(["1", "2.5"], ["1.00", "", "25e-1", "x"]), [0, np.nan, 1, np.nan])
    np.testing.assert_array_equal(class_numbers(["01", "a"], ["1", "01", "a"]), [np.nan, 0, 1])  # texts


def test_rows_that_are_missing_are_missing_and_rows_left_over_are_told(tmp_path: Path) -> None:
    files = [tmp_path / "a" / name for name in FRAMES]
    write(tmp_path / "a" / "result.csv", "file|speed (cm/s)", "frame_010.png|2", "frame_012.png|4", "frame_099.png|9")
    write(tmp_path / "about.csv", "recording|viscosity (mPa s)|speed (cm/s)", "a|30|-1", "z|50|-1")
    tables = Tables(tmp_path, [("a", tuple(files))])
    columns = tables.columns("a", [*files])
    assert columns["speed (cm/s)"].texts == ("", "2", "", "4")  # the nearer table's
    assert columns["viscosity (mPa s)"].texts == ("30",) * 4
    assert tables.told == [
        "table result.csv: matched by the file names in file; 1 of its rows belong to no frame",
        "table about.csv: matched by the sequence's name in recording; 1 of its rows belong to no frame",
    ]


def test_one_table_that_lies_elsewhere_tells_of_all_sequences(tmp_path: Path) -> None:
    sequences = [(name, tuple(tmp_path / "data" / name / frame for frame in FRAMES)) for name in ("x/a", "x/b")]
    for _, files in sequences:
        write(files[0].parent / "own.csv", "file|speed", f"{FRAMES[0]}|-1")
    elsewhere = write(tmp_path / "all.csv", "take|speed", "x/a|3", "b|5")
    (tmp_path / "data").mkdir(exist_ok=True)
    tables = Tables(tmp_path / "data", sequences, elsewhere)
    assert [list(one) for one in tables.whole()] == [["take", "speed"]]
    assert [tables.columns(name, [*files])["speed"].texts[0] for name, files in sequences] == ["3", "5"]
    with pytest.raises(FileNotFoundError, match="is no table; give a CSV or Parquet file"):
        Tables(tmp_path / "data", sequences, tmp_path / "no.csv")


def test_tables_that_do_not_fit_are_refused_with_their_reasons(tmp_path: Path) -> None:
    def refused(*lines: str) -> str:
        with pytest.raises(TableError) as caught:
            read_table(write(tmp_path / "t.csv", *lines)).match("a", FRAMES, True)
        return str(caught.value)

    assert "a row for each of the 4 frames of a, got 2 rows and no such names" in refused("speed|x", "1|2", "3|4")
    assert "got 2 for frame_009.png (rows 1 and 5)" in refused("file", *FRAMES, FRAMES[0])
    for name in ("other{}", "0002_0{}", "/data/b_{}.tif"):
        said = refused("file|v", *(f"{name.format(row)}|{row}" for row in range(4)))
        assert f"must name the frames of a as their files, such as frame_009.png, got {name.format(0)} in file" in said
    assert "each row must have the header's 2 cells, got 3 in row 1" in refused("a|b", "1|2|3")
    assert "a header of its own, got a twice" in refused("a|a", "1|2")
    assert "at least one row" in refused("a|b") and "at least one row" in refused("a")
    assert "t.csv: the table must not be empty" in refused("")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match=r"t\.parquet: it is no whole Parquet file"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="the column x must hold numbers, got 'fast' in row 2"):
        _ = Column("x", ("1", "fast")).numbers
    write(tmp_path / "a" / "one.csv", "x", "1")
    write(tmp_path / "a" / "two.csv", "x", "1")
    files = tuple(tmp_path / "a" / name for name in FRAMES)
    with pytest.raises(
        TableError, match=r"a must hold one table, got 2: one\.csv, two\.csv; name the one .* by --table"
    ):
        Tables(tmp_path, [("a", files)]).columns("a", [*files])

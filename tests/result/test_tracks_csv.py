"""tracks.csv after a spreadsheet saved it."""

import codecs
import csv
import io
from dataclasses import replace

import pytest

from staf_cli.core.errors import TracksError
from staf_cli.result import tracks_csv
from tests.support.made_people import make_track

TRACKS = [replace(make_track(1, 5), name="Zo\u00eb"), replace(make_track(2, 7), name="a; b, c")]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "tracks.csv"
    tracks_csv.save(path, TRACKS)
    return path


def written(table, separator, comma=True, quoting=csv.QUOTE_MINIMAL):
    """The table's text as a spreadsheet of another country saves it."""
    rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8"))))
    if comma:
        rows = [[*(cell.replace(".", ",") for cell in row[:-1]), row[-1]] for row in rows]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator="\r\n")
    writer.writerows(rows)
    return stream.getvalue()


def digests(path):
    return [(one.id, one.name, one.digest) for one in tracks_csv.load(path)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize(
    ("separator", "comma", "quoting"),
    [
        (";", True, csv.QUOTE_MINIMAL),
        (";", False, csv.QUOTE_ALL),
        ("\t", True, csv.QUOTE_MINIMAL),
        ("\t", False, csv.QUOTE_MINIMAL),
        (",", True, csv.QUOTE_ALL),
    ],
)
def test_what_a_spreadsheet_saves_is_the_same_table(table, encoding, separator, comma, quoting):
    want = digests(table)
    table.write_bytes(written(table, separator, comma, quoting).encode(encoding))
    assert digests(table) == want


def test_spaces_after_separators_are_no_part_of_a_name(table):
    want = digests(table)
    spaced = written(table, ",", comma=False, quoting=csv.QUOTE_ALL).replace('","', '", "')
    table.write_text(spaced, encoding="utf-8")
    assert digests(table) == want


def test_empty_rows_and_columns_are_left_out(table):
    want = digests(table)
    lines = written(table, ";").splitlines()
    empty = ";" * lines[0].count(";")
    padded = ["sep=;", empty, *(f"{line};;" for line in lines[:4]), "", empty + ";;"]
    table.write_text("\r\n".join([*padded, *lines[4:], empty, empty, ""]), encoding="utf-8")
    assert digests(table) == want


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[2].__setitem__(3, "01.Mai"), "line 3: .*'01.Mai' .* column x1$"),
        (lambda rows: rows[2].__setitem__(3, "1.234,5"), "line 3: .*'1.234,5' .* column x1$"),
        (lambda rows: rows[2].__setitem__(9, ""), "line 3: nothing in column nose_x$"),
        (lambda rows: rows[3].__delitem__(slice(5, None)), "line 4: nothing in column x2"),
        (lambda rows: rows[3].append("7"), "line 4: has 62 fields, the first line 61 columns"),
        (lambda rows: rows[0].__setitem__(3, "left"), "line 1: has no column x1; found"),
        (lambda rows: rows[0].__setitem__(4, "x1"), "line 1: has more than one column x1"),
        (lambda rows: rows[1].__setitem__(0, "1,5"), "line 2: 1.5 is no number of a person"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(table, change, complaint):
    rows = list(csv.reader(io.StringIO(written(table, ";")), delimiter=";"))
    change(rows)
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=";").writerows(rows)
    with pytest.raises(TracksError, match=complaint):
        tracks_csv.load(table)


def test_decimal_commas_between_commas_are_refused(table):
    table.write_text(written(table, ",").replace('"', ""), encoding="utf-8")
    with pytest.raises(TracksError, match=r"line 2: has \d+ fields, .* save it with semicolons"):
        tracks_csv.load(table)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, codecs.BOM_UTF16_LE + b"p", b"\x89PNG\xff\0"]
)
def test_what_is_no_table_is_one_line(table, content):
    table.write_bytes(content)
    with pytest.raises(TracksError, match=r"has no column person|is no table of tracks"):
        tracks_csv.load(table)

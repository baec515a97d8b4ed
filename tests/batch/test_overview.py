"""The page of all clips of an output folder, made from their reports."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from staf_cli.batch import overview
from staf_cli.batch.ledger import open_ledger
from staf_cli.core.errors import TracksError
from staf_cli.report.page import assemble
from tests.support.made_batch import ROW

JPEG = "data:image/jpeg;base64,/9j/4AAQ"


class Page(HTMLParser):
    """Links, pictures and text of the page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.pictures, self.tags, self.text = [], [], set(), ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "a":
            self.links.append(unquote(dict(attrs)["href"]))
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.text += data


def save_report(folder, headline="Good: 98 % of 30 poses", grade="good", picture=JPEG):
    folder.mkdir(parents=True, exist_ok=True)
    shown = {
        "title": folder.name,
        "subtitle": "2 people in 30 frames, 1.0 s",
        "verdict": {"headline": headline, "grade": grade},
        "worst": [{"picture": picture}],
    }
    (folder / "report.html").write_text(assemble(shown), encoding="utf-8")


def save_ledger(folder, *rows):
    with open_ledger(folder) as book:
        for row in rows:
            book.add(row)


def test_all_clips_are_on_the_page(staf, tmp_path):
    save_report(tmp_path / "a" / "my walk?")
    save_report(tmp_path / "b", "To be looked at closely: 40 % of 30 poses", "poor")
    save_ledger(
        tmp_path,
        replace(ROW, folder="a/my walk?"),
        replace(ROW, folder="b", status="damaged", message="3 pictures"),
        replace(ROW, folder="c", status="failed", message="not a video"),
    )
    code, out, err = staf("view", tmp_path, "--no-browser")
    assert (code, out, err) == (0, f"{tmp_path / 'summary.html'}\n", "")
    page = Page(tmp_path / "summary.html")
    assert page.links == ["./a/my walk?/report.html", "./b/report.html"]
    assert page.pictures == [JPEG, JPEG]
    for text in (
        *("a/my walk?", "Good: 98 % of 30 poses", "2 people in 30 frames, 1.0 s"),
        *("To be looked at closely: 40 %", "failed", "not a video", "3 pictures"),
        "3 clips: 1 done, 1 damaged, 1 failed",
    ):
        assert text in page.text
    assert len(page.html) < 10_000
    assert "script" not in page.tags and "://" not in page.html


def test_results_that_no_batch_made_are_shown_too(tmp_path):
    save_report(tmp_path / "jump")
    save_report(tmp_path / "walk")
    assert overview.is_batch(tmp_path) and not overview.is_batch(tmp_path / "walk")
    assert Page(overview.write(tmp_path)).links == ["./jump/report.html", "./walk/report.html"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<p>an older page",
        b'<script type="application/json" id="data">[[[</script>',
        b'<script type="application/json" id="data">' + b"[" * 100_000 + b"</script>",
        b'<script type="application/json" id="data">[1]</script>',
        b'<script type="application/json" id="data">{"verdict": 1, "worst": {}}</script>',
        b'<script type="application/json" id="data">{"worst": [1], "subtitle": []}</script>',
    ],
)
def test_a_report_that_says_nothing_is_linked_all_the_same(tmp_path, content):
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "report.html").write_bytes(content)
    page = Page(overview.write(tmp_path))
    assert page.links == ["./walk/report.html"] and page.pictures == []


def test_nothing_untrusted_gets_into_the_page(tmp_path):
    evil = '"><script>alert(1)</script>'
    outside = tmp_path / "outside"
    save_report(outside)
    out = tmp_path / "out"
    save_report(out / "x", evil, evil, 'x" onerror="alert(1)')
    save_report(out / "javascript:alert(1)")
    rows = [evil, "../outside", str(outside), "x", "javascript:alert(1)", "\0", "\ud800"]
    save_ledger(out, *(replace(ROW, clip=name, folder=name, message=evil) for name in rows))
    page = Page(overview.write(out))
    assert page.links == ["./javascript:alert(1)/report.html", "./x/report.html"]
    assert page.pictures == [JPEG] and "script" not in page.tags
    assert re.search(r"default-src 'none'; style-src 'sha256-[\w+/=]+'; img-src data:", page.html)


def test_a_batch_without_clips_is_one_line(staf, tmp_path):
    (tmp_path / "summary.json").write_text("no ledger")
    code, out, err = staf("view", tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no clip is in its summary" in err
    with pytest.raises(TracksError):
        overview.write(tmp_path)

import re
import time
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

import pytest

from perfsuite.protocols import Run
from perfsuite.report import html
from perfsuite.report.figures import samples_of
from perfsuite.report.rows import rows, visible
from perfsuite.spec import Status
from tests.report.runs import EMPTY, HOSTILE, RUN, compared_run, hostile_run, judged_run, verdict

CSS = files("perfsuite.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
VOID = {"meta", "input", "br", "img", "link"}


def page(run):
    return "\n".join(html.lines(run))


class Reader(HTMLParser):
    """Tags with their attributes, the text of each kind of element, and rows as lists of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.texts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr" and ("class", "case") in attributes:
            self.rows.append([])
        if tag in ("td", "th") and self.rows and self._open.count("table") == 1 and "thead" not in self._open[-3:]:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)
        if self.rows and self.rows[-1] and "more" not in str(self.tags[-1]):
            self.rows[-1][-1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def test_every_case_has_a_row_and_its_details():
    run = judged_run(40)
    text = page(run)
    reader = Reader(text)
    assert reader.count("tbody") == 2 * 40
    assert [row[1] for row in reader.rows] == [row.case for row in rows(run)]
    for said in ("latency changed by", "f1056d1", "310 MB", "a note", "pytest --perf-update", "Operators"):
        assert said in text
    keys = [float(found["data-k"]) for tag, found in reader.tags if tag == "td" and found.get("data-l") == "latency"]
    assert set(keys) == {-0.2, 0.01, 0.06, 0.2}
    assert keys[0] == 0.2


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text):
    written = page(hostile_run(text))
    reader = Reader(written)
    attributes = [(tag, name) for tag, found in reader.tags for name in found]
    assert reader.count("script") == reader.count("style") == written.partition("</head>")[0].count("<title>") == 1
    assert not [pair for pair in attributes if pair[1].startswith("on") or pair[1] in ("style", "src", "href")]
    assert {"img", "a", "link", "iframe", "object", "use"}.isdisjoint(tag for tag, _ in reader.tags)
    everything = "".join(reader.texts)
    assert visible(text).replace("\r", "") in everything
    assert "49" not in re.sub(r"\d{3,}", "", everything)


def test_the_page_needs_no_network_and_forbids_itself_others():
    text = page(judged_run(8))
    assert not re.search(r"https?://|url\(|@import|src=|href=", text)
    policy = next(a["content"] for tag, a in Reader(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        assert f"{directive} '{html._digest(inside)}'" in policy


def test_a_thousand_cases_stay_small():
    run = judged_run(1_000)
    start = time.perf_counter()
    size = len(page(run).encode())
    print(f"1,000 cases, 5,000 verdicts, 1,000,000 samples: {time.perf_counter() - start:.2f} s, {size:,} bytes")
    assert len({v.case for v in run.verdicts}) == 1_000
    assert 1_000_000 < size < 5_000_000


def test_samples_that_have_no_room_are_said_so():
    run = judged_run(60, blocks=2, calls=20)
    assert page(run).count("Samples by block") == 60
    few = samples_of(run, rows(run), most_bytes=5_000)
    assert 1 < len(few) < 10
    assert list(few) == [row.case for row in rows(run)][: len(few)]


@pytest.mark.parametrize("status", Status)
def test_a_verdict_is_told_by_word_and_sign_and_not_by_colour_alone(status):
    text = page(Run((verdict(status=status),), {}))
    assert f'<b class="v {status.value}">{status.value}</b>' in text
    assert re.search(rf"\.{status.value} {{ --glyph: \"(.)\"", CSS)


def test_signs_differ():
    signs = re.findall(r'--glyph: "(.)"', CSS)
    assert len(signs) == len(set(signs)) == len(Status)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read_on_both_grounds(scheme):
    """WCAG 2.2, 1.4.3 (text, 4.5) and 1.4.11 (graphics, 3)."""
    colours = {name: pair[scheme] for name, *pair in re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", CSS)}
    assert len(colours) == 18
    for name in ("text", "quiet", "accent", "bad", "unsure", "good", "better"):
        assert contrast(colours[name], colours["page"]) >= 4.5, name
        assert contrast(colours[name], colours["raised"]) >= 4.5, name
    for name in (f"s{i}" for i in range(8)):
        assert contrast(colours[name], colours["page"]) >= 3, name


def test_charts_appear_only_where_there_is_data():
    titles = ("Throughput by batch size", "Speedup", "Accuracy against speed", "Accuracy against size", "Accuracy over")
    text = page(compared_run())
    assert all(title in text for title in titles)
    assert "Samples by block" not in text
    assert not any(title in page(RUN) for title in (*titles, "Samples by block", "Operators"))
    assert "Charts" not in page(RUN)
    assert "Samples by block" in page(judged_run(3))


def test_every_picture_has_words_and_is_well_formed():
    pictures = re.findall(r"<svg.*?</svg>", page(judged_run(24)) + page(compared_run()), re.DOTALL)
    assert len(pictures) > 30
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("aria-label") or root.get("aria-hidden")
        assert "nan" not in picture
        assert "inf" not in picture


def test_a_comparison_shows_no_verdicts():
    text = page(compared_run())
    assert "verdict" not in re.sub("<(script|style)>.*?</(script|style)>", "", text, flags=re.DOTALL)
    reader = Reader(text)
    assert {len(row) for row in reader.rows} == {7}  # the case, five numbers, and the details
    assert reader.rows[0][0] == "net/fp32/cpu/b1"


def test_a_run_without_anything():
    assert "nothing was judged" in page(EMPTY)
    assert "<table" not in page(EMPTY)

"""The HTML report in a real headless browser: what is drawn, what moves, and what must never run."""

import json
import os
import shutil

import pytest

from perfsuite.protocols import Run
from perfsuite.report import html
from perfsuite.report.rows import rows, visible
from tests.report.runs import HOSTILE, compared_run, hostile_run, judged_run, verdict

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ORDER = "[...document.querySelectorAll('#cases > tbody')].map(b => b.rows[0].cells[1].textContent)"
LATENCY = "[...document.querySelectorAll('#cases > tbody')].map(b => b.rows[0].cells[2].dataset.k)"
SHOWN = "[...document.querySelectorAll('#cases > tbody')].filter(b => !b.hidden).length"
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as started:
        path = found or started.chromium.executable_path
        if not os.path.exists(path):  # noqa: PTH110  # it is text
            pytest.skip(f"no browser here: none of {', '.join(NAMES)}, nor playwright's own")
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a run's page, and fails on any request, error or message of the page."""
    contexts, complaints = [], []

    def opened(run, width=1280, **settings):
        path = tmp_path / "run.html"
        path.write_text("\n".join(html.lines(run)), encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda r: complaints.append(r.url) if r.url != path.as_uri() else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def sort_state(page):
    return page.eval_on_selector_all("#cases > thead th", "heads => heads.map(h => h.getAttribute('aria-sort'))")


def test_sorting_by_click(show):
    run = Run((*judged_run(40).verdicts, verdict("zz/none/cpu/b1", "size")), {})
    page = show(run)
    assert sort_state(page)[:3] == ["ascending", None, None]
    first = page.evaluate(ORDER)
    assert first == [row.case for row in rows(run)]
    head = page.get_by_role("button", name="latency", exact=True)
    head.click()
    assert sort_state(page)[:3] == [None, None, "ascending"]
    keys = page.evaluate(LATENCY)
    assert keys[-1] == ""
    assert [float(key) for key in keys[:-1]] == sorted(float(key) for key in keys[:-1])
    head.click()
    assert sort_state(page)[2] == "descending"
    keys = page.evaluate(LATENCY)
    assert keys[-1] == ""
    assert [float(key) for key in keys[:-1]] == sorted((float(key) for key in keys[:-1]), reverse=True)
    page.get_by_role("button", name="verdict", exact=True).click()
    assert page.evaluate(ORDER)[0].startswith(first[0].partition("/")[0])


def test_sorting_and_folding_by_keyboard(show):
    page = show(judged_run(10))
    page.get_by_role("button", name="case", exact=True).focus()
    page.keyboard.press("Enter")
    names = page.evaluate(ORDER)
    assert sort_state(page)[1] == "ascending"
    assert names == sorted(names, key=lambda name: (name.split("/")[1], int(name.rpartition("b")[2])))
    page.keyboard.press("Space")
    assert sort_state(page)[1] == "descending"
    assert page.evaluate(ORDER) == names[::-1]
    fold = page.locator(".fold").first
    fold.focus()
    assert fold.get_attribute("aria-expanded") == "false"
    assert not page.locator(".more").first.is_visible()
    page.keyboard.press("Enter")
    assert fold.get_attribute("aria-expanded") == "true"
    assert page.locator(".more").first.is_visible()
    page.get_by_role("button", name="case", exact=True).click()
    opened = page.locator(".more.open")
    assert opened.count() == 1
    case = opened.evaluate("row => row.previousElementSibling.cells[1].textContent")
    assert case == names[-1]
    assert opened.locator("xpath=..").inner_text().count(case) >= 1


def test_every_control_is_reached_by_tab(show):
    page = show(judged_run(3))
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className || "
                                     "document.activeElement.textContent"))  # fmt: skip
    assert {"theme", "filter", "chip", "unfold", "verdict", "latency", "fold"} <= set(reached)


def test_filtering(show):
    page = show(judged_run(40))
    assert page.locator("#count").inner_text() == "40 cases"
    page.keyboard.press("/")
    page.keyboard.type("model-1 MAGNITUDE-50")
    expected = sum(name.startswith("model-1/magnitude-50") for name in page.evaluate(ORDER))
    assert page.evaluate(SHOWN) == expected > 0
    assert page.locator("#count").inner_text() == f"{expected} of 40 cases"
    page.locator("#filter").fill("no such thing")
    assert page.evaluate(SHOWN) == 0
    assert page.get_by_text("No case matches.").is_visible()
    page.locator("#filter").fill("")
    chip = page.locator('.chip[data-v="REGRESSED"]')
    chip.click()
    regressed = int(chip.locator("b").last.inner_text())
    assert page.evaluate(SHOWN) == regressed > 0
    page.locator('.chip[data-v="PASS"]').click()
    assert page.evaluate(SHOWN) > regressed
    chip.click()
    page.locator('.chip[data-v="PASS"]').click()
    assert page.evaluate(SHOWN) == 40


def test_unfolding_all(show):
    page = show(judged_run(5))
    assert page.locator(".more:visible").count() == 0
    page.locator("#unfold").click()
    assert page.locator(".more:visible").count() == 5
    assert page.locator("#unfold").inner_text() == "Fold all"
    page.locator("#unfold").click()
    assert page.locator(".more:visible").count() == 0


def test_the_theme_follows_the_system_until_it_is_chosen(show):
    page = show(judged_run(2), color_scheme="light")
    light = page.evaluate(GROUND)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(GROUND)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(15, 20, 25)")
    assert page.locator("#theme").inner_text().endswith("Light")
    page.locator("#theme").click()
    assert page.evaluate(GROUND) == light
    assert page.locator("#theme").inner_text().endswith("Dark")
    # Handed on by us: on a busy machine Chromium may lose what was stored just before a reload.
    kept = page.evaluate("Object.entries(localStorage)")
    assert len(kept) == 1
    page.add_init_script(f"for (const [key, value] of {json.dumps(kept)}) localStorage.setItem(key, value)")
    page.reload()
    assert page.evaluate(GROUND) == light
    page.locator("#theme").focus()
    page.keyboard.press("Space")
    assert page.evaluate(GROUND) == dark


def test_nothing_is_wider_than_the_screen(show):
    long = verdict(
        "m" * 300 + "/fp32/cpu/b1", sentence="s" * 400, remedy="a: pytest " + "x" * 300, details=("d" * 300,)
    )
    run = judged_run(8)
    page = show(Run((*run.verdicts, long), {"cpu": "c" * 200}, ("n" * 300,), run.information, run.samples))
    page.locator("#unfold").click()
    for width in (320, 375, 700, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.fold')).fontSize)") >= 14


def test_on_a_phone_cells_carry_their_names_and_controls_can_be_hit(show):
    page = show(judged_run(4), 375, has_touch=True)
    label = "getComputedStyle(document.querySelector('td[data-l=latency]'), '::before').content"
    assert page.evaluate(label) == '"latency "'
    for button in page.locator("#theme, .chip, #unfold, #cases > thead button").all():
        assert button.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8


def test_no_text_runs_and_every_text_is_shown(show):
    runs = [hostile_run(text) for text in HOSTILE]
    page = show(
        Run(
            tuple(v for run in runs for v in run.verdicts), {text: text for text in HOSTILE}, HOSTILE,
            {case: shown for run in runs for case, shown in run.information.items()},
            {case: blocks for run in runs for case, blocks in run.samples.items()},
            {case: changed for run in runs for case, changed in run.operators.items()},
        )
    )  # fmt: skip
    page.locator("#unfold").click()
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, a, script:not(head script)').length") == 0
    for run in runs:
        case = visible(run.verdicts[0].case).replace("\r", "")
        assert case in page.evaluate(ORDER)
        page.locator("#filter").fill(case.partition("\n")[0])
        assert page.evaluate(SHOWN) >= 1
    assert page.evaluate("window.pwned") is None


def test_without_script_everything_can_be_read(show):
    page = show(judged_run(3), java_script_enabled=False)
    assert page.locator(".more:visible").count() == 3
    assert not page.locator("#filter").is_visible()
    assert not page.locator("#theme").is_visible()


def test_charts_are_drawn_inside_their_frames(show):
    page = show(compared_run())
    assert page.locator("details.group[open] figure svg[role=img]").count() == 5
    outside = """[...document.querySelectorAll('figure svg[role=img]')].flatMap(svg => {
        const frame = svg.closest('figure').getBoundingClientRect();
        return [...svg.querySelectorAll('text, path, line')].map(e => e.getBoundingClientRect())
            .filter(b => b.left < frame.left - 1 || b.right > frame.right + 1 || b.bottom > frame.bottom + 1);
    }).length"""
    assert page.evaluate(outside) == 0
    page.locator("details.group summary").first.click()
    assert page.locator("details.group figure svg:visible").count() == 0


@pytest.mark.parametrize("width", [375, 1280])
def test_no_two_texts_of_a_chart_overlap(show, width):
    page = show(compared_run(), width)
    overlaps = """[...document.querySelectorAll('figure svg[role=img]')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        const beside = (p, q) => p.right - 1 <= q.left || q.right - 1 <= p.left;
        const above = (p, q) => p.bottom - 4 <= q.top || q.bottom - 4 <= p.top;
        return boxes.flatMap(([a, p], i) =>
            boxes.slice(i + 1).filter(([, q]) => !beside(p, q) && !above(p, q)).map(([b]) => [a, b]));
    })"""
    assert page.evaluate(overlaps) == []
    assert page.locator("svg .label").count() >= 4

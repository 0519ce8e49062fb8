"""The report: one page that needs nothing else, readable on a phone, with every figure also as CSV and PNG."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay_worlds import repairable, two_kinds

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.replay_evaluate import Evaluation, evaluate
from tta_langgraph.traces.report import Report, write_report

pytest.importorskip("matplotlib", reason="reports need matplotlib (extra: report)")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect", "circle", "line"}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    pools = [*repairable(40), *two_kinds(30)]
    policy = Policy.default("sql", actions=("reflect:execution", "resample(2)"), utility=Utility(per_token=1e-4))
    return evaluate(pools, policy, name="Simulated <questions>", repeats=1, prices=[1e-2, 1e-3, 1e-5])


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(evaluation, tmp_path_factory.mktemp("report") / "page.html", title="A & B", episodes=12)


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.images: list[str | None] = []
        self.headings: list[str] = []
        self.headers_without_scope = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if found.get("href"):
            self.links.append(str(found["href"]))
        self.sources += [str(found[name]) for name in ("src", "srcset", "action", "data") if found.get(name)]
        if found.get("role") == "img":
            self.images.append(found.get("aria-label"))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(tag)
        self.headers_without_scope += tag == "th" and "scope" not in found

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()


def test_the_page_is_well_formed_and_makes_no_request(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.sources == []
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in text
    assert "url(http" not in text
    assert "default-src 'none'" in text


def test_every_anchor_leads_somewhere_and_no_id_is_used_twice(report: Report) -> None:
    page = Page(report.page.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_every_figure_says_in_words_what_it_shows(report: Report) -> None:
    page = Page(report.page.read_text(encoding="utf-8"))
    assert len(page.images) >= 6
    assert all(label and len(label) > 20 for label in page.images)
    assert page.headings[0] == "h1"
    assert page.headings.count("h1") == 1
    assert page.headers_without_scope == 0


def test_what_users_named_is_escaped(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    assert "Simulated &lt;questions&gt;" in text
    assert "<questions>" not in text
    assert "<title>A &amp; B</title>" in text


def test_the_episode_viewer_shows_every_decision_with_its_reason(report: Report, evaluation: Evaluation) -> None:
    text = report.page.read_text(encoding="utf-8")
    assert text.count('<details class="episode"') == 12
    assert evaluation.headline is not None
    dearest = int(evaluation.headline.tokens.argmax())
    from html import escape

    for decision in evaluation.headline.decisions[dearest]:
        assert escape(decision.reason) in text


def test_every_figure_is_there_as_csv_and_png_with_the_numbers_of_the_page(
    report: Report, evaluation: Evaluation
) -> None:
    stems = {path.stem for path in report.figures}
    assert {"frontier-tokens", "frontier-seconds", "transitions", "calibration", "cost-of-pass", "budget"} <= stems
    for path in report.figures:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
    frontier = next(p for p in report.figures if p.name == "frontier-tokens.csv")
    rows = list(csv.DictReader(frontier.open(encoding="utf-8")))
    by_name = {row["strategy"]: float(row["accuracy"]) for row in rows}
    for outcome in evaluation.statics:
        assert by_name[outcome.name] == pytest.approx(outcome.accuracy, abs=1e-6)


def test_colours_follow_the_theme_of_the_page(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    figure = text[text.index('<figure id="frontier-tokens"') :]
    figure = figure[: figure.index("</figure>")]
    assert "var(--policy)" in figure
    assert not re.search(r"#[0-9a-f]{6}", figure), "a colour that does not follow dark and light"


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nothing to report"):
        write_report([], tmp_path / "page.html")


def browse(page: Path, *options: str, profile: Path) -> str:
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", *options, page.as_uri()),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_real_browser_shows_it_without_sideways_scrolling(report: Report, tmp_path: Path, width: int) -> None:
    # A frame of exactly this width, because browsers refuse to make windows narrower than about 500 pixels.
    frame = tmp_path / "frame.html"
    probe = (
        "<script>addEventListener('load', () => { const d = document.documentElement;"
        "const shown = [...document.querySelectorAll('figure svg')].filter(s => s.getClientRects().length);"
        "d.setAttribute('data-seen', JSON.stringify({inner: innerWidth, wide: d.scrollWidth, svg: shown.length,"
        "figures: document.querySelectorAll('figure svg').length, filters: "
        "[...document.querySelectorAll('.filters')].every(f => !f.hidden)}));"
        "parent.postMessage(d.dataset.seen, '*'); });</script>"
    )
    page = tmp_path / "page.html"
    page.write_text(report.page.read_text(encoding="utf-8").replace("</body>", probe + "</body>"), encoding="utf-8")
    frame.write_text(
        "<body><script>addEventListener('message', e => { document.title = e.data; });</script>"
        f"<iframe src='page.html' width='{width}' height='900'></iframe></body>",
        encoding="utf-8",
    )
    dom = browse(frame, "--dump-dom", "--virtual-time-budget=20000", profile=tmp_path / "profile")
    found = re.search(r"<title>\{(.*?)\}</title>", dom)
    assert found is not None, "the page's script did not run to its end"
    seen = dict(re.findall(r'"(\w+)":(\w+)', found[1].replace("&quot;", '"')))
    assert int(seen["inner"]) == width
    assert int(seen["wide"]) <= width, "the page scrolls sideways"
    assert 2 * int(seen["svg"]) == int(seen["figures"]), "each figure is shown once, in the version for this width"
    assert seen["filters"] == "true"

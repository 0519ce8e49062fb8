"""The report: one page that needs nothing else, readable on a phone, with every figure also as CSV and PNG."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay_worlds import repairable, two_kinds

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.model import Attempt, Pool
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


def alike(right: bool, questions: int = 24) -> list[Pool]:
    """Questions whose answers are all right, or all wrong."""
    attempts = tuple(
        Attempt(
            id=f"a{i}",
            action="generate" if i == 0 else "resample",
            correct=right,
            key="x",
            executed=True,
            prompt_tokens=50,
            completion_tokens=9,
        )
        for i in range(5)
    )
    return [Pool(question_id=f"q{q}", db_id=f"db{q % 6}", attempts=attempts) for q in range(questions)]


def needs_votes(questions: int = 40) -> list[Pool]:
    """The first answer is always wrong, and so is the last of five samples; the others agree on the right one."""
    keys = ("wrong", "right", "right", "right", "right", "other")
    attempts = tuple(
        Attempt(
            id=f"a{i}",
            action="generate" if i == 0 else "resample",
            correct=key == "right",
            key=key,
            executed=True,
            prompt_tokens=50,
            completion_tokens=9,
        )
        for i, key in enumerate(keys)
    )
    return [Pool(question_id=f"q{q}", db_id=f"db{q % 6}", attempts=attempts) for q in range(questions)]


def page_of(pools: list[Pool], out: Path, policy: Policy | None = None) -> tuple[str, Report]:
    own = policy or Policy.default("sql", actions=("resample(2)",), utility=Utility(per_token=1e-4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = write_report(evaluate(pools, own, repeats=1, prices=[1e-2, 1e-5]), out / "page.html")
    return re.sub(r"<svg.*?</svg>", "", found.page.read_text(encoding="utf-8"), flags=re.DOTALL), found


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
        "figures: document.querySelectorAll('figure svg').length, "
        "nav: document.querySelector('nav ul').scrollWidth - document.querySelector('nav ul').clientWidth, "
        "letters: Math.floor(Math.min(...shown.flatMap(s => [...s.querySelectorAll('text')].map(t => "
        "parseFloat(getComputedStyle(t).fontSize) * s.getScreenCTM().a)))), filters: "
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
    seen = dict(re.findall(r'"(\w+)":(-?\w+)', found[1].replace("&quot;", '"')))
    assert int(seen["inner"]) == width
    assert int(seen["wide"]) <= width, "the page scrolls sideways"
    assert 2 * int(seen["svg"]) == int(seen["figures"]), "each figure is shown once, in the version for this width"
    assert seen["filters"] == "true"
    assert int(seen["nav"]) <= 0, "the navigation is cut"
    assert int(seen["letters"]) >= 10, "letters in the figures are too small to read"


@pytest.mark.parametrize("right", [True, False])
def test_nothing_but_right_or_wrong_answers_make_a_page_without_nan_or_warnings(right: bool, tmp_path: Path) -> None:
    text, written = page_of(alike(right), tmp_path)
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    assert "leaves no range of costs" in text
    assert "NaN" not in written.data.read_text(encoding="utf-8")
    assert "Infinity" not in written.data.read_text(encoding="utf-8")
    assert "transitions" not in {path.stem for path in written.figures}


def test_a_card_says_on_how_many_questions_its_interval_stands(tmp_path: Path) -> None:
    text, _ = page_of(alike(True, questions=2), tmp_path)
    assert "2 questions on 2 databases" in text
    assert "interval 100.0% to 100.0%" not in text
    assert "Fewer than 20 questions decide nothing" in text


def test_a_policy_that_is_below_by_more_than_chance_is_not_called_met(tmp_path: Path) -> None:
    lazy = Policy.default("sql", actions=(), utility=Utility(per_token=1.0))
    text, _ = page_of(needs_votes(), tmp_path, lazy)
    first = text[text.index('<p class="verdict') :]
    assert first.startswith('<p class="verdict missed"')
    assert "The policy at its own prices is below best_of(" in first


def test_a_page_warns_if_the_policy_was_fitted_on_the_same_databases(tmp_path: Path) -> None:
    policy = Policy.default("sql", actions=("resample(2)",), utility=Utility(per_token=1e-4))
    pools = two_kinds(40)
    told, _ = page_of(pools, tmp_path, replace(policy, notes={"fitted_on": {"databases": ["db0", "db1", "else"]}}))
    assert "fitted on 2 of the 8 databases here" in told
    fresh, _ = page_of(pools, tmp_path, replace(policy, notes={"fitted_on": {"databases": ["else"]}}))
    assert "flatter" not in fresh
    assert "fitted on none of these databases" in fresh
    unknown, _ = page_of(pools, tmp_path, policy)
    assert "fitted on" not in unknown


def test_no_question_is_shown_twice_in_the_episode_viewer(tmp_path: Path) -> None:
    policy = Policy.default("sql", actions=("resample(2)",), utility=Utility(per_token=1e-4))
    found = evaluate(two_kinds(30), policy, repeats=4, prices=[1e-3])
    text = write_report(found, tmp_path, pages_only=True, episodes=20).page.read_text(encoding="utf-8")
    shown = re.findall(r'<details class="episode".*?<span class="id">(.*?)</span>', text)
    assert len(shown) == 20
    assert len(set(shown)) == 20


def test_seconds_are_told_with_a_decimal(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    assert re.search(r"reaches [\d.]+ for \d+\.\d seconds", text)


def test_stopping_has_a_colour_of_its_own(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    figure = text[text.index('<figure id="actions"') :]
    bars = set(re.findall(r'clip-path[^>]*style="fill: var\(--([\w-]+)\)', figure[: figure.index("</figure>")]))
    assert "fixed" in bars
    assert len(bars) > 1
    assert "faint" not in bars, "two greys look alike"


def test_accuracy_that_was_paid_for_is_not_called_met(tmp_path: Path) -> None:
    keen = Policy.default("sql", actions=("resample(5)",), utility=Utility(per_token=1e-9))
    text, _ = page_of(needs_votes(), tmp_path, keen)
    assert text[text.index('<p class="verdict') :].startswith('<p class="verdict dearer"')


def test_a_curve_below_the_static_mixture_is_told_in_words(tmp_path: Path) -> None:
    keen = Policy.default("sql", actions=("resample(5)",), utility=Utility(per_token=1e-9))
    text, _ = page_of(needs_votes(), tmp_path, keen)
    assert not re.search(r"-\d+% of the (way|area)", text)

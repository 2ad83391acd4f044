"""The page: its answers and sections, untrusted text, equal bytes, no network, and a real browser."""

import itertools
import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.report import claims, page
from bench.report.figures import figures
from bench.report.leaderboard import Leaderboard, leaderboards
from bench.report.rows import with_labels
from tests.bench.report.samples import Row, curve, episodes, failed, fits, record
from tests.bench.report.test_leaderboard import FOUR, ONE_SEED, board, row, trained
from tests.bench.report.test_shifts import elsewhere
from tests.bench.report.test_trials import STATISTICS, tried

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
VOID = {"meta", "link", "br", "img", "input"}
EVIL = "</script><b>evil</b> %{x}"


class Page(HTMLParser):
    """A page as its elements, the texts of its sections, its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1][0] != "style":
            for tag, attributes in self.open:
                if tag in ("section", "article", "h1", "title", "caption", "td", "th"):
                    key = attributes.get("id") or tag
                    self.texts[key] = f"{self.texts.get(key, '')} {' '.join(data.split())}".strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def rendered(rows: list[Row], **more: Any) -> str:
    finished = [each for each in rows if each["status"] == "done"]
    boards = leaderboards(rows, {each["cell"]: episodes(each) for each in finished})
    curves = more.get("curves", {each["cell"]: curve(each) for each in finished})
    probed = {
        e["cell"]: tried(e, STATISTICS) for e in finished if e["algo"] in ("maml", "protonet")
    }
    shifted = {
        e["cell"]: elsewhere({"glyphs": 60.0, "<b>": 9.0}) for e in finished if e["seed"] == 0
    }
    probed, shifted = more.get("probed", probed), more.get("shifted", shifted)
    drawn = figures(
        rows, boards, curves, probed, shifted, {e["cell"]: fits(e) for e in finished}, {}
    )
    claimed = more.get("claimed", [])
    return page.html(rows, boards, curves, probed, shifted, {}, claimed, [], [], [], drawn)


def large() -> list[Row]:
    """Two data sets, settings, seeds, a variant, peers, a transductive learner, a gap, failures."""
    algos = ("maml", "protonet", "learn2learn/maml", EVIL)
    rows = [
        record(algo, 5, shots, seed, dataset=name, cell=f"{algo}{name}{shots}{seed}", episodes=60)
        for algo, name, shots, seed in itertools.product(
            algos, ("omniglot", "<i>x"), (1, 5), (0, 1)
        )
    ]
    for each in rows:
        each |= {
            "created": f"2026-01-0{1 + each['seed']}T10:00:00+00:00",
            "norm_statistics": "support",
        }
        each["transductive"] = each["algo"] == "protonet"
    variants = [e | {"order": 1, "cell": f"{e['cell']}first"} for e in rows if e["algo"] == "maml"]
    missing = ("protonet", "omniglot", 5, 1)
    kept = [e for e in rows if (e["algo"], e["dataset"], e["shots"], e["seed"]) != missing]
    died = failed("reptile", "<script>alert(1)</script>", episodes=60, dataset="omniglot")
    return [*kept, *variants, died]


@pytest.fixture(scope="module")
def html() -> str:
    return rendered(large())


@pytest.fixture(scope="module")
def whole(html: str) -> Page:
    return Page(html)


def answer(made: Leaderboard, rows: list[Row] = FOUR) -> page.Answer:
    return page.answer(made, with_labels(rows))


def test_a_tie_is_told_with_what_each_costs() -> None:
    rows = [each | {"train_seconds": 90.0 + 5 * (i // 3)} for i, each in enumerate(FOUR)]
    for i, each in enumerate(rows):
        speed = (100, 100, 200, 500)[i // 3]
        each["throughput"] = [e | {"tasks_per_s": speed} for e in each["throughput"]]
    found = answer(board(rows))
    assert found.best == "ProtoNet ≈ MetaOptNet"
    assert found.verdict == (
        "Tied: tests over seeds and episodes do not tell them apart; the largest difference is 0.10 ± "
        "0.45 points. They are equivalent within 1 point. Each is better than the other 2."
    )
    assert found.cells == [
        ["ProtoNet", "95.2 ± 0.7 %", "1m 40s", "5.00 ms"],
        ["MetaOptNet", "95.1 ± 0.7 %", "1m 45s", "2.00 ms"],
    ]
    assert found.remarks == ["Of these, ProtoNet trains fastest and MetaOptNet adapts fastest."]


def test_a_tie_of_learners_far_apart_is_put_down_to_the_correction() -> None:
    rows = [
        row(algo, mean + spread * (2 * seed - 1), seed=seed)
        for algo, mean, spread in (("maml", 92, 1), ("reptile", 82, -1), ("protonet", 87, 3))
        for seed in range(2)
    ]
    made = board(rows)
    widest = max(made.pairs, key=lambda pair: pair.difference)
    assert widest.difference > widest.half and not widest.significant, "the situation"
    assert "but not significant once corrected for all pairs." in answer(made, rows).verdict


def test_times_of_other_machines_are_not_compared() -> None:
    alike = [e | {"train_seconds": 9.0} for e in FOUR]
    assert answer(board(alike)).remarks[0].startswith(("Cheapest of these", "Of these"))
    alike[6]["device_name"] = "another"
    assert answer(board(alike)).remarks == []


def test_the_best_of_all_and_the_next() -> None:
    rows = [*trained("maml", 92), *trained("protonet", 95.2), *trained("reptile", 84)]
    found = answer(board(rows))
    assert found.best == "ProtoNet" and found.remarks == []
    assert re.fullmatch(
        r"Better than the 2 others by tests over seeds and episodes\. Next is MAML, 3\.20 ± 0\.\d\d "
        r"points behind \(p < 0\.001\)\.",
        found.verdict,
    )
    found = answer(board([*rows, row("mine", 99)]), rows)
    assert found.best == "ProtoNet" and found.remarks == [
        "Not ranked, with one seed: mine. Significantly ahead of ProtoNet as trained models: mine."
    ]


def test_the_luck_of_training_decides_what_is_called_better() -> None:
    steady = board([*trained("maml", 92), *trained("protonet", 93)])
    assert answer(steady).verdict.startswith("Better than the 1 other")
    assert "one seed" not in page.caution([steady])
    shaky = board([*trained("maml", 92), *trained("protonet", 93, 4)])
    assert answer(shaky).verdict.startswith("Tied")


def test_one_seed_gives_no_best_learner() -> None:
    made = board(ONE_SEED)
    found = answer(made, ONE_SEED)
    assert found.best == page.UNDECIDED
    assert found.verdict.startswith(
        "With one seed, it is trained models that are compared, and ano"
    )
    assert "Better" not in found.verdict and found.verdict.endswith("learners: seed=0,1,2.")
    assert [line[0] for line in found.cells] == ["ProtoNet", "MetaOptNet"]
    assert "With one seed" in page.caution([made])
    assert page.summary([made, made]) == ""


def test_ties_that_are_not_transitive_claim_no_more_than_the_tests() -> None:
    rows = [*trained("maml", 90, 0.12), *trained("reptile", 90.3, 0.12)]
    chain = board([*rows, *trained("protonet", 90.6, 0.12)])
    assert answer(chain).verdict.endswith(
        "Some tie with one of the other 1 as well: see the pairs."
    )


def test_a_single_learner_has_nothing_to_compare_with() -> None:
    found = answer(board([row("maml", 92)]))
    assert (found.best, found.verdict) == (
        "MAML",
        "The only learner here: nothing to compare it with.",
    )
    assert page.summary([board([row("maml", 92)])]) == ""


def test_a_transductive_best_is_told_with_the_best_of_the_others() -> None:
    rows = [*trained("maml", 92, transductive=True), *trained("reptile", 84)]
    rows += trained("protonet", 90)
    (remark,) = answer(board(rows)).remarks
    assert remark.startswith("Best of those that are not transductive (†): ProtoNet, 90.0 ± ")
    rows = [*rows[:6], *trained("protonet", 92)]
    assert not any("not transductive" in each for each in answer(board(rows)).remarks)


def test_the_answer_names_who_failed_in_its_setting() -> None:
    rows = [*FOUR, failed("learn2learn/maml"), failed("mine", shots=5)]
    assert answer(board(FOUR), rows).remarks[-1] == "Failed: learn2learn/maml; see below."


def test_summary_over_settings() -> None:
    one, other = board(FOUR), board([*trained("maml", 92), *trained("metaoptnet", 95.1)])
    assert page.summary([one, other]) == "Best or tied for best in both settings: MetaOptNet."
    last = board([*trained("maml", 92), *trained("reptile", 84)])
    assert page.summary([one, other, last]) == (
        "No learner is best or tied for best in all 3 settings."
    )
    assert page.summary([one]) == ""


def test_sections_of_a_large_folder(whole: Page) -> None:
    sections = [each["id"] for each in whole.all("section")]
    assert sections == [
        "in-short",
        "what-was-compared",
        "leaderboard",
        "scores",
        "pair-by-pair",
        "score-against-cost",
        "learning-curves",
        "single-functions",
        "adaptation",
        "transduction-gaps",
        "other-data-sets",
        "throughput",
        "missing-and-failed-cells",
        "provenance",
        "how-to-read-this",
    ]
    linked = [each["href"] for each in whole.all("a")]
    assert linked == [f"#{name}" for name in sections[1:]]
    assert len(whole.all("article")) == 4
    assert "A tie:" in whole.texts["how-to-read-this"]
    assert "† transductive" in whole.texts["scores"]


def test_one_learner_with_one_seed_has_no_empty_section() -> None:
    made = Page(rendered([record("maml")], probed={}, shifted={}))
    assert [each["id"] for each in made.all("section")] == [
        "in-short",
        "what-was-compared",
        "leaderboard",
        "scores",
        "score-against-cost",
        "learning-curves",
        "single-functions",
        "throughput",
        "provenance",
        "how-to-read-this",
    ]
    assert made.all("select") == []
    assert "≈" not in made.texts["how-to-read-this"] and "†" not in made.texts["how-to-read-this"]


def test_learning_curves_need_a_history() -> None:
    rows = [record("maml"), record("protonet")]
    without = rendered(rows, curves={})
    assert "learning-curves" not in Page(without).texts and "Time to accuracy" not in without
    low = {each["cell"]: curve(each).assign(val_score=30.0) for each in rows}
    never = rendered(rows, curves=low)
    assert "learning-curves" in Page(never).texts and "Time to accuracy" not in never


def test_what_is_missing_and_what_failed(whole: Page) -> None:
    said = whole.texts["missing-and-failed-cells"]
    assert "ProtoNet † 5-way 5-shot 1 not run" in said
    assert "Reptile 5-way 1-shot 0 failed: <script>alert(1)</script>" in said
    assert said.count("not run") == 1 + 2  # and Reptile's other seed and setting
    full = rendered([record(algo, seed=seed) for algo in ("maml", "mine") for seed in (0, 1)])
    assert "missing-and-failed-cells" not in Page(full).texts


def test_provenance_tells_what_differs() -> None:
    rows = [record("maml", created="2026-01-02"), record("mine", created="2026-01-01", threads=4)]
    shared = dict(page.provenance(rows).cells)
    assert shared["run"] == "from 2026-01-01 to 2026-01-02"
    assert (shared["threads"], shared["commit"]) == ("2, 4", "abc1234")
    table = page.cells_table(rows)
    assert table.headers == ["Cell", "threads", "created"]
    assert table.cells[1][1:] == ["4", "2026-01-01"]


def test_published_figures_have_their_place() -> None:
    claimed = claims.checks([record("maml")], {})
    made = Page(rendered([record("maml")], claimed=claimed))
    ids = [each["id"] for each in made.all("section")]
    assert ids.index("claimed-against-measured") == ids.index("throughput") + 1
    said = made.texts["claimed-against-measured"]
    assert "98.7 ± 0.4" in said and said.count("not run") == len(claimed)
    assert "dry_run=true experiment=paper/" in said


def test_what_is_kept_apart_is_told() -> None:
    made = Page(rendered([record("maml"), record("protonet", train_examples=1)]))
    assert "kept apart where they differ in train_examples" in made.texts["what-was-compared"]


def test_free_text_stays_text(html: str, whole: Page) -> None:
    assert "alert(1)" in html and "evil" in html
    assert {"b", "i"}.isdisjoint(tag for tag, _ in whole.elements)
    assert html.count("</script>") == len(whole.scripts) == html.count("<script")
    assert not any("alert(1)" in script or "<i>x" in script for script in whole.scripts)
    assert EVIL in whole.texts["th"]


def test_the_same_bytes_from_rows_in_any_order(html: str) -> None:
    rows = large()
    random.Random(0).shuffle(rows)
    assert rendered(rows) == html


def test_nothing_comes_from_elsewhere(html: str, whole: Page) -> None:
    assert whole.all("link") == [] and whole.all("img") == [] and whole.all("iframe") == []
    addresses = [
        a.get("src") or a.get("href") for _, a in whole.elements if {"src", "href"} & set(a)
    ]
    assert all(address and address.startswith("#") for address in addresses)
    (styles,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    assert "url(" not in styles and "@import" not in styles
    assert len([script for script in whole.scripts if "* plotly.js v" in script]) == 1
    assert sum(len(script) > 1e6 for script in whole.scripts) == 1
    assert '"displaylogo": false' in whole.scripts[-1]


def test_the_page_can_be_found_through(whole: Page) -> None:
    assert len(whole.all("h1")) == 1 and whole.all("html") == [{"lang": "en"}]
    assert whole.texts["title"]
    assert "width=device-width" in str(whole.all("meta"))
    headings = [tag for tag, _ in whole.elements if tag in ("h1", "h2")]
    assert headings == ["h1"] + ["h2"] * (len(whole.all("section")) - 1)
    outside = len(whole.all("article"))  # whose heading is above their table
    assert len(whole.all("table")) == len(whole.all("caption")) + outside
    assert len(whole.all("figure")) == len(whole.all("figcaption"))
    ids = [attributes["id"] for _, attributes in whole.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_every_setting_can_be_chosen(html: str, whole: Page) -> None:
    values = [each["value"] for each in whole.all("option")]
    assert values == ["all", "0", "1", "2", "3"]
    placed = {
        attributes["data-place"] for _, attributes in whole.elements if "data-place" in attributes
    }
    assert placed == set(values[1:])
    for value in values[1:]:
        rule = f':checked) [data-place]:not([data-place="{value}"])'
        assert f'body:has(option[value="{value}"]{rule}' in html


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_every_plot_without_a_network(html: str, tmp_path: Path) -> None:
    """Also: a choice hides the other settings, dark is dark, and the page does not scroll sideways."""
    look = """<script>addEventListener("load", () => {
      const seen = e => getComputedStyle(e).visibility + getComputedStyle(e).display;
      const places = e => [...document.querySelectorAll(e)].filter(
        x => seen(x) == "visibleblock").map(x => x.dataset.place);
      const all = places("figure").length;
      document.querySelector("select").value = "1";
      const text = document.querySelector(".xtick text");
      document.title = JSON.stringify({
        plots: [...document.querySelectorAll(".plotly-graph-div")].map(
          e => e.querySelectorAll(".main-svg .trace, .main-svg .hm").length),
        all: all, chosen: [...new Set(places("figure, article"))],
        wide: document.documentElement.scrollWidth - innerWidth,
        paper: getComputedStyle(document.body).backgroundColor,
        ink: getComputedStyle(text).fill});
    })</script></body>"""
    path = tmp_path / "report.html"
    path.write_text(html.replace("</body>", look), encoding="utf-8")
    assert CHROMIUM is not None
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--blink-settings=preferredColorScheme=0",
        "--enable-logging=stderr", "--virtual-time-budget=15000", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", path.as_uri(),
    ]  # fmt: skip
    ended = subprocess.run([CHROMIUM, *arguments], capture_output=True, timeout=600, check=True)
    assert b"Uncaught" not in ended.stderr and b"CONSOLE" not in ended.stderr, ended.stderr[-2000:]
    dumped = ended.stdout.decode()
    found = json.loads(re.findall("<title>(.*?)</title>", dumped)[0].replace("&quot;", '"'))
    count = html.count('class="plotly-graph-div"')
    assert len(found["plots"]) == found["all"] == count > 20
    assert all(found["plots"])
    assert set(found["chosen"]) == {None, "1"}  # None: of all settings
    assert found["wide"] <= 0
    assert (found["paper"], found["ink"]) == ("rgb(20, 23, 26)", "rgb(230, 232, 235)")

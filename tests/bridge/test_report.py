"""report.html and results.json: made from records alone, complete, self-contained, and safe with any transcript."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from bridge.comparison.pooled import pool
from bridge.comparison.records import load_run
from bridge.comparison.tables import failures, paper_table, wer_table
from bridge.reporting.report import write_report
from bridge.reporting.wording import symbols
from tests.helpers.records import run_tables, write_run

HOSTILE = '</details><script>alert("x")</script> & <img src=http://evil.example/x.png>'


class _Page(HTMLParser):
    """Collects what a browser would load, the ids, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset") or (name == "href" and tag != "a"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    frames = run_tables({"organism-a": "dispersive growth"}, clips=5, conditions=("clean", "noise"), depth=3)
    clips = frames["clips"]
    failed = clips.index[(clips["condition"] == "noise") & (clips["wer"] > 0.5)]
    clips.loc[failed[0], "transcript"] = HOSTILE
    clips.loc[failed[1], "truncated"] = True
    directory = write_run(tmp_path_factory.mktemp("run") / "toy", frames)
    write_report(directory)
    return directory


@pytest.fixture(scope="module")
def page(run) -> _Page:
    parser = _Page()
    parser.feed((run / "report.html").read_text(encoding="utf-8"))
    return parser


def test_report_loads_nothing_from_anywhere(run, page):
    assert page.loads
    assert all(load.startswith("data:") for load in page.loads)
    css = re.search(r"<style>(.*?)</style>", (run / "report.html").read_text(encoding="utf-8"), re.S)
    assert css is not None
    assert "url(" not in css.group(1)
    assert "@import" not in css.group(1)


def test_report_has_no_script_even_if_a_transcript_is_one(run, page):
    assert "script" not in page.tags
    text = (run / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    assert "".join(page.words).count('alert("x")') == 1
    assert "&lt;b&gt;not audio&lt;/b&gt;" in text  # from the quarantine


def test_report_has_every_section_figure_and_claim(run, page):
    for name in (
        "short",
        "map",
        "layers",
        "regimes",
        "stress",
        "paper",
        "transcripts",
        "ledger",
        "limits",
        "provenance",
    ):
        assert name in page.ids
    assert {f"C{i}" for i in range(1, 16)} <= set(page.ids)
    drawn = {path.stem for path in (run / "figures").glob("*.svg")}
    assert drawn == {path.stem for path in (run / "figures").glob("*.png")}
    assert {f"drawn-{name}" for name in drawn} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {"phase-map", "regimes", "certificate", "wer", "figure-2"} <= drawn
    names = ("layers-position", "layers-sequence", "context-position", "arrival", "figure-1", "figure-3")
    assert {f"{name}-organism-a" for name in names} <= drawn
    # One wide and one narrow picture of each figure, and the icon.
    assert len(page.loads) == 2 * len(drawn) + 1


def test_c5_has_its_scope_and_its_figure_inside_its_own_article(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    (article,) = re.findall(r'<article class="claim" id="C5">.*?</article>', text, re.S)
    claims = json.loads((run / "results.json").read_text(encoding="utf-8"))["claims"]
    assert claims[4]["scope"] and claims[4]["scope"] in article
    assert '<figure id="drawn-training">' in article
    assert text.count('<figure id="drawn-training">') == 1
    assert text.count("<b>Scope.</b>") == sum(bool(claim.get("scope")) for claim in claims)


def test_every_figure_says_how_to_read_it(page):
    assert "".join(page.words).count("How to read it.") == len([tag for tag in page.tags if tag == "figure"])


def test_report_says_what_was_found(page):
    text = " ".join("".join(page.words).split())
    for words in (
        "dispersive growth", "−11.98", "organism-a", "counts as", "chain error", "pins the bulk", "(T26)",
        "Decay of what?",
        "undecided",
        "not_audio", "Not measured", "If the thresholds were halved or doubled",
    ):  # fmt: skip
        assert words in text, words


def test_results_are_strict_json_and_complete(run):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    found = json.loads((run / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    for key in (
        "schema_version", "models", "claims", "provenance", "regimes", "agreement", "tables", "wer", "quarantine",
        "timings",
        "headline", "thresholds", "sensitivity", "certificate",
    ):  # fmt: skip
        assert key in found
    assert [line["id"] for line in found["claims"]] == [f"C{i}" for i in range(1, 16)]
    assert [one["name"] for one in found["models"]] == ["organism-a"]
    assert found["quarantine"]["by_code"] == {"empty": 1, "not_audio": 1}
    layers = pd.read_parquet(run / "records" / "layers.parquet")
    assert len(found["regimes"]) == len(layers.drop_duplicates(["model", "clip", "condition", "state"]))
    assert found["tables"]["paper"][0]["d_n_eff_pct"] == -11.98


def test_report_is_made_of_the_records_alone(run, tmp_path):
    """Records copied elsewhere give the same numbers; without records there is one clear error."""
    again = load_run(run)
    assert again.models == ["organism-a"]
    assert again.sweep is not None
    with pytest.raises(FileNotFoundError, match=r"clips\.parquet is missing"):
        load_run(tmp_path)


def test_failures_keep_truncated_audio_apart(run):
    clips = load_run(run).clips
    whole, cut = failures(clips, truncated=False), failures(clips, truncated=True)
    assert len(cut) == 1
    assert len(whole) + 1 == int((clips["wer"] > 0.5).sum())


def test_wer_table_counts_and_pairs(run):
    clips = load_run(run).clips
    table = wer_table(clips, seed=0).set_index(["model", "condition"])
    row = table.loc[("organism-a", "noise")]
    part = clips[(clips["model"] == "organism-a") & (clips["condition"] == "noise")]
    assert row["wer"] == pytest.approx(part["wer"].mean())
    assert row["change"] == pytest.approx(part["wer"].mean())  # clean WER is 0
    assert row["above_half"] + row["above_half_truncated"] == int((part["wer"] > 0.5).sum())
    assert pd.isna(table.loc[("organism-a", "clean"), "change"])


def test_paper_rows_come_first_and_have_no_interval(run):
    table = paper_table(pool(load_run(run).vectors, resamples=5))
    published = table[table["source"] == "paper"]
    assert len(published) == 5
    assert list(table.index[:5]) == list(published.index)
    assert published["d_alpha_low"].isna().all()
    assert set(table[table["source"] == "ours"]["stress"]) == {"noise", "all", "together"}


def test_braced_subscripts_and_squares_are_set_too():
    assert str(symbols("A_{l+1}^T A_{l+1} beside sigma^2")) == ("A<sub>l+1</sub><sup>T</sup> A<sub>l+1</sub> beside σ²")


def test_prose_gets_symbols_and_is_still_escaped():
    text = "mean kappa < xi_F & ||J_L|| >= d^(-1/2), Lambda_max of model-alpha <b>"
    assert str(symbols(text)) == (
        "mean κ &lt; xi_F &amp; ‖J<sub>L</sub>‖ ≥ d<sup>−1/2</sup>, Λ<sub>max</sub> of model-alpha &lt;b&gt;"
    ).replace("xi_F", "ξ<sub>F</sub>")

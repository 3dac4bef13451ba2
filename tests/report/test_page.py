"""The page: whole, closed to the network, safe against what users write, and saying what the numbers say."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulacra.data.image_set import ImageSet
from simulacra.metrics import METRICS
from simulacra.metrics.likelihood import Likelihood
from simulacra.plotting import png, sample_grid
from simulacra.report.human import Human
from simulacra.report.leaderboard import leaderboard
from simulacra.report.page import (
    MEANINGS,
    Editing,
    Family,
    Latent,
    Picture,
    Report,
    render,
)
from simulacra.report.sentences import headline, likelihood_sentence

VOID = {"meta", "link", "img", "br", "hr", "input"}
PICTURE = png(sample_grid(ImageSet(np.zeros((1, 1, 4, 4), np.uint8)), columns=1))
EVIL = "<script>alert(1)</script>"
VERDICT = {
    "family": "vae",
    "verdict": "helps",
    "reason": "Adding synthetic images changes accuracy by +2.4 points.",
    "difference": 0.024,
    "interval": [0.011, 0.037],
    "confidence": 0.95,
    "per_seed": [{"seed": 12345, "real": 0.81, "augmented": 0.834}],
    "accuracy_real": 0.81,
    "accuracy_augmented": 0.834,
    "accuracy_all_real": 0.97,
    "real_per_class": {"zero": 20, "one": 20},
    "synthetic_per_class": 200,
    "steps": 300,
    "generator_data": "scarce",
}
NOT_APPLICABLE = {
    "family": "gmm",
    "verdict": "not applicable",
    "reason": "It carries no labels.",
    "difference": None,
    "interval": None,
    "per_seed": [],
}


def record(
    row: str, fd: float, role: str = "family", *, std: float | None = 0.1, passport: str = "aaa", **metrics
) -> dict:
    return {
        "row": row,
        "role": role,
        "metrics": {"fd_classifier": {"value": fd, "std": std, "per_seed": None}, **metrics},
        "passport": {
            "extractors": {"classifier": {"name": "classifier", "sha256": "ab" * 32, "test_accuracy": 0.967}},
            "n_real": 1000,
            "n_generated": 1000,
            "compared": "generated images with the test split",
            "seeds": [0, 1, 2],
        },
        "passport_id": passport,
    }


DENSITY = Likelihood(bound=False, dequantisation="uniform", classes_summed_out=True).describe(50)
BOUND = Likelihood(bound=True, binarisation="random").describe(1)


def with_likelihood(record: dict, likelihood: dict) -> dict:
    return record | {"passport": record["passport"] | {"likelihood": likelihood}}


RECORDS = [
    record("floor", 0.5, "floor"),
    with_likelihood(
        record("vae", 5.0, elbo_bits_per_dim={"value": 1.388, "std": None}, parameters={"value": 1484304, "std": None}),
        BOUND,
    ),
    with_likelihood(
        record(
            "gmm",
            20.0,
            bits_per_dim={"value": 1.921, "std": None},
            nats={"value": 1043.9, "std": None},
            sample_ms={"value": 0.25, "std": None},
        ),
        DENSITY,
    ),
    record("noise", 1000.0, "noise"),
]


def make_report(**changes) -> Report:
    part = {"n": 3500, "per_class": {"zero": 1500, EVIL: 2000}, "fingerprint": "3a7b" * 16}
    content = {
        "dataset": f"digits {EVIL}",
        "kind": "image",
        "generated_at": "2026-11-21",
        "leaderboard": leaderboard(RECORDS),
        "records": RECORDS,
        "families": [
            Family("gmm", PICTURE),
            Family("vae", PICTURE, PICTURE, {"device": EVIL, "seconds": 94.7}, f"a: {EVIL}"),
        ],
        "real": PICTURE,
        "class_names": ["zero", EVIL],
        "verdicts": [VERDICT, NOT_APPLICABLE],
        "split": {"seed": 12345, "splits": {"train": part, "test": part}},
        "ingest": {"source": EVIL, "remarks": {"converted": 7}},
        "commands": [f"kedro run --params '{EVIL}'"],
        "notes": [f"note {EVIL}"],
        "versions": {"torch": "2.15.0"},
    }
    return Report(**(content | changes))


class Page(HTMLParser):
    """Balanced tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def attributes(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


PAGE = render(make_report())


def test_tags_are_balanced():
    assert Page(PAGE).open == []


def test_every_resource_is_inside_the_page():
    page = Page(PAGE)
    assert "http://" not in PAGE
    assert "https://" not in PAGE
    assert "@import" not in PAGE
    assert "url(" not in PAGE
    addresses = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in PAGE


def test_pictures_are_those_given():
    embedded = [attrs["src"].removeprefix("data:image/png;base64,") for attrs in Page(PAGE).attributes("img")]
    assert sum(base64.b64decode(image) == PICTURE for image in embedded) == 4  # real, two families, one with curves
    assert len(embedded) == 6  # chart and forest plot beside them


def test_nothing_a_user_writes_becomes_markup():
    # One script, which is the page's own, and the only one that the page lets run.
    (script,) = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert PAGE.count("<script") == 1 and f"script-src 'sha256-{digest}'" in PAGE
    assert PAGE.count("&lt;script&gt;") >= 8


def test_what_a_reader_without_eyes_needs_is_there():
    page = Page(PAGE)
    assert all(attrs.get("alt") for attrs in page.attributes("img"))
    assert all(attrs.get("scope") in {"col", "row"} for attrs in page.attributes("th"))
    assert page.attributes("html") == [{"lang": "en"}]
    assert len(page.attributes("h1")) == 1
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"].removeprefix("#") for attrs in page.attributes("a")} <= targets


def test_page_holds_the_numbers():
    words = Page(PAGE).text
    for part in ("5.00", "± 0.10", "20.00", "real vs real (floor)", "pure noise", "1,484,304", "1.388", "1.921"):
        assert part in words
    for part in (
        "seed 12345",
        "+2.4",
        "+1.1 to +3.7",
        "97.0 %",
        "It carries no labels.",
        "3,500",
        "3a7b" * 16,
        "2.15.0",
    ):
        assert part in words
    assert VERDICT["reason"] in words


def test_missing_numbers_say_why():
    titles = re.findall(r'<span title="([^"]+)">—</span>', PAGE)
    assert titles.count("not measured on a reference row") == 4
    assert "this family&#39;s likelihood is another: see Bits/dim (ELBO)" in titles
    assert "this family&#39;s likelihood is another: see Bits/dim (exact)" in titles
    assert "not measured" in titles


def test_costs_stand_in_a_table_of_their_own_where_references_have_no_row():
    board = PAGE[PAGE.index('id="leaderboard"') : PAGE.index('id="cost"')]
    cost = PAGE[PAGE.index('id="cost"') : PAGE.index('id="likelihoods"')]
    assert "1,484,304" in cost and "1,484,304" not in board
    assert re.findall(r'class="name">(\w+)</th>', cost) == ["Family", "vae", "gmm"]


def test_families_appear_in_the_order_of_their_rank():
    words = Page(PAGE).text
    samples = words[words.index("Samples", words.index("How to read")) :]
    assert samples.index("vae") < samples.index("gmm")


def test_page_is_the_same_after_the_leaderboard_went_through_csv():
    again = pd.read_csv(io.StringIO(leaderboard(RECORDS).to_csv(index=False)))
    assert render(make_report(leaderboard=again)) == PAGE


def test_page_with_the_least_there_can_be():
    bare = Report("tiny", "image", "today", leaderboard(RECORDS[:1]), records=RECORDS[:1], families=[], real=PICTURE)
    page = Page(render(bare))
    assert page.open == []
    assert "No family could be ranked" in page.text
    assert "Do synthetic images help" not in page.text


LATENT = Latent(
    {"reconstruction_mse": 0.01234, "attribute_r2.slant": -0.5, "map_trust.pca": 0.98765},
    {"arithmetic": f"it {EVIL}"},
    [Picture("Slider", f"what {EVIL} shows", PICTURE)],
    Picture("Map", "one dot an image", PICTURE),
    "vae/latent_map.html",
)


def test_latent_spaces_are_shown_told_and_linked():
    families = [Family("gmm", PICTURE), Family("vae", PICTURE, latent=LATENT), Family("flow", PICTURE, latent=LATENT)]
    markup = render(make_report(families=families))
    page = Page(markup)
    assert page.open == [] and markup.count("<script") == 1
    links = [attrs["href"] for attrs in page.attributes("a") if not attrs["href"].startswith("#")]
    assert set(links) == {"vae/latent_map.html"} and "#latent" in [attrs["href"] for attrs in page.attributes("a")]
    assert "Reconstruction: mean squared error ↓0.01230.0123" in page.text
    assert "Slant: R² of its linear reading" in page.text and "−0.5" in page.text and "0.98" not in page.text
    assert f"what {EVIL} shows" in page.text and f"Not shown: arithmetic. It {EVIL}" in page.text


def test_page_without_latent_spaces_does_not_speak_of_them():
    assert "Latent space" not in Page(PAGE).text


def test_films_are_shown_and_commands_for_other_samples_told():
    film = Picture("From noise to image", f"what {EVIL} shows", PICTURE)
    families = [Family("gmm", PICTURE, drawing_command="kedro run gmm"), Family("vae", PICTURE, film=film)]
    markup = render(make_report(families=families, dataset="digits"))
    page = Page(markup)
    assert page.open == [] and markup.count("<script") == 1
    assert "From noise to image: vae" in page.text and "07_model_output/digits/vae" in page.text
    assert f"what {EVIL} shows" in page.text
    assert "From noise to image: gmm" not in page.text
    assert "kedro run gmm" in page.text and "Draw others" in page.text
    assert "Draw others" not in Page(PAGE).text


def test_flags_are_told_at_the_top_and_with_their_remedy_beside_the_training():
    flag = {"name": "mode_collapse", "step": 1300, "symptom": f"samples {EVIL} repeat", "remedy": "use R1"}
    families = [Family("gmm", PICTURE, flags=[flag]), Family("vae", PICTURE)]
    words = Page(render(make_report(families=families))).text
    assert f"gmm raised a flag while it was trained: samples {EVIL} repeat." in words and "vae raised" not in words
    assert f"Step 1,300: samples {EVIL} repeat. Remedy: use R1." in words


def test_figures_that_one_family_lacks_are_marked_in_the_table():
    other = Latent({"attribute_r2.thickness": 0.25}, {}, [], LATENT.map, "flow/latent_map.html")
    families = [Family("vae", PICTURE, latent=LATENT), Family("flow", PICTURE, latent=other)]
    words = Page(render(make_report(families=families))).text
    assert "Thickness: R² of its linear reading ↑—0.25" in words


def test_family_that_is_not_comparable_is_noted_and_left_out_of_the_headline():
    records = [*RECORDS, record("gan", 0.1, passport="bbb")]
    report = make_report(records=records, leaderboard=leaderboard(records))
    assert "gan" not in " ".join(headline(report.leaderboard))
    assert "gan: not comparable" in Page(render(report)).text


def test_likelihoods_have_a_table_of_their_own_with_their_conditions():
    words = Page(PAGE).text
    table = words[words.index("How it was taken") : words.index("Samples", words.index("How it was taken"))]
    assert "1,043.9" in table and "1,043.9" not in words.replace(table, "")
    assert likelihood_sentence(DENSITY) in table and "floor" not in table
    assert table.index("vae") < table.index("gmm")


def test_page_without_likelihoods_does_not_speak_of_them():
    records = [RECORDS[0], record("gan", 5.0)]
    assert "Likelihoods" not in Page(render(make_report(records=records, leaderboard=leaderboard(records)))).text


def test_what_other_networks_see_has_a_table_of_its_own():
    assert 'id="networks"' not in PAGE
    seen = {"fid": 12.5, "kid_inception": 4.25, "recall_inception": 0.618}
    measured = {key: {"value": value, "std": 0.01, "per_seed": None} for key, value in seen.items()}
    records = [record("floor", 0.5, role="floor"), record("vae", 5.0, **measured)]
    page = Page(render(make_report(records=records, leaderboard=leaderboard(records))))
    words = page.text
    board, table = words[: words.index("Seen through other networks")], words[words.rindex("Seen through other") :]
    assert "FID" in board and "12.50" in board and "0.618" not in board
    assert "0.618" in table and "KID (Inception)" in table and "12.50" not in table[: table.index("Samples")]


def test_every_metric_has_its_meaning():
    assert set(MEANINGS) == set(METRICS)


def test_what_was_drawn_by_prompt_is_shown_where_there_is_any():
    assert 'id="prompts"' not in PAGE
    drawn = Picture("Images drawn to order", "Of 480 images the classifier takes 97.0 %.", PICTURE)
    page = render(make_report(families=[Family("gmm", PICTURE), Family("vae", PICTURE, prompts=drawn)]))
    section = page[page.index('<section id="prompts"') : page.index('<section id="training"')]
    assert "vae: images drawn to order" in section and "97.0 %" in section and "gmm" not in section
    assert '<a href="#prompts">Prompts</a>' in page


def test_edits_are_shown_with_what_was_measured_and_the_command_for_one_s_own() -> None:
    pictures = [Picture("Fill a hole", EVIL, PICTURE)]
    editing = Editing(
        "Edited are test images.", "Of 100 test images …", {"interpolation": "it takes two"}, pictures, EVIL
    )
    family = Family("vae", PICTURE, editing=editing)
    table = leaderboard(RECORDS)
    page = render(Report("mnist", "image", "today", table, RECORDS, [family], PICTURE))
    assert 'href="#editing"' in page and "Of 100 test images …" in page and "Fill a hole" in page
    assert "Not shown: <strong>interpolation</strong>. It takes two." in page and EVIL not in page
    without = render(Report("mnist", "image", "today", table, RECORDS, [Family("vae", PICTURE)], PICTURE))
    assert "#editing" not in without


def test_what_people_say_is_shown_where_they_were_asked_and_only_there():
    cells = [EVIL, *["1"] * 5]
    human = Human([f"Said {EVIL}."], [f"Rule {EVIL}."], [("gan", cells)], [(EVIL, cells)], PICTURE)
    page = Page(render(make_report(human=human)))
    assert f"Said {EVIL}." in page.text and f"Rule {EVIL}." in page.text and "Raters, one by one" in page.text
    assert {"id": "people", "aria-labelledby": "people-title"} in page.attributes("section")
    assert 'id="people"' not in PAGE and "#people" not in PAGE
    assert "Raters, one by one" not in render(make_report(human=Human(["a"], ["b"], [("gan", cells)], [], PICTURE)))


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_a_column_is_sorted_best_first_then_worst_first_then_as_written(
    browser: Any, tmp_path: Path, width: int
) -> None:
    rows = (("floor", 1.0, 0.9), ("vae", 2.0, 0.25), ("gmm", 1234.5, 0.5), ("gan", 3.0, None), ("noise", 9000.0, -0.1))
    # Wider than a phone: the table scrolls, and the page does not.
    wide = {key: {"value": 0.5, "std": 0.1} for key in ("kid_classifier", "is_classifier", "precision", "density")}
    records = [
        record(
            name, fd, name if name in ("floor", "noise") else "family", recall={"value": recall, "std": None}, **wide
        )
        for name, fd, recall in rows
    ]
    markup = render(make_report(leaderboard=leaderboard(records), records=records, families=[], verdicts=[]))
    (tmp_path / "report.html").write_text(markup)
    page = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())

    def names() -> list[str]:
        heads = page.eval_on_selector_all("#leaderboard tbody th", "all => all.map((each) => each.innerText)")
        return [head.strip().lstrip("0123456789 ").split()[-1] for head in heads]

    written = names()
    page.click("#leaderboard th:has-text('FD') button")
    assert names() == ["(floor)", "vae", "gan", "gmm", "noise"]
    page.keyboard.press("Enter")
    assert names() == ["noise", "gmm", "gan", "vae", "(floor)"]
    page.click("#leaderboard th:has-text('Recall') button")
    assert names() == ["(floor)", "gmm", "vae", "noise", "gan"]
    assert page.locator("#leaderboard [aria-sort]").count() == 1
    for _ in range(2):
        page.click("#leaderboard th:has-text('Recall') button")
    assert names() == written and page.locator("[aria-sort]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert said == [] and [url for url in asked if not url.startswith(("file://", "data:"))] == []
    page.close()

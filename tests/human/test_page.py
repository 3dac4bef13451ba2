"""The page of a study: blinded, whole, closed to the network; and a scripted person who goes through all of it."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simulacra.data.image_set import ImageSet
from simulacra.human.analysis import analyse
from simulacra.human.answers import COLUMNS, read_answers
from simulacra.human.config import ExclusionConfig, StudyConfig
from simulacra.human.page import png_uri, render_page
from simulacra.human.study import REAL, Study, design

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
TRUTH = {"gan": 0.5, "vae": 0.2, REAL: 0.7}
"""Share of images of each origin that the scripted rater takes for real."""


def images(seed: int, channels: int = 1, n: int = 80) -> ImageSet:
    return ImageSet(np.random.default_rng(100 + seed).integers(0, 256, (n, channels, 12, 12), dtype=np.uint8))


def made_study(seed: int = 0, **settings: Any) -> Study:
    return design(images(0), {"gan": images(1), "vae": images(2)}, StudyConfig(**settings), seed=seed)


STUDY = made_study()
PAGE = render_page(STUDY, "shapes <i>")


def asked(page: str) -> list[dict[str, Any]]:
    """The trials as the page's script has them."""
    found = re.search(r"^const STUDY = (.*);$", page, re.M)
    assert found
    return json.loads(found[1])["trials"]


def test_the_page_tells_nothing_of_what_is_shown() -> None:
    text = re.sub(r'"data:image/png;base64,[^"]*"', "", PAGE)
    for secret in ("gan", "vae", "noise", "<real>", "expected", "source"):
        assert not re.search(rf"\b{secret}\b", text), secret
    trials = asked(PAGE)
    assert all(set(trial) == {"id", "mode", "images"} for trial in trials)
    assert all(re.fullmatch("[0-9a-f]{8}", trial["id"]) for trial in trials)
    # Once pixels and ids are taken away, questions of one mode are all the same.
    assert len({(trial["mode"], len(trial["images"])) for trial in trials}) == 2


def test_pictures_hold_the_pixels_and_nothing_else() -> None:
    for trial, told in zip(STUDY.trials, asked(PAGE), strict=True):
        for shown, address in zip(trial.shown, told["images"], strict=True):
            data = base64.b64decode(address.partition(",")[2])
            kinds = re.findall(rb"IHDR|IDAT|IEND|tEXt|iTXt|zTXt|tIME|eXIf|pHYs", data)
            assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND" and set(kinds[1:-1]) == {b"IDAT"}
            picture = np.asarray(Image.open(io.BytesIO(data)))
            assert (picture == STUDY.pixels(shown)[0]).all()


def test_colours_are_kept() -> None:
    colour = images(3, channels=3).images[0]
    data = base64.b64decode(png_uri(colour).partition(",")[2])
    assert (np.asarray(Image.open(io.BytesIO(data))) == colour.transpose(1, 2, 0)).all()


def test_same_seed_same_bytes_and_what_the_user_wrote_is_escaped() -> None:
    assert render_page(made_study(), "shapes <i>") == PAGE
    assert render_page(made_study(seed=1), "shapes <i>") != PAGE
    assert "shapes &lt;i&gt;" in PAGE and "<i>" not in PAGE


def test_the_page_asks_nothing_of_the_network() -> None:
    assert "default-src 'none'" in PAGE
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)[^"'{]*(https?:)?//|@import|url\(|fetch\(|XMLHttp""", PAGE)


class Visit:
    """A page in the browser, with all that it said and asked for."""

    def __init__(self, browser: Any, place: Path, size: dict[str, int], **options: Any) -> None:
        self.context = browser.new_context(viewport=size, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(place.as_uri())

    def begin(self, rater: str) -> None:
        self.page.fill("#rater", rater)
        self.page.click("text=Begin")

    def picture(self) -> tuple[str, ...]:
        """The addresses of the pictures shown, after the introduction to a new kind of question."""
        self.page.wait_for_selector("#go:visible, #choices button:enabled")
        if self.page.is_visible("#go"):
            self.page.click("#go")
            self.page.wait_for_selector("#choices button:enabled")
        return tuple(self.page.eval_on_selector_all("#images img", "all => all.map((each) => each.src)"))

    def answer(self, which: int, way: int) -> None:
        """By a click, a tap on the picture, or a key."""
        if way == 0:
            self.page.locator("#choices button").nth(which).click()
        elif way == 1 and self.page.locator("#images img").count() == 2:
            self.page.locator("#images img").nth(which).click()
        else:
            self.page.keyboard.press(("ArrowLeft", "ArrowRight")[which])

    def download(self, folder: Path) -> Path:
        with self.page.expect_download() as caught:
            self.page.click("#save")
        place = folder / caught.value.suggested_filename
        caught.value.save_as(place)
        return place


def scripted_rater(study: Study) -> dict[tuple[str, ...], int]:
    """What a rater with the rates of TRUTH answers to each question, by what is seen; checks are passed."""
    answers, met = {}, dict.fromkeys(TRUTH, 0)
    for trial in study.trials:
        seen = tuple(png_uri(study.pixels(shown)) for shown in trial.shown)
        names = [shown.source for shown in trial.shown]
        if trial.expected:
            answers[seen] = ("real", "left").count(trial.expected) ^ 1
        elif len(names) == 2:
            answers[seen] = names.index("gan")
        else:
            met[names[0]] += 1
            n, rate = met[names[0]], TRUTH[names[0]]
            answers[seen] = 0 if int(n * rate) > int((n - 1) * rate) else 1
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_scripted_person_clicks_through_a_study_and_the_known_error_rate_comes_back(
    browser: Any, tmp_path: Path, size: dict[str, int]
) -> None:
    (tmp_path / "study.html").write_text(PAGE)
    visit, script = Visit(browser, tmp_path / "study.html", size), scripted_rater(STUDY)
    visit.begin("  Ann,   the first ")
    for n in range(100):
        visit.answer(script[visit.picture()], way=n % 3)
        if n in (30, 49, 70):
            visit.page.reload()
    visit.page.wait_for_selector("#end:visible")
    place = visit.download(tmp_path)
    assert place.name == f"answers-{STUDY.id}-Ann-the-first.csv"
    rows = list(csv.DictReader(place.open()))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 100 and {row["rater"] for row in rows} == {"Ann, the first"}
    assert all(0 < int(row["milliseconds"]) < 60_000 for row in rows)
    assert visit.page.input_value("#text") == place.read_text()
    visit.page.click("#copy")
    visit.page.wait_for_selector("#told:has-text('Copied')")

    record = analyse(read_answers(place, STUDY.key(), None), ExclusionConfig(median_seconds=None))
    (rater,) = record["raters"]
    assert rater["failed_checks"] == 0 and rater["checks"] == 10 and rater["excluded"] == []
    for name in ("gan", "vae"):
        rate = record["families"][name]
        assert abs(rate["value"] - TRUTH[name]) <= 1 / rate["n"]
    assert abs(1 - record["real"]["value"] - TRUTH[REAL]) <= 1 / record["real"]["n"]
    assert record["preference"]["families"]["gan"]["won"] == record["preference"]["families"]["gan"]["n"] == 45

    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith(("file://", "data:", "blob:"))] == []
    assert len({url for url in visit.asked if url.startswith("file://")}) == 1


@pytest.mark.slow
def test_on_a_phone_nothing_is_cut_off_and_targets_are_large(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "study.html").write_text(PAGE)
    visit = Visit(browser, tmp_path / "study.html", PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    visit.begin("constructor")  # what every object has, and a rater may be called too
    for mode in range(2):
        for n in range(50):
            visit.picture()
            if n == 0:
                assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
                for what in visit.page.locator("#choices button, #images img").all():
                    box = what.bounding_box()
                    assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 390
                    assert box["y"] + box["height"] <= 844, "one would have to scroll"
                picture = visit.page.locator("#images img").first
                assert picture.evaluate("each => getComputedStyle(each).imageRendering") == "pixelated"
                assert (picture.bounding_box()["width"] - 2) % 12 == 0 and picture.bounding_box()["width"] > 150
            visit.answer(1, way=mode)
    visit.page.wait_for_selector("#end:visible")
    visit.page.click("#another")
    visit.begin("Bob")
    visit.picture()
    assert visit.page.inner_text("#count") == "Question 1 of 100"
    assert visit.said == []


@pytest.mark.slow
def test_a_browser_that_keeps_nothing_still_gets_to_the_end(browser: Any, tmp_path: Path) -> None:
    study = made_study(trials=8, checks=0.0)
    (tmp_path / "study.html").write_text(render_page(study, "shapes"))
    visit = Visit(browser, tmp_path / "study.html", DESK)
    visit.context.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }});")
    visit.page.reload()
    visit.begin("Ann")
    for _ in range(8):
        visit.picture()
        visit.answer(0, way=0)
    visit.page.wait_for_selector("#end:visible")
    assert len(read_answers(visit.download(tmp_path), study.key(), None)) == 8
    assert visit.said == []

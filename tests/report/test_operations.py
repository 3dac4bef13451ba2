import re

from simulacra.report.operations import render_operations

MODEL = "a" * 64


def version(number: int, *aliases: str) -> dict:
    metrics = {"fd_classifier": {"value": 3.0 + number, "std": 0.1}}
    return {
        "number": number,
        "aliases": aliases,
        "family": "gmm",
        "created": f"2026-11-0{number} 03:00:00",
        "model_sha256": MODEL,
        "metrics": metrics,
    }


def look(day: int, *, retrain: bool, p: float | None, sentence: str = "because <of> it.") -> dict:
    return {
        "at": f"2026-11-{day:02d}T03:00:00+00:00",
        "retrain": retrain,
        "new_share": 0.2,
        "p": p,
        "sentence": sentence,
    }


def decision(day: int, winner: str | None, **values: float) -> dict:
    check = {"check": "improvement", "passed": winner is not None, "words": f"FD moved on day {day}"}
    rows = {name.replace("_", " "): {"value": value, "std": 0.2} for name, value in values.items()}
    return {
        "decided_at": f"2026-11-{day:02d}T03:30:00+00:00",
        "champion": "champion (gmm, version 1)",
        "winner": winner,
        "ranked_by": "fd_classifier",
        "sentence": f"{winner or 'nobody'} on day {day}.",
        "challengers": [{"name": "gmm", "passed": winner is not None, "checks": [check]}],
        "rows": rows,
    }


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]).split())


def test_the_page_of_a_project_without_a_champion() -> None:
    said = words(render_operations("toy", [], [], []))
    assert "There is no champion yet." in said and "None yet." in said and "One decision makes no trend." in said


def test_champions_decisions_and_trends_stand_in_order() -> None:
    looks = [look(1, retrain=True, p=None), look(2, retrain=False, p=0.6), look(3, retrain=True, p=0.001)]
    decisions = [decision(1, "gmm", best_challenger=4.0), decision(3, None, champion=4.2, best_challenger=4.1)]
    page = render_operations("toy", [version(2), version(1, "champion")], looks, decisions)
    said = words(page)
    assert "Version 1, gmm, is champion since 2026-11-01 03:00:00 UTC." in said
    assert "Looked at 3 times; in 1 of them there was no need to train." in said
    assert said.index("2026-11-03 03:30 champion (gmm, version 1)") < said.index("2026-11-01 03:30 champion (gmm")
    assert "FD (classifier) 4.00 ± 0.10" in said and "FD moved on day 3" in said and "FD moved on day 1" not in said
    assert page.count("<img") == 2 and "because &lt;of&gt; it." in page
    assert "kedro champion --dataset toy rollback" in said


def test_the_schedule_and_its_last_runs_stand_there() -> None:
    said = words(render_operations("toy", [], [], []))
    assert "Not scheduled: it is retrained when somebody asks for it." in said and "The last runs" not in said
    ticks = [("2026-11-02 03:00", ["schedule", "failed in 2 min 7 s", "vae: exit code 1: loss is <NaN>"])]
    page = render_operations("toy", [], [], [], ["toy is due next on <Monday>."], ticks)
    assert "toy is due next on &lt;Monday&gt;." in page and "loss is &lt;NaN&gt;" in page
    assert "2026-11-02 03:00 schedule failed in 2 min 7 s vae: exit code 1" in words(page)


def test_one_decision_makes_no_trend_and_another_metric_no_line() -> None:
    other = decision(2, None, champion=1.0) | {"ranked_by": "bits_per_byte"}
    page = render_operations("toy", [], [], [decision(1, None, champion=4.0), other])
    assert "One decision makes no trend." in page

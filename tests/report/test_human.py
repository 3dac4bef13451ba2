import pandas as pd
import pytest

from simulacra.human.analysis import analyse
from simulacra.human.answers import Answer
from simulacra.human.config import ExclusionConfig
from simulacra.human.study import REAL
from simulacra.plotting import human_figure
from simulacra.report.human import FAMILY_TITLES, RATER_TITLES, human_section, judged

RULES = ExclusionConfig(answers=5)


def singles(rater: str, shown: str, real: int, generated: int) -> list[Answer]:
    said = ["real"] * real + ["generated"] * generated
    return [Answer(rater, f"{shown}{n}", "real_or_fake", shown, "", word, 2.0, "") for n, word in enumerate(said)]


def pairs(winner: str, loser: str, n: int) -> list[Answer]:
    return [Answer("ann", f"{winner}{n}", "preference", winner, loser, "left", 2.0, "") for n in range(n)]


def record_of(answers: list[Answer], models: dict[str, str] | None = None) -> dict:
    frame = pd.DataFrame(answers, columns=list(Answer._fields))
    return {"study": "abc", "models": models or {}, "real_sha256": "r"} | analyse(frame, RULES)


def metrics_record(row: str, model: str = "new") -> dict:
    return {"row": row, "role": "family", "model_sha256": model, "metrics": {"fd_classifier": {"value": 1.0}}}


ANSWERS = singles("ann", "gan", 6, 4) + singles("ann", "vae", 1, 9) + singles("ann", REAL, 8, 2)
ANSWERS += singles("<bob>", "gan", 6, 4) + singles("cyd", "gan", 1, 1) + pairs("gan", "vae", 3) + pairs("vae", "gan", 1)
RECORD = record_of(ANSWERS, {"gan": "new", "vae": "old"})
RECORDS = [metrics_record("gan"), metrics_record("vae"), metrics_record("flow")]


def test_only_what_people_said_of_the_present_model_joins_its_metrics() -> None:
    gan, vae, flow = (judged(record, RECORD) for record in RECORDS)
    assert gan["metrics"]["human_error_rate"] == {"value": 0.6, "std": None, "per_seed": None}
    assert gan["metrics"]["human_strength"]["value"] == pytest.approx(
        RECORD["preference"]["families"]["gan"]["strength"]
    )
    assert vae == RECORDS[1] and flow == RECORDS[2]
    assert judged(RECORDS[0], None) == judged(RECORDS[0], record_of(ANSWERS)) == RECORDS[0]
    assert "human_error_rate" not in RECORDS[0]["metrics"]


def test_the_section_says_in_words_what_was_found() -> None:
    section = human_section(RECORD, RECORDS)
    said = " ".join(section.sentences)
    assert "2 raters gave the 44 answers that count." in said
    # Both raters say the same of each of ten images: ten answers and not twenty, see tests/human/test_clustered.py.
    assert "Most often taken for real are images of gan: 60.0 % (26.7 to 86.1 %)." in said
    assert "Of real images, 20.0 % (5.7 to 51.0 %) were taken for generated ones" in said and "in 80.0 %." in said
    assert "the best first: gan, vae." in said
    assert "Krippendorff's α of 1.00 over 10 questions" in said and "which of two is better cannot be told" in said
    assert "People judged an older model of vae: the leaderboard leaves that out." in said
    assert section.rules == RECORD["rules"]


def test_the_section_has_a_row_a_family_and_a_row_a_rater() -> None:
    section = human_section(RECORD, RECORDS)
    families, raters = dict(section.families), dict(section.raters)
    assert list(families) == ["gan", "vae", "real images"] and list(raters) == ["<bob>", "ann", "cyd"]
    assert all(len(cells) == len(FAMILY_TITLES) - 1 for cells in families.values())
    assert all(len(cells) == len(RATER_TITLES) - 1 for cells in raters.values())
    assert families["real images"][:2] == ["10", "80.0 % (49.0 to 94.3 %)"]
    assert families["vae"][2:4] == ["4", "1"] and families["vae"][4].startswith("−")
    assert raters["cyd"][-1] == "2 answers" and raters["ann"][-1] == "—"


def test_answers_without_raters_pairs_or_real_images_are_shown_too() -> None:
    record = record_of(singles("", "StyleGAN", 3, 1))
    section = human_section(record, RECORDS)
    assert [name for name, _ in section.families] == ["StyleGAN"] and section.raters == []
    assert "do not tell which models they are about" in " ".join(section.sentences)
    assert len(human_figure(record).axes) == 1 and len(human_figure(RECORD).axes) == 2
    assert len(human_figure(record_of(pairs("gan", "vae", 6))).axes) == 1

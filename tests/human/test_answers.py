from pathlib import Path

import pytest

from simulacra.errors import SimulacraError
from simulacra.human.analysis import analyse
from simulacra.human.answers import read_answers
from simulacra.human.config import ColumnsConfig, ExclusionConfig
from simulacra.human.study import NOISE, REAL

HEADER = "study,rater,trial,answer,milliseconds\n"
KEY = {
    "study": "abc",
    "trials": {
        "t1": {"mode": "real_or_fake", "shown": [{"source": "gan", "row": 3}], "expected": None},
        "t2": {
            "mode": "preference",
            "shown": [{"source": NOISE, "row": 0}, {"source": REAL, "row": 1}],
            "expected": "right",
        },
    },
}


def written(folder: Path, text: str | bytes, name: str = "ann.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_answers_of_the_page_are_joined_with_the_key(tmp_path: Path) -> None:
    written(tmp_path, f'\ufeff{HEADER}abc,"Ann, the first",t1,real,1500\r\n\r\nabc,"Ann, the first",t2,left,800\r\n')
    written(tmp_path, f"{HEADER}abc,bob,t1,generated,700.5\n", "bob.CSV")
    written(tmp_path, "no answers", "notes.txt")
    first, second, third = read_answers(tmp_path, KEY, None).itertuples(index=False, name=None)
    assert first == ("Ann, the first", "t1", "real_or_fake", "gan", "", "real", 1.5, "")
    assert second == ("Ann, the first", "t2", "preference", NOISE, REAL, "left", 0.8, "right")
    assert third[0] == "bob" and third[6] == 0.7005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ann.csv is empty"),
        (HEADER, "ann.csv has no answers, only a header"),
        ("study,rater,trial,answer\nabc,ann,t1,real\n", "ann.csv lacks the column 'milliseconds'; row 1 has study, ra"),
        ("study,study,rater,trial,answer,milliseconds\n", "ann.csv has the column 'study' twice"),
        (f"{HEADER}abc,ann,t9,real,5\n", "ann.csv, row 2: the study has no trial 't9'"),
        (
            f"{HEADER}abc,ann,t1,real,5\nxyz,ann,t1,real,5\n",
            "ann.csv, row 3: the answer is to study 'xyz', the key is o",
        ),
        (f"{HEADER}abc,ann,t1,left,5\n", "ann.csv, row 2: answer is 'left', which is none of 'real', 'generated'"),
        (f"{HEADER}abc,ann,t1,,5\n", "row 2: answer is ''"),
        (f"{HEADER}abc,ann,t1,real,-5\n", "row 2: milliseconds is '-5' and must be a number from 0 up"),
        (f"{HEADER}abc,ann,t1,real,nan\n", "row 2: milliseconds is 'nan'"),
        (f"{HEADER}abc,ann,t1,real,\n", "row 2: milliseconds is ''"),
        (f"{HEADER}abc, ,t1,real,5\n", "row 2: rater is '', which is no name"),
        (f"{HEADER}abc,ann,t1,real\n", "row 2 has 4 columns, the first row 5"),
        (f"{HEADER}abc,ann,t1,real,5\nabc,ann,t1,real,5\n", "ann.csv, row 3: rater 'ann' answered 't1' before, in .*2"),
        (f'{HEADER}abc,"ann,t1,real,5\n', "ann.csv, row 2 cannot be read as CSV"),
        (HEADER.encode() + b"abc,\xff,t1,real,5\n", "ann.csv is no text in UTF-8"),
        (HEADER.encode() + b"abc,a\0,t1,real,x\n", "ann.csv, row"),
    ],
)
def test_what_no_file_should_hold_is_named_with_file_and_row(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SimulacraError, match=message):
        read_answers(written(tmp_path, text), KEY, None)


def test_one_rater_in_two_files_is_told_by_both(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        written(tmp_path, f"{HEADER}abc,ann,t1,real,5\n", name)
    with pytest.raises(SimulacraError, match=r"b\.csv, row 2: rater 'ann' answered 't1' before, in .*a\.csv, row 2"):
        read_answers(tmp_path, KEY, None)


def test_no_place_no_file_and_no_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulacraError, match="has no CSV file: put the answers of raters there"):
        read_answers(tmp_path, KEY, None)
    with pytest.raises(SimulacraError, match="nowhere does not exist"):
        read_answers(tmp_path / "nowhere", KEY, None)
    with pytest.raises(SimulacraError, match="no key of a study: `kedro run --pipeline human_study` makes"):
        read_answers(tmp_path, None, None)


def test_a_file_with_one_answer_a_row_in_words_of_its_own(tmp_path: Path) -> None:
    """As crowd workers' answers are published: who, which image, was it real, what they said, how long."""
    path = written(
        tmp_path,
        "worker;stimulus;is_real;model;response;rt_ms\n"
        "w1;face_01;1;;Real;900\nw1;face_02;0;StyleGAN;Real;1100\nw2;face_02;0;StyleGAN;Fake;\nw2;face_01;1;;Fake;700\n",
    )
    columns = ColumnsConfig(
        shown="is_real", real=1, generated=0, said="response", said_real="Real", said_generated="Fake", rater="worker",
        image="stimulus", family="model", time="rt_ms", time_unit="milliseconds", delimiter=";",
    )  # fmt: skip
    found = read_answers(path, None, columns)
    assert list(found["left"]) == [REAL, "StyleGAN", "StyleGAN", REAL]
    assert list(found["answer"]) == ["real", "real", "generated", "generated"]
    assert found["seconds"].tolist()[:2] == [0.9, 1.1] and found["seconds"].isna().sum() == 1
    record = analyse(found, ExclusionConfig(answers=None))
    assert record["families"]["StyleGAN"]["value"] == 0.5 and record["real"]["value"] == 0.5
    assert record["agreement"]["real_or_fake"]["units"] == 2
    assert any("come without attention checks" in rule for rule in record["rules"])


COUNTED = ColumnsConfig(
    shown="generated", real=0, generated=1, family="model", image="image_path", count="number_guesses",
    count_generated="number_guesses_generated",
)  # fmt: skip


def test_a_file_that_counts_the_answers_to_each_image(tmp_path: Path) -> None:
    """The layout of the per-image data that Stein et al. (2023, arXiv 2306.04675) published with dgm-eval."""
    path = written(
        tmp_path,
        ",model,generated,image_path,number_guesses,number_guesses_generated,soft_label\n"
        "0,ACGAN,0,6/0001.png,2,1,0.5\n1,ACGAN,1,0001.png,4,3,0.75\n2,NVAE,1,0001.png,3,3,1.0\n3,NVAE,0,1/2.png,0,0,\n",
    )
    record = analyse(read_answers(path, None, COUNTED), ExclusionConfig())
    assert record["families"]["ACGAN"] | {"interval": None} == {"value": 0.25, "n": 4, "interval": None}
    assert record["families"]["NVAE"]["value"] == 0 and record["real"]["value"] == 0.5
    assert record["agreement"]["real_or_fake"]["units"] == 3 and record["raters"] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (" ,1,a.png,1,1", "row 2: model is '', which is no name"),
        ("ACGAN,1,,1,1", "row 2: image_path is '', which is no name"),
        ("ACGAN,2,a.png,1,1", "row 2: generated is '2', which is none of '0', '1'"),
        ("ACGAN,1,a.png,1,2", "row 2: number_guesses_generated is 2 of 1 answers in number_guesses"),
        ("ACGAN,1,a.png,1.5,1", "row 2: number_guesses is 1.5 and must be a whole number"),
        ("ACGAN,1,a.png,9999999,1", "row 2: there are more than 5,000,000 answers"),
    ],
)
def test_counts_that_cannot_be_are_named(tmp_path: Path, row: str, message: str) -> None:
    header = "model,generated,image_path,number_guesses,number_guesses_generated\n"
    with pytest.raises(SimulacraError, match=message):
        read_answers(written(tmp_path, f"{header}{row}\n"), None, COUNTED)

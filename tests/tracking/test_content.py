"""What is said of each dataset."""

from pathlib import Path

import pandas as pd

from simulacra.tracking.content import artifact_place, content, split_inputs


def test_flags_become_tags_and_the_last_look_numbers() -> None:
    flag = {"name": "mode_collapse", "step": 300, "symptom": "samples repeat", "remedy": "R1"}
    record = {"train_seconds": 2.0, "samples": {"near_duplicates": 0.9}, "flags": [flag]}
    said = content("training_record", record)
    assert said.metrics == [("train_seconds", 2.0, 0), ("samples/near_duplicates", 0.9, 0)]
    trained = content("training_record", record | {"steps": 400})
    assert ("samples/near_duplicates", 0.9, 400) in trained.metrics, "the end of the curve, not its beginning"
    assert said.tags == {"flag.mode_collapse": "step 300: samples repeat"}


def test_a_history_becomes_curves_with_steps() -> None:
    table = pd.DataFrame({"step": [1, 2], "split": "train", "name": "loss", "value": [0.5, 0.25]})
    assert content("history", table).metrics == [("train/loss", 0.5, 1), ("train/loss", 0.25, 2)]


def test_metrics_bring_their_spread_and_the_passport() -> None:
    record = {"passport_id": "p1", "metrics": {"fid": {"value": 3.0, "std": 0.1}, "kid": {"value": 1.0, "std": None}}}
    said = content("metrics", record)
    assert dict((key, value) for key, value, _ in said.metrics) == {"fid": 3.0, "fid_std": 0.1, "kid": 1.0}
    assert said.tags == {"passport_id": "p1"}
    (row,) = (content("baselines", [record | {"row": "floor"}]).metrics[0],)
    assert row == ("floor/fid", 3.0, 0)


def test_what_was_drawn_by_prompt_gives_its_figures() -> None:
    record = {"seed": 0, "metrics": {"prompt_class_accuracy": 0.9, "prompt_accuracy.thick": 0.8}, "panels": []}
    assert content("prompt_fidelity", record).metrics == [
        ("prompt_class_accuracy", 0.9, 0),
        ("prompt_accuracy.thick", 0.8, 0),
    ]


def test_an_exploration_gives_its_figures_and_not_its_captions() -> None:
    record = {"metrics": {"reconstruction_mse": 0.1, "attribute_r2.slant": 0.9}, "panels": [], "conditional": True}
    assert content("edits", record).metrics == content("exploration", record).metrics
    assert content("exploration", record).metrics == [("reconstruction_mse", 0.1, 0), ("attribute_r2.slant", 0.9, 0)]


def test_of_a_verdict_only_results_are_charted() -> None:
    said = content("verdict", {"verdict": "helps", "difference": 0.1, "n_seeds": 3, "accuracy_real": 0.8})
    assert said.metrics == [("augmentation/difference", 0.1, 0), ("augmentation/accuracy_real", 0.8, 0)]
    assert said.tags == {"augmentation": "helps"}


def test_records_give_their_numbers_and_nothing_else() -> None:
    assert content("training_record", {"seconds": 2, "resumed": True, "device": "cpu"}).metrics == [("seconds", 2.0, 0)]


def test_splits_are_inputs_with_their_hash() -> None:
    (one,) = split_inputs("mnist", {"splits": {"train": {"fingerprint": "f" * 64, "n": 3}}})
    assert one["digest"] == "f" * 32 and one["context"] == "train" and '"n": 3' in one["source"]


def test_a_file_without_a_stage_lies_below_its_folder() -> None:
    assert artifact_place(Path("/somewhere/else/notes.txt")) == "else"


def test_what_people_say_of_a_family_gives_its_figures() -> None:
    said = {"human_error_rate": 0.4, "human_error_rate_low": 0.3, "human_error_rate_high": 0.5}
    record = {"row": "vae", "study": "abc", "model_sha256": "0", "metrics": said}
    assert content("human_metrics", record) == ([(key, value, 0) for key, value in said.items()], {})
    assert content("human_metrics", record | {"metrics": {}}) == ([], {})


def test_of_all_answers_numbers_and_agreement_are_charted_where_there_are_any() -> None:
    record = {"n_raters": None, "n_answers": 8, "real": {"value": 0.25}, "study": "abc"}
    record["agreement"] = {"real_or_fake": {"alpha": 0.5, "units": 4}, "preference": {"alpha": None, "units": 0}}
    keys = {"human/answers": 8, "human/real_error_rate": 0.25, "human/alpha_real_or_fake": 0.5}
    assert content("human_record", record) == ([(key, value, 0) for key, value in keys.items()], {})


def test_a_retraining_says_whether_it_was_time_how_the_champion_did_and_who_takes_over() -> None:
    decision = {"sentence": "Nothing to train.", "drift": {"p": 0.25}}
    assert content("retrain_decision", decision) == ([("drift/p", 0.25, 0)], {"retrain": "Nothing to train."})
    first = {"sentence": "Train gmm.", "drift": {}}
    assert content("retrain_decision", first) == ([], {"retrain": "Train gmm."})
    champion = {"version": 3, "metrics": {"fd_classifier": {"value": 2.0, "std": 0.5}}}
    said = content("champion_record", champion)
    assert said.tags == {"champion": "3"}
    assert said.metrics == [("champion/fd_classifier", 2.0, 0), ("champion/fd_classifier_std", 0.5, 0)]
    assert content("champion_record", {}) == ([], {})
    gate = content("gate_record", {"takes_over": True, "sentence": "gmm takes over."})
    assert gate == ([("gate/takes_over", 1.0, 0)], {"gate": "gmm takes over."})

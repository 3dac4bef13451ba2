"""What the answers say: who is left out and why, error rates with intervals, raters, agreement and a ranking."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simulacra.errors import SimulacraError
from simulacra.human.agreement import krippendorff_alpha
from simulacra.human.bradley_terry import HALF_WIN, fit_strengths
from simulacra.human.clustered import clustered_share
from simulacra.human.config import ExclusionConfig
from simulacra.human.study import ANSWERS, REAL

if TYPE_CHECKING:
    from pandas import DataFrame

Record = dict[str, Any]


def analyse(answers: "DataFrame", exclude: ExclusionConfig) -> Record:
    """Return all that is found, fit for JSON.

    Args:
        answers: what `simulacra.human.answers.read_answers` returned.
        exclude: whose answers are left out.

    Returns:
        `rules` in words; `raters`, one entry a rater with the reasons why they were left out, if any; of the answers
        that are left, `families` and `real` with error rates, `agreement` by mode and `preference`.

    Raises:
        SimulacraError: where the rules leave nobody.
    """
    raters = [rater_record(str(name), given, exclude) for name, given in answers.groupby("rater") if name]
    out = {rater["rater"] for rater in raters if rater["excluded"]}
    if raters and len(out) == len(raters):
        reasons = "; ".join(f"{rater['rater']}: {', '.join(rater['excluded'])}" for rater in raters[:3])
        raise SimulacraError(
            f"the rules of human_results.exclude leave none of {len(raters)} raters ({reasons}): ask more people, or "
            "relax the rules"
        )
    left = answers[~answers["rater"].isin(out) & (answers["expected"] == "")]
    return {
        "rules": rules(answers, exclude),
        "raters": raters,
        "n_raters": len(raters) - len(out) if raters else None,
        "n_answers": len(left),
        **error_rates(left),
        "agreement": {mode: agreement(left[left["mode"] == mode]) for mode in ANSWERS if mode in set(left["mode"])},
        "preference": preference(left[left["mode"] == "preference"]),
    }


def rules(answers: "DataFrame", exclude: ExclusionConfig) -> list[str]:
    """Return in sentences whose answers are left out, as far as the answers let it be told."""
    if not (answers["rater"] != "").any():
        return ["Nobody is left out: the file does not tell raters apart."]
    checks, times = (answers["expected"] != "").any(), answers["seconds"].notna().any()
    said = []
    if exclude.failed_checks is not None and checks:
        said.append(f"Left out: raters who failed more than {100 * exclude.failed_checks:g} % of the attention checks.")
    if exclude.median_seconds is not None and times:
        said.append(f"Left out: raters whose median time to an answer is below {exclude.median_seconds:g} s.")
    if exclude.answers is not None:
        said.append(f"Left out: raters with fewer than {exclude.answers:,} answers, attention checks not counted.")
    lacking = [what for what, there in (("attention checks", checks), ("times", times)) if not there]
    said += [f"The answers come without {what}, so that no rule looks at them." for what in lacking]
    return said or ["Nobody is left out: no rule is switched on."]


def rater_record(name: str, given: "DataFrame", exclude: ExclusionConfig) -> Record:
    """Return one rater's figures, and the reasons why their answers are left out: none where they are not."""
    checks, questions = given[given["expected"] != ""], given[given["expected"] == ""]
    failed = int((checks["answer"] != checks["expected"]).sum())
    seconds = questions["seconds"].median() if questions["seconds"].notna().any() else None
    single = questions[questions["mode"] == "real_or_fake"]
    right = (single["left"] == REAL) == (single["answer"] == "real")
    reasons = []
    if exclude.failed_checks is not None and failed > exclude.failed_checks * len(checks):
        reasons.append(f"failed {failed} of {len(checks)} attention checks")
    if exclude.median_seconds is not None and seconds is not None and seconds < exclude.median_seconds:
        reasons.append(f"median time {seconds:.2f} s")
    if exclude.answers is not None and len(questions) < exclude.answers:
        reasons.append(f"{len(questions)} answers")
    return {
        "rater": name,
        "answers": len(questions),
        "accuracy": float(right.mean()) if len(single) else None,
        "said_real": float((single["answer"] == "real").mean()) if len(single) else None,
        "checks": len(checks),
        "failed_checks": failed,
        "median_seconds": None if seconds is None else float(seconds),
        "excluded": reasons,
    }


def error_rates(left: "DataFrame") -> Record:
    """Return of each family the share of its images taken for real, and of real ones the share taken for generated."""
    single = left[left["mode"] == "real_or_fake"]
    families = {str(name): _share(given, "real") for name, given in single[single["left"] != REAL].groupby("left")}
    return {"families": families, "real": _share(single[single["left"] == REAL], "generated")}


def _share(given: "DataFrame", answer: str) -> Record:
    """Return how often the answer was given; images and raters without a name are taken for ones of their own."""
    from pandas import factorize

    hits = (given["answer"] == answer).to_numpy()
    named = [given[column].where(given[column] != "", given.index.astype(str)) for column in ("unit", "rater")]
    return clustered_share(hits, [factorize(each)[0] for each in named])


def agreement(given: "DataFrame") -> Record:
    """Return Krippendorff's α of the answers in one mode, and of how many images or pairs with two answers or more."""
    mode = given["mode"].iloc[0]
    known = given[given["unit"] != ""]
    counts = known.groupby(["unit", "answer"]).size().unstack(fill_value=0).reindex(columns=ANSWERS[mode], fill_value=0)
    table = counts.to_numpy(dtype=np.int64).reshape(-1, 2)
    return {"alpha": krippendorff_alpha(table), "units": int((table.sum(axis=1) > 1).sum())}


def preference(given: "DataFrame") -> Record | None:
    """Return strengths by Bradley and Terry; None where nobody was asked for a preference."""
    if given.empty:
        return None
    first = given["answer"] == "left"
    winners, losers = given["left"].where(first, given["right"]), given["right"].where(first, given["left"])
    names = sorted({*winners, *losers})
    wins = np.zeros((len(names), len(names)))
    np.add.at(wins, ([names.index(name) for name in winners], [names.index(name) for name in losers]), 1.0)
    fit = fit_strengths(wins)
    entries = {
        name: {
            "strength": float(fit.values[place]),
            "interval": fit.intervals[place].tolist(),
            "won": int(wins[place].sum()),
            "n": int(wins[place].sum() + wins[:, place].sum()),
        }
        for place, name in enumerate(names)
    }
    ranking = dict(sorted(entries.items(), key=lambda entry: -entry[1]["strength"]))
    return {"families": ranking, "note": _regularised(ranking) if fit.regularised else ""}


def _regularised(families: Mapping[str, Record]) -> str:
    """Return why the strengths are not the plain estimate."""
    always = [name for name, entry in families.items() if entry["won"] == entry["n"]]
    never = [name for name, entry in families.items() if not entry["won"]]
    why = [f"{name} won all its comparisons" for name in always] + [f"{name} won none" for name in never]
    reason = ", ".join(why) or "some families are linked by no chain of wins"
    return (
        f"There is no finite estimate from the answers alone ({reason}), so {HALF_WIN:g} wins were added to each side "
        "of every pair: strengths and intervals are drawn towards each other."
    )


def family_metrics(record: Record, family: str) -> dict[str, float]:
    """Return one family's figures under the keys of the tracked metrics; none where nobody judged it."""
    rate = record["families"].get(family)
    metrics = _with_interval("human_error_rate", rate["value"], rate["interval"]) if rate else {}
    strength = ((record["preference"] or {}).get("families") or {}).get(family)
    return metrics | (_with_interval("human_strength", strength["strength"], strength["interval"]) if strength else {})


def _with_interval(key: str, value: float, interval: list[float]) -> dict[str, float]:
    return {key: value, f"{key}_low": interval[0], f"{key}_high": interval[1]}

"""What is left of a finding by chance once many have been looked for."""

from collections.abc import Mapping


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Return p-values for all hypotheses together: below α, the chance of any false finding is below α (Holm 1979).

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    found: dict[str, float] = {}
    largest = 0.0
    for place, (key, p) in enumerate(sorted(chances.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, (len(chances) - place) * p))
        found[key] = largest
    return found

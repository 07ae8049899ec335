"""Which forms are kept, by what they cost and what they answer."""

import numpy as np
import pytest
from inferry.prepare.trials import Cost, Trial
from inferry.prepare.verdict import judged

PLAIN = Cost(1.0, 0.1, 100e6)
BEST = Cost(0.1, 0.1, 10e6)


def trial(cost: Cost, answer: float = 1.0, signature: str = "x", failures: tuple[str, ...] = ()) -> Trial:
    answers = {"0 y": np.array([answer], np.float32)}
    return Trial(cost, [signature], dict.fromkeys(failures, "it failed"), answers)


def reason(portable: Trial, *, size: int = 100_000_000, tolerance: float = 0.0, is_recurrent: bool = False) -> str:
    sizes = {"original": 100_000_000, "portable": size}
    found = {"original": trial(PLAIN), "portable": portable}
    return judged(sizes, found, {}, tolerance=tolerance, is_recurrent=is_recurrent)[1].reason


@pytest.mark.parametrize("cost", [Cost(0.89, 0.1, 100e6), Cost(1.0, 0.089, 100e6), Cost(1.04, 0.104, 89e6)])
def test_what_is_better_in_one_thing_is_kept(cost: Cost) -> None:
    assert reason(trial(cost)) == ""


@pytest.mark.parametrize(
    ("portable", "said"),
    [
        (trial(Cost(0.91, 0.1, 100e6)), "it wins neither in its load nor in its run nor in its memory"),
        (trial(Cost(0.1, 0.106, 10e6)), "its run is 1.06 times the model's own"),
        (trial(Cost(1.2, 0.2, 10e6)), "its load is 1.20 times the model's own, its run is 2.00 times the model's own"),
        (trial(Cost(0.1, 0.1, 106e6)), "its memory is 1.06 times the model's own"),
        (trial(BEST, answer=1.5), "its answers differ by up to 0.5, more than the tolerance of 0"),
        (trial(BEST, signature="z"), "its inputs or outputs are others than the model's"),
        (trial(BEST, failures=("0",)), "it fails with other inputs than the model does"),
    ],
)
def test_why_a_form_is_not_kept(portable: Trial, said: str) -> None:
    assert reason(portable) == said


def test_a_tolerance_lets_answers_differ() -> None:
    assert reason(trial(BEST, answer=1.5), tolerance=0.5) == ""


def test_bytes_have_a_bound() -> None:
    assert reason(trial(BEST), size=210_000_000) == ""
    assert reason(trial(BEST), size=211_000_000) == "its files have 2.11 times the model's bytes, more than 2.1"
    assert reason(trial(BEST), size=103_000_000, is_recurrent=True).endswith("more than 1.02")


def test_a_native_form_wins_over_the_portable_one() -> None:
    sizes = dict.fromkeys(("original", "portable", "native"), 100_000_000)
    found = {"original": trial(PLAIN), "portable": trial(BEST), "native": trial(BEST)}
    lines = judged(sizes, found, {}, tolerance=0.0, is_recurrent=False)
    assert [line.reason for line in lines] == ["", "", "it wins nothing over the portable form"]

"""What ends a run ends that one, whenever it comes."""

from dataclasses import dataclass

from inferry.runtime.cancellation import Cancellation


@dataclass
class Work:
    terminate: bool = False


def test_before_during_and_after_a_run() -> None:
    works = []
    for moment in ("before", "during", "after", "never"):
        cancellation, work = Cancellation(), Work()
        if moment == "before":
            cancellation.cancel()
        cancellation.begin(work)
        if moment == "during":
            cancellation.cancel()
        ended = cancellation.end()
        if moment == "after":
            cancellation.cancel()
        works.append((moment, work.terminate, ended))
    assert works == [("before", True, True), ("during", True, True), ("after", False, False), ("never", False, False)]

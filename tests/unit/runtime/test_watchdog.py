"""The watchdog ends what is over its deadline, and nothing else."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from inferry.runtime.watchdog import Watchdog


@dataclass
class Work:
    terminate: bool = False


def wait_for(work: Work, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not work.terminate and time.monotonic() < end:
        time.sleep(0.005)
    return work.terminate


def test_work_over_its_deadline_is_ended() -> None:
    watchdog, work = Watchdog(), Work()
    start = time.monotonic()
    watchdog.watch(work, start + 0.1)
    assert wait_for(work)
    assert time.monotonic() - start >= 0.1


def test_an_earlier_deadline_than_the_one_waited_for_wakes_the_thread() -> None:
    watchdog, late, early = Watchdog(), Work(), Work()
    watchdog.watch(late, time.monotonic() + 60)
    watchdog.watch(early, time.monotonic() + 0.05)
    assert wait_for(early)
    assert not late.terminate


def test_a_deadline_after_an_idle_time_is_kept() -> None:
    watchdog, first, second = Watchdog(), Work(), Work()
    watchdog.watch(first, time.monotonic() + 0.05)
    watchdog.release(first)
    time.sleep(0.2)
    watchdog.watch(second, time.monotonic() + 0.05)
    assert wait_for(second)


def test_released_work_is_left_alone() -> None:
    watchdog, done, other = Watchdog(), Work(), Work()
    watchdog.watch(done, time.monotonic() + 0.05)
    watchdog.release(done)
    watchdog.watch(other, time.monotonic() + 0.1)
    assert wait_for(other)
    assert not done.terminate


def test_all_of_many_are_ended() -> None:
    watchdog, works = Watchdog(), [Work() for _ in range(50)]
    for index, work in enumerate(works):
        watchdog.watch(work, time.monotonic() + 0.01 * (50 - index))
    assert all(wait_for(work) for work in works)


class Provoking:
    """Does something at the moment that the watchdog ends it."""

    def __init__(self, provoke: Callable[[], None]) -> None:
        self.provoke = provoke
        self.terminated = False

    @property
    def terminate(self) -> bool:
        return self.terminated

    @terminate.setter
    def terminate(self, value: bool) -> None:
        if not self.terminated:
            self.terminated = value
            self.provoke()


def test_work_that_comes_while_the_thread_looks_is_not_slept_through() -> None:
    watchdog, second = Watchdog(), Work()

    def come() -> None:
        coming = threading.Thread(target=watchdog.watch, args=(second, time.monotonic() + 0.3))
        coming.start()
        while id(second) not in watchdog._watched:
            time.sleep(0.001)
        coming.join()

    watchdog.watch(Provoking(come), time.monotonic() + 0.05)
    assert wait_for(second)

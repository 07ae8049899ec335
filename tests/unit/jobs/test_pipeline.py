"""Chunks of items that threads take through all stages of work."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from inferry.jobs.pipeline import ordered_map

THREADS = 3


def made(items: Iterable[int], act: Callable[[int], Any], shared: bool = True) -> list[Any]:
    with ordered_map(chunks(items), act, lambda: shared, str, THREADS) as found:
        return list(found)


def chunks(items: Iterable[int]) -> Iterator[Callable[[], Sequence[int]]]:
    """A chunk for each item."""
    return (partial(list, [item]) for item in items)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("count", [0, 1, THREADS, 200])
def test_the_order_is_that_of_the_items(count: int, shared: bool) -> None:
    assert made(range(count), lambda item: item * 2, shared) == [str(item * 2) for item in range(count)]


def test_the_order_does_not_depend_on_who_is_ready_first() -> None:
    """The first waits for the second: alone it would not end."""
    ready = threading.Event()

    def act(item: int) -> int:
        if item:
            ready.set()
        else:
            assert ready.wait(10)
        return item

    assert made(range(2), act) == ["0", "1"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_chunk_starts_no_thread(count: int) -> None:
    names = made(range(count), lambda _: threading.current_thread().name)
    assert (threading.current_thread().name in names) == (count == 1)


def test_acts_that_are_not_shared_are_one_behind_the_other() -> None:
    acting, most = [0], []

    def act(item: int) -> None:
        acting[0] += 1
        most.append(acting[0])
        threading.Event().wait(1e-3)
        acting[0] -= 1

    made(range(20), act, shared=False)
    assert most == [1] * 20


def test_what_is_ready_is_finished_while_another_acts() -> None:
    """The second act waits until the first item is through its last stage."""
    through = threading.Event()

    def act(item: int) -> int:
        assert not item or through.wait(10)
        return item

    def then(item: int) -> int:
        through.set()
        return item

    with ordered_map(chunks(range(2)), act, lambda: False, then, THREADS) as found:
        assert list(found) == [0, 1]


@pytest.mark.parametrize("shared", [True, False])
def test_a_chunk_may_have_any_number_of_items(shared: bool) -> None:
    sizes = [2, 0, 1, 3]
    parts: list[Any] = [partial(list, [f"{number}{item}" for item in range(size)]) for number, size in enumerate(sizes)]
    with ordered_map(parts, str, lambda: shared, str, THREADS) as found:
        assert list(found) == ["00", "01", "20", "30", "31", "32"]


def test_chunks_are_called_side_by_side_while_another_acts() -> None:
    """The first chunk waits for the call of the second, the first act for that of the third."""
    called = [threading.Event() for _ in range(3)]

    def chunk(number: int) -> list[int]:
        called[number].set()
        assert number or called[1].wait(10)
        return [number]

    def act(item: int) -> int:
        assert item or called[2].wait(10)
        return item

    with ordered_map([partial(chunk, number) for number in range(3)], act, lambda: False, int, THREADS) as found:
        assert list(found) == [0, 1, 2]


@pytest.mark.parametrize("shared", [True, False])
def test_every_chunk_that_was_taken_is_called(shared: bool) -> None:
    """Others may wait for what it says."""
    taken: list[int] = []
    called: list[int] = []

    def endless() -> Iterator[Callable[[], Sequence[int]]]:
        while True:
            taken.append(number := len(taken))
            yield lambda number=number: called.append(number) or [number]  # type: ignore[misc]

    with ordered_map(endless(), int, lambda: shared, int, THREADS) as found:
        assert next(iter(found)) == 0
    assert sorted(called) == taken


def _items(last: int) -> Iterable[int]:
    yield from range(last)
    raise ValueError("the end of the items")


def _broken(item: int) -> int:
    if item == 2:
        raise ValueError("an act")
    return item


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("items", "act", "then", "reason", "expected"),
    [
        (lambda: _items(5), int, int, "the end of the items", [0, 1, 2, 3, 4]),
        (lambda: range(9), _broken, int, "an act", [0, 1]),
        (lambda: range(9), int, _broken, "an act", [0, 1]),
    ],
)
def test_errors_come_behind_what_was_before_them(
    items: Callable[[], Iterable[int]], act: Any, then: Any, reason: str, expected: list[int], shared: bool
) -> None:
    found: list[int] = []
    with (
        pytest.raises(ValueError, match=reason),
        ordered_map(chunks(items()), act, lambda: shared, then, THREADS) as things,
    ):
        found.extend(things)
    assert found == expected


@pytest.mark.parametrize("shared", [True, False])
def test_all_threads_have_ended_when_the_block_does(shared: bool) -> None:
    """Also when nobody takes what they make; of items without end few were taken, and fewer were begun with."""
    before, count = threading.active_count(), 0

    def items() -> Iterable[int]:
        nonlocal count
        while True:
            count += 1
            yield count

    with ordered_map(chunks(items()), int, lambda: shared, int, THREADS) as found:
        assert next(iter(found)) == 1
    assert threading.active_count() == before
    # One was taken, some wait in the queue, and each thread had another in hand when it was told to stop.
    assert count <= 1 + 2 * THREADS + THREADS


def test_nobody_begins_an_act_when_it_is_too_late() -> None:
    """A run that waits for another is not begun when the time of its job is over."""
    acts, first, over = [], threading.Event(), threading.Event()

    def act(item: int) -> int:
        acts.append(item)
        first.set()
        assert over.wait(10)
        return item

    with ordered_map(chunks(range(9)), act, lambda: False, int, THREADS):
        assert first.wait(10)
        threading.Timer(0.05, over.set).start()
    assert acts == [0]

"""Remote write byte by byte, and what is in the batches of a process's life."""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferry.observability.catalogue import COUNTER, GAUGE, HISTOGRAM, Metric
from inferry.observability.registry import Family
from inferry.observability.sinks import wire
from inferry.observability.sinks.series import GAP_MS, MOST, PAST_MS, REPEAT_MS, SILENCE_MS, Batch, SeriesLog
from inferry.observability.stats import Histogram


def test_a_request_byte_by_byte() -> None:
    """As Prometheus' own remote.proto and protobuf's encoding say it."""
    encoded = b"".join(wire.series(wire.labels({"job": "j", "__name__": "up", "empty": ""}), [(300, 1.0)]))
    name = b"\x0a\x08__name__\x12\x02up"
    job = b"\x0a\x03job\x12\x01j"
    sample = b"\x09" + struct.pack("<d", 1.0) + b"\x10\xac\x02"
    content = b"\x0a\x0e" + name + b"\x0a\x08" + job + b"\x12\x0c" + sample
    assert encoded == b"\x0a" + bytes([len(content)]) + content


def unpacked(block: bytes) -> bytes:
    """As Google's library reads it, within Arrow."""
    size, _ = read_varint(block, 0)
    data: bytes = pyarrow.decompress(block, decompressed_size=size, codec="snappy", asbytes=True)
    return data


@pytest.mark.parametrize("size", [1, 59, 60, 61, 127, 128, 65535, 65536, 65537, 200_000])
def test_snappy_of_what_does_not_repeat(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert unpacked(wire.snappy([data[:size]])) == data[:size]


@given(st.lists(st.sampled_from([b"a", b"bc", b"d" * 63, b"e" * 64, b"f" * 65, b"g" * 300, b"h" * 70_000]), min_size=1))
def test_snappy_of_what_repeats(parts: list[bytes]) -> None:
    assert unpacked(wire.snappy(parts)) == b"".join(parts)


def test_snappy_of_many_series_is_a_fraction(log: SeriesLog) -> None:
    families = [Family(EVENTS, {(str(number),): number + 1 for number in range(500)})]
    (batch,) = log.changes(families, T)
    block = wire.snappy(batch.body)
    assert unpacked(block) == b"".join(batch.body)
    assert len(block) * 4 < sum(map(len, batch.body))


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (1 << 41, b"\x80" * 5 + b"\x40")]
)
def test_varint(number: int, encoded: bytes) -> None:
    assert wire.varint(number) == encoded
    assert read_varint(encoded, 0) == (number, len(encoded))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return number, at


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """A protobuf message's fields: number and content."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            number, at = read_varint(data, at)
            yield key >> 3, number
            continue
        length, at = read_varint(data, at) if key & 7 == 2 else (8, at)
        yield key >> 3, data[at : at + length]
        at += length


Points = list[tuple[int, float]]


def decoded(*batches: Batch) -> dict[str, Points]:
    """The points of batches by name and labels, the stale marker as infinity; job and instance are left out."""
    found = {}
    for _, series in fields(b"".join(part for batch in batches for part in batch.body)):
        labels: dict[str, str] = {}
        points: Points = []
        for number, content in fields(series):
            parts = dict(fields(content))
            if number == 1:
                labels[parts[1].decode()] = parts[2].decode()
            else:
                (value,) = struct.unpack("<d", parts[1])
                points.append((parts[2], math.inf if math.isnan(value) else value))
        assert list(labels) == sorted(labels)
        assert labels.pop("job") == "app"
        assert labels.pop("instance")
        found[labels.pop("__name__") + "".join(f"{{{name}={value}}}" for name, value in labels.items())] = points
    assert sum(batch.size for batch in batches) == sum(len(points) for points in found.values())
    return found


EVENTS = Metric("events_total", COUNTER, "events", ("why",), "")
LEVEL = Metric("level", GAUGE, "", (), "")
SIZES = Metric("sizes", HISTOGRAM, "", (), "", (1,))

T = 1_800_000_000_000


def before(value: float, at: int) -> Points:
    return [(at - earlier, value) for earlier in (5, 4, 3, 2, 1)]


@pytest.fixture
def log() -> SeriesLog:
    return SeriesLog("app")


Push = Callable[..., dict[str, Points]]


@pytest.fixture
def push(log: SeriesLog) -> Push:
    """`push(at, a=1, level=2)` sends the counter events{why=a} and the gauge; `taken=False` when nothing comes back."""

    def push(at: int, *, taken: bool = True, level: float | None = None, **events: float) -> dict[str, Points]:
        families = [Family(EVENTS, {(why,): value for why, value in events.items()})]
        if level is not None:
            families.append(Family(LEVEL, {(): level}))
        batches = []
        for batch in log.changes(families, at):
            log.doubted(batch)
            if taken:
                log.taken(batch)
            batches.append(batch)
        return decoded(*batches)

    return push


def test_a_counter_begins_at_zero_and_then_only_changes_are_told(push: Push) -> None:
    assert push(T, a=3, b=0, level=0) == {"events_total{why=a}": [*before(0, T), (T, 3)], "level": [(T, 0)]}
    assert push(T + 1000, a=3, b=0, level=0) == {}
    at = T + 2000
    assert push(at, a=4, b=2, level=1) == {
        "events_total{why=a}": [(at, 4)],
        "events_total{why=b}": [*before(0, at), (at, 2)],
        "level": [(at, 1)],
    }


def test_a_histogram(log: SeriesLog) -> None:
    assert decoded(*log.changes([Family(SIZES, {(): Histogram((0, 2), 7.5)})], T)) == {
        "sizes_bucket{le=+Inf}": [*before(0, T), (T, 2)],
        "sizes_sum": [*before(0, T), (T, 7.5)],
        "sizes_count": [*before(0, T), (T, 2)],
    }


def test_after_a_silence_the_value_before_is_told_again(push: Push) -> None:
    push(T, a=3, level=1)
    at = T + SILENCE_MS + 1
    assert push(at, a=4, level=2) == {"events_total{why=a}": [*before(3, at), (at, 4)], "level": [(at, 2)]}
    at += REPEAT_MS + 1
    assert push(at, a=4, level=2) == {"level": [(at, 2)]}


def test_a_batch_holds_some_thousand_samples(log: SeriesLog) -> None:
    """The next ones have the rest; so has the farewell. What was not taken comes again."""
    families = [Family(EVENTS, {(str(number),): number + 1 for number in range(3 * MOST)})]
    told: dict[str, Points] = {}
    sizes = []
    log.taken(next(log.changes(families, T)))
    for batch in log.changes(families, T):
        log.taken(batch)
        told |= decoded(batch)
        sizes.append(batch.size)
    first = -(-MOST // 6)
    assert told.keys() == {f"events_total{{why={number}}}" for number in range(first, 3 * MOST)}
    assert all(points[-1][1] == int(name[17:-1]) + 1 for name, points in told.items())
    assert sum(sizes) == 6 * (3 * MOST - first)
    assert max(sizes) < MOST + 6
    ends = []
    for batch in log.farewell(T):
        log.taken(batch)
        ends.append(batch.size)
    assert ends == [MOST] * 3


def test_after_a_long_silence_its_minutes_are_told(push: Push) -> None:
    """In steps of five minutes, and not of the time that a store takes no more samples of."""
    push(T, a=3)
    at = T + 3 * GAP_MS + 100_000
    between = [(at - steps * GAP_MS, 3) for steps in (3, 2, 1)]
    assert push(at, a=4) == {"events_total{why=a}": [*between, *before(3, at), (at, 4)]}
    later = at + 10 * 3_600_000
    points = push(later, a=5)["events_total{why=a}"]
    assert points[-6:] == [*before(4, later), (later, 5)]
    assert points[:-6] == [(later - steps * GAP_MS, 4) for steps in range(10, 0, -1)]
    assert later - points[0][0] < 3_600_000


def test_a_counter_that_stands_still_is_told_within_the_hour(push: Push) -> None:
    push(T, a=3)
    assert push(T + PAST_MS, a=3) == {}
    at = T + PAST_MS + 1
    assert push(at, a=3) == {"events_total{why=a}": [*((at - n * GAP_MS, 3) for n in range(9, 0, -1)), (at, 3)]}
    assert push(at + 1000, a=3) == {}


def test_what_may_have_arrived_is_never_preceded_again(push: Push) -> None:
    """A zero behind a value that the store has would pass for a counter that began again."""
    push(T, a=3, level=1, taken=False)
    assert push(T + 1000, a=3, level=1) == {"events_total{why=a}": [(T + 1000, 3)], "level": [(T + 1000, 1)]}
    push(T + 2000, a=4, level=1, taken=False)
    at = T + 2000 + SILENCE_MS + 1
    assert push(at, a=5, level=1) == {"events_total{why=a}": [(at, 5)]}


def test_time_only_goes_forward(push: Push) -> None:
    times = [max(at for points in push(T - back, a=back + 1).values() for at, _ in points) for back in (0, 5000, 9000)]
    assert times[0] == T
    assert times == [T, T + 1, T + 2]


def test_what_is_gone_ends(push: Push, log: SeriesLog) -> None:
    push(T, a=3, level=1)
    assert push(T + 1000, a=3) == {"level": [(T + 1000, math.inf)]}
    assert push(T + 2000, a=3, level=1) == {"level": [(T + 2000, 1)]}
    assert decoded(*log.farewell(T + 3000)) == {
        "events_total{why=a}": [(T + 3000, math.inf)],
        "level": [(T + 3000, math.inf)],
    }


def test_nothing_was_told_and_so_nothing_ends(push: Push, log: SeriesLog) -> None:
    assert push(T, a=0) == {}
    assert list(log.farewell(T)) == []


def test_another_process_is_another_instance(push: Push, log: SeriesLog) -> None:
    push(T, a=3)
    instance = log.instance
    log.renew()
    assert log.instance != instance
    assert push(T + 1000, a=1) == {"events_total{why=a}": [*before(0, T + 1000), (T + 1000, 1)]}

"""Columns that are carried over, of every type and from every format, into every format: as they are, or refused."""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrayfiles import npz
from inferry.errors import NotSupported
from inferry.jobs import part_writer
from inferry.jobs.report import Report
from inferry.jobs.runner import Job, run
from inferry.service import Service
from inferry.settings import Settings


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = onnx_models.write(tmp_path_factory.mktemp("models"), {"m.onnx": onnx_models.identity("FP32", ("n", 1))})
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    yield service
    service.close()


Keep = Callable[..., Any]


@pytest.fixture
def keep(service: Service, tmp_path: Path) -> Keep:
    """`keep("x.jsonl", content, "csv")` is the column `k` of the results."""

    def go(name: str, content: bytes, to: str) -> Any:
        (tmp_path / name).write_bytes(content)
        report = run(Job(input=f"{tmp_path}/{name}", output=f"{tmp_path}/out/", to=to, keep=("k",)), service)
        return kept(report, to)

    return go


def kept(report: Report, to: str) -> Any:
    content = Path(report.output).read_bytes()
    if to == "parquet":
        return pq.read_table(BytesIO(content))["k"]
    if to == "csv":
        return [row["k"] for row in csv.DictReader(StringIO(content.decode()))]
    return [json.loads(line)["k"] for line in content.splitlines()]


# A value of each type (Parquet makes milliseconds of seconds), its value in JSON Lines and its cell in CSV.
MOMENT = datetime(2024, 2, 29, 1, 2, 3, 456789, UTC)
REFUSED = None  # the format has no form for it
TYPES: dict[str, tuple[pa.DataType, Any, Any, Any]] = {
    "bool": (pa.bool_(), True, True, "true"),
    "int8": (pa.int8(), -128, -128, "-128"),
    "int16": (pa.int16(), -5, -5, "-5"),
    "int32": (pa.int32(), -5, -5, "-5"),
    "int64": (pa.int64(), 2**53 + 1, 2**53 + 1, str(2**53 + 1)),
    "uint8": (pa.uint8(), 255, 255, "255"),
    "uint16": (pa.uint16(), 5, 5, "5"),
    "uint32": (pa.uint32(), 2**32 - 1, 2**32 - 1, str(2**32 - 1)),
    "uint64": (pa.uint64(), 2**64 - 1, 2**64 - 1, str(2**64 - 1)),
    "float16": (pa.float16(), np.float16(1.5), 1.5, "1.5"),
    "float32": (pa.float32(), 0.25, 0.25, "0.25"),
    "float64": (pa.float64(), 0.1, 0.1, "0.1"),
    "string": (pa.string(), "ü", "ü", "ü"),
    "large_string": (pa.large_string(), "a,b", "a,b", "a,b"),
    "string_view": (pa.string_view(), 'say "a"', 'say "a"', 'say "a"'),
    "binary": (pa.binary(), b"\0\xff", REFUSED, REFUSED),
    "large_binary": (pa.large_binary(), b"\0\xff", REFUSED, REFUSED),
    "binary_view": (pa.binary_view(), b"\0\xff", REFUSED, REFUSED),
    "fixed_size_binary": (pa.binary(2), b"\0\xff", REFUSED, REFUSED),
    "date32": (pa.date32(), date(2024, 2, 29), "2024-02-29", "2024-02-29"),
    "date64": (pa.date64(), date(2024, 2, 29), "2024-02-29", "2024-02-29"),
    "time32": (pa.time32("s"), time(1, 2, 3), "01:02:03.000", "01:02:03.000"),
    "time64": (pa.time64("ns"), time(1, 2, 3, 4), "01:02:03.000004000", "01:02:03.000004000"),
    "timestamp of seconds": (
        pa.timestamp("s"),
        MOMENT.replace(microsecond=0),
        "2024-02-29 01:02:03.000",
        "2024-02-29 01:02:03.000",
    ),
    "timestamp": (pa.timestamp("us"), MOMENT, "2024-02-29 01:02:03.456789", "2024-02-29 01:02:03.456789"),
    "timestamp in UTC": (
        pa.timestamp("us", "UTC"),
        MOMENT,
        "2024-02-29 01:02:03.456789Z",
        "2024-02-29 01:02:03.456789Z",
    ),
    "timestamp of nanoseconds": (
        pa.timestamp("ns"),
        pa.scalar(1, pa.timestamp("ns")),
        "1970-01-01 00:00:00.000000001",
        "1970-01-01 00:00:00.000000001",
    ),
    "timestamp of the year 12000": (
        pa.timestamp("s"),
        pa.scalar(int(np.datetime64("12000-08-16T02:00:00", "s").astype(int)), pa.timestamp("s")),
        "12000-08-16 02:00:00.000",
        "12000-08-16 02:00:00.000",
    ),
    "duration": (pa.duration("s"), timedelta(seconds=1), REFUSED, REFUSED),
    "decimal32": (pa.decimal32(5, 2), Decimal("1.10"), "1.10", "1.10"),
    "decimal64": (pa.decimal64(15, 2), Decimal("1.10"), "1.10", "1.10"),
    "decimal128": (pa.decimal128(38, 2), Decimal("1.10"), "1.10", "1.10"),
    "decimal256": (pa.decimal256(76, 2), Decimal("1.10"), "1.10", "1.10"),
    "list": (pa.list_(pa.int64()), [1, None], [1, None], "[1,null]"),
    "list of text views": (pa.list_(pa.string_view()), ["a"], ["a"], '["a"]'),
    "large_list": (pa.large_list(pa.float64()), [0.5], [0.5], "[0.5]"),
    "fixed_size_list": (pa.list_(pa.int8(), 2), [1, 2], [1, 2], "[1,2]"),
    "list_view": (pa.list_view(pa.int64()), [1], REFUSED, REFUSED),
    "large_list_view": (pa.large_list_view(pa.int64()), [1], REFUSED, REFUSED),
    "list of moments": (
        pa.list_(pa.timestamp("s")),
        [datetime(2024, 1, 2, tzinfo=UTC)],
        ["2024-01-02 00:00:00.000"],
        '["2024-01-02 00:00:00.000"]',
    ),
    "list of bytes": (pa.list_(pa.binary()), [b"a"], REFUSED, REFUSED),
    "struct": (
        pa.struct({"a": pa.int8(), "b": pa.string()}),
        {"a": 1, "b": "c"},
        {"a": 1, "b": "c"},
        '{"a":1,"b":"c"}',
    ),
    "struct with bytes": (pa.struct({"a": pa.binary()}), {"a": b"a"}, REFUSED, REFUSED),
    "map": (pa.map_(pa.string(), pa.int8()), [("a", 1)], [["a", 1]], '[["a",1]]'),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), "a", "a", "a"),
    "dictionary of numbers": (pa.dictionary(pa.int8(), pa.int64()), 7, 7, "7"),
    "dictionary of bytes": (pa.dictionary(pa.int8(), pa.binary()), b"a", REFUSED, REFUSED),
    "uuid": (pa.uuid(), b"\1" * 16, str(UUID(bytes=b"\1" * 16)), str(UUID(bytes=b"\1" * 16))),
    "json": (pa.json_(), '{"a":1}', '{"a":1}', '{"a":1}'),
    "bool8": (pa.bool8(), 1, REFUSED, REFUSED),
    "a tensor": (pa.fixed_shape_tensor(pa.float32(), [1, 2]), [1.0, 2.0], REFUSED, REFUSED),
    "another extension": (pa.opaque(pa.binary(), "a", "b"), b"a", REFUSED, REFUSED),
}


def column(held: pa.DataType, value: Any) -> pa.Array:
    """The value, nothing, the value with a bad row, and the value again."""
    storage = held.storage_type if isinstance(held, pa.BaseExtensionType) else held
    value = value.as_py() if isinstance(value, pa.Scalar) and storage != value.type else value
    one = pa.array([value], storage)
    array = pa.concat_arrays([one, pa.nulls(1, storage), one, one])
    return held.wrap_array(array) if isinstance(held, pa.BaseExtensionType) else array


def parquet(**columns: Any) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize("to", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("case", TYPES)
def test_every_type_of_arrow(keep: Keep, tmp_path: Path, case: str, to: str) -> None:
    """The third row is bad, so that the others are taken out of their block."""
    held, value, as_json, as_csv = TYPES[case]
    content = parquet(x=[[1.0], [2.0], [], [4.0]], k=column(held, value))
    expected = {"jsonl": as_json, "csv": as_csv, "parquet": value}[to]
    if expected is REFUSED:
        with pytest.raises(NotSupported, match=rf"the column 'k' holds .*, which {to} has no form for: write parquet"):
            keep("x.parquet", content, to)
        assert not (tmp_path / f"out/x.parquet.{to}").exists()
        return
    found = keep("x.parquet", content, to)
    if to == "parquet":
        given = pq.read_table(BytesIO(content))["k"]
        good = pa.chunked_array([*given.slice(0, 2).chunks, *given.slice(3).chunks])
        assert found.cast(given.type).equals(good)
    else:
        assert found == [expected, None if to == "jsonl" else "", expected]


@pytest.mark.parametrize("to", ["jsonl", "csv"])
def test_a_time_zone_that_nobody_knows(keep: Keep, to: str) -> None:
    content = parquet(x=[1.0], k=pa.array([1], pa.timestamp("us", "Nowhere/City")))
    with pytest.raises(NotSupported, match=rf"holds timestamp\[us, tz=Nowhere/City\], which {to} has no form for"):
        keep("x.parquet", content, to)


def test_a_uuid_stays_one(keep: Keep) -> None:
    """Where the file has no schema of Arrow's in it, as those of DuckDB and Spark."""
    file = BytesIO()
    table = pa.table({"x": [1.0], "k": pa.array([b"\1" * 16], pa.uuid())})
    pq.write_table(table, file, store_schema=False)
    assert keep("x.parquet", file.getvalue(), "jsonl") == [str(UUID(bytes=b"\1" * 16))]
    assert keep("x.parquet", file.getvalue(), "parquet").type == pa.uuid()


def test_every_type_of_arrow_is_in_the_table() -> None:
    """Those that Parquet can't hold can't come."""
    names = {name.removeprefix("Type_") for name in vars(pa.lib) if name.startswith("Type_")}
    ids = {held.id for held, *_ in TYPES.values()} | {pa.null().id}
    left = {name for name in names if getattr(pa.lib, f"Type_{name}") not in ids}
    assert left == {
        "DENSE_UNION", "SPARSE_UNION", "INTERVAL_MONTHS", "INTERVAL_DAY_TIME", "INTERVAL_MONTH_DAY_NANO",
        "RUN_END_ENCODED",
    }  # fmt: skip


# Values of a member over the blocks of a file, and what is in Parquet then.
BOB = [None] * 64 + ["bob"]
MEMBERS: dict[str, tuple[list[Any], list[Any], pa.DataType]] = {
    "null, then text": (BOB, BOB, pa.string()),
    "null alone": ([None] * 65, [None] * 65, pa.null()),
    "integers, then floats": ([1] * 64 + [2.5], [1.0] * 64 + [2.5], pa.float64()),
    "floats, then integers": ([2.5] * 64 + [1], [2.5] * 64 + [1.0], pa.float64()),
    "integers that are no floats": ([2**53 + 1] * 64 + [0.5], [str(2**53 + 1)] * 64 + ["0.5"], pa.string()),
    "integers, floats, then text": ([1] * 64 + [2.5] * 64 + ["a"], ["1"] * 64 + ["2.5"] * 64 + ["a"], pa.string()),
    "text, then booleans": (["a"] * 64 + [True], ["a"] * 64 + ["true"], pa.string()),
    "integers over 64 bits with a sign": ([-1] * 64 + [2**63], ["-1"] * 64 + [str(2**63)], pa.string()),
    "no lists, then lists": ([None] * 64 + [[1]], [None] * 64 + [[1]], pa.list_(pa.int64())),
    "empty lists, then lists": ([[]] * 64 + [["a"]], [[]] * 64 + [["a"]], pa.list_(pa.string())),
    "lists of integers, then of floats": ([[1]] * 64 + [[2.5]], [[1.0]] * 64 + [[2.5]], pa.list_(pa.float64())),
    "lists of large integers, then of floats": (
        [[2**53 + 1]] * 64 + [[0.5]],
        [f"[{2**53 + 1}]"] * 64 + ["[0.5]"],
        pa.string(),
    ),
    "lists, then numbers": ([[1.0, 2.5]] * 64 + [7], ["[1,2.5]"] * 64 + ["7"], pa.string()),
    "objects": ([{"a": 1}] * 64 + [{"a": 0.5}], [{"a": 1.0}] * 64 + [{"a": 0.5}], pa.struct({"a": pa.float64()})),
    "objects of other members": (
        [{"a": 1}] * 64 + [{"b": 2, "a": None}],
        ['{"a":1}'] * 64 + ['{"a":null,"b":2}'],
        pa.string(),
    ),
    "objects of other members in a block": (
        [{"a": 1}, {"b": 2}],
        ['{"a":1}', '{"b":2}'],
        pa.string(),
    ),
    "objects without members": ([{}] * 65, ["{}"] * 65, pa.string()),
    "objects in lists": ([[{"a": 1}]] * 64 + [[]], [[{"a": 1}]] * 64 + [[]], pa.list_(pa.struct({"a": pa.int64()}))),
}


@pytest.mark.parametrize("size", [part_writer.PART_BYTES, 1], ids=["one part", "parts"])
@pytest.mark.parametrize("case", MEMBERS)
def test_members_whose_type_differs_between_blocks(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, case: str, size: int
) -> None:
    given, expected, held = MEMBERS[case]
    monkeypatch.setattr(part_writer, "PART_BYTES", size)
    content = b"".join(json.dumps({"x": row, "k": value}).encode() + b"\n" for row, value in enumerate(given))
    found = keep("x.jsonl", content, "parquet")
    assert found.type == held
    assert found.to_pylist() == expected
    assert keep("x.jsonl", content, "jsonl") == given
    assert len(keep("x.jsonl", content, "csv")) == len(given)


ARRAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bytes": (np.array([b"a", b"b"]), {"parquet": [b"a", b"b"]}),
    "complex numbers": (np.array([1j, 2]), {}),
    "dates": (
        np.array(["2024-02-29", "NaT"], "M8[D]"),
        {"parquet": [date(2024, 2, 29), None], "csv": ["2024-02-29", ""]},
    ),
    "hours": (np.array([1, 2], "M8[h]"), {}),
    "long doubles": (np.array([1, 2], np.longdouble), {}),
    "big-endian": (np.array([1.5, 2], ">f8"), {"parquet": [1.5, 2], "csv": ["1.5", "2"], "jsonl": [1.5, 2]}),
    "half floats": (np.array([1.5, 2], "f2"), {"parquet": [1.5, 2], "csv": ["1.5", "2"], "jsonl": [1.5, 2]}),
    "matrices": (
        np.eye(2, dtype=int),
        {"parquet": [[1, 0], [0, 1]], "csv": ["[1,0]", "[0,1]"], "jsonl": [[1, 0], [0, 1]]},
    ),
}


@pytest.mark.parametrize("to", ["jsonl", "csv", "parquet", "npy", "npz"])
@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(keep: Keep, case: str, to: str) -> None:
    array, expected = ARRAYS[case]
    content = npz(x=np.ones((2, 1), np.float32), k=array)
    if to not in expected:
        with pytest.raises(NotSupported, match=r"the column 'k' (holds .*, which|can't be written as NPY)"):
            keep("x.npz", content, to)
        return
    found = keep("x.npz", content, to)
    assert (found.to_pylist() if to == "parquet" else found) == expected[to]


def test_a_column_that_is_an_input_is_carried_over_as_it_is(service: Service, tmp_path: Path) -> None:
    """Whether its lines are read at once or one by one."""
    for content in (b"x\n007\n1.10\n", b"x\n007\n1.10\nbad\n"):
        (tmp_path / "x.csv").write_bytes(content)
        report = run(Job(input=f"{tmp_path}/x.csv", output=f"{tmp_path}/out/", to="jsonl", keep=("x",)), service)
        found = [json.loads(line) for line in Path(report.output).read_bytes().splitlines()]
        assert found == [{"x": "007", "y": 7.0}, {"x": "1.10", "y": 1.1}]

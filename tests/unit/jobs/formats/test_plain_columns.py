"""Lines with a plain value for each input, whose rows are made together: the same as one by one, errors too."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import onnx_models
import pytest
from inferry.jobs.formats.block_builder import BlockBuilder, ReadOptions
from inferry.jobs.formats.blocks import Block, Cursor, Pace
from inferry.jobs.formats.json_lines_reader import JsonLines
from inferry.jobs.formats.plain_columns import PlainColumns
from inferry.service import Service
from inferry.settings import Settings

MIXED = {
    "text": ("BYTES", ("n", 1)),
    "price": ("FP32", ("n", 1)),
    "half": ("FP16", ("n",)),
    "count": ("INT8", ("n", 1)),
    "big": ("UINT64", ("n", 1)),
    "is_new": ("BOOL", ("n", 1)),
}
GOOD: dict[str, Any] = {
    "text": "ä",
    "price": 1.1,
    "half": 0.1,
    "count": -128,
    "big": 2**64 - 1,
    "is_new": True,
    "id": 7,
}
# What a line holds in place of a good value, or the line.
ODD: list[Any] = [
    {"text": None},
    {"text": 1},
    {"text": ["a"]},
    {"text": ["a", "b"]},
    {"price": None},
    {"price": 1e39},
    {"price": True},
    {"price": "1"},
    {"price": 3},
    {"half": 70000},
    {"half": [2]},
    {"count": 128},
    {"count": 3.0},
    {"count": 3.5},
    {"big": -1},
    {"big": 2**64},
    {"is_new": 1},
    {"is_new": None},
    {"features": {"text": "b"}},
    {"features": [1]},
    b'{"text": "a", "price": NaN, "half": 1, "count": 1, "big": 1, "is_new": false}',
    b'{"text": "a", "price": 1}',
    b'{"text": "a", "text": "b", "price": 1, "half": 1, "count": 1, "big": 1, "is_new": false}',
    b'{"fe\\u0061tures": {"text": "c"}, "text": "a", "price": 1, "half": 1, "count": 1, "big": 1, "is_new": false}',
    b'{"text": "a"',
    b'{"text": "a"}, {"text": "b"}',
    b'{"other": 1}',
    b"[]",
    b'["text"]',
    b'"text"',
    b"7",
    b"null",
    b"",
    b" ",
    b"\xff",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = {
        "mixed.onnx": onnx_models.echo(MIXED),
        "wide.onnx": onnx_models.identity("FP32", ("n", 3)),
        "whole.onnx": onnx_models.identity("INT16", ("n", 2)),
        "any.onnx": onnx_models.identity("BYTES", ("n", "m")),
        "free.onnx": onnx_models.identity("FP32", ("n", "m")),
        "scalar.onnx": onnx_models.identity("FP64", ()),
        "pair.onnx": onnx_models.identity("FP32", (2, 1)),
    }
    folder = onnx_models.write(tmp_path_factory.mktemp("models"), models)
    service = Service.from_settings(Settings(model_path=str(folder)))
    yield service
    service.close()


def read(service: Service, model: str, lines: list[bytes], columns: tuple[str, ...] = ()) -> list[Any]:
    """What is known of each row: its number, inputs and kept value, or the error; and the row itself."""
    options = ReadOptions(service.repository.get(model), ("id",), Pace(1000), "x.jsonl", columns=columns)
    reader = JsonLines(BytesIO(b"\n".join(lines)), "", options)
    return [row for chunk in reader.chunks(Cursor()) for block in chunk() for row in rows(block)]


def rows(block: Block) -> list[Any]:
    found: list[Any] = [
        (rejected.row, rejected.column, rejected.reason, repr(rejected.data)) for rejected in block.rejected
    ]
    for group in block.groups:
        positions = range(len(block.rows)) if group.positions is None else group.positions.tolist()
        for at, position in enumerate(positions):
            feed = {name: (array.dtype.str, repr(array[at].tolist())) for name, array in group.feed.items()}
            kept = repr(block.kept["id"][position])
            found.append((int(block.rows[position]), feed, kept, repr(block.raw(position))))
    return sorted(found, key=lambda row: row[0])


def line(odd: Any) -> bytes:
    return odd if isinstance(odd, bytes) else json.dumps(GOOD | odd).encode()


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainColumns, "feed", lambda self, objects: None)


@pytest.mark.parametrize("apart", [0, 1, 40])
def test_mixed_lines(service: Service, monkeypatch: pytest.MonkeyPatch, apart: int) -> None:
    """Odd lines with so many good ones before each."""
    lines = [
        each
        for odd in ODD
        for each in (*[line({"id": number} if number % 2 else {}) for number in range(apart)], line(odd))
    ]
    lines.insert(0, line({}))
    together = read(service, "mixed", lines)
    one_by_one(monkeypatch)
    assert together == read(service, "mixed", lines)
    assert together[0] == (
        1,
        {
            "text": ("|O", "['ä']"),
            "price": ("<f4", "[1.100000023841858]"),
            "half": ("<f2", "0.0999755859375"),
            "count": ("|i1", "[-128]"),
            "big": ("<u8", "[18446744073709551615]"),
            "is_new": ("|b1", "[True]"),
        },
        "7",
        repr(GOOD),
    )


VALUES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "wide": (("a", "b", "c"), ['{"a":1,"b":2,"c":%s}', '{"c":%s,"b":2,"a":1,"x":[9,9,9]}', '{"a":1,"c":%s}']),
    "whole": (("a", "b"), ['{"a":1,"b":%s}', '{"b":%s,"a":32767}']),
    "any": (("a",), ['{"a":%s}']),
    "any ": (("a", "b"), ['{"a":"x","b":%s}']),
    "free": (("a",), ['{"a":%s}']),
    "scalar": (("x",), ['{"x":%s}', '{"x":%s,"features":7}']),
    "scalar ": ((), ['{"x":%s}', '{"features":%s}']),
    "pair": ((), ['{"x":%s}']),
}
FOUND = [
    "1",
    "0.5",
    "-0.0",
    "1e400",
    "32768",
    "3.0",
    '"a"',
    '"[1]"',
    "null",
    "true",
    "[1]",
    '["a"]',
    "{}",
    "NaN",
    "Infinity",
]


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("values", [*([value] * 5 for value in FOUND), *(FOUND[at:] + FOUND[:at] for at in range(3))])
def test_members(service: Service, monkeypatch: pytest.MonkeyPatch, case: str, values: list[str]) -> None:
    """Each value alone, and all with each other; the first may make others expected."""
    columns, templates = VALUES[case]
    lines = [(template % value).encode() for template in templates for value in values]
    together = read(service, case.strip(), lines, columns)
    one_by_one(monkeypatch)
    assert together == read(service, case.strip(), lines, columns)


def test_only_odd_lines_are_looked_at(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    add = BlockBuilder.add

    def counted(self: BlockBuilder, values: Any, raw: Any, kept: Any) -> None:
        looked_at.append(raw)
        add(self, values, raw, kept)

    monkeypatch.setattr(BlockBuilder, "add", counted)
    assert len(read(service, "mixed", [*[line({})] * 400, line({"count": 128}), *[line({})] * 400])) == 801
    assert line({"count": 128}) in looked_at
    assert len(looked_at) <= 4

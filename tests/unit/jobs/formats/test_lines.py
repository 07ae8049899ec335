"""Text in blocks of whole lines, whatever is in it and however it is cut."""

import gzip
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferry.errors import InvalidFile
from inferry.jobs.formats import lines as lines_module
from inferry.jobs.formats.blocks import Cursor, Pace
from inferry.jobs.formats.lines import Lines, borders, halves, head, opened, read_lines, records, start_of

TEXTS = st.lists(st.sampled_from([b"a", b"bc,d", b"", b" ", b'"e\nf"', b'"g""h"', b"\xc3\xbc"]), max_size=12)
ENDS = st.sampled_from([b"\n", b"\r\n"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "BLOCK", 7)
    monkeypatch.setattr(lines_module, "FIRST", 7)


@given(TEXTS, ENDS, st.integers(1, 4), st.booleans(), st.sampled_from([b"", b'"', b'"\\']))
def test_every_row_comes_once(texts: list[bytes], end: bytes, most: int, last: bool, quoted: bytes) -> None:
    data = end.join(texts) + (end if last else b"")
    blocks = list(read_lines(BytesIO(data), 0, Pace(most), "x", quoted=quoted))
    assert b"".join(block.data for block in blocks) == data
    assert [block.offset for block in blocks] == [
        sum(len(before.data) for before in blocks[:number]) for number in range(len(blocks))
    ]
    found = [record for block in blocks for record in records(block.data, quoted=quoted)]
    assert found == records(data, quoted=quoted)
    if quoted:
        assert found == [text for text in texts if text]
    if len(blocks) > 2:
        # From any border on, the rest is the same.
        rest = list(read_lines(BytesIO(data), blocks[1].offset, Pace(most), "x", quoted=quoted))
        assert b"".join(block.data for block in rest) == data[blocks[1].offset :]


@given(TEXTS, ENDS, st.integers(1, 4), st.integers(1, 20))
def test_empty_lines_may_be_rows(texts: list[bytes], end: bytes, most: int, count: int) -> None:
    """Each of them, however the text is cut; what is behind the last line end is no line."""
    data = b"".join(text + end for text in texts)
    blocks = list(read_lines(BytesIO(data), 0, Pace(most), "x", quoted=b'"'))
    assert [record for block in blocks for record in records(block.data, quoted=b'"', blank=True)] == texts
    first = head(Lines(data, 0), count, quoted=b'"', blank=True)
    assert records(first.data, quoted=b'"', blank=True) == texts[:count]
    rows = [row for row, _ in borders(BytesIO(data), 0, 2, "x", quoted=b'"', blank=True)]
    offsets = [len(b"".join(text + end for text in texts[:row])) for row in rows]
    assert [offset for _, offset in borders(BytesIO(data), 0, 2, "x", quoted=b'"', blank=True)] == offsets


@given(TEXTS, st.integers(1, 20))
def test_halves_and_heads(texts: list[bytes], count: int) -> None:
    whole = Lines(b"".join(text + b"\n" for text in texts), 5)
    rows = records(whole.data, quoted=b'"')
    assert records(head(whole, count, quoted=b'"').data, quoted=b'"') == rows[:count]
    if len(texts) > 1:
        first, second = halves(whole, quoted=b'"')
        assert (first.data + second.data, first.offset, first.end, second.end) == (
            whole.data,
            5,
            second.offset,
            whole.end,
        )
        assert first.data
        assert second.data
        assert records(first.data, quoted=b'"') + records(second.data, quoted=b'"') == rows


def test_borders() -> None:
    text = b"".join(b"%d\n" % number for number in range(100))
    found = list(borders(BytesIO(text), 0, 30, "x"))
    assert found
    for row, offset in found:
        assert text[:offset].count(b"\n") == row
        assert text[offset:].startswith(b"%d\n" % row)
    rows = [row for row, _ in found]
    assert all(30 <= after - before <= 40 for before, after in zip([0, *rows], rows, strict=False))


def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 50)
    monkeypatch.setattr(lines_module, "EXCERPT", 10)
    text = b"one\n" + b"x" * 500 + b"\ntwo\n" + b"y" * 60
    blocks = list(read_lines(BytesIO(text), 0, Pace(100), "x"))
    assert [(block.data, block.offset, block.oversize) for block in blocks if block.oversize] == [
        (b"x" * 10, 4, 501),
        (b"y" * 10, 509, 60),
    ]
    assert b"".join(block.data for block in blocks if not block.oversize) == b"one\ntwo\n"
    assert blocks[-1].end == len(text)


@pytest.mark.parametrize(
    ("content", "compression", "said"),
    [
        (b"", "", "x is empty"),
        (gzip.compress(b""), "gzip", "x is empty"),
        (gzip.compress(b"a" * 50)[:-9], "gzip", "x ends in the middle of its compressed data"),
        (b"a\n", "gzip", "x can't be read: it is damaged, cut off, or not what its name says"),
        (gzip.compress(b"a"), "", "x is compressed with gzip: expected text in UTF-8"),
        ("a".encode("utf-16"), "", "x is UTF-16: expected text in UTF-8"),
        (b"PK\x03\x04", "", "x is a ZIP archive: expected text in UTF-8"),
    ],
)
def test_what_is_no_text(content: bytes, compression: str, said: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        list(read_lines(opened(BytesIO(content), compression, "x"), 0, Pace(1), "x"))
    assert str(raised.value) == said


def test_a_byte_order_mark() -> None:
    assert start_of(opened(BytesIO(b"\xef\xbb\xbfa"), "", "x")) == 3
    assert start_of(opened(BytesIO(b"abc"), "", "x")) == 0


def test_a_cursor_is_at_the_start() -> None:
    assert Cursor() == (0, 0)

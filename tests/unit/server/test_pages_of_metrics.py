"""What a scrape takes of a server, however many there are."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from inferry.observability.sinks.prometheus import OPENMETRICS, TEXT, Format
from inferry.server.metrics import Pages

SECONDS = 60.0


class Text:
    """What there is to tell is `news`; nothing is written until it is `let`."""

    def __init__(self) -> None:
        self.news, self.begun = "", list[str]()
        self.let = threading.Event()

    def __call__(self, form: Format) -> str:
        self.begun.append(f"{form.name} {self.news}")
        assert self.let.wait(SECONDS)
        return self.begun[-1]


def run(scenario: Callable[[Text, Pages], Coroutine[Any, Any, None]]) -> None:
    text = Text()
    asyncio.run(asyncio.wait_for(scenario(text, Pages(text)), SECONDS))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_who_asks_meanwhile_shares_the_next_page() -> None:
    async def scenario(text: Text, pages: Pages) -> None:
        text.news = "old"
        first = asyncio.create_task(pages(TEXT, ""))
        await until(lambda: bool(text.begun))
        text.news = "new"
        others = [asyncio.create_task(pages(TEXT, "")) for _ in range(20)]
        await asyncio.sleep(0)
        others[0].cancel()
        text.let.set()
        assert await first == (b"text old", [])
        assert await asyncio.gather(*others[1:]) == [(b"text new", [])] * 19
        assert text.begun == ["text old", "text new"]
        text.news = "newest"
        assert await pages(TEXT, "") == (b"text newest", [])

    run(scenario)


def test_each_has_its_own_format_and_encoding() -> None:
    async def scenario(text: Text, pages: Pages) -> None:
        text.let.set()
        asked = [(TEXT, ""), (TEXT, "gzip"), (OPENMETRICS, "identity"), (TEXT, "x, gzip;q=0.5"), (TEXT, "br")]
        plain, zipped, other, *like = await asyncio.gather(*(pages(form, accept) for form, accept in asked))
        assert (plain, other) == ((b"text ", []), (b"openmetrics ", []))
        assert (gzip.decompress(zipped[0]), zipped[1]) == (b"text ", [(b"content-encoding", b"gzip")])
        assert like == [zipped, plain]
        assert len(text.begun) == 3

    run(scenario)


def test_behind_a_page_there_is_none_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(text: Text, pages: Pages) -> None:
        text.let.set()
        monkeypatch.setattr("inferry.server.metrics._TIMES", 1e12)
        monkeypatch.setattr("inferry.server.metrics._MOST", SECONDS)
        await pages(TEXT, "")
        waiting = asyncio.create_task(pages(TEXT, ""))
        await asyncio.sleep(0.05)
        assert (len(text.begun), waiting.done()) == (1, False)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    run(scenario)


def test_a_page_that_can_t_be_made_is_an_error_once() -> None:
    async def scenario(text: Text, pages: Pages) -> None:
        text.let.set()
        text.begun = None  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            await pages(TEXT, "")
        text.begun = []
        assert await pages(TEXT, "") == (b"text ", [])

    run(scenario)

"""`inferry size`: a model measured in the sizes of clouds, its prices as a table, and the choice written."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from inferry.cpus import cpus
from inferry.errors import InvalidRequest
from inferry.observability.logs import printable
from inferry.repository.repository import open_repository
from inferry.settings import Settings
from inferry.sizing import choice, prices
from inferry.sizing.limits import Limits, open_limits
from inferry.sizing.offers import COLD, Offer, offers, wins
from inferry.sizing.sizes import SIZES, Found, Measurer, Size, billed, cheapest, find, quickest

# Predictions a month that the table has prices for.
TRAFFIC = (100_000, 10_000_000, 1_000_000_000)


def run(
    options: argparse.Namespace, settings: Settings, stream: TextIO, limits: Limits | None = None
) -> dict[str, Any]:
    """Measures, prints on `stream`, draws and writes what is asked for; all of it for machines. InvalidRequest."""
    asked = prices.read(options.prices)
    limits = limits or open_limits()
    name = _name(options.model, settings)
    print(f"model {name}, with {limits.how}", file=stream, flush=True)
    task = {"model_path": settings.model_path, "name": name, "body": options.input or ""}
    measurer = Measurer(limits, task, options.starts, lambda line: print(f"  {line}", file=stream, flush=True))
    found = find(measurer, cpus(), SIZES)
    chosen = cheapest(found.sizes) if options.choose == "cheapest" else quickest(found.sizes)
    ways = offers(asked, chosen, found.sizes)
    print("\n".join(map(printable, _lines(found, chosen, ways, asked))), file=stream)
    if options.pictures:
        from inferry.sizing.pictures import draw

        for path in draw(Path(options.pictures), found.sizes, ways):
            print(f"drawn: {path}", file=stream)
    for file in options.write:
        print(f"written to {file}: {choice.write(file, chosen, options.environment)}", file=stream)
    return _report(name, limits, found, chosen, ways, asked)


def _name(given: str, settings: Settings) -> str:
    """The model that is named, or the only one there is. InvalidRequest."""
    names = open_repository(settings.model_path, settings.model_name).names()
    if given:
        if given not in names:
            raise InvalidRequest(f"there is no model '{given}' in {settings.model_path}: {', '.join(names) or 'none'}")
        return given
    if len(names) != 1:
        raise InvalidRequest(f"name one of the models in {settings.model_path}: {', '.join(names) or 'there is none'}")
    return names[0]


def _lines(found: Found, chosen: Size, ways: Sequence[Offer], asked: Any) -> Iterator[str]:
    yield f"memory needed: {found.needs} MB, a tenth of it free"
    best, quick = cheapest(found.sizes), quickest(found.sizes)
    gb_second = asked["lambda"]["x86_64"]["gb_second"]
    cells = [("MEMORY", "CPUS", "THREADS", "COLD", "WARM", "USD/MILLION", "")]
    for size in found.sizes:
        marks = [word for word, it in (("cheapest", best), ("quickest", quick), ("chosen", chosen)) if it == size]
        notes = ", ".join([*marks, *([] if size.measured else ["extrapolated"])])
        usd = size.memory / 1024 * billed(size.warm) * gb_second * 1e6 + asked["lambda"]["request"] * 1e6
        numbers = (str(size.memory), f"{size.cpus:.2f}", str(size.threads), f"{size.cold:.2f} s")
        cells.append((*numbers, f"{size.warm * 1e3:.2f} ms", f"{usd:.2f}", notes))
    yield from _aligned(cells)
    if found.rows:
        rows = ", ".join(f"{count}: {seconds * 1e3:.3f} ms" for count, seconds in found.rows.items())
        yield f"a row in requests of so many rows: {rows}; best {found.batch_size}"
    yield ""
    yield from _aligned([("USD PER MILLION", "MB", *(f"{n:,}/month" for n in TRAFFIC)), *map(_offer, ways)])
    yield f"prices of {asked['date']}: check them; {COLD:.1%} of predictions wait for a start; arm64 as quick as x86_64"
    yield "cheapest:"
    for way, ranges in wins(ways).items():
        spans = ", ".join(f"{low:,.0f} to {high:,.0f}" for low, high in ranges)
        yield f"  {way}: {spans} predictions a month"


def _offer(offer: Offer) -> tuple[str, ...]:
    return f"{offer.cloud}, {offer.name}", str(offer.memory), *(f"{offer.per_million(n):,.2f}" for n in TRAFFIC)


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()


def _report(name: str, limits: Limits, found: Found, chosen: Size, ways: Sequence[Offer], asked: Any) -> dict[str, Any]:
    return {
        "model": name,
        "limits": limits.how,
        "needs": found.needs,
        "sizes": [size.as_dict() for size in found.sizes],
        "cheapest": cheapest(found.sizes).memory,
        "quickest": quickest(found.sizes).memory,
        "chosen": chosen.as_dict(),
        "batch_size": found.batch_size,
        "rows": found.rows,
        "prices": asked["date"],
        "offers": [
            {
                "cloud": way.cloud,
                "name": way.name,
                "memory": way.memory,
                "usd_per_million": {str(n): way.per_million(n) for n in TRAFFIC},
            }
            for way in ways
        ],
        "wins": wins(ways),
    }

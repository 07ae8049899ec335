"""An image of 1x3x224x224 from a request's bytes to an array, against the usual ways."""

from collections.abc import Iterator

from .measure import microseconds, milliseconds, ratio, sample, say
from .table import Row, Target

JSON, BINARY = Target(2.5, at_least=True), Target(2)


def json(quick: bool) -> Iterator[Row]:
    """The row of JSON; the ratio is how many times faster."""
    say("json: an image, some times")
    samples = sample("decoding", "json", 20 if quick else 100)
    ours, theirs = samples["inferry"], samples["orjson"]
    against = f"{milliseconds(theirs)} orjson + numpy"
    yield Row("decode 3.1 MB of JSON", milliseconds(ours), against, ratio(theirs, ours), JSON)


def binary(quick: bool) -> Iterator[Row]:
    """The rows of a binary tensor, against a copy to memory that is there already and to fresh memory."""
    say("binary: an image, some times")
    samples = sample("decoding", "binary", 500 if quick else 4_000)
    ours = samples["inferry"]
    for way, target in (("memcpy", BINARY), ("fresh", None)):
        name = {"memcpy": "memcpy", "fresh": "allocation + memcpy"}[way]
        against = f"{microseconds(samples[way])} {name}"
        yield Row("decode 602112 bytes in binary", microseconds(ours), against, ratio(ours, samples[way]), target)

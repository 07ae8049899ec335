"""Memory after images of changing sizes, against ONNX Runtime alone with each of its own ways to give it back."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from .children.images import LARGEST, detection
from .measure import sample, say
from .table import Row, Target

RESIDENT, PEAK = Target(1.15), Target(1.10)
ALONE = {"arena": "its arena", "shrinking": "its arena shrunk after each run", "none": "no arena"}
# The largest image and its answer, of one channel, which a server holds beside the run.
REQUEST = 4 * LARGEST**2 * 4 / 2**20


def changing(quick: bool) -> Iterator[Row]:
    """The rows of resident memory afterwards and at most."""
    count = 10 if quick else 60
    with TemporaryDirectory() as folder:
        path = Path(folder, "m", "1", "model.onnx")
        path.parent.mkdir(parents=True)
        path.write_bytes(detection())
        say(f"changing: {count} images four times")
        alone = {way: sample("images", "alone", path, count, way) for way in ALONE}
        ours = sample("images", "served", folder, count)
    for kind, what, room, target in (
        ("rss", "resident memory after images of changing sizes", 0.0, RESIDENT),
        ("peak", "most resident memory meanwhile, less the largest request and answer", REQUEST, PEAK),
    ):
        best = min(alone, key=lambda way: alone[way][kind][0])
        (found,), (least,) = ours[kind], alone[best][kind]
        against = f"{least:.0f} MB ONNX Runtime alone, {ALONE[best]}"
        yield Row(what, f"{found:.0f} MB", against, (found - room) / least, target)

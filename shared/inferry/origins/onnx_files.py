"""Files that are ONNX already."""

from pathlib import Path

from inferry.errors import InvalidRequest
from inferry.origins.origin import Origin, Wish
from inferry.runtime import onnx_file


def open_file(path: Path, _: Wish) -> Origin:
    """The file as it is. InvalidRequest when it isn't ONNX."""
    content = path.read_bytes()
    file = onnx_file.parse(content, path.name)
    if file.problem:
        raise InvalidRequest(file.problem)
    return Origin(content, file.producer or "an unnamed producer", folder=path.parent)

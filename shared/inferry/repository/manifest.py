"""What `inferry prepare` writes beside the forms of a version: where they came from, what fits where, and the proof."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from inferry.repository.layout import MODEL_FILE

MAX_BYTES = 1 << 20
# Of the manifest: one of another format is not read.
FORMAT = 1

NATIVE, PORTABLE, ORIGINAL = KINDS = ("native", "portable", "original")
"""The forms, in the order in which they are tried."""


class FormFile(NamedTuple):
    """A file of a form, its bytes and its SHA-256."""

    size: int
    sha256: str


class Form(NamedTuple):
    """One form of a version, in a `folder` of its own: `files` by their paths in it, one of them `model.onnx`.

    `cpu` is the kind of CPU that a native form is for, `architecture` the only one for a portable form of float16.
    `canary` is what the form's own has to say, None where the layout depends on no CPU.
    """

    kind: str
    folder: str
    files: Mapping[str, FormFile]
    cpu: str = ""
    architecture: str = ""
    canary: float | None = None

    @property
    def size(self) -> int:
        """The bytes of all files of the form."""
        return sum(file.size for file in self.files.values())


class Manifest(NamedTuple):
    """`source`: SHA-256 and facts of the model that was prepared; `proof` and `request` are for the next preparation.

    `digest` is the manifest's own.
    """

    onnxruntime: str
    source: Mapping[str, Any]
    forms: tuple[Form, ...]
    proof: Mapping[str, Any]
    request: Mapping[str, Any]
    digest: str = ""

    def text(self) -> bytes:
        """The manifest as the text of prepared.json."""
        from inferry import __version__

        forms = [{**form._asdict(), "files": {n: f._asdict() for n, f in form.files.items()}} for form in self.forms]
        value = {
            "format": FORMAT,
            "inferry": __version__,
            "onnxruntime": self.onnxruntime,
            "source": self.source,
            "forms": forms,
            "request": self.request,
            "proof": self.proof,
        }
        return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


def parse(text: bytes) -> Manifest:
    """The manifest in `text`. ValueError says why it is none."""
    try:
        value = orjson.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"it has the format {value['format']}, not {FORMAT}")
        forms = tuple(map(_form, value["forms"]))
        source = dict(value["source"])
        source["sha256"], source["producer"], source["opsets"] = (
            str(source["sha256"]),
            str(source["producer"]),
            {str(domain): int(version) for domain, version in source["opsets"].items()},
        )
        digest = hashlib.sha256(text).hexdigest()
        return Manifest(str(value["onnxruntime"]), source, forms, value["proof"], value["request"], digest)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"it lacks what a manifest has, or has it as something else: {exc}") from exc


def _form(value: Any) -> Form:
    form = Form(
        str(value["kind"]),
        str(value["folder"]),
        {str(name): FormFile(int(file["size"]), str(file["sha256"])) for name, file in value["files"].items()},
        str(value["cpu"]),
        str(value["architecture"]),
        None if value["canary"] is None else float(value["canary"]),
    )
    if form.kind not in KINDS or "/" in form.folder or MODEL_FILE not in form.files:
        raise ValueError(f"it has a form of the kind {form.kind!r} in {form.folder!r}")
    return form

"""What is known of a model's rows, and where it is kept from one process to the next."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson

PROVEN, SINGLE, NONE, UNPROVEN = "proven", "single", "none", "unproven"

# Of the proof: what another version of it found counts no more.
RULE = 2


class Verdict(NamedTuple):
    """Whether a model's rows may run together, and the `reason` where they may not.

    `rows` is PROVEN (they may), SINGLE (each is a run of its own), NONE (the model takes whole requests only) or
    UNPROVEN (not asked yet). `outputs` have a row per row; of the others a row gets all that its run gives.
    """

    rows: str
    reason: str
    outputs: frozenset[str]


class Verdicts:
    """A small file for each model, in a folder of their own."""

    def __init__(self, runtime: str, kept: Path | None, shipped: Path | None = None) -> None:
        """`kept`: the folder for this machine's; `shipped`: one that came with the models, which is only read.

        `runtime` is ONNX Runtime's version: what one showed is not known of another, with other kernels.
        """
        self._runtime = runtime
        self._kept = kept
        self._folders = [folder for folder in (kept, shipped) if folder]

    def read(self, digest: str) -> Verdict | None:
        """What is known of the model with this digest."""
        for folder in self._folders:
            with suppress(OSError, ValueError, KeyError, TypeError):
                kept = orjson.loads((folder / self._name(digest)).read_bytes())
                if kept["rows"] in (PROVEN, SINGLE):
                    return Verdict(kept["rows"], str(kept["reason"]), frozenset(map(str, kept["outputs"])))
        return None

    def write(self, digest: str, verdict: Verdict) -> None:
        """Keeps the verdict for the next process."""
        if self._kept is None:
            return
        content = orjson.dumps({**verdict._asdict(), "outputs": sorted(verdict.outputs)})
        # A disk may be full, or read-only: the next process asks again.
        with suppress(OSError):
            self._kept.mkdir(parents=True, exist_ok=True)
            temporary = self._kept / f".{os.urandom(8).hex()}"
            temporary.write_bytes(content)
            temporary.replace(self._kept / self._name(digest))

    def _name(self, digest: str) -> str:
        return hashlib.sha256(f"{digest} {self._runtime} {RULE}".encode()).hexdigest() + ".json"

"""Which requests' inputs and outputs are kept, and in which form: CAPTURE and the settings behind it."""

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from inferry.errors import InvalidSettings
from inferry.observability.record import CapturedTensor, RequestRecord
from inferry.protocol.tensors import Tensor, to_bytes
from inferry.protocol.types import InferRequest, InferResponse
from inferry.settings import Settings

log = logging.getLogger("inferry")

_ALL = "*"
# The name of one of several responses' output, as rows have that are run one by one, ends in its number.
_NUMBERED = "{}[{}]"


class Capture:
    """Takes a share of each model's requests, and those that failed or were slow where that is asked for."""

    def __init__(self, settings: Settings, dice: Callable[[], float] = random.random) -> None:
        """InvalidSettings where CAPTURE has no shares."""
        self._shares = shares(settings.capture)
        self._others = self._shares.get(_ALL)
        self._errors = settings.capture_errors
        self._slow = settings.capture_slow * 1e9
        self._most = settings.capture_max_bytes
        self._dice = dice

    def take(
        self, record: RequestRecord, request: InferRequest, responses: Sequence[InferResponse], failed: bool
    ) -> None:
        """Keeps what the model of a request was given and what it gave, if it is one that is wanted. Never raises."""
        share = self._shares.get(record.model, self._others)
        if share is None or not (
            self._dice() < share
            or (failed and self._errors)
            or (self._slow and record.decode + record.queue + record.infer + record.encode >= self._slow)
        ):
            return
        try:
            record.captured = (*self._tensors("input", request.inputs.values()), *self._outputs(responses))
        except Exception:
            log.exception("the inputs and outputs of request %s can't be kept", record.request_id)

    def _outputs(self, responses: Sequence[InferResponse]) -> Iterable[CapturedTensor]:
        for number, response in enumerate(responses):
            for tensor in self._tensors("output", response.outputs):
                one = len(responses) == 1
                yield tensor if one else tensor._replace(name=_NUMBERED.format(tensor.name, number))

    def _tensors(self, kind: str, tensors: Iterable[Tensor]) -> Iterable[CapturedTensor]:
        for tensor in tensors:
            raw = to_bytes(tensor)
            data = bytes(raw) if len(raw) <= self._most else None
            digest = sha256(raw).hexdigest()
            yield CapturedTensor(kind, tensor.name, tensor.datatype.name, [*tensor.array.shape], data, digest)


def shares(rules: Sequence[str]) -> Mapping[str, float]:
    """The share of each model's requests; "*" is for all others. InvalidSettings."""
    found: dict[str, float] = {}
    for rule in rules:
        name, _, share = rule.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not name or not 0 <= value <= 1:
            raise InvalidSettings(f"CAPTURE must have shares from 0 to 1 such as digits=0.01 or *=0.001, got {rule!r}")
        found[name] = value
    return found


def open_capture(settings: Settings) -> Capture | None:
    """What CAPTURE asks for; None where it asks for nothing. InvalidSettings."""
    if not settings.capture:
        return None
    if not settings.request_log_url:
        raise InvalidSettings("CAPTURE needs REQUEST_LOG_URL, the database that inputs and outputs are kept in")
    return Capture(settings)

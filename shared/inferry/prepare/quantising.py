"""8-bit weights where they hold: models are tried by method, operator by operator left out, and one is chosen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inferry.errors import InvalidRequest
from inferry.prepare import cases, trials
from inferry.prepare.agreement import accuracy, agreement
from inferry.prepare.trials import TrialFailed
from inferry.protocol.signature import Feed
from inferry.repository.layout import MODEL_FILE

FLOAT = "float"
METHODS = ("static", "dynamic")
# Fewer samples say nothing: half of them find the scales, the other half is answered.
FEWEST = 20


class Quantising(NamedTuple):
    """What is asked for: methods to try, the least share of the samples in which answers must agree with the float
    model's, and labels of the samples. With labels, accuracy may be lower by what the bound lacks of 1.
    """

    methods: Sequence[str]
    bound: float
    labels: Sequence[Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        labels = None if self.labels is None else [str(label) for label in self.labels]
        return {"methods": list(self.methods), "agreement": self.bound, "labels": labels}


class Variant(NamedTuple):
    """A model tried: its method, the operators that stay floats, bytes, costs of one thread, share of samples that
    agree, and accuracy where there are labels. `is_best`: no other is better in one thing and worse in none; `reason`:
    why it is not chosen."""

    method: str
    left_out: Sequence[str]
    operators: int
    size: int
    cost: trials.Cost
    agreement: float
    accuracy: float | None
    is_best: bool = False
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the manifest, and for machines."""
        facts = {name: value for name, value in self._asdict().items() if name != "cost"}
        return {**facts, **self.cost._asdict(), "left_out": list(self.left_out)}

    @property
    def measures(self) -> tuple[float, ...]:
        """What is better when it is less."""
        return (self.size, *self.cost, -self.agreement, -(self.accuracy or 0.0))


class Chosen(NamedTuple):
    """All that was tried, and the file of what was chosen, None when the float model stays. `failed`: why a method
    could not be tried."""

    variants: Sequence[Variant]
    model: Path | None
    failed: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {"variants": [variant.as_dict() for variant in self.variants], "failed": dict(self.failed)}


class _Tried(NamedTuple):
    """A model with 8-bit weights before it is measured beside the others."""

    method: str
    left_out: Sequence[str]
    operators: int
    model: Path


def check(wanted: Quantising, samples: Sequence[Feed], name: str) -> None:
    """InvalidRequest when samples or labels don't suffice."""
    if len(samples) < FEWEST:
        raise InvalidRequest(
            f"--quantize takes samples of what model '{name}' is asked, {FEWEST} rows at least, got {len(samples)}: "
            f"give --samples {name}=FILE (.jsonl, .csv, .parquet, .npy, .npz or .json)"
        )
    if wanted.labels is not None and len(wanted.labels) != len(samples):
        raise InvalidRequest(f"--labels has {len(wanted.labels)} labels for {len(samples)} samples of model '{name}'")


def choose(
    source: Path, size: int, samples: Sequence[Feed], wanted: Quantising, outputs: Sequence[str], folder: Path
) -> Chosen:
    """Tries all methods over single samples, in turns beside the float model, whose files have `size` bytes.

    TrialFailed when that does not run.
    """
    folder.mkdir()
    search = _Search(source, size, samples, wanted, outputs, folder)
    tried: list[_Tried] = []
    failed: dict[str, str] = {}
    for method in wanted.methods:
        try:
            tried += search.tried(method)
        except TrialFailed as exc:
            failed[method] = str(exc)
    forms = {FLOAT: (source, False), **{str(n): (each.model, False) for n, each in enumerate(tried)}}
    found, more = trials.attempts(forms, search.measured, folder)
    failed.update({tried[int(n)].method: reason for n, reason in more.items()})
    variants = [search.variant(_Tried(FLOAT, (), 0, source), found[FLOAT])]
    models = []
    for number, each in enumerate(tried):
        if str(number) in found:
            variants.append(search.variant(each, found[str(number)]))
            models.append(each.model)
    judged, chosen = judge(variants, wanted.bound)
    return Chosen(judged, None if chosen is None else models[chosen - 1], failed)


def judge(variants: Sequence[Variant], bound: float) -> tuple[list[Variant], int | None]:
    """The variants with the reasons why they are not chosen, and the index of that which is; the float one is first.

    Of those that keep to the bound, and of which nothing costs more than the float model's, the quickest.
    """
    plain = variants[0]
    judged = [plain._replace(is_best=_is_best(plain, variants))]
    for variant in variants[1:]:
        reason = _fault(variant, plain, bound)
        judged.append(variant._replace(is_best=_is_best(variant, variants), reason=reason))
    held = [index for index, variant in enumerate(judged) if index and not variant.reason]
    if not held:
        return judged, None
    chosen = min(held, key=lambda index: judged[index].cost.run)
    for index in held:
        if index != chosen:
            judged[index] = judged[index]._replace(reason="another one is quicker")
    return judged, chosen


def _fault(variant: Variant, plain: Variant, bound: float) -> str:
    return _miss(variant, plain, bound) or ", ".join(variant.cost.losses(plain.cost))


def _miss(variant: Variant, plain: Variant, bound: float) -> str:
    """How it does not keep to the bound; empty when it does."""
    if variant.accuracy is not None and plain.accuracy is not None:
        least = plain.accuracy - (1 - bound)
        if variant.accuracy < least:
            return f"its accuracy is {variant.accuracy:.4g}, less than {least:.4g}"
    elif variant.agreement < bound:
        return f"{variant.agreement:.4g} of its answers agree, less than {bound:g}"
    return ""


def _is_best(variant: Variant, variants: Sequence[Variant]) -> bool:
    """Whether it is on the Pareto front."""
    ours = variant.measures
    return not any(
        other.measures != ours and all(their <= our for their, our in zip(other.measures, ours, strict=True))
        for other in variants
    )


class _Search:
    """Samples in two halves, which alternate: one finds the scales of static models, the other is answered."""

    # Operators are looked at one by one up to so many, then in groups of neighbours.
    MOST = 48

    def __init__(
        self,
        source: Path,
        size: int,
        samples: Sequence[Feed],
        wanted: Quantising,
        outputs: Sequence[str],
        folder: Path,
    ) -> None:
        self._size = size
        self._wanted = wanted
        self._outputs = outputs
        self._folder = folder
        self.measured = samples[1::2]
        self._labels = None if wanted.labels is None else dict(enumerate(wanted.labels[1::2]))
        self._inputs, self._scales = folder / "measured.npz", folder / "scales.npz"
        cases.write(self._inputs, list(self.measured))
        cases.write(self._scales, list(samples[::2]))
        simplified = folder / "simplified"
        simplified.mkdir()
        self._simplified = simplified / MODEL_FILE
        trials.run({"do": "simplify", "onnx": str(source), "target": str(self._simplified)})
        self._float = trials.attempt(FLOAT, (source, False), self._inputs, folder)
        failures = self._float.failures
        self._answered = [index for index in range(len(self.measured)) if str(index) not in failures]
        if len(self._answered) < len(self.measured):
            raise TrialFailed(f"it does not run with all samples: {next(iter(failures.values()))}")

    def tried(self, method: str) -> list[_Tried]:
        """The model with all operators that the method takes, and, if that does not keep to the bound, with as few of
        them left out as it takes. TrialFailed."""
        operators = trials.run({"do": "operators", "onnx": str(self._simplified), "method": method})["operators"]
        if not operators:
            raise TrialFailed(f"it has no weights that the method {method!r} takes")
        whole = self._made(method, (), len(operators))
        if self._holds(whole):
            return [whole]
        groups = _groups(operators, self.MOST)
        damage = trials.run({**self._task("damage", method), "groups": groups, "measured": str(self._inputs)})["damage"]
        ranked = [group for _, group in sorted(zip(damage, groups, strict=True), key=lambda pair: -pair[0])]
        less = _fewest(ranked, lambda left_out: self._held(method, left_out, len(operators)))
        return [whole] if less is None else [whole, less]

    def _held(self, method: str, left_out: Sequence[str], operators: int) -> _Tried | None:
        made = self._made(method, left_out, operators)
        return made if self._holds(made) else None

    def _task(self, do: str, method: str) -> dict[str, Any]:
        return {"do": do, "onnx": str(self._simplified), "method": method, "inputs": str(self._scales)}

    def _made(self, method: str, left_out: Sequence[str], operators: int) -> _Tried:
        target = self._folder / f"{method}-{len(left_out)}"
        target.mkdir()
        task = {**self._task("quantise", method), "left_out": list(left_out), "target": str(target / MODEL_FILE)}
        trials.run(task)
        return _Tried(method, left_out, operators, target / MODEL_FILE)

    def _holds(self, tried: _Tried) -> bool:
        trial = trials.attempt(tried.method, (tried.model, False), self._inputs, self._folder)
        return not _miss(self.variant(tried, trial), self._plain, self._wanted.bound)

    @property
    def _plain(self) -> Variant:
        return self.variant(_Tried(FLOAT, (), 0, self._simplified), self._float)

    def variant(self, tried: _Tried, trial: trials.Trial) -> Variant:
        """What was tried, with what came of it."""
        right = None
        if self._labels is not None:
            try:
                right = accuracy(trial.outputs, self._labels, self._outputs)
            except ValueError as exc:
                raise InvalidRequest(str(exc)) from exc
        agreed = agreement(trial.outputs, self._float.outputs, self._answered)
        size = self._size
        if tried.method != FLOAT:
            size = sum(path.stat().st_size for path in tried.model.parent.iterdir() if path.is_file())
        return Variant(tried.method, tried.left_out, tried.operators, size, trial.cost, agreed, right)


def _groups(operators: Sequence[str], most: int) -> list[list[str]]:
    size = -(-len(operators) // most)
    return [list(operators[start : start + size]) for start in range(0, len(operators), size)]


def _fewest(ranked: Sequence[list[str]], held: Callable[[list[str]], _Tried | None]) -> _Tried | None:
    """What holds with as few of the first groups left out as possible; None when all but one have to be."""
    best, low, high = None, 1, len(ranked) - 1
    while low <= high:
        middle = (low + high) // 2
        found = held([name for group in ranked[:middle] for name in group])
        if found:
            best, high = found, middle - 1
        else:
            low = middle + 1
    return best

"""One version prepared: its forms made, proven beside the model itself, and put into the repository that is made."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from inferry.errors import ModelUnavailable, StoreError
from inferry.prepare import cases, graph, quantising, trials
from inferry.prepare.output import Output
from inferry.prepare.quantising import FLOAT, Chosen, Quantising
from inferry.prepare.stripped import stripped
from inferry.prepare.trials import TrialFailed
from inferry.prepare.verdict import MOST_BYTES, Line, judged
from inferry.protocol.signature import Feed
from inferry.repository import manifest, model_cache
from inferry.repository.content import Content, combined
from inferry.repository.digests import Digests
from inferry.repository.layout import MANIFEST, MODEL_FILE
from inferry.repository.manifest import NATIVE, ORIGINAL, PORTABLE, Form, FormFile, Manifest
from inferry.repository.repository import Repository
from inferry.repository.version import ModelVersion
from inferry.runtime import cpu_kind, onnx_file
from inferry.runtime.model import Model
from inferry.runtime.session import RUNTIME
from inferry.storage.local import sha256_of

# Of the proof and of what is kept: what another rule made is made again.
RULE = 1

Samples = Callable[[Model], Sequence[Feed]]
Planned = Callable[[ModelVersion, int, Mapping[str, int]], None]


class Request(NamedTuple):
    """What is asked for: forms for `many` processes on a host or for one, the original as well, by how much answers may
    differ, a user's own inputs, and whether models get 8-bit weights."""

    many: bool = True
    keep_original: bool = False
    tolerance: float = 0.0
    samples: Samples = lambda _: ()
    quantising: Quantising | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The forms that are made."""
        return (PORTABLE, NATIVE) if self.many else (PORTABLE,)


@dataclass(slots=True)
class Outcome:
    """What became of a version: it is "prepared", "unchanged", "copied" or "failed", and why; the `lines` of its table.

    It is "quantised" when a model with 8-bit weights is all that is there. `cases`: the inputs that all forms were run
    with; `chosen`: the models with 8-bit weights that were tried.
    """

    name: str
    version: str
    status: str
    reason: str = ""
    lines: Sequence[Line] = ()
    cases: int = 0
    chosen: Chosen | None = None

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        facts = {"name": self.name, "version": self.version, "status": self.status, "reason": self.reason}
        more = {"quantised": self.chosen.as_dict()} if self.chosen else {}
        return {**facts, "cases": self.cases, "forms": [line.as_dict() for line in self.lines], **more}


class _MadeOf(NamedTuple):
    """What the forms are made of: the model's digest and bytes, what it says of itself, and of a model with 8-bit
    weights its files, the ONNX file first."""

    digest: str
    size: int
    facts: Mapping[str, Any]
    files: Sequence[str] = ()


@dataclass(slots=True)
class _Made:
    """A form in the folder of unfinished work."""

    folder: Path
    canary: float | None = None
    files: dict[str, FormFile] = field(default_factory=dict)


def prepare(
    repository: Repository, entry: ModelVersion, output: Output, request: Request, planned: Planned, cache: Path | None
) -> Outcome:
    """Prepares a version, unless what is there is what would be made. What can't be prepared is copied as it is.

    `planned` is told of the bytes that the model has and its forms may have, before anything is written. StoreError.
    """
    content = entry.store.fetch(entry.files, entry.config.sha256.get(entry.version))
    if content.form is not None:
        reason = "it is prepared already: name the repository that it was made of"
        return Outcome(entry.name, entry.version, "failed", reason)
    if request.quantising and entry.config.sha256.get(entry.version):
        reason = "its config.json names its SHA-256, and one with 8-bit weights has another: pin that of prepared.json"
        return Outcome(entry.name, entry.version, "failed", reason)
    return _Preparation(repository, entry, output, request, content, cache).run(planned)


class _Preparation:
    def __init__(
        self,
        repository: Repository,
        entry: ModelVersion,
        output: Output,
        request: Request,
        content: Content,
        cache: Path | None,
    ) -> None:
        self._repository = repository
        self._entry = entry
        self._output = output
        self._request = request
        self._content = content
        self._digests = Digests(cache)
        self._folder = f"{entry.name}/{entry.version}"
        self._graph = graph.Facts()
        self._samples: Sequence[Feed] = ()
        self._outputs: Sequence[str] = ()
        self._chosen: Chosen | None = None
        # Of what the forms are made of.
        self._made_of = _MadeOf(
            content.digest, content.size, {"producer": content.file.producer, "opsets": content.file.opsets}
        )

    def run(self, planned: Planned) -> Outcome:
        try:
            model = self._repository.get(self._entry.name, self._entry.version)
            samples = self._request.samples(model)
            feeds = cases.cases(model, samples)
        except StoreError:
            raise
        except ModelUnavailable as exc:
            return self._unprepared(planned, f"it can't be loaded: {exc}")
        if self._request.quantising:
            self._samples = cases.singly(model, samples)
            self._outputs = list(model.session.signature.outputs)
            quantising.check(self._request.quantising, self._samples, model.name)
        before = self._before()
        if self._is_there(before, self._asked(feeds)):
            return self._outcome("unchanged")
        size = self._content.size
        planned(self._entry, size, {kind: int(size * MOST_BYTES) if kind == NATIVE else size for kind in self._kinds})
        with self._output.staged() as folder:
            return self._prepared(folder, feeds, before)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return (*self._request.kinds, *((ORIGINAL,) if self._request.keep_original else ()))

    def _before(self) -> Manifest | None:
        """What is there of the same model, by the same onnxruntime and the same rules."""
        text = self._output.manifest(self._folder)
        try:
            before = manifest.parse(text) if text else None
        except ValueError:
            return None
        of = before and before.source.get("quantised", before.source)["sha256"]
        same = before and (of, before.onnxruntime) == (self._content.digest, RUNTIME)
        return before if same else None

    def _is_there(self, before: Manifest | None, asked: Mapping[str, Any]) -> bool:
        if before is None or before.request != asked or cpu_kind.kind() not in before.proof:
            return False
        wanted = {f"{form.folder}/{name}": file for form in before.forms for name, file in form.files.items()}
        return self._output.has(self._folder, wanted or _copied_files(before))

    def _asked(self, feeds: Sequence[Feed]) -> dict[str, Any]:
        asked = hashlib.sha256()
        for feed in feeds:
            for name, array in sorted(feed.items()):
                values = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
                asked.update(f"{name} {array.dtype} {array.shape} {len(values)} ".encode() + values)
        return {
            "rule": RULE,
            "for": "many" if self._request.many else "one",
            "keep_original": self._request.keep_original,
            "tolerance": self._request.tolerance,
            "inputs": asked.hexdigest(),
            **({"quantise": self._request.quantising.as_dict()} if self._request.quantising else {}),
        }

    def _prepared(self, folder: Path, feeds: Sequence[Feed], before: Manifest | None) -> Outcome:
        source = self._quantised(self._on_disk(folder / "source"), folder)
        self._graph = graph.read(source.read_bytes())
        made, failed = self._made(source, folder)
        forms = {kind: (form.folder / MODEL_FILE, kind == NATIVE) for kind, form in made.items()}
        try:
            found, more = trials.attempts({ORIGINAL: (source, False), **forms}, feeds, folder)
            if len(found[ORIGINAL].failures) == len(feeds):
                raise TrialFailed("it ran with no random input: give config.json an 'example', or give --samples")
        except TrialFailed as exc:
            return self._copied(folder, source, self._asked(feeds), f"nothing can be proven: {exc}", [])
        sizes = {ORIGINAL: self._made_of.size, **{kind: _size(form.folder) for kind, form in made.items()}}
        sizes.update(dict.fromkeys(failed, 0))
        lines = judged(
            sizes,
            found,
            {**failed, **more},
            tolerance=self._request.tolerance,
            is_recurrent=self._graph.is_recurrent,
        )
        kept = [line.kind for line in lines if not line.reason and line.kind != ORIGINAL]
        ran = len(feeds) - len(found[ORIGINAL].failures)
        carried = self._carried(before, feeds)
        proof = {**(before.proof if carried and before else {}), cpu_kind.kind(): [line.as_dict() for line in lines]}
        if not kept and not carried:
            return self._copied(folder, source, self._asked(feeds), "no form of it is worth keeping", lines, proof, ran)
        version = folder / "version"
        version.mkdir()
        architecture = cpu_kind.architecture() if self._graph.has_float16 else ""
        new = [self._placed(kind, made[kind], version, architecture) for kind in kept]
        if self._request.keep_original or PORTABLE not in kept:
            new.append(self._placed(ORIGINAL, self._original(source, folder), version))
        self._publish(version, Manifest(RUNTIME, self._source(), (*new, *carried), proof, self._asked(feeds)), carried)
        return self._outcome("prepared", "", lines, ran)

    def _quantised(self, source: Path, folder: Path) -> Path:
        """The model with 8-bit weights, if one is asked for and one was chosen."""
        wanted = self._request.quantising
        if wanted is None:
            return source
        try:
            target = folder / "quantised"
            chosen = quantising.choose(source, self._content.size, self._samples, wanted, self._outputs, target)
        except TrialFailed as exc:
            chosen = Chosen((), None, {FLOAT: str(exc)})
        self._chosen = chosen
        if chosen.model is None:
            return source
        _sync(chosen.model.parent)
        files = _hashed(chosen.model.parent)
        digest = combined({name: file.sha256 for name, file in files.items()})
        facts = onnx_file.read(chosen.model)
        known = {"producer": self._content.file.producer, "opsets": facts.opsets}
        self._made_of = _MadeOf(digest, sum(file.size for file in files.values()), known, tuple(files))
        return chosen.model

    def _on_disk(self, folder: Path) -> Path:
        """The model's ONNX file, where its external data is."""
        if isinstance(self._content.model, Path):
            return self._content.model
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(self._content.model)
        return folder / MODEL_FILE

    def _made(self, source: Path, folder: Path) -> tuple[dict[str, _Made], dict[str, str]]:
        """The forms by kind, and why one can't be made."""
        made: dict[str, _Made] = {}
        failed: dict[str, str] = {}
        options: dict[str, dict[str, bool]] = {PORTABLE: {"is_quantised": self._graph.is_quantised}, NATIVE: {}}
        for kind in self._request.kinds:
            if kind == NATIVE and not cpu_kind.kind():
                failed[kind] = "nothing tells the kind of this CPU"
                continue
            target = folder / kind
            target.mkdir()
            try:
                said = trials.run({"do": kind, "onnx": str(source), "folder": str(target), **options[kind]})
                model = target / MODEL_FILE
                model.write_bytes(stripped(model.read_bytes()))
                _sync(target)
                made[kind] = _Made(target)
                if said.get("blocked"):
                    made[kind].canary = trials.run({"do": "canary", "folder": str(target)})["says"]
            except TrialFailed as exc:
                made.pop(kind, None)
                failed[kind] = f"it can't be made: {exc}"
        return made, failed

    def _original(self, source: Path, folder: Path) -> _Made:
        """The model's own files, in a folder of their own."""
        target = folder / ORIGINAL
        target.mkdir()
        names = self._made_of.files or self._content.names
        for name in names:
            copy = target / (MODEL_FILE if name == names[0] else name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            model_cache.clone(source if name == names[0] else source.parent / name, copy)
        return _Made(target)

    def _placed(self, kind: str, made: _Made, version: Path, architecture: str = "") -> Form:
        """A form in the version's folder, in one that is named by what is in it; nobody may write it any more."""
        files = _hashed(made.folder)
        digest = combined({name: file.sha256 for name, file in files.items()})
        name = f"{kind}-{digest[:12]}"
        for path in files:
            (made.folder / path).chmod(0o444)
        made.folder.rename(version / name)
        return Form(
            kind,
            name,
            files,
            cpu_kind.kind() if kind == NATIVE else "",
            architecture if kind == PORTABLE else "",
            made.canary,
        )

    def _carried(self, before: Manifest | None, feeds: Sequence[Feed]) -> list[Form]:
        """The native forms that other kinds of CPU have there already."""
        if before is None or before.request != self._asked(feeds):
            return []
        others = [form for form in before.forms if form.kind == NATIVE and form.cpu != cpu_kind.kind()]
        return [
            form
            for form in others
            if self._output.has(self._folder, {f"{form.folder}/{name}": file for name, file in form.files.items()})
        ]

    def _source(self) -> dict[str, Any]:
        made_of = self._made_of
        facts = {"sha256": made_of.digest, "size": made_of.size, **made_of.facts}
        if self._chosen:
            facts["quantised"] = {"sha256": self._content.digest, **self._chosen.as_dict()}
        return facts

    def _publish(self, version: Path, made: Manifest, carried: Sequence[Form]) -> None:
        (version / MANIFEST).write_bytes(made.text())
        kept = [f"{form.folder}/{name}" for form in carried for name in form.files]
        place = self._output.publish(version, self._folder, kept)
        if place is None:
            return
        for form in made.forms:
            for name, file in form.files.items():
                if form not in carried:
                    path = place / form.folder / name
                    self._digests.keep(path, path.stat(), file.sha256)

    def _unprepared(self, planned: Planned, reason: str) -> Outcome:
        """A model that can't even be loaded, copied."""
        if self._is_there(self._before(), {}):
            return self._outcome("unchanged")
        planned(self._entry, self._content.size, {})
        with self._output.staged() as folder:
            return self._copied(folder, self._on_disk(folder / "source"), {}, reason, [])

    def _copied(
        self,
        folder: Path,
        source: Path,
        asked: Mapping[str, Any],
        reason: str,
        lines: Sequence[Line],
        proof: Mapping[str, Any] | None = None,
        ran: int = 0,
    ) -> Outcome:
        """The model as it is, with a manifest of no forms: a second run need not try again."""
        version = self._original(source, folder).folder
        copied = {name: file._asdict() for name, file in _hashed(version).items()}
        kept = proof if proof is not None else {cpu_kind.kind(): []}
        self._publish(version, Manifest(RUNTIME, {**self._source(), "files": copied}, (), kept, asked), ())
        # The model as it is, or the one with 8-bit weights.
        return self._outcome("quantised" if self._made_of.files else "copied", reason, lines, ran)

    def _outcome(self, status: str, reason: str = "", lines: Sequence[Line] = (), ran: int = 0) -> Outcome:
        return Outcome(self._entry.name, self._entry.version, status, reason, lines, ran, self._chosen)


def _copied_files(before: Manifest) -> dict[str, FormFile]:
    files = before.source.get("files", {})
    return {str(name): FormFile(int(file["size"]), str(file["sha256"])) for name, file in files.items()}


def _hashed(folder: Path) -> dict[str, FormFile]:
    """The files in a folder by their paths in it, the ONNX file first."""
    paths = sorted(_files(folder), key=lambda path: (path.name != MODEL_FILE, path))
    names = [path.relative_to(folder).as_posix() for path in paths]
    return {name: FormFile((folder / name).stat().st_size, sha256_of(folder / name)) for name in names}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sync(folder: Path) -> None:
    """Has the disk take what was written: until then pages of a mapped file count as memory of whoever maps them."""
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))

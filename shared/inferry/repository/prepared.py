"""The forms of a prepared version, one after another: the first that fits this CPU and is what the manifest says."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inferry.errors import InvalidModel, StoreError
from inferry.repository import manifest
from inferry.repository.content import Content
from inferry.repository.digests import Digests
from inferry.repository.layout import MANIFEST, MODEL_FILE
from inferry.repository.manifest import NATIVE, ORIGINAL, Form, Manifest
from inferry.runtime import cpu_kind, onnx_file
from inferry.runtime.model import ServedForm
from inferry.runtime.session import RUNTIME
from inferry.storage.local import is_safe
from inferry.storage.stored import StoredFile, VersionFiles, translated

_AGAIN = "run `inferry prepare` again"


class Source(NamedTuple):
    """Where a version's files are: `read` gives the content of one, up to a limit.

    `place` gives the real path of a file that may be used where it is, None where it can't be; `fill` copies files to
    a folder, by their paths in it.
    """

    read: Callable[[str, int], bytes]
    place: Callable[[str], Path | None]
    fill: Callable[[Path, dict[str, StoredFile]], None]


class _Unfit(Exception):
    """A form can't be served here, for the reason in the message."""


class _OtherKind(_Unfit):
    """It is for another kind of CPU, which is no fault."""


def hold(version: VersionFiles, source: Source, cache: Path | None, in_full: bool = False) -> Content:
    """The content of the best form of a version. InvalidModel says why there is none, and what to do; StoreError."""
    return _Forms(version, source, cache, in_full).following()


class _Forms:
    """The forms that were not tried yet, and why those before them can't be served."""

    def __init__(self, version: VersionFiles, source: Source, cache: Path | None, in_full: bool) -> None:
        self._version = version
        self._source = source
        self._cache = cache
        self._in_full = in_full
        self._digests = Digests(cache, in_full)
        path = version.onnx.path
        try:
            self._manifest = manifest.parse(source.read(path, manifest.MAX_BYTES))
        except ValueError as exc:
            raise InvalidModel(f"{path} can't be read: {exc}; {_AGAIN}") from exc
        self._rest = iter(sorted(self._manifest.forms, key=lambda form: manifest.KINDS.index(form.kind)))
        self._left_out: list[str] = []
        self._of_other_kinds = ""

    def following(self, failure: str = "") -> Content:
        """The next form's content; `failure`: why the one before can't be served, after all."""
        if failure:
            self._left_out.append(failure)
        for form in self._rest:
            try:
                return self._content(form)
            except _OtherKind as exc:
                self._of_other_kinds = f"its {form.kind} form is {exc}"
            except _Unfit as exc:
                self._left_out.append(f"its {form.kind} form does not fit: {exc}")
        reasons = [*filter(None, [self._of_other_kinds]), *self._left_out, _AGAIN]
        raise InvalidModel(f"none of the forms in {self._version.folder} can be served: {'; '.join(reasons)}")

    def _content(self, form: Form) -> Content:
        _check_host(form, self._manifest)
        files = self._listed(form)
        folder = self._in_place(files)
        folder, hashed = (folder, self._checked(folder, form)) if folder else self._copied(form, files)
        _check_canary(folder, form)
        onnx = folder / MODEL_FILE
        file = onnx_file.read(onnx)
        if not {*file.locations} <= form.files.keys():
            raise _Unfit(f"it has weights in {', '.join(file.locations)}, which the manifest does not name")
        source = self._manifest.source
        file.producer, file.opsets = source["producer"], dict(source["opsets"])
        names = (MANIFEST, *(f"{form.folder}/{name}" for name in files))
        served = ServedForm(form.kind, self._manifest.digest, self._of_other_kinds, tuple(self._left_out))
        instead = partial(self._instead, form.kind)
        return Content(onnx, file, names, form.size, source["sha256"], hashed, served, instead)

    def _instead(self, kind: str, failure: str) -> Content:
        return self.following(f"its {kind} form can't be loaded: {failure}")

    def _listed(self, form: Form) -> dict[str, StoredFile]:
        """A form's files by their paths in it, as the store has them."""
        found = {}
        for name, file in form.files.items():
            path = f"{form.folder}/{name}"
            listed = self._version.of([path])[path]
            if listed is None:
                raise _Unfit(f"{path} is missing")
            if listed.size != file.size:
                raise _Unfit(f"{path} has {listed.size} bytes, but the manifest names {file.size}")
            found[name] = listed
        return found

    def _in_place(self, files: dict[str, StoredFile]) -> Path | None:
        """The folder that the files are in, if nobody changes them there."""
        places = {name: self._source.place(file.path) for name, file in files.items()}
        model = places[MODEL_FILE]
        if model and all(place == model.parent / name for name, place in places.items()):
            return model.parent
        return None

    def _copied(self, form: Form, files: dict[str, StoredFile]) -> tuple[Path, bool]:
        """A folder of the cache, named by what its files have to be, and whether they were hashed now."""
        from inferry.repository import model_cache

        cache = self._cache or model_cache.default_cache()
        folder = cache / model_cache.key(("form", sorted(form.files.items())))
        with translated(f"can't copy the {form.kind} form to {cache}", (OSError,)):
            if model_cache.use(folder, files) and model_cache.is_private(folder, files):
                with suppress(_Unfit):
                    return folder, self._checked(folder, form)
                model_cache.discard(folder)
            with model_cache.staged(cache, files) as staged:
                self._source.fill(staged, files)
                _compare(staged, form, Digests(cache, in_full=True))
                found = {name: (staged / name).stat() for name in files}
                model_cache.publish(staged, folder, files)
        if not model_cache.is_private(folder, files):
            raise StoreError(model_cache.not_private(cache))
        for name, status in found.items():
            self._digests.keep(folder / name, status, form.files[name].sha256)
        return folder, True

    def _checked(self, folder: Path, form: Form) -> bool:
        """Whether the files were hashed now. An image's have other times than those they were made of: there their
        sizes have to do."""
        with translated(f"can't read {folder}", (OSError,)):
            if is_safe(folder) and not self._in_full:
                _compare_sizes(folder, form)
                return False
            return _compare(folder, form, self._digests)


def _check_host(form: Form, prepared: Manifest) -> None:
    if form.kind == ORIGINAL:
        return
    if prepared.onnxruntime != RUNTIME:
        raise _Unfit(f"it was made by onnxruntime {prepared.onnxruntime}, and this is {RUNTIME}")
    if form.kind == NATIVE and form.cpu != cpu_kind.kind():
        raise _OtherKind("for other kinds of CPU")
    if form.architecture not in ("", cpu_kind.architecture()):
        raise _Unfit(f"its float16 is for {form.architecture}, and this is {cpu_kind.architecture()}")


def _check_canary(folder: Path, form: Form) -> None:
    """Has a native form's canary tell whether the layout of its convolutions is this CPU's."""
    if form.canary is None:
        return
    from inferry.runtime import canary

    try:
        said = canary.says(folder / canary.FILE)
    except Exception as exc:
        raise _Unfit(f"its canary does not run on this CPU ({exc})") from exc
    if said != form.canary:
        raise _Unfit(f"its canary says {said:g} and not {form.canary:g}: it was made on another kind of CPU")


def _compare_sizes(folder: Path, form: Form) -> None:
    for name, file in form.files.items():
        size = (folder / name).stat().st_size
        if size != file.size:
            raise _Unfit(f"{form.folder}/{name} has {size} bytes, but the manifest names {file.size}")


def _compare(folder: Path, form: Form, digests: Digests) -> bool:
    """Whether all of the files, which are what the manifest names, were hashed now. _Unfit when they are not."""
    _compare_sizes(folder, form)
    hashed = True
    for name, file in form.files.items():
        found = digests.of(folder / name)
        hashed &= found.hashed
        if found.sha256 != file.sha256:
            raise _Unfit(
                f"the SHA-256 of {form.folder}/{name} is {found.sha256}, but the manifest names {file.sha256}: it was "
                "damaged or exchanged"
            )
    return hashed

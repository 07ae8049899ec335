"""Stores: what is listed, how it is fetched, and that nothing half-done or foreign is ever seen."""

import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore.exceptions
import obstore.store
import pytest
from inferry.errors import InvalidModel, InvalidSettings, StoreError
from inferry.repository import model_cache, store
from inferry.repository import remote_store as remote_module
from inferry.repository.content import digest
from inferry.repository.remote_store import RemoteStore, memory_store
from inferry.repository.store import LocalStore, open_store
from inferry.storage.stored import StoredFile, VersionFiles

MODEL = bytes(range(256)) * 40
FILES = {"digits/1/model.onnx": MODEL, "digits/1/weights/w.bin": b"w" * 3000, "digits/1/empty": b""}


class Backend:
    """An obstore store that counts its reads; `on_get` runs before each and may fail or change its answer."""

    def __init__(self, inner: Any, on_get: Callable[[int], object] = lambda count: None) -> None:
        self.inner, self.on_get, self.gets = inner, on_get, 0
        self._lock = threading.Lock()

    def list(self, below: str | None = None, **options: Any) -> Any:
        return self.inner.list(below, **options)

    def get(self, path: str, **options: Any) -> Any:
        with self._lock:
            self.gets += 1
            count = self.gets
        return self.on_get(count) or self.inner.get(path, **options)


def in_memory(files: dict[str, bytes]) -> Any:
    return memory_store(files).backend


def remote(backend: Any, cache: Path, origin: str = "test") -> RemoteStore:
    return RemoteStore("s3://test/models", backend, cache, origin)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def paths(found: list[StoredFile]) -> list[str]:
    return [file.path for file in found]


def below_one(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path.removeprefix("digits/1/"): content for path, content in files.items()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "PIECE", 1000)


@pytest.fixture(params=["local", "memory"])
def filled(request: pytest.FixtureRequest, tmp_path: Path, cache: Path) -> Iterator[store.Store]:
    files = {**FILES, "iris.onnx": b"iris", ".hidden": b"x", "digits/.git/x": b"x", "digits/config.json": b"{}"}
    if request.param == "local":
        yield open_store(str(write(tmp_path / "models", files)))
    else:
        yield memory_store(files, cache)


# Both kinds


def test_lists_every_visible_file_by_path(filled: store.Store) -> None:
    found = filled.list()
    assert [(file.path, file.size) for file in found] == [
        ("digits/1/empty", 0),
        ("digits/1/model.onnx", 10240),
        ("digits/1/weights/w.bin", 3000),
        ("digits/config.json", 2),
        ("iris.onnx", 4),
    ]
    assert all(file.identity for file in found)
    assert filled.list() == found


def test_reads_up_to_the_limit(filled: store.Store) -> None:
    assert filled.read("iris.onnx", 4) == b"iris"
    with pytest.raises(StoreError, match=r"iris.onnx.* 3"):
        filled.read("iris.onnx", 3)


@pytest.mark.parametrize("path", ["none", "digits", "../secret", "digits/../iris.onnx", "/etc/hostname", ".hidden/x"])
def test_reads_nothing_but_its_files(filled: store.Store, path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(StoreError):
        filled.read(path, 1000)


@pytest.mark.usefixtures("_small_pieces")
def test_fetches_a_folder_by_relative_paths(cache: Path) -> None:
    filled = memory_store(FILES, cache)
    folder = filled.download("digits/1", filled.list(), None)
    assert contents(folder) == below_one(FILES)


def test_fetches_a_file_of_the_root(cache: Path) -> None:
    filled = memory_store({"iris.onnx": b"iris", "other": b""}, cache)
    assert (filled.download("", filled.list()[:1], None) / "iris.onnx").read_bytes() == b"iris"


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("digits/1", "iris.onnx"),
        ("digits", "digits2/model.onnx"),
        ("", "../secret"),
        ("", "/etc/hostname"),
        ("..", "../secret"),
        ("", "a\\..\\b"),
        ("", "a\0b"),
        ("a/..", "a/../../secret"),
    ],
)
def test_downloads_nothing_from_outside(cache: Path, folder: str, path: str) -> None:
    with pytest.raises(StoreError):
        memory_store(FILES, cache).download(folder, [StoredFile(path, 1, "x")], None)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "a\\..\\b", "a\0b", "a/../../secret", ".hidden", "digits"]
)
def test_fetches_nothing_from_outside(filled: store.Store, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(StoreError):
        filled.fetch(VersionFiles("", path, (StoredFile(path, 1, "x"),)), None)


def test_fetches_no_empty_list(cache: Path) -> None:
    with pytest.raises(StoreError):
        memory_store(FILES, cache).download("digits/1", [], None)


# URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/models", "a store can't be a ftp:// URL; give a folder or one of"),
        ("https://user:hunter2@host/?sig=hunter2", "a store can't be a https:// URL"),
        ("s3://", "expected s3://bucket/prefix"),
        ("az:///prefix", "expected az://bucket/prefix"),
        ("file://models", "expected file:///folder"),
        ("s3://key:hunter2@bucket/models", "takes no credentials"),
        ("s3://key:hunter2/@bucket/models", "takes no credentials"),
        ("az://container/models?sv=1&sig=hunter2", "takes no credentials"),
        ("az://container?sig=hunter2", "takes no credentials"),
    ],
)
def test_a_url_that_names_no_store(url: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "my models", {"a.onnx": b"a"})
    assert root.as_uri().endswith("my%20models")
    assert paths(open_store(root.as_uri()).list()) == ["a.onnx"]


def test_a_relative_folder_stays_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "models", {"a.onnx": b"a"})
    monkeypatch.chdir(tmp_path)
    opened = open_store("models")
    monkeypatch.chdir("/")
    assert opened.read("a.onnx", 1) == b"a"


def test_a_memory_name_is_one_store(cache: Path) -> None:
    memory_store({"a": b"1"}, cache, name="one")
    assert open_store("memory://one", cache).read("a", 1) == b"1"
    assert open_store("memory://other", cache).list() == []
    unnamed = memory_store({"a": b"2"}, cache)
    assert unnamed.read("a", 1) == b"2"
    assert open_store(unnamed.url, cache).list() == []


def test_a_folder_needs_no_obstore(tmp_path: Path) -> None:
    code = (
        "import sys; from inferry.repository.store import *; from inferry.storage.stored import VersionFiles;"
        "s = open_store(sys.argv[1]); files = s.list();"
        "s.read('a', 9); s.fetch(VersionFiles('', 'a', tuple(files)), None);"
        "print(len(files), *(name in sys.modules for name in ('obstore', 'inferry.repository.model_cache')))"
    )
    run = [sys.executable, "-c", code, str(write(tmp_path / "models", {"a": b"a"}))]
    path = str(Path(store.__file__).parents[2])
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={"PYTHONPATH": path})
    assert done.stdout == "1 False False\n"


# Folders


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "models"
    with pytest.raises(StoreError, match=f"{missing} does not exist: name the folder"):
        open_store(str(missing)).list()
    missing.write_bytes(b"a file")
    with pytest.raises(StoreError, match=f"{missing} is not a folder: name the folder"):
        open_store(str(missing)).list()


def test_the_identity_of_a_local_file_changes_with_it(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.onnx": b"one"})
    times = (1e9, 1e9)
    os.utime(root / "a.onnx", times)
    [before] = open_store(str(root)).list()
    os.utime(root / "a.onnx", (1e9, 1e9 + 1))
    [touched] = open_store(str(root)).list()
    (root / "new").write_bytes(b"two")
    os.utime(root / "new", times)
    (root / "new").rename(root / "a.onnx")
    [replaced] = open_store(str(root)).list()
    assert len({before.identity, touched.identity, replaced.identity}) == 3


def test_links_are_followed_inside_the_root_only(tmp_path: Path) -> None:
    root = write(tmp_path / "models", {"real/1/m.onnx": b"m", "..data/c.onnx": b"c", "z.onnx": b"z"})
    write(tmp_path / "outside", {"secret": b"secret"})
    links = {
        "file": "z.onnx",
        "folder": "real/1",
        "config": "..data/c.onnx",
        "out": "../outside/secret",
        "outfolder": "../outside",
        "absolute": str(tmp_path / "outside" / "secret"),
        "itself": "itself",
        "broken": "nowhere",
        "real/up": "..",
        "real/1/back": "../../real",
        "sibling": "../models-other",
    }
    write(tmp_path / "models-other", {"x": b"x"})
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    opened = LocalStore(root, "models")
    assert paths(opened.list()) == ["config", "file", "folder/m.onnx", "real/1/m.onnx", "z.onnx"]
    out, gone = "is a link that leads out of the repository", "is a link to a file that does not exist"
    assert opened.left_out == [
        f"absolute {out}",
        f"broken {gone}",
        "folder/back/up is a link to a folder that it lies in",
        f"itself {gone}",
        f"out {out}",
        f"outfolder {out}",
        "real/1/back is a link to a folder that it lies in",
        "real/up is a link to a folder that it lies in",
        f"sibling {out}",
    ]
    assert opened.read("config", 9) == b"c"
    for path in ("out", "outfolder/secret", "absolute", "itself", "sibling/x", "pipe"):
        with pytest.raises(StoreError):
            opened.read(path, 100)
        with pytest.raises(StoreError):
            opened.fetch(VersionFiles("", path, (StoredFile(path, 1, "x"),)), None)


def test_a_root_that_is_a_link_may_be_switched(tmp_path: Path) -> None:
    for version in ("one", "two"):
        write(tmp_path / version, {f"{version}.onnx": b"x"})
    root = tmp_path / "models"
    root.symlink_to("one")
    opened = open_store(str(root))
    before = paths(opened.list())
    root.unlink()
    root.symlink_to("two")
    assert [before, paths(opened.list())] == [["one.onnx"], ["two.onnx"]]


def test_local_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    for name in (b"good", b"bad\xff", b"new\nline", b"back\\slash"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    assert paths(open_store(str(tmp_path)).list()) == ["good"]


# Listings of object stores


class Listing:
    """A backend with keys that obstore's own stores would not take."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def list(self, below: str | None = None, **options: Any) -> Any:
        now = datetime.now(UTC)
        return [[{"path": key, "size": 1, "e_tag": key, "last_modified": now, "version": None} for key in self.keys]]


@pytest.mark.parametrize(
    "key",
    ["../a", "a/../../b", "/etc/passwd", "a//b", "a\0b", "a\\..\\b", ".", "..", "", "a/", "./a", "a\nb", "a/.b/c"],
)
def test_hostile_keys_are_left_out(key: str, cache: Path) -> None:
    assert paths(remote(Listing(key, "good"), cache).list()) == ["good"]


def test_folder_markers_are_no_files(cache: Path) -> None:
    found = remote(Listing("a/b/c", "a", "a/b", "ab", "", "z"), cache).list()
    assert paths(found) == ["a/b/c", "ab", "z"]


@pytest.mark.parametrize(("tag", "identity"), [('"abc"', "abc"), ("abc", "abc"), (None, "7-2026-01-02T03:04:05+00:00")])
def test_the_identity_of_an_object(tag: str | None, identity: str) -> None:
    modified = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    meta: Any = {"path": "a", "size": 7, "e_tag": tag, "last_modified": modified, "version": None}
    assert remote_module.stored(meta) == StoredFile("a", 7, identity)


# Fetching


@pytest.mark.usefixtures("_small_pieces")
def test_what_was_fetched_is_not_read_again(cache: Path) -> None:
    backend = Backend(in_memory(FILES))
    first = remote(backend, cache)
    folder = first.download("digits/1", first.list(), None)
    assert backend.gets == 11 + 3
    assert remote(backend, cache).download("digits/1", first.list(), None) == folder
    assert backend.gets == 14
    assert [path.name for path in cache.iterdir()] == [folder.name]


@pytest.mark.usefixtures("_small_pieces")
def test_pieces_are_fetched_side_by_side(cache: Path) -> None:
    eight = threading.Barrier(8)

    def meet(count: int) -> None:
        if count <= 8:
            eight.wait(20)

    opened = remote(Backend(in_memory(FILES), meet), cache)
    assert contents(opened.download("digits/1", opened.list(), None)) == below_one(FILES)


def test_the_same_digest_is_fetched_once_from_anywhere(cache: Path) -> None:
    sha256 = hashlib.sha256(MODEL).hexdigest()
    one, two = (Backend(in_memory({"m.onnx": MODEL})) for _ in range(2))
    first = remote(one, cache, "one").download("", remote(one, cache).list(), sha256)
    assert remote(two, cache, "two").download("", remote(two, cache).list(), sha256.upper()) == first
    assert (one.gets, two.gets) == (1, 0)


def test_the_same_digest_under_another_name_has_that_name(cache: Path) -> None:
    sha256 = hashlib.sha256(MODEL).hexdigest()
    stores = [memory_store({name: MODEL}, cache) for name in ("a.onnx", "b.onnx")]
    folders = [opened.download("", opened.list(), sha256) for opened in stores]
    assert [contents(folder) for folder in folders] == [{"a.onnx": MODEL}, {"b.onnx": MODEL}]


def test_without_a_digest_only_the_same_object_is_reused(cache: Path) -> None:
    opened = memory_store({"m.onnx": b"one"}, cache)
    first = opened.download("", opened.list(), None)
    opened.backend.put("m.onnx", b"two")
    second = opened.download("", opened.list(), None)
    other = memory_store({"m.onnx": b"six"}, cache)
    third = other.download("", other.list(), None)
    assert [(f / "m.onnx").read_bytes() for f in (first, second, third)] == [b"one", b"two", b"six"]


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize(
    "error", [OSError("cable pulled"), obstore.exceptions.GenericError("cable pulled\n\nDebug source: pages")]
)
def test_a_failure_in_the_middle_leaves_nothing(error: Exception, cache: Path) -> None:
    def fail(count: int) -> None:
        if count == 5:
            raise error

    backend = Backend(in_memory(FILES), fail)
    opened = remote(backend, cache)
    with pytest.raises(StoreError) as caught:
        opened.download("digits/1", opened.list(), None)
    assert str(caught.value) == f"can't fetch 'digits/1' from s3://test/models to {cache}: cable pulled"
    assert caught.value.__cause__ is error
    assert list(cache.iterdir()) == []
    assert contents(opened.download("digits/1", opened.list(), None)) == below_one(FILES)


def test_after_a_failure_the_rest_is_not_fetched(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(remote_module, "PIECE", 10)

    def fail(count: int) -> None:
        if count == 1:
            raise OSError("cable pulled")
        time.sleep(0.005)

    backend = Backend(in_memory(FILES), fail)
    with pytest.raises(StoreError):
        remote(backend, cache).download("digits/1", remote(backend, cache).list(), None)
    assert backend.gets < 100


def test_a_wrong_digest_leaves_nothing(cache: Path) -> None:
    opened = memory_store({"m.onnx": MODEL}, cache)
    with pytest.raises(InvalidModel) as caught:
        opened.download("", opened.list(), "f" * 64)
    assert hashlib.sha256(MODEL).hexdigest() in str(caught.value)
    assert "f" * 64 in str(caught.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("sha256", ["../../escaped", "/tmp/escaped", "\0"])
def test_a_hostile_digest_is_only_a_wrong_one(sha256: str, tmp_path: Path) -> None:
    opened = memory_store({"m.onnx": MODEL}, tmp_path / "a" / "b")
    with pytest.raises(InvalidModel):
        opened.download("", opened.list(), sha256)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("content", [b"n" * len(MODEL), b"n" * (len(MODEL) + 1), b"short"])
def test_an_object_replaced_in_the_middle_is_noticed(content: bytes, cache: Path) -> None:
    inner = in_memory({"m.onnx": MODEL})
    replaced = threading.Event()

    def replace(count: int) -> None:
        if count == 3:
            inner.put("m.onnx", content)
            replaced.set()
        elif count > 3:
            replaced.wait(10)

    opened = remote(Backend(inner, replace), cache)
    with pytest.raises(StoreError):
        opened.download("", opened.list(), None)
    assert list(cache.iterdir()) == []
    assert contents(opened.download("", opened.list(), None)) == {"m.onnx": content}


def test_an_object_replaced_before_is_noticed(cache: Path) -> None:
    opened = memory_store({"m.onnx": b"one"}, cache)
    listed = opened.list()
    opened.backend.put("m.onnx", b"two")
    with pytest.raises(StoreError, match="replaced since it was listed: list again"):
        opened.download("", listed, None)


def test_an_object_that_is_gone(cache: Path) -> None:
    opened = memory_store({"m.onnx": b"one"}, cache)
    listed = opened.list()
    opened.backend.delete("m.onnx")
    with pytest.raises(StoreError, match=r"can't fetch .* m.onnx not found"):
        opened.download("", listed, None)
    assert list(cache.iterdir()) == []


class Short:
    """An answer whose bytes end too early."""

    def __init__(self, inner: Any) -> None:
        self.meta, self._inner = inner.meta, inner

    def bytes(self) -> bytes:
        return bytes(self._inner.bytes())[:-1]


def test_bytes_that_are_missing_are_noticed(cache: Path) -> None:
    inner = in_memory({"m.onnx": b"one"})
    opened = remote(Backend(inner, lambda count: Short(inner.get("m.onnx"))), cache)
    with pytest.raises(StoreError, match="got 2 bytes, not 3"):
        opened.download("", opened.list(), None)
    assert list(cache.iterdir()) == []


# The cache


def test_leftovers_of_killed_processes(cache: Path) -> None:
    opened = memory_store(FILES, cache)
    listed = opened.list()
    young, old = cache / ".fetch-young", cache / ".fetch-old"
    for left in (young, old):
        write(left / "files", {"model.onnx": b"half"})
    os.utime(old, (time.time() - 90000,) * 2)
    folder = opened.download("digits/1", listed, None)
    assert contents(folder) == below_one(FILES)
    assert sorted(cache.iterdir()) == sorted([young, folder])


@pytest.mark.parametrize("damage", ["file", "all", "shorter"])
def test_a_folder_that_a_cleaner_damaged_is_fetched_again(damage: str, cache: Path) -> None:
    opened = memory_store(FILES, cache)
    folder = opened.download("digits/1", opened.list(), None)
    if damage == "file":
        (folder / "model.onnx").unlink()
    elif damage == "shorter":
        (folder / "model.onnx").write_bytes(b"half")
    else:
        shutil.rmtree(folder)
    assert opened.download("digits/1", opened.list(), None) == folder
    assert contents(folder) == below_one(FILES)
    assert list(cache.iterdir()) == [folder]


def test_too_small_a_disk_is_told_before_anything_is_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(model_cache, "disk_usage", lambda path: usage._replace(free=1000))
    write(cache / ("0" * 64), {"kept.onnx": b"a model that is too small to make room"})
    backend = Backend(in_memory({"m.onnx": MODEL}))
    with pytest.raises(StoreError) as caught:
        remote(backend, cache).download("", remote(backend, cache).list(), None)
    assert str(caught.value) == f"no space in {cache}: 10240 bytes are needed, 1000 free, 9240 missing"
    assert (backend.gets, contents(cache)) == (0, {f"{'0' * 64}/kept.onnx": b"a model that is too small to make room"})


def test_a_disk_that_fills_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    opened = memory_store({"m.onnx": MODEL}, cache)
    with pytest.raises(StoreError, match=r"no space in .*: 10240 bytes are needed"):
        opened.download("", opened.list(), None)
    assert list(cache.iterdir()) == []


def test_writes_that_take_only_a_part_go_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:7], offset))
    opened = memory_store({"m.onnx": MODEL}, cache)
    assert contents(opened.download("", opened.list(), None)) == {"m.onnx": MODEL}


def test_a_cache_that_cant_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    opened = memory_store({"m.onnx": MODEL}, tmp_path / "file" / "cache")
    with pytest.raises(StoreError, match=r"to .*/file/cache: .*Not a directory"):
        opened.download("", opened.list(), None)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"inferry-{os.getuid()}"


def test_the_default_cache_is_private(temporary: Path) -> None:
    opened = memory_store({"m.onnx": MODEL})
    for _ in range(2):
        assert opened.download("", opened.list(), None).parent == temporary / "models"
    assert [oct(path.stat().st_mode) for path in (temporary, temporary / "models")] == ["0o40700"] * 2


@pytest.mark.parametrize("kind", ["open", "link", "file", "foreign"])
def test_a_default_cache_of_others_is_refused(kind: str, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "file":
        temporary.touch(0o600)
    elif kind == "link":
        (temporary.parent / "elsewhere").mkdir(0o700)
        temporary.symlink_to("elsewhere")
    else:
        temporary.mkdir(0o700)
        temporary.chmod(0o770 if kind == "open" else 0o700)
    if kind == "foreign":
        uid = os.getuid()
        temporary.rename(temporary.with_name(f"inferry-{uid + 1}"))
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    opened = memory_store({"m.onnx": MODEL})
    with pytest.raises(StoreError, match="isn't a folder of this user with mode 0700"):
        opened.download("", opened.list(), None)


# Together


def at_barrier(barrier: Any) -> Callable[[int], None]:
    """Both have begun to fetch before either goes on."""

    def wait(count: int) -> None:
        if count == 1:
            barrier.wait(30)

    return wait


@pytest.mark.usefixtures("_small_pieces")
def test_threads_that_fetch_the_same(cache: Path) -> None:
    inner, barrier = in_memory(FILES), threading.Barrier(2)
    stores = [remote(Backend(inner, at_barrier(barrier)), cache) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda opened: opened.download("digits/1", opened.list(), None), stores)
    assert one == two
    assert list(cache.iterdir()) == [one]
    assert contents(one) == below_one(FILES)


def join(barrier: Any) -> None:
    globals()["barrier"] = barrier


def fetch_from_folder(source: str, cache: Path) -> tuple[int, Path]:
    backend = Backend(obstore.store.LocalStore(source), at_barrier(globals()["barrier"]))
    opened = remote(backend, cache)
    return os.getpid(), opened.download("digits/1", opened.list(), None)


def fetch_own_memory(content: bytes, cache: Path) -> bytes:
    memory_store({"m.onnx": content}, name="same")
    opened: Any = open_store("memory://same", cache)
    globals()["barrier"].wait(30)
    return (opened.download("", opened.list(), None) / "m.onnx").read_bytes()


@pytest.fixture
def two_processes() -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, join, (spawn.Barrier(2),)) as pool:
        yield pool


def test_processes_that_fetch_the_same(two_processes: ProcessPoolExecutor, tmp_path: Path, cache: Path) -> None:
    source = str(write(tmp_path / "models", FILES))
    (one, first), (two, second) = two_processes.map(fetch_from_folder, [source] * 2, [cache] * 2)
    assert (one != two, first == second) == (True, True)
    assert list(cache.iterdir()) == [first]
    assert contents(first) == below_one(FILES)


def test_memory_of_two_processes_is_not_mixed_up(two_processes: ProcessPoolExecutor, cache: Path) -> None:
    wanted = [b"one", b"two"]
    assert list(two_processes.map(fetch_own_memory, wanted, [cache] * 2)) == wanted


# Digests


def test_the_digest_of_one_file_is_its_sha256(tmp_path: Path) -> None:
    write(tmp_path, {"iris.onnx": MODEL, "other": b"x"})
    assert digest(tmp_path, ["iris.onnx"]) == hashlib.sha256(MODEL).hexdigest()


def test_the_digest_of_several_files_is_what_sha256sum_says(tmp_path: Path) -> None:
    names = ["a.bin", "Z.bin", "m.onnx", "é.bin", "10", "9"]
    write(tmp_path, {name: name.encode() for name in names})
    command = ["sh", "-c", "sha256sum * | sha256sum"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True
    )
    assert digest(tmp_path, names) == done.stdout.split()[0]


def test_a_digest_of_what_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"m\.onnx"):
        digest(tmp_path, ["m.onnx"])


def test_a_fetched_folder_has_the_digest_of_the_local_one(tmp_path: Path, cache: Path) -> None:
    sha256 = digest(write(tmp_path / "local", below_one(FILES)), [*below_one(FILES)])
    opened = memory_store(FILES, cache)
    assert contents(opened.download("digits/1", opened.list(), sha256)) == below_one(FILES)


def test_a_memory_store_refuses_hostile_keys(cache: Path) -> None:
    with pytest.raises(StoreError, match=r"can't fill memory://up: .*illegal"):
        memory_store({"a/../../b": b"x"}, cache, name="up")

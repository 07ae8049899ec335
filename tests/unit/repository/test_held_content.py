"""What is served is what was hashed, wherever the files lie, and only the files that a graph names count."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.errors import InvalidModel, StoreError
from inferry.repository import content, model_cache
from inferry.repository.remote_store import memory_store
from inferry.repository.repository import Repository, open_repository
from inferry.repository.store import LocalStore
from inferry.runtime.model import Model
from inferry.storage.stored import StoredFile, VersionFiles

TWO, TWOS = onnx_models.external(2.0)
THREES = onnx_models.external(3.0)[1]
HOUR = 60 * 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def opened(folder: Path, cache: Path) -> Repository:
    return open_repository(str(folder), cache=cache)


def factor(model: Model) -> float:
    (output,) = model.session.run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic() + 30)
    return float(output[0, 0])


def overwrite(path: Path, new: bytes) -> None:
    """In place, as `cp` does, at a time of its own."""
    with path.open("r+b") as file:
        file.write(new)
        file.truncate()
    os.utime(path, (HOUR, path.stat().st_mtime + HOUR))


def sums(folder: Path, *names: str) -> str:
    """What `sha256sum NAME... | sha256sum` prints."""
    listed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    return subprocess.run(["sha256sum"], input=listed, capture_output=True, check=True).stdout.decode().split()[0]


# Where files lie


def test_weights_overwritten_in_place_are_not_served_under_the_old_digest(folder: Path, cache: Path) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS})
    repository = opened(folder, cache)
    before = repository.get("m")
    digest = sums(folder / "m/1", "model.onnx", "weights.bin")
    assert (factor(before), before.digest) == (2, digest)
    overwrite(folder / "m/1/weights.bin", THREES)
    assert (factor(repository.get("m")), repository.get("m").digest) == (2, digest)
    repository.refresh()
    after = repository.get("m")
    assert (factor(after), after.digest) == (3, sums(folder / "m/1", "model.onnx", "weights.bin"))
    assert factor(before) == 2


CUT_OFF = """
import sys, time
import numpy as np
from inferry.repository.repository import open_repository
from pathlib import Path

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
model = open_repository(str(folder), cache=cache).get("m")
(folder / "m/1/weights.bin").write_bytes(b"")
(folder / "m/1/model.onnx").write_bytes(b"")
(output,) = model.session.run({"x": np.ones((1, 3), np.float32)}, ["y"], time.monotonic() + 30)
print(output.tolist(), model.session.file.locations)
"""


def test_a_copy_under_way_does_not_end_the_process(folder: Path, cache: Path) -> None:
    """`cp` cuts a file off before it writes: what was mapped there ends whoever reads it with SIGBUS."""
    model, weights = onnx_models.external(2.0, ballast=100_000)
    onnx_models.write(folder, {"m/1/model.onnx": model, "m/1/weights.bin": weights})
    command = [sys.executable, "-c", CUT_OFF, str(folder), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[[2.0, 2.0, 2.0]] ('weights.bin',)\n"), done.stderr


def version(folder: Path, name: str = "m") -> VersionFiles:
    files = [file for file in LocalStore(folder, str(folder)).list() if file.path.startswith(f"{name}/1/")]
    return VersionFiles(f"{name}/1", "model.onnx", tuple(files))


def held(folder: Path, cache: Path, name: str = "m") -> content.Content:
    return LocalStore(folder, str(folder), cache).fetch(version(folder, name), None)


def test_a_file_without_external_data_is_read(folder: Path, cache: Path) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": onnx_models.scaled(2.0)})
    found = held(folder, cache)
    assert found.model == onnx_models.scaled(2.0)
    assert found.digest == hashlib.sha256(onnx_models.scaled(2.0)).hexdigest()
    assert (found.names, found.size) == (("model.onnx",), len(onnx_models.scaled(2.0)))
    assert not cache.exists()


def test_a_file_too_large_for_memory_goes_through_the_cache(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "IN_MEMORY", 100)
    onnx_models.write(folder, {"m/1/model.onnx": onnx_models.scaled(2.0)})
    found = held(folder, cache)
    assert isinstance(found.model, Path)
    assert found.model.is_relative_to(cache)
    assert found.model.read_bytes() == onnx_models.scaled(2.0)
    assert found.digest == hashlib.sha256(onnx_models.scaled(2.0)).hexdigest()


def test_external_data_is_loaded_from_a_private_copy(folder: Path, cache: Path) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS, "m/1/README.md": b"no part of it"})
    found = held(folder, cache)
    assert isinstance(found.model, Path)
    kept = found.model.parent
    assert kept.parent == cache
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"model.onnx": TWO, "weights.bin": TWOS}
    assert oct(kept.stat().st_mode) == "0o40700"
    assert (found.names, found.size) == (("model.onnx", "weights.bin"), len(TWO) + len(TWOS))
    assert found.digest == sums(folder / "m/1", "model.onnx", "weights.bin")
    originals = {path.stat().st_ino for path in (folder / "m/1").iterdir()}
    assert originals.isdisjoint(path.stat().st_ino for path in kept.iterdir())


def test_a_copy_that_is_there_is_used_again(folder: Path, cache: Path) -> None:
    """By any folder that has the same content, and it has been used then."""
    files = {"model.onnx": TWO, "weights.bin": TWOS}
    onnx_models.write(folder, {f"{name}/1/{file}": data for name in "mn" for file, data in files.items()})
    first = held(folder, cache)
    assert isinstance(first.model, Path)
    os.utime(first.model.parent, (HOUR, HOUR))
    assert [held(folder, cache, name) for name in "mn"] == [first, first]
    assert list(cache.iterdir()) == [first.model.parent]
    assert first.model.parent.stat().st_mtime > HOUR
    overwrite(folder / "n/1/weights.bin", THREES)
    assert held(folder, cache, "n").model != first.model
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("harm", ["linked", "open"])
def test_a_copy_that_others_may_write_is_not_used(folder: Path, cache: Path, harm: str) -> None:
    """A hard link is no copy, and a folder that is not closed is no place for one."""
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS})
    first = held(folder, cache).model
    assert isinstance(first, Path)
    if harm == "linked":
        os.link(first.with_name("weights.bin"), folder / "linked.bin")
    else:
        first.parent.chmod(0o755)
    second = held(folder, cache).model
    assert isinstance(second, Path)
    assert second != first


@pytest.mark.parametrize("harm", ["linked", "open"])
def test_what_was_fetched_and_others_may_write_is_copied(cache: Path, harm: str, tmp_path: Path) -> None:
    store = memory_store({"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS}, cache)
    files = VersionFiles("m/1", "model.onnx", tuple(store.list()))
    first = store.fetch(files, None)
    assert isinstance(first.model, Path)
    assert store.fetch(files, None) == first
    if harm == "linked":
        os.link(first.model.with_name("weights.bin"), tmp_path / "linked.bin")
    else:
        first.model.parent.chmod(0o755)
    second = store.fetch(files, None)
    assert second._replace(model=first.model) == first
    assert second.model != first.model


def test_a_cache_that_keeps_nothing_private_is_refused(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share without modes, say: another user owns what is written."""
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS})
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(StoreError, match=r"can't keep folders private \(mode 0700\): set MODEL_CACHE_DIR"):
        held(folder, cache)


WORKER = """
import sys
from inferry.repository.repository import open_repository
print(open_repository(sys.argv[1], cache=__import__("pathlib").Path(sys.argv[2])).get("m").digest)
"""


def test_processes_share_one_copy(folder: Path, cache: Path) -> None:
    model, weights = onnx_models.external(2.0, ballast=20_000_000)
    onnx_models.write(folder, {"m/1/model.onnx": model, "m/1/weights.bin": weights})
    command = [sys.executable, "-c", WORKER, str(folder), str(cache)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [worker.communicate()[0] for worker in workers]
    assert answers == [f"{sums(folder / 'm/1', 'model.onnx', 'weights.bin')}\n"] * 4
    assert len([entry for entry in cache.iterdir() if entry.name != "digests"]) == 1


def test_a_copy_under_way_is_waited_for(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever needs the same: workers start together."""
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS})
    clone, begun, go_on = model_cache.clone, [], threading.Event()

    def slow(original: Path, target: Path) -> None:
        begun.append(original.name)
        assert go_on.wait(60)
        clone(original, target)

    monkeypatch.setattr(model_cache, "clone", slow)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(held, folder, cache) for _ in range(2)]
        end = time.monotonic() + 60
        while not waits_for_a_lock() and len(begun) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        go_on.set()
        one, other = (load.result(60) for load in both)
    assert (one, begun) == (other, ["model.onnx", "weights.bin"])
    assert list(cache.iterdir()) == [place(one)]


def waits_for_a_lock() -> bool:
    """Whether a thread of this process does: the kernel lists who waits under an arrow."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any(line.split()[1] == "->" and str(os.getpid()) in line.split() for line in lines)


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh")
IN_PLACE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_held_content import held
folder, cache = map(Path, sys.argv[1:3])
found = held(folder, cache)
print(found.model, found.digest, cache.exists())
linked = held(folder, cache, "linked")
print(linked.model.is_relative_to(cache), linked.digest)
"""


def test_nothing_is_copied_on_a_read_only_mount(folder: Path, cache: Path) -> None:
    """As in a function's image; but ONNX Runtime follows no link out of a model's folder."""
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS, "linked/1/model.onnx": TWO})
    (folder / "linked/1/weights.bin").symlink_to("../../m/1/weights.bin")
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, str(folder), "true"], check=False).returncode:
        pytest.skip("no user namespaces here, and so no read-only mount")
    here = str(Path(__file__).parent)
    path = os.pathsep.join([*filter(None, sys.path)])
    script = [sys.executable, "-c", IN_PLACE, str(folder), str(cache), here]
    done = subprocess.run(
        [*NAMESPACE, str(folder), *script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    digest = sums(folder / "m/1", "model.onnx", "weights.bin")
    expected = f"{folder}/m/1/model.onnx {digest} False\nTrue {digest}\n"
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_copies_make_room_and_are_swept_like_what_was_fetched(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        model, weights = onnx_models.external(2.0, ballast=10_000)
        onnx_models.write(
            folder, {f"{name}/1/model.onnx": model, f"{name}/1/weights.bin": weights[:-1] + name.encode()}
        )

    def usage(path: Path) -> object:
        used = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        return shutil.disk_usage("/")._replace(free=25_000 - used)

    monkeypatch.setattr(model_cache, "disk_usage", usage)
    a, b = (place(held(folder, cache, name)) for name in "ab")
    os.utime(a, (time.time() - 10,) * 2)
    loaded = opened(folder, cache).get("a")  # a use
    os.utime(b, (time.time() - 10,) * 2)
    c = place(held(folder, cache, "c"))
    assert sorted(cache.iterdir()) == sorted([a, c])
    os.utime(a, (HOUR, HOUR))
    place(held(folder, cache, "b"))
    assert not a.exists()
    assert factor(loaded) == 2  # it is still mapped


def place(found: content.Content) -> Path:
    assert isinstance(found.model, Path)
    return found.model.parent


def test_a_cache_without_space_says_how_much_is_missing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS})
    monkeypatch.setattr(model_cache, "disk_usage", nearly_full)
    with pytest.raises(StoreError, match=f"^no space in {cache}: 12 bytes are needed, 5 free, 7 missing$"):
        held(folder, cache)
    assert list(cache.iterdir()) == []


def nearly_full(path: Path) -> object:
    """A disk with room for the ONNX file, and 5 bytes more."""
    copied = any(file.suffix == ".onnx" for file in path.rglob("*"))
    return shutil.disk_usage("/")._replace(free=5 if copied else len(TWO) + 5)


# Which files


def repository_of(kind: str, files: dict[str, bytes], folder: Path, cache: Path) -> Repository:
    if kind == "memory":
        return Repository(memory_store(files, cache), cache=cache)
    return opened(onnx_models.write(folder, files), cache)


KINDS = pytest.mark.parametrize("kind", ["local", "memory"])


@KINDS
@pytest.mark.parametrize("location", ["weights.bin", "./weights.bin", "w/x//2", "onnx__MatMul_123", "flat.onnx.data"])
def test_external_data_of_any_name_is_part_of_the_digest(kind: str, location: str, folder: Path, cache: Path) -> None:
    model, weights = onnx_models.external(2.0, location)
    name = os.path.normpath(location)
    repository = repository_of(kind, {"m/1/model.onnx": model, f"m/1/{name}": weights}, folder, cache)
    here = onnx_models.write(cache.parent / "here", {"model.onnx": model, name: weights})
    assert (factor(repository.get("m")), repository.get("m").digest) == (2, sums(here, *sorted(["model.onnx", name])))


@KINDS
def test_a_flat_file_has_what_it_names_and_no_more(kind: str, folder: Path, cache: Path) -> None:
    files = {"flat.onnx": TWO, "weights.bin": TWOS, "flat.onnx.data": b"", "README.md": b"", "flat2.onnx": TWO}
    repository = repository_of(kind, files, folder, cache)
    model = repository.get("flat")
    here = onnx_models.write(cache.parent / "here", files)
    assert (factor(model), model.digest, model.size) == (
        2,
        sums(here, "flat.onnx", "weights.bin"),
        len(TWO) + len(TWOS),
    )


@KINDS
def test_what_the_graph_does_not_name_does_not_count(kind: str, folder: Path, cache: Path) -> None:
    """PyTorch writes an empty file of external data beside small models."""
    plain = onnx_models.scaled(2.0)
    files = {"m/1/model.onnx": plain, "m/1/model.onnx.data": b"", "m/1/labels.txt": b"a b c"}
    repository = repository_of(kind, files, folder, cache)
    model = repository.get("m")
    assert (model.digest, model.size) == (hashlib.sha256(plain).hexdigest(), len(plain))
    if kind == "memory":
        assert sorted(path.name for path in cache.rglob("*") if path.is_file()) == ["model.onnx"]


@KINDS
@pytest.mark.parametrize(
    "location",
    ["/etc/hostname", "../secret", "w/../../secret", "w/../weights.bin", "nothing.bin", ".hidden", "w\\x", ""],
)
@pytest.mark.parametrize("path", ["m/1/model.onnx", "m.onnx"])
def test_any_other_location_is_refused_with_its_name(
    kind: str, location: str, path: str, folder: Path, cache: Path
) -> None:
    model, weights = onnx_models.external(2.0, location)
    beside = Path(path).parent
    files = {path: model, f"{beside}/weights.bin": weights, f"{beside}/w/x": weights, f"{beside}/.hidden": weights}
    files |= {"secret": weights, "m/secret": weights}
    repository = repository_of(kind, {os.path.normpath(name): data for name, data in files.items()}, folder, cache)
    with pytest.raises(InvalidModel) as caught:
        repository.get("m")
    where = "in its folder or below" if "/" in path else "beside it"
    assert str(caught.value) == (
        f"{Path(path).name} has external data in {location!r}, which is not one of the model's files: the name must be "
        f"relative, without '..', and the file {where}, where no link leads out of the repository"
    )


def test_external_data_behind_a_link_out_of_the_repository_is_refused(folder: Path, cache: Path) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": TWO})
    onnx_models.write(folder.parent, {"secret": TWOS})
    (folder / "m/1/weights.bin").symlink_to("../../../secret")
    repository = opened(folder, cache)
    assert repository.problems == ["m/1/weights.bin is a link that leads out of the repository"]
    with pytest.raises(InvalidModel, match=r"external data in 'weights\.bin', which is not one of the model's files"):
        repository.get("m")


def test_a_link_inside_the_repository_is_followed(folder: Path, cache: Path) -> None:
    onnx_models.write(folder, {"m/1/model.onnx": TWO, "shared/weights": TWOS})
    (folder / "m/1/weights.bin").symlink_to("../../shared/weights")
    assert factor(opened(folder, cache).get("m")) == 2


@KINDS
def test_changed_weights_of_a_flat_file_are_noticed(kind: str, folder: Path, cache: Path) -> None:
    files = {"m.onnx": TWO, "weights.bin": TWOS, "other.bin": b""}
    repository = repository_of(kind, files, folder, cache)
    first = repository.get("m")
    put(repository, folder, "other.bin", b"of nobody")
    repository.refresh()
    assert repository.get("m") is first
    put(repository, folder, "weights.bin", THREES)
    repository.refresh()
    assert (factor(repository.get("m")), factor(first)) == (3, 2)


@KINDS
def test_external_data_that_comes_later_is_noticed(kind: str, folder: Path, cache: Path) -> None:
    repository = repository_of(kind, {"m.onnx": TWO}, folder, cache)
    with pytest.raises(InvalidModel, match=r"'weights\.bin'"):
        repository.get("m")
    put(repository, folder, "weights.bin", TWOS)
    repository.refresh()
    assert factor(repository.get("m")) == 2


@KINDS
def test_external_data_that_comes_before_the_first_request_is_found(kind: str, folder: Path, cache: Path) -> None:
    """The files were listed while they were being copied."""
    repository = repository_of(kind, {"m.onnx": TWO}, folder, cache)
    put(repository, folder, "weights.bin", TWOS)
    assert factor(repository.get("m")) == 2


def put(repository: Repository, folder: Path, path: str, data: bytes) -> None:
    if isinstance(repository._store, LocalStore):
        (folder / f".{path}").write_bytes(data)
        (folder / f".{path}").rename(folder / path)
    else:
        repository._store.backend.put(path, data)  # type: ignore[attr-defined]


def test_a_version_is_fetched_once_by_its_digest_whatever_store_it_is_in(tmp_path: Path, cache: Path) -> None:
    files = {"m/1/model.onnx": TWO, "m/1/weights.bin": TWOS, "m/1/more": b"x"}
    here = onnx_models.write(tmp_path / "here", files)
    digest = sums(here / "m/1", "model.onnx", "weights.bin")
    one, other = memory_store(files, cache), memory_store(files, cache)
    wanted = VersionFiles("m/1", "model.onnx", tuple(one.list()))
    first = one.fetch(wanted, digest)
    for path in files:
        other.backend.delete(path)
    assert other.fetch(wanted, digest.upper()) == first
    assert [path.name for path in cache.iterdir()] == [place(first).name]
    with pytest.raises(InvalidModel, match=r"model\.onnx, weights\.bin from .*: the sha256 is "):
        one.fetch(wanted, "f" * 64)
    assert len([entry for entry in cache.iterdir() if entry.name != "digests"]) == 1


def test_a_damaged_file_is_refused_for_its_digest_before_anything_else(folder: Path, cache: Path) -> None:
    good = hashlib.sha256(onnx_models.scaled(2.0)).hexdigest()
    config = b'{"sha256": {"1": "%s"}}' % good.encode()
    onnx_models.write(folder, {"m/1/model.onnx": onnx_models.scaled(2.0)[:-9], "m/config.json": config})
    with pytest.raises(InvalidModel, match=f"its config.json names {good}: the file was changed or not copied whole"):
        opened(folder, cache).get("m")


# A file that a user names


def test_a_named_file_may_be_a_link(tmp_path: Path, cache: Path) -> None:
    """As in the cache of Hugging Face's hub: each file is a link to one that is named by its digest."""
    onnx_models.write(tmp_path, {"blobs/aaa": TWO, "blobs/bbb": TWOS, "blobs/ccc": b"not asked for"})
    snapshot = tmp_path / "snapshots/x"
    snapshot.mkdir(parents=True)
    for name, blob in (("model.onnx", "aaa"), ("weights.bin", "bbb"), ("other.onnx", "ccc"), ("gone", "ddd")):
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    for path in (f"{snapshot}/model.onnx", (snapshot / "model.onnx").as_uri()):
        repository = open_repository(path, cache=cache)
        assert (repository.names(), repository.problems) == (["model"], [])
        assert factor(repository.get("model")) == 2
        assert repository.get("model").digest == sums(snapshot, "model.onnx", "weights.bin")


def test_a_named_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("../blobs/aaa")
    with pytest.raises(StoreError) as caught:
        open_repository(f"{tmp_path}/model.onnx")
    assert str(caught.value) == (
        f"there is no file {tmp_path}/model.onnx: it is a link to ../blobs/aaa, which does not exist"
    )


def test_a_named_file_s_neighbours_are_not_looked_through(tmp_path: Path, cache: Path) -> None:
    """It may lie in a folder of downloads."""
    onnx_models.write(tmp_path, {"model.onnx": TWO, "weights.bin": TWOS, "deep/er/x": b"", "other.onnx": b"x"})
    repository = open_repository(f"{tmp_path}/model.onnx", cache=cache)
    assert [file.path for file in repository._store.list()] == ["model.onnx", "weights.bin"]
    assert factor(repository.get("model")) == 2


def test_a_link_to_outside_of_a_named_folder_is_left_out(tmp_path: Path, cache: Path) -> None:
    onnx_models.write(tmp_path, {"blob": onnx_models.scaled(2.0), "models/a.onnx": onnx_models.scaled(2.0)})
    (tmp_path / "models/b.onnx").symlink_to("../blob")
    (tmp_path / "models/c.onnx").symlink_to("nowhere")
    repository = open_repository(str(tmp_path / "models"), cache=cache)
    assert repository.names() == ["a"]
    assert repository.problems == [
        "b.onnx is a link that leads out of the repository",
        "c.onnx is a link to a file that does not exist",
    ]


def test_a_lone_files_names() -> None:
    files = VersionFiles("m/1", "model.onnx", (StoredFile("m/1/model.onnx", 1, "a"), StoredFile("m/1/w", 2, "b")))
    assert files.named([]) == {"model.onnx": files.files[0]}
    assert files.named(["w", "./w"]) == {"model.onnx": files.files[0], "w": files.files[1]}
    assert files.of(["w", "x"]) == {"w": files.files[1], "x": None}

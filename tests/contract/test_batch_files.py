"""The files of batch jobs in every kind of store: whole or not at all, and whole jobs over them."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx_models
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inferry.errors import InvalidRequest, StoreError
from inferry.jobs import part_writer
from inferry.jobs.runner import Job, run
from inferry.jobs.runs import plan
from inferry.service import Service
from inferry.settings import Settings
from inferry.storage.files import Files, keep_apart, kept_folder, open_files, split

BIG = os.urandom(20_000_000)
KEYS = ["x.jsonl", "a b/ü %41+.jsonl", "deep/er/x.jsonl"]


@pytest.fixture(params=["local", "memory", "s3", "az", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, new_bucket: Callable[[str], str]) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "local":
        return f"{tmp_path}/store"
    if request.param == "memory":
        return f"memory://jobs-{time.monotonic_ns()}"
    return f"{new_bucket(request.param)}/prefix"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = onnx_models.write(tmp_path_factory.mktemp("models"), {"m.onnx": onnx_models.scaled(2, 3)})
    service = Service.from_settings(Settings(model_path=str(folder), intra_op_threads=1))
    yield service
    service.close()


def put(files: Files, path: str, content: bytes) -> None:
    with files.write(path) as file:
        file.write(content)


def test_files(place: str) -> None:
    files = open_files(place)
    assert (files.stat("x"), files.read("x"), list(files.below(".inferry/k"))) == (None, None, [])
    put(files, "x", b"one")
    found = files.stat("x")
    assert found
    assert (found.path, found.size, files.read("x")) == ("x", 3, b"one")
    assert not files.create("x", b"two")
    assert files.create(".inferry/k/y", b"two")
    assert not files.create(".inferry/k/y", b"three")
    assert (list(files.below(".inferry/k")), files.read(".inferry/k/y")) == ([".inferry/k/y"], b"two")
    assert [file.path for file in files.list()] == ["x"]
    files.delete(["x", ".inferry/k/y", "nothing"])
    assert (files.stat("x"), list(files.below(".inferry/k")), files.list()) == (None, [], [])


def test_what_a_killed_process_was_writing_goes_after_a_day(tmp_path: Path) -> None:
    hidden = tmp_path / ".inferry"
    hidden.mkdir()
    yesterday = time.time() - 25 * 60 * 60
    for name, age in (("writing-1", yesterday), ("writing-2", time.time()), ("another", yesterday)):
        (hidden / name).touch()
        os.utime(hidden / name, (age, age))
    put(open_files(str(tmp_path)), "x", b"one")
    assert sorted(path.name for path in hidden.iterdir()) == ["another", "writing-2"]


def test_what_can_not_be_swept_is_left(tmp_path: Path) -> None:
    """A folder of such a name is not ours."""
    left = tmp_path / ".inferry/writing-1"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    put(open_files(str(tmp_path)), "x", b"one")
    assert (left.is_dir(), (tmp_path / "x").read_bytes()) == (True, b"one")


def test_the_hidden_folder_of_many_jobs_is_made_once(tmp_path: Path) -> None:
    hidden = tmp_path / "out/.inferry"
    files = open_files(f"{tmp_path}/out/")
    with kept_folder(f"{tmp_path}/out/"):
        made = hidden.stat().st_ino
        put(files, "x", b"one")
        files.delete([])
        assert hidden.stat().st_ino == made
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_folder_that_can_not_be_kept_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with kept_folder(f"{tmp_path}/out/"):
        pass
    assert (tmp_path / "out").is_file()


def test_a_link_to_itself_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("x")
    assert open_files(str(tmp_path)).stat("x") is None


def test_a_store_without_conditional_writes(new_bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    files = open_files(f"{new_bucket('s3')}/prefix")
    assert files.create("x", b"one")
    assert not files.create("x", b"two")
    assert files.read("x") == b"one"


def test_large_files(place: str) -> None:
    files = open_files(place)
    with files.write("big") as file:
        for start in range(0, len(BIG), 3_000_000):
            file.write(BIG[start : start + 3_000_000])
        assert files.stat("big") is None
    found = files.stat("big")
    assert found
    with files.open(found) as file:
        assert file.read() == BIG
        file.seek(9_000_001)
        assert file.read(10) == BIG[9_000_001:9_000_011]
        assert file.seek(-5, os.SEEK_END) == len(BIG) - 5
        assert file.read(10) == BIG[-5:]


def test_a_write_that_fails_leaves_what_was_there(place: str) -> None:
    files = open_files(place)
    put(files, "x", b"one")
    for size in (10, 20_000_000):
        with pytest.raises(ZeroDivisionError), files.write("x") as file:
            file.write(BIG[: file.write(BIG[:size]) // 0])
        assert files.read("x") == b"one"


def test_a_file_that_is_replaced_is_not_read_on(place: str) -> None:
    files = open_files(place)
    put(files, "x", b"one")
    found = files.stat("x")
    assert found
    put(files, "x", b"another")
    with pytest.raises(StoreError, match="was replaced"), files.open(found) as file:
        file.read()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a//x", ""])
def test_names_that_climb(place: str, path: str) -> None:
    with pytest.raises(StoreError, match="can't be the name"):
        put(open_files(place), path, b"")


def test_jobs(place: str, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With parts, with names that need quoting, done once, and done again for another content."""
    monkeypatch.setattr(part_writer, "PART_BYTES", 1000)
    files = open_files(place)
    for number, key in enumerate(KEYS):
        put(files, f"in/{key}", b"".join(b'{"x": [%d, %d, 0]}\n' % (number, row) for row in range(300)) + b"?\n")
    for number, key in enumerate(KEYS):
        job = Job(input=f"{place}/in/{key}", output=f"{place}/out/{key}", model="m")
        report = run(job, service)
        assert (report.rows, report.errors) == (300, 1)
        expected = b"".join(b'{"y":[%d.0,%d.0,0.0]}\n' % (2 * number, 2 * row) for row in range(300))
        assert files.read(f"out/{key}") == expected
        assert (files.read(f"out/{key}.errors.jsonl") or b"").startswith(b'{"row":301,"column":null,')
        assert run(job, service) == report
    written = sorted(f"out/{key}{end}" for key in KEYS for end in ("", ".errors.jsonl", ".report.json"))
    assert [file.path for file in files.list() if file.path.startswith("out/")] == written
    put(files, f"in/{KEYS[0]}", b'{"x": [1, 1, 1]}\n')
    assert run(Job(input=f"{place}/in/{KEYS[0]}", output=f"{place}/out/{KEYS[0]}", model="m"), service).rows == 1
    assert files.read(f"out/{KEYS[0]}.errors.jsonl") is None


def test_which_files(place: str, service: Service) -> None:
    """Of a folder: no table, no marks, nothing that inferry wrote; and a table's file is known when it comes alone."""
    files = open_files(place)
    put(files, "in/lake/t/_delta_log/00000000000000000000.json", b"{}")
    put(files, "in/lake/ice/metadata/v1.metadata.json", b"{}")
    for path in ("lake/t/day=1/a.parquet", "lake/ice/data/2d3905f8/day=1/a.parquet", "a.parquet"):
        with files.write(f"in/{path}") as file:
            pq.write_table(pa.table({"x": [[1.0, 2.0, 3.0]]}), file)
    put(files, "in/_SUCCESS", b"")
    put(files, "in/a.parquet.errors.jsonl", b'{"row":2,"column":null,"reason":"no","data":"?"}\n')
    job = Job(input=f"{place}/in/", output=f"{place}/out/", model="m", format="parquet")
    found = [each.input for each in plan.files(job)]
    assert found == [f"{place}/in/{name}" for name in ("lake/ice/", "lake/t/", "a.parquet")]
    alone = ("lake/t/day=1/a.parquet", "lake/ice/data/2d3905f8/day=1/a.parquet")
    for url in (*found[:2], *(f"{place}/in/{path}" for path in alone)):
        with pytest.raises(InvalidRequest, match=r"/in/lake/(t/ is a Delta|ice/ is an Iceberg) table"):
            run(replace(job, input=url), service)
    assert run(replace(job, input=found[2]), service).rows == 1


def test_parts_of_a_replaced_input_are_removed(place: str, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_writer, "PART_BYTES", 1000)
    files = open_files(place)
    job = Job(input=f"{place}/x.jsonl", output=f"{place}/out/", model="m")
    for count in (300, 400):
        put(files, "x.jsonl", b'{"x": [1, 2, 3]}\n' * count)
        assert not run(job, service, until=0.0).finished
    parts = ".inferry/parts-x.jsonl"
    keys = {path.removeprefix(f"{parts}/").partition("-")[0] for path in open_files(f"{place}/out").below(parts)}
    assert len(keys) == 2
    assert run(job, service).rows == 400
    assert not open_files(f"{place}/out").below(parts)


def test_parquet(place: str, service: Service) -> None:
    files = open_files(place)
    with files.write("x.parquet") as file:
        pq.write_table(pa.table({"x": [[1.0, 2.0, row] for row in range(5_000)]}), file)
    job = Job(input=f"{place}/x.parquet", output=f"{place}/out/", model="m")
    while not run(job, service, until=time.monotonic()).finished:
        job = replace(job)
    found = files.stat("out/x.parquet")
    assert found
    with files.open(found) as file:
        table = pq.read_table(file)
    assert table["y"].to_pylist() == [[2.0, 4.0, 2.0 * row] for row in range(5_000)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("s3://b/in", "s3://b/in/out"),
        ("s3://b/in/", "s3://b/in"),
        ("az://c", "az://c/out/"),
        ("data", "data/out"),
        ("data/", "./data/../data/x/y"),
        (".", "out"),
        ("file:///data", "/data/out"),
    ],
)
def test_an_output_in_the_input_is_refused(source: str, target: str) -> None:
    with pytest.raises(InvalidRequest, match="is inside of the input"):
        keep_apart(source, target)


@pytest.mark.parametrize(("source", "target"), [("s3://b/in", "s3://b/input"), ("s3://b/in", "az://b/in"), ("a", "b")])
def test_an_output_beside_the_input(source: str, target: str) -> None:
    keep_apart(source, target)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/p/x.csv", ("s3://b/p/", "x.csv")),
        ("x.csv", ("", "x.csv")),
        ("/x.csv", ("/", "x.csv")),
        ("memory://m/x", ("memory://m/", "x")),
    ],
)
def test_split(url: str, expected: tuple[str, str]) -> None:
    assert split(url) == expected

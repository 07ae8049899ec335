"""Models that other people ship, through every door: each request and each row has the answer that ONNX Runtime gives it alone."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import answers
import doors
import pytest
from answers import Outputs, Refused, direct
from contract.servers import Server, serving
from tried import TRIED, Tried


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of them all."""
    folder = tmp_path_factory.mktemp("repository")
    for tried in TRIED:
        version = folder / tried.name / "1"
        version.mkdir(parents=True)
        shutil.copy(tried.path, version / "model.onnx")
        for weights in tried.path.parent.glob(f"{tried.path.name}.data"):
            shutil.copy(weights, version)
    return folder


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("later")
    with serving(
        models, MODEL_CACHE_SIZE="100", BATCH_INPUT=f"{folder}/in", BATCH_OUTPUT=f"{folder}/out"
    ) as server:
        yield server


@pytest.fixture
def command(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> doors.Command:
    monkeypatch.setenv("INTRA_OP_THREADS", "1")
    return doors.Command(tmp_path, models, capsys)


each = pytest.mark.parametrize("tried", TRIED, ids=lambda tried: tried.name)


def check(tried: Tried, door: str, ask: Callable[[], Sequence[Outputs]], *, rows: bool = False) -> None:
    """Right answers for all, or the refusal that is listed."""
    try:
        got = ask()
    except Refused as exc:
        wanted = tried.refused.get(door)
        assert wanted and re.search(wanted, str(exc)), f"refused: {exc}"
        return
    assert door not in tried.refused, "is not refused any more"
    runs = direct(tried.path)
    expected = [runs(feed) for feed in tried.feeds()]
    assert len(got) == len(expected)
    different = [answers.difference(one, wanted, rows=rows) for one, wanted in zip(got, expected, strict=True)]
    assert [(number, said) for number, said in enumerate(different) if said] == []


REQUESTS = {"infer": doors.infer, "infer, binary": doors.infer_binary, "infer, at once": doors.infer_at_once, "later": doors.later}
ROWS = {
    "infer of rows": doors.infer_rows,
    "infer of NPY": doors.infer_npy,
    "batch of rows": doors.batch_rows,
    "batch of NPY": doors.batch_npy,
    "batch of NPZ": doors.batch_npz,
    "batch of Parquet": doors.batch_parquet,
}


@each
@pytest.mark.parametrize("door", REQUESTS)
def test_requests(tried: Tried, door: str, server: Server) -> None:
    check(tried, door, lambda: REQUESTS[door](server, tried.name, tried.feeds()))


@each
def test_messages(tried: Tried, models: Path, tmp_path: Path) -> None:
    check(tried, "messages", lambda: doors.messages(tmp_path, models, tried.name, tried.feeds()))


@each
def test_batch_of_requests(tried: Tried, command: doors.Command) -> None:
    check(tried, "batch of requests", lambda: doors.batch_requests(command, tried.name, tried.feeds()))


@each
def test_together(tried: Tried, server: Server) -> None:
    """Rows that the client joined: what ONNX Runtime gives for the same tensors."""
    runs, feed = direct(tried.path), doors.joined(tried.feeds())
    if not runs.free:
        pytest.skip("its inputs hold one row, or none")
    [got] = doors.infer(server, tried.name, [feed])
    assert answers.difference(got, runs(feed), rows=False) == ""


@each
def test_predict(tried: Tried, server: Server) -> None:
    check(tried, "predict", lambda: doors.predict(server, tried.name, tried.feeds()), rows=True)


@each
def test_kserve(tried: Tried, server: Server) -> None:
    runs = direct(tried.path)
    check(tried, "KServe v1", lambda: doors.kserve(server, tried.name, tried.feeds(), runs.names), rows=True)


@each
@pytest.mark.parametrize("door", ROWS)
def test_rows(tried: Tried, door: str, command: doors.Command) -> None:
    if door.endswith("NPY") and len(tried.inputs) > 1:
        pytest.skip("an array holds one input")
    check(tried, door, lambda: ROWS[door](command, tried.name, tried.feeds()), rows=True)

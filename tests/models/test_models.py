"""Models that other people ship, through every door: each has the answer that ONNX Runtime gives it alone."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import answers
import doors
import pytest
from answers import Outputs, Refused, direct
from contract.servers import Server, serving
from tried import LICENCES, PACKAGES, TRIED, Tried

EXAMPLE_VALUES = 50_000
# What of a licence's name or text stands in a package.
WORDS = {
    "MIT": r"MIT",
    "Apache-2.0": r"Apache(-2.0| Software License|\s+License\s+Version 2.0)",
    "AGPL-3.0": r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3",
    "BSD-2-Clause": r"BSD-2-Clause",
    "BSD-3-Clause": r"BSD-3-Clause",
    "GPL-3.0-or-later": r"GPL-3.0-or-later",
}


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
    with serving(models, MODEL_CACHE_SIZE="100", BATCH_INPUT=f"{folder}/in", BATCH_OUTPUT=f"{folder}/out") as server:
        yield server


@pytest.fixture
def command(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> doors.Command:
    monkeypatch.setenv("INTRA_OP_THREADS", "1")
    return doors.Command(tmp_path, models, capsys)


@pytest.fixture(scope="session")
def batching(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same models with dynamic batching, and an example where one is short."""
    folder = tmp_path_factory.mktemp("batching")
    for tried in TRIED:
        shutil.copytree(models / tried.name, folder / tried.name, copy_function=os.link)
        config = {"max_batch_size": 8, "dynamic_batching": {"max_queue_delay_us": 1000}}
        feed = tried.feeds()[0]
        if sum(array.size for array in feed.values()) < EXAMPLE_VALUES:
            config["example"] = {"inputs": doors.tensors(feed)}
        (folder / tried.name / "config.json").write_text(json.dumps(config))
    with serving(folder, MODEL_CACHE_SIZE="100", MODEL_REFRESH="0") as server:
        yield server


each = pytest.mark.parametrize("tried", TRIED, ids=lambda tried: tried.name)


def answer(ask: Callable[[], Sequence[Outputs]]) -> tuple[Sequence[Outputs], str]:
    """The answers, or the reason why there are none."""
    try:
        return ask(), ""
    except Refused as exc:
        return (), str(exc) or "without a reason"


def check(tried: Tried, door: str, ask: Callable[[], Sequence[Outputs]], *, rows: bool = False) -> None:
    """Right answers for all, or the refusal that is listed."""
    got, refused = answer(ask)
    if refused or door in tried.refusals:
        assert door in tried.refusals, f"refused: {refused}"
        assert re.search(tried.refusals[door], refused), refused or "is answered"
        return
    runs = direct(tried.path)
    expected = [runs(feed) for feed in tried.feeds()]
    assert len(got) == len(expected)
    different = [
        answers.difference(one, wanted, rows=rows, whole=tried.whole) for one, wanted in zip(got, expected, strict=True)
    ]
    assert [(number, said) for number, said in enumerate(different) if said] == []


REQUESTS = {
    "infer": doors.infer,
    "infer, binary": doors.infer_binary,
    "infer, at once": doors.infer_at_once,
    "later": doors.later,
}
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
def test_batching(tried: Tried, batching: Server) -> None:
    check(tried, "infer, batched", lambda: doors.infer_at_once(batching, tried.name, tried.feeds()))


@each
def test_verdict(tried: Tried, server: Server) -> None:
    """What metadata say of the model's rows after they came."""
    with suppress(Refused):
        doors.predict(server, tried.name, tried.feeds())
    assert server.ask("GET", f"/v2/models/{tried.name}").json["properties"]["rows"] == tried.rows


@pytest.mark.parametrize("package", LICENCES)
def test_licences(package: str) -> None:
    [folder] = PACKAGES.glob(f"{package.replace('-', '_')}-*.dist-info")
    texts = [path.read_text() for path in folder.rglob("*") if re.match("METADATA|LICEN|COPYING", path.name)]
    assert any(re.search(WORDS[LICENCES[package]], text) for text in texts)


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

"""The doors that requests and rows take: each gives the outputs in the order of the requests, or raises Refused."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answers import Outputs, Refused
from contract.servers import HEADER_LENGTH, Answer, Server
from inferry.cli.main import main
from inferry.protocol.tensors import DATATYPES
from inferry.service import Service
from inferry.settings import Settings
from inferry.worker.messages import Prediction
from inferry.worker.worker import Worker
from tried import Array

Feed: TypeAlias = Mapping[str, Array]

NAMES = {datatype.dtype: name for name, datatype in DATATYPES.items() if name != "BF16"}
DEADLINE = 20.0


def tensors(feed: Feed) -> list[dict[str, Any]]:
    """The inputs of a request in JSON."""
    return [
        {"name": name, "datatype": NAMES[a.dtype], "shape": list(a.shape), "data": a.reshape(-1).tolist()}
        for name, a in feed.items()
    ]


def row(feed: Feed) -> Any:
    """The row as people write it: the values of the only input, or an object of names; without the axis of rows."""
    values = {name: values_of(array) for name, array in feed.items()}
    return next(iter(values.values())) if len(values) == 1 else values


def values_of(array: Array) -> Any:
    return (array[0] if array.shape[:1] == (1,) else array).tolist()


def outputs(answer: Any) -> dict[str, Array]:
    """Those of a response in JSON."""
    found = {}
    for item in answer["outputs"]:
        dtype = DATATYPES[item["datatype"]].dtype
        data = [float("nan") if value is None else value for value in item["data"]]
        found[item["name"]] = np.array(data, dtype).reshape(item["shape"])
    return found


def answered(answer: Answer) -> Any:
    if answer.status != 200:
        raise Refused(f"{answer.status} {answer.json.get('error')}")
    return answer.json


# Requests, each with its own answer.


def infer(server: Server, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    return [outputs(answered(server.infer(model, *tensors(feed)))) for feed in feeds]


def infer_at_once(server: Server, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    with ThreadPoolExecutor(len(feeds)) as pool:
        return list(pool.map(lambda feed: infer(server, model, [feed])[0], feeds))


def infer_binary(server: Server, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    return [_binary(server, model, feed) for feed in feeds]


def _binary(server: Server, model: str, feed: Feed) -> Outputs:
    inputs = [
        {"name": n, "datatype": NAMES[a.dtype], "shape": a.shape, "parameters": {"binary_data_size": a.nbytes}}
        for n, a in feed.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(a.tobytes() for a in feed.values())
    answer = server.ask("POST", f"/v2/models/{model}/infer", body, {HEADER_LENGTH: str(len(head))})
    found, start = {}, 0
    for item in answered(answer)["outputs"]:
        size = item["parameters"]["binary_data_size"]
        dtype = DATATYPES[item["datatype"]].dtype
        found[item["name"]] = np.frombuffer(answer.tail[start : start + size], dtype).reshape(item["shape"])
        start += size
    return found


def later(server: Server, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    """Requests that are put off."""
    accepted = [server.post(f"/v2/models/{model}/requests", {"inputs": tensors(feed)}) for feed in feeds]
    return [_fetched(server, answer) for answer in accepted]


def _fetched(server: Server, accepted: Answer) -> Outputs:
    if accepted.status != 202:
        raise Refused(f"{accepted.status} {accepted.json.get('error')}")
    deadline = time.monotonic() + DEADLINE
    while (answer := server.ask("GET", accepted.headers["location"])).status == 202:
        if time.monotonic() > deadline:
            raise Refused("the request is pending for ever")
        time.sleep(0.02)
    return outputs(answered(answer))


def messages(folder: Path, models: Path, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    settings = Settings(
        model_path=str(models), batch_input=f"{folder}/in", batch_output=f"{folder}/out", intra_op_threads=1
    )
    service = Service.from_settings(settings)
    try:
        worker = Worker(service)
        return [_message(worker, model, str(number), feed) for number, feed in enumerate(feeds)]
    finally:
        service.close()


def _message(worker: Worker, model: str, name: str, feed: Feed) -> Outputs:
    body = json.dumps({"id": name, "model_name": model, "inputs": tensors(feed)}).encode()
    prediction = worker.messages.read(body, name)
    assert isinstance(prediction, Prediction)
    answer = json.loads(Path(asyncio.run(worker.respond(prediction))).read_bytes())
    if "error" in answer:
        raise Refused(answer["error"])
    return outputs(answer)


# Rows, which may be joined.


def predict(server: Server, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    features = [row(feed) for feed in feeds]
    return list(answered(server.post("/predict", {"model_name": model, "features": features}))["predictions"])


def kserve(server: Server, model: str, feeds: Sequence[Feed], names: Sequence[str]) -> list[Outputs]:
    found = answered(server.post(f"/v1/models/{model}:predict", {"instances": [row(feed) for feed in feeds]}))
    return [{names[0]: item} if len(names) == 1 else item for item in found["predictions"]]


class Command:
    """`inferry infer` and `inferry batch` over files in `folder`."""

    def __init__(self, folder: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._models, self._capsys = folder, models, capsys

    def infer(self, model: str, name: str, content: bytes) -> list[Outputs]:
        path = self._folder / name
        path.write_bytes(content)
        printed = self._run("infer", model, "--input", str(path))
        return [json.loads(line) for line in printed.splitlines()]

    def batch(self, model: str, path: Path, *options: str) -> Path:
        """The file of results, below out/; Refused with the reason of the file or of the first row without a result."""
        self._run("batch", str(path), f"{self._folder}/out/", "--model", model, *options)
        errors = self._folder / "out" / f"{path.name}.errors.jsonl"
        if errors.exists():
            raise Refused(json.loads(errors.read_bytes().splitlines()[0])["reason"])
        return next(
            found
            for found in (self._folder / "out").iterdir()
            if not found.name.endswith(".report.json") and found.is_file()
        )

    def _run(self, *arguments: str) -> str:
        status = main([*arguments, "--models", str(self._models)])
        printed = self._capsys.readouterr()
        if status:
            raise Refused(printed.err + printed.out)
        return printed.out

    def path(self, name: str) -> Path:
        return self._folder / name


def infer_rows(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    return command.infer(model, "rows.json", json.dumps([row(feed) for feed in feeds]).encode())


def infer_npy(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    np.save(command.path("x.npy"), joined(feeds)[next(iter(feeds[0]))])
    return command.infer(model, "x.npy", command.path("x.npy").read_bytes())


def batch_rows(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    return _lines(command, model, [{name: values_of(array) for name, array in feed.items()} for feed in feeds])


def batch_requests(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    return [outputs(answer) for answer in _lines(command, model, [{"inputs": tensors(feed)} for feed in feeds])]


def _lines(command: Command, model: str, lines: Sequence[Any]) -> list[Any]:
    path = command.path("rows.jsonl")
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return _read_lines(command.batch(model, path))


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def batch_npy(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    np.save(command.path("x.npy"), joined(feeds)[next(iter(feeds[0]))])
    return _read_lines(command.batch(model, command.path("x.npy"), "--to", "jsonl"))


def batch_npz(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    np.savez(command.path("x.npz"), allow_pickle=False, **joined(feeds))
    with np.load(command.batch(model, command.path("x.npz"))) as found:
        arrays = {name: found[name] for name in found.files}
    return [{name: array[number] for name, array in arrays.items()} for number in range(len(feeds))]


def batch_parquet(command: Command, model: str, feeds: Sequence[Feed]) -> list[Outputs]:
    columns = {name: pa.array([values_of(feed[name]) for feed in feeds]) for name in feeds[0]}
    pq.write_table(pa.table(columns), command.path("x.parquet"))
    return list(pq.read_table(command.batch(model, command.path("x.parquet"))).to_pylist())


def joined(feeds: Sequence[Feed]) -> dict[str, Array]:
    """One array for all rows of each input."""
    return {
        name: np.concatenate([feed[name] for feed in feeds])
        if array.shape[:1] == (1,)
        else np.stack([feed[name] for feed in feeds])
        for name, array in feeds[0].items()
    }

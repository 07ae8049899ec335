"""What a request of MAX_REQUEST_BYTES makes of memory, for each datatype and form: the table of docs/protocol.md."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from inferry.protocol.tensors import DATATYPES
from servers import HEADER_LENGTH, Server, serving

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
SIZE = 16 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = {f"{name}.onnx": onnx_models.identity(name, ("n",)) for name in DATATYPES}
    folder = onnx_models.write(tmp_path_factory.mktemp("peaks"), models)
    settings = {"MAX_REQUEST_BYTES": str(SIZE), "MODEL_TIMEOUT": "300", "MODEL_CACHE_SIZE": "64"}
    with serving(folder, **settings) as running:
        yield running


def stated() -> dict[str, tuple[float, float]]:
    """The multiples of the table, by datatype: of a request in JSON, and of one in binary."""
    section = PAGE.read_text().partition("## Memory of large requests\n")[2].partition("\n## ")[0]
    lines = section.splitlines()
    rows = [re.findall(r"`(\w+)`|\| ([\d.]+)(?= \|)", line) for line in lines if line.startswith("| `")]
    found: dict[str, tuple[float, float]] = {}
    for row in rows:
        names = [name for name, _ in row if name]
        in_json, in_binary = (float(number) for _, number in row if number)
        found |= dict.fromkeys(names, (in_json, in_binary))
    return found


def in_json(name: str) -> tuple[bytes, dict[str, str]]:
    """As many elements as there is room for, each as short as JSON has them."""
    element = {"bool": b"true", "string": b'"ab"'}.get(DATATYPES[name].kind, b"1")
    count = (SIZE - 200) // (len(element) + 1)
    head = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"%b","data":[' % (count, name.encode())
    return head + b",".join([element] * count) + b"]}]}", {}


def in_binary(name: str) -> tuple[bytes, dict[str, str]]:
    """The same in binary, asked for in binary."""
    datatype = DATATYPES[name]
    width = 6 if datatype.kind == "string" else datatype.dtype.itemsize
    count = (SIZE - 300) // width
    raw = b"\2\0\0\0ab" * count if datatype.kind == "string" else np.ones(count, datatype.dtype).tobytes()
    tensor = {"name": "x", "shape": [count], "datatype": name, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, {HEADER_LENGTH: str(len(head))}


def processes(server: Server) -> list[int]:
    """The server and the process beside it."""
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory(server: Server, key: str) -> int:
    """Bytes of all processes together."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in processes(server)]
    return sum(int(text.partition(key)[2].split()[0]) * 1024 for text in texts)


@pytest.mark.local
@pytest.mark.parametrize("form", [in_json, in_binary], ids=["json", "binary"])
@pytest.mark.parametrize("name", DATATYPES)
def test_peak(server: Server, name: str, form: Callable[[str], tuple[bytes, dict[str, str]]]) -> None:
    limit = stated()[name][form is in_binary]
    body, headers = form(name)
    # A request of the kind, so that everything is imported and loaded.
    few = json.dumps({"inputs": [{"name": "x", "shape": [0], "datatype": name, "data": []}]}).encode()
    assert server.ask("POST", f"/v2/models/{name}/infer", few + b" " * 300_000).status == 200
    for pid in processes(server):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = memory(server, "VmRSS:")
    answer = server.ask("POST", f"/v2/models/{name}/infer", body, headers)
    assert answer.status == 200, answer.body[:300]
    multiple = (memory(server, "VmHWM:") - before) / SIZE
    assert multiple <= limit

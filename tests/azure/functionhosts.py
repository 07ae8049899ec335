"""Functions apps as the contract tests' servers: the stand-in for `func start` in the place of `inferry serve`."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / ".tools" / "azure"
HERE = Path(__file__).parent
SECONDS = 60.0
# The contract tests find their helpers beside them.
sys.path.insert(0, str(ROOT / "tests" / "contract"))

import servers  # noqa: E402


def standin(
    path: Path | str, arguments: Sequence[str], folder: Path = ROOT, python: str = sys.executable
) -> tuple[list[str], dict[str, str]]:
    """The stand-in over the app of `folder`; `path` is its MODEL_PATH."""
    command = [python, "-m", "standin", str(folder), *arguments]
    return command, {"PYTHONPATH": f"{HERE}{os.pathsep}{RUNTIME}", "MODEL_PATH": str(path)}


@contextmanager
def hosted(host: Callable[..., Any], path: Path) -> Iterator[servers.Server]:
    """A server of another host than `standin`, or of that, over a repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "host", host)
        with servers.serving_locally(path) as server:
            yield server


@contextmanager
def running(folder: Path, **env: str) -> Iterator[servers.Server]:
    """The stand-in over another app than this repository's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "host", lambda path, arguments: standin(path, arguments, folder))
        with TemporaryDirectory() as own:
            server = servers.started("", (), env, Path(own), None)
            try:
                yield server
            finally:
                server.terminate()
                server.wait()


def until(found: Callable[[], Any], server: servers.Server) -> Any:
    """What `found` gives as soon as it gives something."""
    deadline = time.monotonic() + SECONDS
    while not (result := found()):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    return result


def invocation_id(name: str, value: str) -> bool:
    """The x-request-id of a request that came without one."""
    return name == "x-request-id" and bool(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value))

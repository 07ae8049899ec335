"""Loads by request: what waits for a model has no thread, and goes when its client does."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import onnx_models
import pytest
from inferry.app import create_app
from inferry.service import Service
from inferry.settings import Settings

SECONDS = 30.0


class HeldUp:
    """Stands in for `Repository.load`: loads of "a" wait until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []

    def __call__(self, name: str, *_: Any) -> None:
        self.begun.append(name)
        if name == "a":
            assert self.go.wait(SECONDS)


@pytest.fixture
def service(tmp_path: Any) -> Iterator[Service]:
    models = onnx_models.write(tmp_path, {"a.onnx": onnx_models.identity(), "b.onnx": onnx_models.identity()})
    service = Service.from_settings(Settings(model_path=str(models), model_control=True))
    yield service
    service.close()


def threads() -> int:
    return len([thread for thread in threading.enumerate() if thread.name.startswith("inferry-control")])


def test_loads_of_one_model_wait_without_threads(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    load, before = HeldUp(), threads()
    monkeypatch.setattr(service.repository, "load", load)

    async def scenario() -> list[int]:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=SECONDS) as client:

            async def asked(name: str) -> int:
                return (await client.post(f"/v2/repository/models/{name}/load")).status_code

            waiting = [asyncio.ensure_future(asked("a")) for _ in range(20)]
            while not load.begun:
                await asyncio.sleep(0.01)
            assert await asked("b") == 200
            # The first is at work, the others only wait: their clients leave, but for the last.
            for task in waiting[:-1]:
                task.cancel()
            await asyncio.gather(*waiting[:-1], return_exceptions=True)
            assert await asked("b") == 200
            assert (load.begun, threads() - before) == (["a", "b", "b"], 2)
            load.go.set()
            return [await waiting[-1], await asked("a")]

    assert asyncio.run(asyncio.wait_for(scenario(), SECONDS)) == [200, 200]
    assert load.begun == ["a", "b", "b", "a", "a"]

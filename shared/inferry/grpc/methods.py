"""What the methods of the protocol answer, but for predictions: each takes its message, and gives one as JSON."""

from collections.abc import Callable, Iterable
from typing import Any

from inferry.errors import InvalidRequest, ModelNotFound, ModelUnavailable
from inferry.http import uploads
from inferry.repository import metadata
from inferry.service import Service


class Methods:
    """The methods by their names in the protocol; `deadline` is on time.monotonic."""

    def __init__(self, service: Service, is_draining: Callable[[], bool]) -> None:
        self._service = service
        self._repository = service.repository
        self._is_draining = is_draining

    async def ServerLive(self, _message: Any, _deadline: float) -> dict[str, Any]:
        return {"live": True}

    async def ServerReady(self, _message: Any, _deadline: float) -> dict[str, Any]:
        return {"ready": self.is_ready()}

    async def ModelReady(self, message: Any, deadline: float) -> dict[str, Any]:
        try:
            await self._model(message, deadline)
        except (ModelNotFound, ModelUnavailable):
            return {"ready": False}
        return {"ready": True}

    async def ServerMetadata(self, _message: Any, _deadline: float) -> dict[str, Any]:
        return metadata.server(self._service.settings)

    async def ModelMetadata(self, message: Any, deadline: float) -> dict[str, Any]:
        model = await self._model(message, deadline)
        versions = [message.version] if message.version else self._rising(message.name)
        found = metadata.metadata(model, versions)
        del found["properties"]
        for tensor in (*found["inputs"], *found["outputs"]):
            tensor.pop("parameters", None)
        return found

    async def ModelConfig(self, message: Any, deadline: float) -> dict[str, Any]:
        return {"config": metadata.config(await self._model(message, deadline))}

    async def ModelStatistics(self, message: Any, deadline: float) -> dict[str, Any]:
        versions: Iterable[tuple[str, str]]
        if message.name:
            model = await self._model(message, deadline)
            versions = [(model.name, v) for v in ([model.version] if message.version else self._rising(message.name))]
        else:
            versions = [(model.name, model.version) for model in self._repository.loaded()]
        return {"model_stats": [metadata.statistics(self._repository, *version) for version in versions]}

    async def RepositoryIndex(self, message: Any, _deadline: float) -> dict[str, Any]:
        return {"models": metadata.index(self._repository, message.ready)}

    async def RepositoryModelLoad(self, message: Any, _deadline: float) -> dict[str, Any]:
        self._service.check_control()
        name = _named(message)
        config, files = _uploaded(message, name)
        await self._service.load(name, config, files)
        return {"model_name": name, "isLoaded": True}

    async def RepositoryModelUnload(self, message: Any, _deadline: float) -> dict[str, Any]:
        self._service.check_control()
        name = _named(message)
        await self._service.unload(name)
        return {"model_name": name, "isUnloaded": True}

    def is_ready(self) -> bool:
        """Whether the server takes requests."""
        return not (self._is_draining() or self._service.not_ready())

    async def _model(self, message: Any, deadline: float) -> Any:
        return await self._service.model(message.name, message.version or None, deadline)

    def _rising(self, name: str) -> list[str]:
        """The versions that can be asked for, numbers behind other names."""
        return self._repository.offered(name)[::-1]


def _named(message: Any) -> str:
    """The name of the model, which KServe's clients have where Triton's have that of a repository."""
    name: str = message.model_name or message.repository_name
    return name


def _uploaded(message: Any, model: str) -> tuple[Any, dict[str, bytes]]:
    """The config and the files of a load request, as `uploads.read`."""
    given = message.parameters.items()
    parameters = {name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in given}
    return uploads.read_parameters(parameters, model, _file)


def _file(path: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidRequest(f"parameter 'file:{path[:100]}' must be a bytes_param, the file itself")
    return value

"""Events from JSON, and responses to JSON, by orjson.

What Lambda's runtime does it with takes longer for the JSON around a small request and its response than a small model
for its prediction.
"""

from typing import Any

import orjson
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

_JSON = "application/json"


class Marshaller(LambdaMarshaller):  # type: ignore[misc]
    """The runtime's own stays for what orjson refuses: half a surrogate pair, keys that are no text, and errors."""

    def unmarshal_request(self, request: bytes, content_type: str = _JSON) -> Any:
        """The event of an invocation. The runtime's FaultException when it is no JSON."""
        if content_type == _JSON:
            try:
                return orjson.loads(request)
            except orjson.JSONDecodeError:
                pass
        return super().unmarshal_request(request, content_type)

    def marshal_response(self, response: Any) -> tuple[bytes | str, str]:
        """What an invocation returned, and its content type. The runtime's FaultException when it can't be JSON."""
        try:
            return orjson.dumps(response), _JSON
        except orjson.JSONEncodeError:
            marshalled: tuple[bytes | str, str] = super().marshal_response(response)
            return marshalled

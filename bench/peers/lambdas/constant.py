"""Our own answer to the example on the model's card, whatever is asked: what an invocation costs by itself."""

from typing import Any

import orjson

PROBABILITIES = [
    *(0.000033466124, 0.000004643589, 9.086587e-7, 0.0000023813614, 0.0006548154),
    *(0.000002293619, 3.0329495e-8, 0.99789137, 0.000017363123, 0.0013927621),
]
OUTPUTS = [
    {"name": "label", "datatype": "INT64", "shape": [1], "data": [7]},
    {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": PROBABILITIES},
]
BODY = orjson.dumps({"model_name": "digits", "model_version": "2", "outputs": OUTPUTS}).decode()
HEADERS = {"content-type": "application/json", "content-length": str(len(BODY)), "x-request-id": "B7xQ2jOdliAEPLg="}
ANSWER = {"statusCode": 200, "body": BODY, "headers": HEADERS, "isBase64Encoded": False}


def handler(event: Any, context: Any) -> Any:
    """Always the same."""
    return ANSWER

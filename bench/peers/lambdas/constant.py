"""The answer to the example on the model's card, whatever is asked: what an invocation costs by itself."""

import json
from pathlib import Path
from typing import Any

EXPECTED = json.loads((Path(__file__).parents[3] / "models/digits/config.json").read_text())["example"]["expect"]
OUTPUTS = [
    {"name": "label", "datatype": "INT64", "shape": [1], "data": EXPECTED["label"]},
    {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": EXPECTED["probabilities"]},
]
ANSWER = {
    "statusCode": 200,
    "headers": {"content-type": "application/json"},
    "body": json.dumps({"model_name": "digits", "model_version": "2", "outputs": OUTPUTS}),
    "isBase64Encoded": False,
}


def handler(event: Any, context: Any) -> Any:
    """Always the same."""
    return ANSWER

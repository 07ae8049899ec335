"""A BentoML service around the session, typed as BentoML's "Define input and output types" page does."""

from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime as ort
from bentoml.validators import DType

# mypy: allow-untyped-decorators

MODEL = Path(__file__).parents[3] / "models/digits/2/model.onnx"


@bentoml.service(
    name="digits",
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Digits:
    """Serves the digits model, each output under its name."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    # `async def`, as the run takes microseconds: a hop to BentoML's threads would cost more than it.
    @bentoml.api
    async def infer(self, pixels: Annotated[np.ndarray, DType("float32")]) -> dict[str, np.ndarray]:
        """Run the model."""
        return dict(zip(self.names, self.session.run(None, {"pixels": pixels}), strict=True))

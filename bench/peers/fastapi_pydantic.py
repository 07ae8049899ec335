"""FastAPI and pydantic models around the session, as a tutorial would write it."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = Path(__file__).parents[2] / "models/digits/2/model.onnx"
DTYPES = {"FP32": np.float32, "INT64": np.int64}
DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in DTYPES.items()}


class InputTensor(BaseModel):
    """A tensor of a request, its data flat."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class OutputTensor(BaseModel):
    """A tensor of a response, its data flat."""

    name: str
    shape: list[int]
    datatype: str
    data: list[int] | list[float]


class InferRequest(BaseModel):
    """The body of an infer request."""

    id: str | None = None
    inputs: list[InputTensor]


class InferResponse(BaseModel):
    """The body of an infer response."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
app = FastAPI()


# `async def`, as the run takes microseconds: a hop to FastAPI's threads would cost more than it.
@app.post("/v2/models/digits/infer")
async def infer(request: InferRequest) -> InferResponse:
    """Run the digits model."""
    feed = {
        tensor.name: np.array(tensor.data, dtype=DTYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor in request.inputs
    }
    outputs = [
        OutputTensor(
            name=name,
            shape=list(array.shape),
            datatype=DATATYPES[array.dtype],
            data=array.ravel().tolist(),
        )
        for name, array in zip(names, session.run(None, feed), strict=True)
    ]
    return InferResponse(model_name="digits", model_version="2", id=request.id, outputs=outputs)

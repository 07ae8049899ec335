"""A LitServe API around the session, its steps split as LitServe's LitAPI page splits them."""

import sys
from pathlib import Path
from typing import Any

import litserve as ls
import numpy as np
import onnxruntime as ort

# mypy: allow-subclassing-any

MODEL = Path(__file__).parents[3] / "models/digits/2/model.onnx"
DTYPES = {"FP32": np.float32, "INT64": np.int64}
DATATYPES = {np.dtype(dtype): datatype for datatype, dtype in DTYPES.items()}


class OnnxAPI(ls.LitAPI):
    """Serves the digits model over Open Inference Protocol JSON."""

    def setup(self, device: str) -> None:
        """Open the session, once per worker."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def decode_request(self, request: dict[str, Any]) -> dict[str, np.ndarray]:
        """The request's tensors by name."""
        return {
            tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
            for tensor in request["inputs"]
        }

    def predict(self, x: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model."""
        return list(self.session.run(None, x))

    def encode_response(self, output: list[np.ndarray]) -> dict[str, Any]:
        """The arrays as an infer response."""
        outputs = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES[array.dtype],
                "data": array.ravel().tolist(),
            }
            for name, array in zip(self.names, output, strict=True)
        ]
        return {"model_name": "digits", "model_version": "2", "outputs": outputs}


if __name__ == "__main__":
    api = OnnxAPI(api_path="/v2/models/digits/infer")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )

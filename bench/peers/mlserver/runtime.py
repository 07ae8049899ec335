"""A custom MLServer runtime around the session, as MLServer's "Custom Inference Runtimes" page writes one."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri

# mypy: allow-subclassing-any


class OnnxModel(MLModel):
    """Serves the ONNX file that model-settings.json names."""

    async def load(self) -> bool:
        """Open the session; true when the model is ready."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        uri = await get_model_uri(self._settings)
        self._session = ort.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the model on the request's tensors."""
        feed = {tensor.name: self.decode(tensor, default_codec=NumpyCodec) for tensor in payload.inputs}
        arrays = self._session.run(None, feed)
        outputs = [NumpyCodec.encode_output(*pair) for pair in zip(self._names, arrays, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

"""The Open Inference Protocol: requests and responses as bytes, as JSON, and as tensors."""

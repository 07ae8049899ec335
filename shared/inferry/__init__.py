"""inferry: any ONNX model, served from AWS Lambda, Azure Functions and your laptop by one core."""

__version__ = "0.1.0"

"""Logs a model with MLflow's client and registers it: register.py FILE NAME; prints the id that MLflow gave it."""

import json
import sys

import mlflow
import onnx

path, name = sys.argv[1:]
logged = mlflow.onnx.log_model(onnx.load(path), name=name, registered_model_name=name, pip_requirements=["onnxruntime"])
version = mlflow.MlflowClient().get_model_version(name, logged.registered_model_version)
print(json.dumps({"id": logged.model_id, "version": version.version, "source": version.source}))

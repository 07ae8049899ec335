"""What somebody does with MLflow's client: register.py COMMAND NAME ...; prints what came of it, in JSON.

onnx NAME FILE [LOCATION]: logs and registers the model in a file, in an experiment whose artifacts are at LOCATION.
sklearn NAME: a model without ONNX. predict NAME VERSION: with ones, by MLflow's own pyfunc.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import onnx
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo

client = mlflow.MlflowClient()


def registered(name: str, logged: ModelInfo) -> dict[str, Any]:
    version = client.get_model_version(name, logged.registered_model_version)
    return {"id": logged.model_id, "version": version.version, "source": version.source}


def log_onnx(name: str, path: str, location: str = "") -> dict[str, Any]:
    if location:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment(location, artifact_location=location))
    rows = {"x": np.zeros((1, 3), np.float32)}
    options = {"pip_requirements": ["onnxruntime"], "signature": infer_signature(rows, {"y": rows["x"]})}
    return registered(name, mlflow.onnx.log_model(onnx.load(path), name=name, registered_model_name=name, **options))


def log_sklearn(name: str) -> dict[str, Any]:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    options = {"pip_requirements": ["scikit-learn"]}
    return registered(name, mlflow.sklearn.log_model(model, name=name, registered_model_name=name, **options))


def predict(name: str, version: str) -> dict[str, Any]:
    model = mlflow.pyfunc.load_model(f"models:/{name}/{version}")
    predicted = model.predict({"x": np.ones((1, 3), np.float32)})
    return {output: array.tolist() for output, array in predicted.items()}


COMMANDS: dict[str, Callable[..., Any]] = {"onnx": log_onnx, "sklearn": log_sklearn, "predict": predict}
command, *arguments = sys.argv[1:]
print(json.dumps(COMMANDS[command](*arguments)))

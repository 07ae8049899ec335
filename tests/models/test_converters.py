"""`inferry import` of models that their own frameworks trained and saved, each in a process of its own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tried import PACKAGES

DATA = """
import numpy as np
X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
classes = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
target = X @ [1.0, 2.0, 3.0, 4.0]
words = np.array(["no", "maybe", "yes"])[classes]
"""
_LIGHTGBM = DATA + "import lightgbm as lgb\nquiet = {'verbose': -1}\n"
_XGBOOST = DATA + "import xgboost as xgb\n"
_CATBOOST = DATA + "import catboost as cb\nquiet = {'iterations': 9, 'verbose': 0, 'allow_writing_files': False}\n"
_SKLEARN = DATA + "import joblib, skops.io\nfrom sklearn.linear_model import LogisticRegression\n"

# How each is made, the file, and the outputs that are compared.
MADE = {
    "LightGBM, classes": (
        _LIGHTGBM + "lgb.train(quiet | {'objective': 'multiclass', 'num_class': 3}, lgb.Dataset(X, classes), 9)"
        ".save_model('m.txt')",
        "m.txt",
        {"label", "probabilities"},
    ),
    "LightGBM, two classes": (
        _LIGHTGBM + "lgb.train(quiet | {'objective': 'binary'}, lgb.Dataset(X, classes > 0), 9).save_model('m.txt')",
        "m.txt",
        {"label", "probabilities"},
    ),
    "LightGBM, numbers": (
        _LIGHTGBM + "lgb.train(quiet | {'objective': 'regression'}, lgb.Dataset(X, target), 9).save_model('m.txt')",
        "m.txt",
        {"variable"},
    ),
    "LightGBM, estimator": (
        _LIGHTGBM
        + "import joblib; joblib.dump(lgb.LGBMClassifier(n_estimators=9, verbose=-1).fit(X, words), 'm.joblib')",
        "m.joblib",
        {"label", "probabilities"},
    ),
    "XGBoost, classes": (
        _XGBOOST
        + "xgb.train({'objective': 'multi:softprob', 'num_class': 3}, xgb.DMatrix(X, classes), 9).save_model('m.ubj')",
        "m.ubj",
        {"label", "probabilities"},
    ),
    "XGBoost, two classes": (
        _XGBOOST + "xgb.train({'objective': 'binary:logistic'}, xgb.DMatrix(X, classes > 0), 9).save_model('m.json')",
        "m.json",
        {"label", "probabilities"},
    ),
    "XGBoost, numbers": (
        _XGBOOST + "xgb.train({'objective': 'reg:squarederror'}, xgb.DMatrix(X, target), 9).save_model('m.ubj')",
        "m.ubj",
        {"variable"},
    ),
    "XGBoost, estimator": (
        _XGBOOST + "import joblib; joblib.dump(xgb.XGBClassifier(n_estimators=9).fit(X, classes), 'm.joblib')",
        "m.joblib",
        {"label", "probabilities"},
    ),
    "CatBoost, classes": (
        _CATBOOST + "cb.CatBoostClassifier(**quiet).fit(X, words).save_model('m.cbm')",
        "m.cbm",
        {"label", "probabilities"},
    ),
    "CatBoost, numbers": (
        _CATBOOST + "cb.CatBoostRegressor(**quiet).fit(X, target).save_model('m.cbm')",
        "m.cbm",
        {"predictions"},
    ),
    "scikit-learn, skops": (
        _SKLEARN + "skops.io.dump(LogisticRegression().fit(X, words), 'm.skops')",
        "m.skops",
        {"label", "probabilities"},
    ),
}


def python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A process that finds the frameworks behind the packages of this one."""
    behind = f"import sys; sys.path.append({str(PACKAGES)!r})\n"
    (folder / "sitecustomize.py").write_text(behind)
    environment = {**os.environ, "PYTHONPATH": str(folder), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def imported(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return python(folder, "-m", "inferry", "import", *arguments, "--models", "out")


@pytest.mark.parametrize("name", MADE)
def test_converters(tmp_path: Path, name: str) -> None:
    script, file, outputs = MADE[name]
    made = python(tmp_path, "-c", script)
    assert made.returncode == 0, made.stderr
    trust = ["--trust"] if file.endswith(".joblib") else []
    ended = imported(tmp_path, file, *trust)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {*re.findall(r"^  answers   (\w+): ", ended.stdout, re.MULTILINE)} == outputs
    assert "beside the original, 206 rows" in ended.stdout
    config = json.loads((tmp_path / "out/m/config.json").read_text())
    assert config["max_batch_size"] == 32
    if "words" in script.rpartition("\n")[2]:
        assert config["labels"] == {"probabilities": ["maybe", "no", "yes"]}


_TABLE = (
    _SKLEARN
    + """
import pandas
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
table = pandas.DataFrame({"a": X[:, 0], "job title": words, "b": X[:, 1], "unused": target, "note": words})
table["kind"] = words
parts = [
    ("numbers", StandardScaler(), ["b", "a"]),
    ("kinds", OneHotEncoder(), ["job title", "kind"]),
    ("notes", TfidfVectorizer(), "note"),
]
joblib.dump(make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(table, classes), "m.joblib")
table.to_csv("rows.csv", index=False)
"""
)


def test_the_inputs_that_a_table_is_said_to_need(tmp_path: Path) -> None:
    made = python(tmp_path, "-c", _TABLE)
    assert made.returncode == 0, made.stderr
    said = imported(tmp_path, "m.joblib", "--trust").stderr
    inputs = shlex.split(said.partition("such as ")[2])
    assert len(inputs) == 2 * len(["a", "job title", "b", "note", "kind"]), said
    refused = imported(tmp_path, "m.joblib", "--trust", *inputs)  # as encoders take their own categories alone
    assert "Unknown Category" in refused.stderr
    assert "Give rows that it takes: --samples FILE" in refused.stderr
    ended = imported(tmp_path, "m.joblib", "--trust", "--samples", "rows.csv", *inputs)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    example = json.loads((tmp_path / "out/m/config.json").read_text())["example"]["inputs"]
    assert [each["datatype"] for each in example] == ["FP32", "BYTES", "FP32", "BYTES", "BYTES"]


_TORCH = """
import torch
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.last = torch.nn.GRU(4, 8, batch_first=True), torch.nn.Linear(8, 3)
    def forward(self, x):
        return self.last(self.recurrent(x)[0])
free = ({0: torch.export.Dim("batch")},) if BATCH else None
torch.export.save(torch.export.export(Net().eval(), (torch.randn(2, 6, 4),), dynamic_shapes=free), "m.pt2")
"""


@pytest.mark.skipif(
    not (PACKAGES / "torch").exists(), reason="torch takes 700 MB: pip install it, onnxscript and what they need there"
)
@pytest.mark.parametrize("batch", [True, False])
def test_an_exported_program_of_pytorch(tmp_path: Path, batch: bool) -> None:
    made = python(tmp_path, "-c", f"BATCH = {batch}\n{_TORCH}")
    assert made.returncode == 0, made.stderr
    ended = imported(tmp_path, "m.pt2")
    assert (ended.returncode, "--trust" in ended.stderr) == (1, True)
    ended = imported(tmp_path, "m.pt2", "--trust", "--rename", "linear=logits")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "answers   logits: within" in ended.stdout
    assert "stripped" in ended.stdout
    assert ("torch.onnx.export" in ended.stdout) == (not batch)
    config = json.loads((tmp_path / "out/m/config.json").read_text())
    assert ("dynamic_batching" in config) == batch


def test_types_that_skops_does_not_know(tmp_path: Path) -> None:
    script = (
        _SKLEARN + "from sklearn.preprocessing import FunctionTransformer\nfrom sklearn.pipeline import make_pipeline\n"
        "import os; skops.io.dump(make_pipeline(FunctionTransformer(os.system), LogisticRegression()), 'm.skops')"
    )
    made = python(tmp_path, "-c", script)
    assert made.returncode == 0, made.stderr
    ended = imported(tmp_path, "m.skops")
    assert ended.returncode == 1
    assert "holds types that skops doesn't know to be harmless: posix.system" in ended.stderr

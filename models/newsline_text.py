"""The section of a newspaper that a headline belongs in: tf-idf and logistic regression over strings."""

import json
from pathlib import Path

import numpy as np
from cards import Built, example
from onnx import AttributeProto, ModelProto
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from training import export, fit, on_grid, split

CORPUS = Path(__file__).with_name("newsline_corpus.json")
HEADLINE = "Storm brings heavy rain and flooding to the coast"


def build() -> Built:
    """The model and its card; the expected answer is scikit-learn's."""
    train, held, train_labels, held_labels = split(*read_corpus())
    pipeline = train_classifier(train, train_labels)
    answer = {"label": pipeline.predict([HEADLINE]), "probabilities": pipeline.predict_proba([HEADLINE])}
    card = {
        "description": (
            "Tells the section of a newspaper that an English headline belongs in, from the words it uses"
            f" (held-out accuracy {pipeline.score(held, held_labels):.3f} on {len(held)} headlines)."
        ),
        "default_version": "1",
        "labels": {"probabilities": pipeline.classes_.tolist()},
        "example": example({"text": np.array([[HEADLINE]])}, answer),
    }
    return Built({"1": to_onnx(pipeline)}, card)


def read_corpus() -> tuple[list[str], list[str]]:
    """Headlines and their sections."""
    sections: dict[str, list[str]] = json.loads(CORPUS.read_text(encoding="utf-8"))
    pairs = [(headline, section) for section, headlines in sections.items() for headline in headlines]
    return [headline for headline, _ in pairs], [section for _, section in pairs]


def train_classifier(headlines: list[str], sections: list[str]) -> Pipeline:
    """The token pattern is one that both scikit-learn and ONNX Runtime's Tokenizer read alike."""
    model = LogisticRegression(solver="newton-cg", tol=1e-10, C=30)
    vectorizer = TfidfVectorizer(token_pattern=r"[a-zA-Z]+")
    pipeline = fit(Pipeline([("count", vectorizer), ("classify", model)]), headlines, sections)
    model.coef_ = on_grid(model.coef_)
    model.intercept_ = on_grid(model.intercept_)
    return pipeline


def to_onnx(pipeline: Pipeline) -> ModelProto:
    """`text` BYTES [batch, 1] to `label` BYTES [batch] and `probabilities` FP32 [batch, 4]."""
    proto = export(pipeline, [("text", StringTensorType([None, 1]))], zipmap=False)
    for node in proto.graph.node:
        if node.op_type == "StringNormalizer":
            # The default, en_US, is not in slim container images: the model would not load there.
            node.attribute.add(name="locale", s=b"C", type=AttributeProto.STRING)
    return proto

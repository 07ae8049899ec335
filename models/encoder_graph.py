"""A transformer encoder with seeded random weights: ONNX graph, NumPy forward pass and card.

It needs onnx and NumPy only, so that `make serve` can build it without the training packages.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cards import Built, example
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

VOCABULARY = 2048
POSITIONS = 256
WIDTH = 192
HEADS = 6
HIDDEN = 768
LAYERS = 2
EPSILON = 1e-5

Weights = Mapping[str, np.ndarray]


def build() -> Built:
    """The encoder and its card; the expected answer comes from `forward`."""
    weights = make_weights()
    ids = np.random.default_rng(7).integers(0, VOCABULARY, size=(1, 12))
    card = {
        "description": (
            "Embeds a sequence of token ids with a two-layer transformer encoder and mean pooling. Its weights"
            " are random: it is the load of the dynamic batching benchmark."
        ),
        "default_version": "1",
        "max_batch_size": 32,
        "max_queue_size": 256,
        "dynamic_batching": {"max_queue_delay_us": 500},
        "warm_up": True,
        "example": example({"input_ids": ids}, {"embedding": forward(weights, ids)}),
    }
    return Built({"1": make_graph(weights)}, card)


def make_weights() -> dict[str, np.ndarray]:
    """All weights by name, float32, the same on every machine."""
    rng = np.random.default_rng(20)
    weights = {
        "tokens": uniform(rng, (VOCABULARY, WIDTH), fan_in=1),
        "positions": uniform(rng, (POSITIONS, WIDTH), fan_in=4),
    }
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "merge"):
            weights[f"{layer}.{name}"] = uniform(rng, (WIDTH, WIDTH), fan_in=WIDTH)
        weights[f"{layer}.expand"] = uniform(rng, (WIDTH, HIDDEN), fan_in=WIDTH)
        weights[f"{layer}.expand_bias"] = uniform(rng, (HIDDEN,), fan_in=WIDTH)
        weights[f"{layer}.shrink"] = uniform(rng, (HIDDEN, WIDTH), fan_in=HIDDEN)
        weights[f"{layer}.shrink_bias"] = uniform(rng, (WIDTH,), fan_in=HIDDEN)
        for name in ("attention_norm", "feed_norm"):
            weights[f"{layer}.{name}_scale"] = 1 + uniform(rng, (WIDTH,), fan_in=WIDTH)
            weights[f"{layer}.{name}_bias"] = uniform(rng, (WIDTH,), fan_in=WIDTH)
    return weights


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Values of variance 1/fan_in; a normal deviate's last bit would depend on the C library's logarithm."""
    scale = np.float32(math.sqrt(12 / fan_in))
    return (rng.random(shape, dtype=np.float32) - np.float32(0.5)) * scale


def forward(weights: Weights, ids: np.ndarray) -> np.ndarray:
    """`embedding` [batch, width] of `ids` [batch, sequence], in double precision and without ONNX."""
    hidden = weights["tokens"].astype(np.float64)[ids] + weights["positions"][: ids.shape[1]]
    for layer in range(LAYERS):
        own = own_weights(weights, f"{layer}.")
        attended = hidden + attention(own, hidden)
        hidden = layer_norm(attended, own["attention_norm_scale"], own["attention_norm_bias"])
        fed = hidden + gelu(hidden @ own["expand"] + own["expand_bias"]) @ own["shrink"] + own["shrink_bias"]
        hidden = layer_norm(fed, own["feed_norm_scale"], own["feed_norm_bias"])
    return np.asarray(hidden.mean(axis=1))


def own_weights(weights: Weights, prefix: str) -> dict[str, np.ndarray]:
    """One layer's weights in double precision, by their names without the layer."""
    return {
        name.removeprefix(prefix): value.astype(np.float64)
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def attention(own: Weights, hidden: np.ndarray) -> np.ndarray:
    """Multi-head self-attention of one layer, before the residual sum."""
    split = (*hidden.shape[:2], HEADS, WIDTH // HEADS)
    query, key, value = ((hidden @ own[name]).reshape(split).swapaxes(1, 2) for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(2, 3) / math.sqrt(WIDTH // HEADS)
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = exponents / exponents.sum(axis=-1, keepdims=True) @ value
    return np.asarray(mixed.swapaxes(1, 2).reshape(hidden.shape) @ own["merge"])


def layer_norm(hidden: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Normalises the last axis as ONNX's LayerNormalization does."""
    deviation = hidden - hidden.mean(axis=-1, keepdims=True)
    variance = np.square(deviation).mean(axis=-1, keepdims=True)
    return np.asarray(deviation / np.sqrt(variance + EPSILON) * scale + bias)


def gelu(values: np.ndarray) -> np.ndarray:
    """The exact GELU."""
    return np.asarray(values * (1 + np.vectorize(math.erf)(values / math.sqrt(2))) / 2)


@dataclass
class Graph:
    """Nodes in the order they run."""

    nodes: list[NodeProto] = field(default_factory=list)

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends a node with one output and returns that output's name."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output


def make_graph(weights: Weights) -> ModelProto:
    """The ONNX model: `input_ids` INT64 [batch, sequence] to `embedding` FP32 [batch, width]."""
    graph = Graph()
    hidden = add_embedding(graph)
    for layer in range(LAYERS):
        hidden = add_layer(graph, hidden, f"{layer}.")
    graph.add("ReduceMean", [hidden], "embedding", axes=[1], keepdims=0)
    proto = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH])],
        list(initialisers(weights)),
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])


def initialisers(weights: Weights) -> Iterator[TensorProto]:
    """The weights and the few constants of the graph."""
    constants = {
        "zero": np.array([0]),
        "heads_shape": np.array([0, 0, HEADS, WIDTH // HEADS]),
        "width_shape": np.array([0, 0, WIDTH]),
        "score_scale": np.array(1 / math.sqrt(WIDTH // HEADS), np.float32),
        "sqrt_half": np.array(math.sqrt(0.5), np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    for name, array in {**weights, **constants}.items():
        yield numpy_helper.from_array(array, name)


def add_embedding(graph: Graph) -> str:
    """Token plus position embedding; a sequence longer than the position table fails in the Add."""
    graph.add("Gather", ["tokens", "input_ids"], "token_embedding")
    graph.add("Shape", ["input_ids"], "length", start=1, end=2)
    graph.add("Slice", ["positions", "zero", "length"], "position_embedding")
    return graph.add("Add", ["token_embedding", "position_embedding"], "hidden")


def add_layer(graph: Graph, hidden: str, own: str) -> str:
    """Attention and feed-forward block, each with a residual sum and a normalisation after it."""
    graph.add("Add", [hidden, add_attention(graph, hidden, own)], own + "attended")
    normed = add_norm(graph, own + "attended", own + "attention_norm")
    graph.add("MatMul", [normed, own + "expand"], own + "expanded")
    graph.add("Add", [own + "expanded", own + "expand_bias"], own + "expanded_biased")
    activated = add_gelu(graph, own + "expanded_biased", own)
    graph.add("MatMul", [activated, own + "shrink"], own + "shrunk")
    graph.add("Add", [own + "shrunk", own + "shrink_bias"], own + "shrunk_biased")
    graph.add("Add", [normed, own + "shrunk_biased"], own + "fed")
    return add_norm(graph, own + "fed", own + "feed_norm")


def add_attention(graph: Graph, hidden: str, own: str) -> str:
    """The graph of `attention`; the key is transposed for the product at once."""
    for name, axes in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        graph.add("MatMul", [hidden, own + name], f"{own}{name}_flat")
        graph.add("Reshape", [f"{own}{name}_flat", "heads_shape"], f"{own}{name}_split")
        graph.add("Transpose", [f"{own}{name}_split"], f"{own}{name}_heads", perm=axes)
    graph.add("MatMul", [own + "query_heads", own + "key_heads"], own + "products")
    graph.add("Mul", [own + "products", "score_scale"], own + "scores")
    graph.add("Softmax", [own + "scores"], own + "attention", axis=-1)
    graph.add("MatMul", [own + "attention", own + "value_heads"], own + "mixed_heads")
    graph.add("Transpose", [own + "mixed_heads"], own + "mixed_split", perm=[0, 2, 1, 3])
    graph.add("Reshape", [own + "mixed_split", "width_shape"], own + "mixed")
    return graph.add("MatMul", [own + "mixed", own + "merge"], own + "merged")


def add_norm(graph: Graph, hidden: str, name: str) -> str:
    """LayerNormalization over the last axis."""
    inputs = [hidden, name + "_scale", name + "_bias"]
    return graph.add("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)


def add_gelu(graph: Graph, values: str, own: str) -> str:
    """The graph of `gelu`: opset 17 has no Gelu operator."""
    graph.add("Mul", [values, "sqrt_half"], own + "gelu_scaled")
    graph.add("Erf", [own + "gelu_scaled"], own + "gelu_erf")
    graph.add("Add", [own + "gelu_erf", "one"], own + "gelu_shifted")
    graph.add("Mul", [values, own + "gelu_shifted"], own + "gelu_doubled")
    return graph.add("Mul", [own + "gelu_doubled", "half"], own + "gelu")

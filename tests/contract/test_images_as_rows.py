"""Images through every door: a folder, a pattern and a file, columns of tables, lines, and requests by HTTP."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from inferry.cli.main import main
from inferry.jobs import image_files, part_writer, runner
from inferry.jobs.runner import Job
from inferry.service import Service
from inferry.settings import Settings
from onnx import helper
from PIL import Image
from servers import Server, serving

FILES = Path(__file__).parent / "files"


def means(axes: tuple[int, int], shape: tuple[int | str, ...]) -> bytes:
    """`y` [n, 3] is the mean of each channel of the FP32 image `image`."""
    constant = helper.make_tensor("axes", 7, [2], axes)
    return onnx_models.model(
        [helper.make_node("ReduceMean", ["image", "axes"], ["y"], keepdims=0)],
        [onnx_models.tensor("image", "FP32", shape)],
        [onnx_models.tensor("y", "FP32", ("n", 3))],
        [constant],
    )


# Of red: 1, 0, 0 less the means, by the deviations.
NORMAL = {"mean": [0.5, 0.25, 0.5], "std": [0.5, 0.25, 2]}
MODELS = {
    "rgb/1/model.onnx": means((2, 3), ("n", 3, 8, 8)),
    "rgb/config.json": json.dumps({"preprocess": {"image": {"resize": "crop", **NORMAL}}}).encode(),
    "bgr/1/model.onnx": means((1, 2), ("n", 8, 8, 3)),
    "bgr/config.json": json.dumps(
        {"preprocess": {"image": {"resize": "pad", "channels": "BGR", "scale": 1, "mean": [100, 0, 5]}}}
    ).encode(),
    "two/1/model.onnx": onnx_models.echo({"image": ("UINT8", ("n", 1, 1, 3)), "k": ("INT64", ("n", 1))}),
    "two/config.json": b'{"preprocess": {"image": {"resize": "stretch"}}}',
    "plain.onnx": means((2, 3), ("n", 3, 8, 8)),
    "wrong/1/model.onnx": means((2, 3), ("n", 3, 8, 8)),
    "wrong/config.json": b'{"preprocess": {"photo": {"resize": "crop"}}}',
}
COLOURS = {"blue": (0, 0, 255), "grey": (51, 51, 51), "red": (255, 0, 0)}
# By hand: (1 - 0.5) / 0.5, (0 - 0.25) / 0.25, (0 - 0.5) / 2, and so on.
RGB = {"blue": [-1, -1, 0.25], "grey": [-0.6, -0.2, -0.15], "red": [1, -1, -0.25]}
# Blue first: 255 - 100, 0, 0 - 5 of blue.
BGR = {"blue": [155, 0, -5], "grey": [-49, 51, 46], "red": [-100, 0, 250]}


def png(colour: str, size: tuple[int, int] = (8, 8)) -> bytes:
    target = BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.write(tmp_path_factory.mktemp("models"), MODELS)


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[Service]:
    service = Service.from_settings(Settings(model_path=str(models), intra_op_threads=1))
    yield service
    service.close()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, one of them below, another that is broken, and what is none."""
    folder = tmp_path / "photos"
    for name, content in {
        "red.png": png("red", (32, 16)),
        "broken.JPG": (FILES / "opencv_quadrants.jpg").read_bytes()[:300],
        "below/grey.jpeg": b"",
        "blue.png": png("blue", (8, 8)),
        "labels.csv": b"file,label\nred.png,1\n",
        "._red.png": b"what a Mac leaves behind",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    Image.new("RGB", (16, 32), COLOURS["grey"]).save(folder / "below/grey.jpeg", quality=100, subsampling=0)
    monkeypatch.chdir(tmp_path)
    return folder


def batch(models: Path, *arguments: str) -> int:
    return main(["batch", "--models", str(models), *arguments])


def lines(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def found(path: str, output: str = "y") -> dict[str, Any]:
    return {line["file"]: line[output] for line in lines(path)}


def close(one: dict[str, list[float]], other: dict[str, list[float]], by: float = 1e-6) -> bool:
    return list(one) == list(other) and all(np.allclose(one[key], other[key], rtol=0, atol=by) for key in one)


def near(colour: str) -> Any:
    """What sums of floats make of it."""
    return pytest.approx(RGB[colour], abs=1e-6)


BROKEN = "the image is a broken JPEG of 300 bytes: it may be cut off"


def test_a_folder(models: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All images are rows of one table, in the order of their names; one that is broken is an error of its own."""
    assert batch(models, "photos", "out/", "--model", "rgb") == 0
    expected = {"below/grey.jpeg": RGB["grey"], "blue.png": RGB["blue"], "red.png": RGB["red"]}
    assert close(found("out/photos.jsonl"), expected, 0.02)
    assert lines("out/photos.jsonl.errors.jsonl") == [
        {"row": 3, "column": "file", "reason": BROKEN, "data": {"file": "broken.JPG"}}
    ]
    assert capsys.readouterr().err.startswith("photos/: 3 rows, 1 error, ")
    assert batch(models, "photos", "out/", "--model", "bgr", "--to", "parquet", "--keep", "file=photo") == 0
    table = pq.read_table("out/photos.parquet").to_pydict()
    # Half of what is padded is black.
    for name, values in zip(table["photo"], table["y"], strict=True):
        colour = name.rpartition("/")[2].partition(".")[0]
        half = [0.5 * (value + mean) - mean for value, mean in zip(BGR[colour], (100, 0, 5), strict=True)]
        assert np.allclose(values, BGR[colour] if colour == "blue" else half, rtol=0, atol=1)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("photos/*.png", ["blue.png", "red.png"]),
        ("photos/**/*.jpeg", ["below/grey.jpeg"]),
        ("photos/be*/*", ["below/grey.jpeg"]),
    ],
)
def test_a_pattern(models: Path, photos: Path, pattern: str, files: list[str]) -> None:
    assert batch(models, pattern, "results.csv", "--model", "rgb") == 0
    assert arrow_csv.read_csv("results.csv")["file"].to_pylist() == files


def test_a_file(models: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(models, "photos/red.png", "out/", "--model", "rgb") == 0
    assert lines("out/red.png.jsonl") == [{"y": RGB["red"]}]
    capsys.readouterr()
    assert main(["infer", "rgb", "--models", str(models), "--input", "photos/red.png"]) == 0
    assert json.loads(capsys.readouterr().out) == {"y": RGB["red"]}
    assert main(["infer", "rgb", "--models", str(models), "--input", "photos/broken.JPG"]) == 1
    assert capsys.readouterr().err == (
        f"inferry: 1 of 1 rows of photos/broken.JPG can't be predicted; row 1, column 'file': {BROKEN}\n"
    )
    assert main(["infer", "plain", "--models", str(models), "--input", "photos/red.png"]) == 1
    assert "model 'plain' takes no images: its config.json has no 'preprocess'" in capsys.readouterr().err


def test_to_standard_output(models: Path, photos: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert batch(models, "photos", "-", "--model", "rgb") == 0
    printed = capfdbinary.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == ["below/grey.jpeg", "blue.png", "red.png"]
    assert json.loads(printed.err.splitlines()[0])["reason"] == BROKEN


def test_how_they_would_be_read(models: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch(models, "photos", "out/", "--model", "rgb", "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "photos/",
        "  file -> image (FP32, rows have the shape [3, 8, 8])",
        "  kept: file -> file",
    ]
    assert said[4].startswith("  row 2: image = [-1.0, ")
    assert not Path("out").exists()


def test_what_images_are_not(models: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in [
        (["photos", "out/", "--model", "two"], "model 'two' takes image, k"),
        (["photos", "out/", "--model", "rgb", "--keep", "label"], "has no column 'label': images have none but 'file'"),
        (["photos/below", "out/", "--model", "plain"], "; images are for a model whose config.json has 'preprocess'"),
    ]:
        assert batch(models, *arguments) == 1
        assert reason in capsys.readouterr().err
    assert batch(models, "photos", "out/", "--model", "wrong") == 1
    assert capsys.readouterr().err == (
        "inferry: 'preprocess' in config.json names input 'photo', which version 1 of model 'wrong' doesn't have; its "
        "inputs are 'image'\n"
    )


def test_a_constant_beside_images(models: Path, photos: Path) -> None:
    assert batch(models, "photos/*.png", "out/", "--model", "two", "--set", "k=7") == 0
    assert found("out/photos.jsonl", "k_out") == {"blue.png": 7.0, "red.png": 7.0}


def test_tables_in_a_folder_of_a_model_of_images(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an image in it, a folder is one of tables."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    pq.write_table(pa.table({"image": [png("red")]}), "in/a.parquet")
    assert batch(models, "in", "out/", "--model", "rgb") == 0
    assert pq.read_table("out/a.parquet")["y"].to_pylist() == [RGB["red"]]


def test_nothing_is_done_twice(models: Path, service: Service, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a run that was ended are used again, and a report says that all is done until an image is another."""
    job = Job(input="photos/", output="out/", model="rgb", keep=("file",))
    monkeypatch.setattr(part_writer, "PART_BYTES", 1)
    monkeypatch.setattr("inferry.jobs.job_run.IMAGE_BYTES", 1)
    read: list[str] = []
    of = image_files.ImageListing

    def opened(images: image_files.Images) -> Any:
        listing = of(images.files, images.listing)
        files = images.files

        class Counting:
            def open(self, file: Any) -> Any:
                read.append(file.path)
                if file.path == stop:
                    raise KeyboardInterrupt
                return files.open(file)

        listing.files = Counting()  # type: ignore[assignment]
        return listing

    monkeypatch.setattr(image_files.Images, "opened", opened)
    stop = "red.png"
    with pytest.raises(KeyboardInterrupt):
        runner.run(job, service)
    stop, read[:] = "", []
    report = runner.run(job, service)
    assert (report.rows, report.errors) == (3, 1)
    assert "below/grey.jpeg" not in read
    assert close(
        found("out/photos.jsonl"),
        {"below/grey.jpeg": RGB["grey"], "blue.png": RGB["blue"], "red.png": RGB["red"]},
        0.02,
    )
    read[:] = []
    assert runner.run(job, service) == report
    assert read == []
    Path("photos/red.png").write_bytes(png("blue"))
    assert runner.run(job, service).key != report.key
    assert found("out/photos.jsonl")["red.png"] == RGB["blue"]


def test_another_preprocess_is_another_job(photos: Path, tmp_path: Path) -> None:
    keys = []
    for channels in ("RGB", "BGR"):
        config = {"preprocess": {"image": {"resize": "stretch", "channels": channels}}}
        onnx_models.write(tmp_path / "m", {**MODELS, "rgb/config.json": json.dumps(config).encode()})
        service = Service.from_settings(Settings(model_path=str(tmp_path / "m")))
        keys.append(runner.run(Job(input="photos/red.png", output="out/", model="rgb"), service).key)
        service.close()
    assert keys[0] != keys[1]
    assert lines("out/red.png.jsonl") == [{"y": [0.0, 0.0, 1.0]}]


def test_a_store(service: Service) -> None:
    from inferry.storage.files import open_files

    files = open_files("memory://images/in")
    for colour in COLOURS:
        files.create(f"{colour}.png", png(colour))
    report = runner.run(
        Job(input="memory://images/in/", output="memory://images/out/", model="rgb", keep=("file",)), service
    )
    assert (report.rows, report.errors, report.output) == (3, 0, "memory://images/out/in.jsonl")
    content = open_files("memory://images/out").read("in.jsonl")
    assert content is not None
    rows = [json.loads(line) for line in content.splitlines()]
    assert close({row["file"]: row["y"] for row in rows}, {f"{name}.png": RGB[name] for name in COLOURS})


# Columns: files in bytes, as Hugging Face's `Image` has them, in base64, and one each that is no image.
ORDER = ("blue", "grey", "red")
BYTES = [*map(png, ORDER), b"x" * 2000, None]
TEXTS = [*(base64.b64encode(png(name)).decode() for name in ORDER), "red.png", None]
COLUMNS = {
    "bytes": pa.array(BYTES, pa.binary()),
    "large bytes": pa.array(BYTES, pa.large_binary()),
    "views of bytes": pa.array(BYTES, pa.binary_view()),
    "images of Hugging Face": pa.array(
        [{"bytes": file, "path": f"{number}.png"} for number, file in enumerate(BYTES)],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    ),
    "texts": pa.array(TEXTS),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_a_column(models: Path, tmp_path: Path, kind: str, ending: str) -> None:
    table = pa.table({"id": range(5), "photo": COLUMNS[kind]})
    path = str(tmp_path / f"in.{ending}")
    (pq.write_table if ending == "parquet" else feather.write_feather)(table, path)
    out = str(tmp_path / "out.jsonl")
    assert batch(models, path, out, "--model", "rgb", "--columns", "photo", "--keep", "id") == 0
    assert [(line["id"], line["y"]) for line in lines(out)] == [(at, near(name)) for at, name in enumerate(ORDER)]
    errors = lines(f"{out}.errors.jsonl")
    wrong = (
        "the text 'red.png' is no image: give the bytes of its file in base64"
        if kind == "texts"
        else "the image is neither JPEG nor PNG: it begins with 78 78 78 78 78 78 78 78"
    )
    assert [(error["row"], error["column"], error["reason"]) for error in errors] == [
        (4, "photo", wrong),
        (5, "photo", "the value is missing"),
    ]
    # An error's report is no place for whole files.
    assert len(json.dumps(errors)) < 1500


def test_lines(models: Path, tmp_path: Path) -> None:
    """Beside rows that are numbers already."""
    path, out = tmp_path / "in.jsonl", str(tmp_path / "out.jsonl")
    pixels = np.zeros((3, 8, 8)).tolist()
    rows = [*({"image": text} for text in TEXTS), {"image": pixels}, {"features": TEXTS[0]}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert batch(models, str(path), out, "--model", "rgb") == 0
    assert [line["y"] for line in lines(out)] == [*map(near, ORDER), [0, 0, 0], near("blue")]
    assert [(error["row"], error["column"]) for error in lines(f"{out}.errors.jsonl")] == [(4, "image"), (5, "image")]


def test_two_inputs_in_lines(models: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", str(tmp_path / "out.jsonl")
    path.write_text(json.dumps({"image": TEXTS[2], "k": 5}) + "\n")
    assert batch(models, str(path), out, "--model", "two") == 0
    assert lines(out) == [{"image_out": [[[255, 0, 0]]], "k_out": 5}]


WITHOUT_PILLOW = """
import sys
sys.modules["PIL"] = None
from inferry.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["photos", "photos/red.png", "in.parquet", "in.jsonl"])
def test_without_pillow(models: Path, photos: Path, name: str) -> None:
    """One error for all of a file, with what to install; a model that takes images is loaded without it."""
    pq.write_table(pa.table({"image": BYTES[:3]}), "in.parquet")
    Path("in.jsonl").write_text(json.dumps({"image": TEXTS[0]}) + "\n")
    arguments = ["batch", "--models", str(models), name, "out/", "--model", "rgb"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PILLOW, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert "failed: images need Pillow: install the extra 'images'" in done.stderr
    assert not list(Path("out").glob("*.jsonl"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "/predict?model_name=rgb",
            {"model_name": "rgb", "model_version": "1", "predictions": [{"y": RGB["red"]}]},
        ),
        ("/v1/models/rgb:predict", {"predictions": [RGB["red"]]}),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (1200, 1200)])
def test_a_body(server: Server, path: str, expected: Any, size: tuple[int, int]) -> None:
    """The second one has as many bytes as pixels, three times, which is a large body."""
    image = np.full((*size, 3), COLOURS["red"], np.uint8)
    target = BytesIO()
    Image.fromarray(image).save(target, "PNG", compress_level=0 if size[0] > 8 else 6)
    body = target.getvalue()
    answer = server.ask("POST", path, body, {"Content-Type": "image/png"})
    assert (answer.status, answer.json) == (200, expected)


def test_metadata_say_which_inputs_take_images(server: Server) -> None:
    inputs = server.ask("GET", "/v2/models/two").json["inputs"]
    assert inputs == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 1, 1, 3], "parameters": {"images": True}},
        {"name": "k", "datatype": "INT64", "shape": [-1, 1]},
    ]


def test_rows_in_base64(server: Server) -> None:
    for features, names in [(TEXTS[0], ORDER[:1]), (TEXTS[:3], ORDER), ({"image": TEXTS[1]}, ORDER[1:2])]:
        answer = server.post("/predict", {"model_name": "rgb", "features": features})
        assert (answer.status, answer.json.get("predictions")) == (200, [{"y": near(name)} for name in names])
    answer = server.post("/v1/models/two:predict", {"instances": [{"image": TEXTS[2], "k": [3]}]})
    assert answer.json == {"predictions": [{"image_out": [[[255, 0, 0]]], "k_out": 3}]}


@pytest.mark.parametrize(
    ("path", "kind", "body", "reason"),
    [
        (
            "/predict?model_name=rgb",
            "image/jpeg",
            b"\xff\xd8\xff",
            "the image is a broken JPEG of 3 bytes: it may be cut off",
        ),
        (
            "/predict?model_name=rgb",
            "image/webp",
            b"RIFF",
            "the image is neither JPEG nor PNG: it begins with 52 49 46 46",
        ),
        ("/predict?model_name=rgb", "image/png", b"", "the image is neither JPEG nor PNG: it is empty"),
        (
            "/predict?model_name=plain",
            "image/png",
            png("red"),
            "input 'image' for model 'plain' takes no images: the model's config.json has no 'preprocess' for it",
        ),
        (
            "/v1/models/two:predict",
            "image/png",
            png("red"),
            "row 0 for model 'two' must hold 2 values (image, k), got a single value",
        ),
    ],
)
def test_bodies_that_are_refused(server: Server, path: str, kind: str, body: bytes, reason: str) -> None:
    answer = server.ask("POST", path, body, {"Content-Type": kind})
    assert (answer.status, answer.json) == (400, {"error": reason})

"""Which models and versions a repository's files are, however hostile their names."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inferry.repository.layout import ModelFiles, newest_first, scan
from inferry.storage.stored import StoredFile, VersionFiles


def stored(*paths: str) -> list[StoredFile]:
    """Files that differ in size."""
    return [StoredFile(path, size, f"e{size}") for size, path in enumerate(paths, 1)]


def summary(paths: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """For each model its versions, as folder, ONNX file and paths, and the path of its config."""
    models, problems = scan(stored(*paths))
    found = {
        name: (
            {version: (files.folder, files.model, files.paths) for version, files in model.versions.items()},
            model.config.path if model.config else None,
        )
        for name, model in models.items()
    }
    return found, problems


ONE = {"1": ("m/1", "model.onnx", ["model.onnx"])}
FLAT = {"1": ("", "m.onnx", ["m.onnx"])}


@pytest.mark.parametrize(
    ("paths", "models"),
    [
        ([], {}),
        (["m/1/model.onnx"], {"m": (ONE, None)}),
        (["m/config.json", "m/1/model.onnx"], {"m": (ONE, "m/config.json")}),
        (["m.onnx"], {"m": (FLAT, None)}),
        (["m.onnx", "m/config.json"], {"m": (FLAT, "m/config.json")}),
        (
            ["m/1/model.onnx", "m/1/w/a.bin", "m/1/labels.txt", "m/20/model.onnx", "m/2.0-rc_1/model.onnx"],
            {
                "m": (
                    {
                        "1": ("m/1", "model.onnx", ["model.onnx", "w/a.bin", "labels.txt"]),
                        "20": ("m/20", "model.onnx", ["model.onnx"]),
                        "2.0-rc_1": ("m/2.0-rc_1", "model.onnx", ["model.onnx"]),
                    },
                    None,
                )
            },
        ),
        # External data of a flat file is beside it: only its graph tells which.
        (
            ["m.onnx", "m.onnx.data", "weights", "other.onnx", "docs/x"],
            {
                "m": ({"1": ("", "m.onnx", ["m.onnx", "m.onnx.data", "weights", "other.onnx"])}, None),
                "other": ({"1": ("", "other.onnx", ["m.onnx", "m.onnx.data", "weights", "other.onnx"])}, None),
            },
        ),
        # Sorted by name, and nothing but models.
        (
            ["z.onnx", "README.md", "a/1/model.onnx", "a/README.md", "docs/1/index.html", "only/config.json"],
            {
                "a": ({"1": ("a/1", "model.onnx", ["model.onnx"])}, None),
                "z": ({"1": ("", "z.onnx", ["z.onnx", "README.md"])}, None),
            },
        ),
        (["m/1/sub/model.onnx.txt", "m/1/model.ONNX"], {}),
    ],
)
def test_models(paths: list[str], models: dict[str, Any]) -> None:
    found, problems = summary(paths)
    assert (found, list(found), problems) == (models, list(models), [])


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["m/1/labels.txt", "m/1/net.onnx"], "m/1 has no model.onnx: a version's ONNX file must have that name"),
        (["m/1/sub/model.onnx"], "m/1 has no model.onnx: a version's ONNX file must have that name"),
        (["stats/1/model.onnx"], "stats/1: 'stats' is a reserved name"),
        (["stats.onnx"], "stats.onnx: 'stats' is a reserved name"),
    ],
)
def test_problems(paths: list[str], problem: str) -> None:
    assert summary(paths) == ({}, [problem])


def test_a_folder_hides_a_flat_file_of_its_name() -> None:
    for paths in (["m.onnx", "m/1/model.onnx"], ["m/1/model.onnx", "m.onnx"]):
        problem = "m.onnx is ignored: the folder m/ holds a model of the same name"
        assert summary(paths) == ({"m": (ONE, None)}, [problem])


def test_one_bad_version_does_not_hide_the_others() -> None:
    found, problems = summary(["m/1/model.onnx", "m/a b/model.onnx", "m/2/net.onnx"])
    assert found == {"m": (ONE, None)}
    assert problems == [
        "m/a b: 'a b' must consist of letters, digits, '.', '_' and '-'",
        "m/2 has no model.onnx: a version's ONNX file must have that name",
    ]


HOSTILE = [
    "",
    " ",
    "a b",
    "é",
    "a\n",
    "\0",
    "a\\b",
    "a:b",
    "a%2fb",
    "a'b",
    "<b>",
    "*",
    "٪",
    "a?b",
    "#",
    "٣",
    "..",
    ".",
]


@pytest.mark.parametrize("name", [*HOSTILE, "..."])
def test_hostile_names(name: str) -> None:
    rule = f"'{name}' must consist of letters, digits, '.', '_' and '-'"
    for path in (f"{name}/1/model.onnx", f"m/{name}/model.onnx", f"{name}.onnx"):
        found, problems = summary([path])
        assert found == {}
        assert len(problems) == 1
        assert problems[0].endswith(f": {rule}")


@pytest.mark.parametrize("name", ["a", "A9", "1", ".hidden", "a..b", "-", "_", "a.onnx", "x" * 200])
def test_good_names(name: str) -> None:
    assert list(summary([f"{name}/{name}/model.onnx"])[0]) == [name]
    assert list(summary([f"{name}.onnx"])[0]) == [name]


@pytest.mark.parametrize(
    "path", ["/1/model.onnx", "//model.onnx", "m//model.onnx", "../../x/model.onnx", "m/../model.onnx"]
)
def test_hostile_paths(path: str) -> None:
    found, problems = summary([path])
    assert (found, len(problems)) == ({}, 1)


def test_files_know_their_identity() -> None:
    files = stored("m/config.json", "m/1/model.onnx", "m/1/w.bin")
    models, _ = scan(files)
    version = VersionFiles("m/1", "model.onnx", (files[1], files[2]))
    assert models == {"m": ModelFiles({"1": version}, files[0])}
    assert (version.onnx, version.paths) == (files[1], ["model.onnx", "w.bin"])


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1", "10", "9"], ["10", "9", "1"]),
        (["a", "1", "b", "0"], ["1", "0", "b", "a"]),
        (["1.10", "1.9", "2"], ["2", "1.9", "1.10"]),
        (["01", "1", "2"], ["2", "1", "01"]),
        (["0", "00", "-1"], ["00", "0", "-1"]),
        ([], []),
        (["9" * 5000, "1" + "0" * 5000, "8"], ["1" + "0" * 5000, "9" * 5000, "8"]),
    ],
)
def test_newest_first(versions: list[str], expected: list[str]) -> None:
    """Numbers by their value, before everything else."""
    assert newest_first(versions) == newest_first(reversed(versions)) == expected


@pytest.mark.fuzz
@given(st.sets(st.integers(0, 10**30).map(str)))
def test_newest_first_is_numeric(versions: set[str]) -> None:
    assert newest_first(versions) == [str(number) for number in sorted(map(int, versions), reverse=True)]


PARTS = st.sampled_from(["m", "1", "..", ".", "", "model.onnx", "config.json", "m.onnx", "stats", "é", "a\n", "x.data"])


@pytest.mark.fuzz
@given(st.lists(st.lists(PARTS | st.text(max_size=5), min_size=1, max_size=5).map("/".join), unique=True))
def test_any_paths(paths: list[str]) -> None:
    models, _ = scan(stored(*paths))
    for name, model in models.items():
        assert model.versions
        for version, files in model.versions.items():
            for text in (name, version):
                assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
                assert text.strip(".")
            assert files.model in files.paths
            assert {file.path for file in files.files} <= set(paths)


@pytest.mark.parametrize(
    ("paths", "name", "folder", "expected"),
    [
        (["1/model.onnx", "10/model.onnx", "10/w.bin", "config.json"], "", "iris", {"iris": ["1", "10"]}),
        (["1/model.onnx", "config.json"], "rose", "models", {"rose": ["1"]}),
        (["model.onnx", "weights.bin", "config.json"], "rose", "models", {"rose": ["1"]}),
        (["net.onnx", "README.md"], "rose", "models", {"rose": ["1"]}),
        (["net.onnx", "model.onnx"], "rose", "models", {"rose": ["1"]}),
        # Without a name it is the repository that it always was.
        (["model.onnx"], "", "iris", {"model": ["1"]}),
        (["a/1/model.onnx", "b.onnx"], "a", "iris", {"a": ["1"], "b": ["1"]}),
    ],
)
def test_a_models_own_folder(paths: list[str], name: str, folder: str, expected: dict[str, list[str]]) -> None:
    models, problems = scan(stored(*paths), name, folder)
    assert ({model: sorted(files.versions) for model, files in models.items()}, problems) == (expected, [])
    if "config.json" in paths:
        (files,) = models.values()
        assert files.config is not None
        assert files.config.path == "config.json"


def test_the_files_of_a_models_own_folder() -> None:
    models, _ = scan(stored("1/model.onnx", "1/w/a.bin", "2/model.onnx", "2.txt", "README.md"), "", "iris")
    found = {version: (v.folder, v.model, v.paths) for version, v in models["iris"].versions.items()}
    assert found == {"1": ("1", "model.onnx", ["model.onnx", "w/a.bin"]), "2": ("2", "model.onnx", ["model.onnx"])}
    models, _ = scan(stored("net.onnx", "weights.bin", "config.json"), "iris")
    found = {version: (v.folder, v.model, v.paths) for version, v in models["iris"].versions.items()}
    assert found == {"1": ("", "net.onnx", ["net.onnx", "weights.bin"])}


@pytest.mark.parametrize(
    ("paths", "name", "folder", "problems"),
    [
        (["a/1/model.onnx"], "rose", "iris", ["there is no model 'rose', as MODEL_NAME says"]),
        (["a.onnx", "b.onnx"], "rose", "iris", ["there is no model 'rose', as MODEL_NAME says"]),
        ([], "rose", "iris", ["there is no model 'rose', as MODEL_NAME says"]),
        (
            ["1/model.onnx"],
            "",
            "a b",
            ["'a b' must consist of letters, digits, '.', '_' and '-': name the model with --model-name or MODEL_NAME"],
        ),
        (
            ["1/model.onnx", "a.onnx"],
            "",
            "iris",
            [
                "1/model.onnx is a version without a model: move the folder 1 into one with the model's name, or serve "
                "the model's own folder by itself"
            ],
        ),
    ],
)
def test_what_is_no_models_own_folder(paths: list[str], name: str, folder: str, problems: list[str]) -> None:
    assert scan(stored(*paths), name, folder)[1] == problems


def test_a_model_without_a_version_folder_is_told_where_to_go() -> None:
    models, problems = scan([StoredFile("m/model.onnx", 1, "")])
    assert models == {}
    assert problems == ["m/model.onnx has no version folder: move it to m/1/model.onnx"]

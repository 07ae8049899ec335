"""People try models on the page: they type, paste, drop, draw and take pictures, and read what comes back."""

import json
import re
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import AXE, headline, predicted
from models_to_try import BOXES, EXAMPLES, LABELS
from PIL import Image, ImageDraw
from servers import Server, environment

Opened = Callable[..., Any]
PHONE = {"width": 375, "height": 667}


def example(model: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / model / "config.json").read_text())["example"]


def refused(page: Any) -> str:
    """The error after a click on Predict."""
    page.get_by_role("button", name="Predict", exact=True).click()
    return page.get_by_role("alert").inner_text()


def test_a_tile_for_each_model(opened: Opened, server: Server) -> None:
    page = opened()
    tiles = page.locator(".tiles > li")
    tiles.first.wait_for()
    names = [text.splitlines()[0] for text in tiles.all_inner_texts()]
    assert names == sorted({entry["name"] for entry in server.post("/v2/repository/index", {}).json})
    about = {text.splitlines()[0]: text for text in tiles.all_inner_texts()}
    assert "from the words it uses" in about["newsline"]
    assert "text → label, probabilities" in about["newsline"]
    page.get_by_role("link", name="newsline").click()
    assert page.get_by_role("heading", level=1).inner_text() == "newsline"
    page.go_back()
    page.get_by_role("heading", name="Models", level=1).wait_for()


def test_a_model_that_can_not_be_served_says_why(opened: Opened) -> None:
    page = opened("/#/broken")
    assert "broken" in page.get_by_role("alert").inner_text()
    page.get_by_role("link", name="All models").click()
    tile = page.locator(".tiles > li.broken")
    assert "is no ONNX model" in tile.inner_text() or "broken" in tile.inner_text()
    assert tile.get_by_role("link").count() == 0


@pytest.mark.parametrize("name", ["nothing", "%", "%3Cimg%20src=x%20onerror=alert(1)%3E", "..%2f..%2fhealth"])
def test_a_model_that_is_not_there(opened: Opened, name: str) -> None:
    page = opened(f"/#/{name}")
    assert re.match("unknown model|there is nothing", page.get_by_role("alert").inner_text())
    assert page.locator("main img").count() == 0


def test_text(opened: Opened) -> None:
    page = opened("/#/newsline")
    assert page.get_by_label("text").input_value() == example("newsline")["inputs"][0]["data"][0]
    page.get_by_label("text").fill("Shares fall after bank warns of losses")
    assert re.fullmatch(r"business \([\d.]+ %\)", predicted(page))
    bars = page.locator(".bars li").all_inner_texts()
    assert bars[0].splitlines()[0] == "business"
    assert {bar.splitlines()[0] for bar in bars} == {"business", "science", "sport", "weather"}


def test_numbers(opened: Opened) -> None:
    page = opened("/#/diabetes")
    assert predicted(page) == "progression 256.53"
    page.get_by_label("bmi").fill("24,0")
    assert refused(page) == "bmi: “24,0” is no number: write a point, not a comma."
    assert page.get_by_label("bmi").get_attribute("aria-invalid") == "true"
    assert page.evaluate("document.activeElement === document.querySelector('[aria-invalid=true]')")
    page.get_by_label("bmi").fill("24")
    assert predicted(page) != "progression 256.53"
    tries = page.locator(".tries button").all_inner_texts()
    assert len(tries) == 2
    assert "progression 256.53" in tries[1]
    page.locator(".tries button").nth(1).click()
    assert (headline(page), page.get_by_label("bmi").input_value()) == ("progression 256.53", "36.1")


def test_what_an_answer_took(opened: Opened) -> None:
    page = opened("/#/diabetes")
    predicted(page)
    said = page.locator(".headline + p").inner_text()
    found = re.fullmatch(
        r"([\d.]+) (ms|s), ([\d.]+) (bytes|kB) sent( in binary)?, \d+ bytes back, at most \$([\de.-]+)", said
    )
    assert found, said
    seconds = float(found[1]) / {"ms": 1000, "s": 1}[found[2]]
    # PRICE_REQUEST and PRICE_SECOND of conftest.
    assert float(found[6]) == pytest.approx(2e-7 + 0.0000133334 * seconds, rel=0.1)


def test_binary_where_that_is_smaller(opened: Opened) -> None:
    page = opened("/#/wide")
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    for value, is_binary in (("0.123456789", True), ("0", False)):
        page.get_by_label("x").fill(" ".join([value] * 400))
        predicted(page)
        request = sent.pop()
        assert ("inference-header-content-length" in request.headers) is is_binary
        numbers = page.locator("td").all_inner_texts()[1::2]
        assert numbers[:20] == ["0.12346" if is_binary else "0"] * 20


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"flag": "true", "count": "9007199254740993", "small": "255", "word": "Füße ☺"}, None),
        ({"small": "256"}, "small: 256 is not from 0 to 255, as UINT8 is."),
        ({"small": "1.0"}, "small: “1.0” is no whole number."),
        ({"count": ""}, "count: “” is no whole number."),
    ],
)
def test_every_kind_of_value(opened: Opened, typed: dict[str, str], expected: str | None) -> None:
    page = opened("/#/kinds")
    for name, value in typed.items():
        field = page.get_by_label(name)
        (field.select_option if name == "flag" else field.fill)(value)
    if expected:
        assert refused(page) == expected
        return
    predicted(page)
    values = dict(zip((f"{name}_out" for name in typed), page.locator(".value").all_inner_texts(), strict=True))
    assert values == {f"{name}_out": value for name, value in typed.items()}


def test_free_axes_are_nested_lists(opened: Opened) -> None:
    page = opened("/#/free")
    page.get_by_label("x").fill("1 2 3")
    assert "write nested lists" in refused(page)
    page.get_by_label("x").fill("[[1, 2], [3]]")
    assert refused(page) == "x: lists differ in length: [2] and [1]."
    page.get_by_label("x").fill("[[1, 2, 3], [4, 5, 6]]")
    predicted(page)
    assert page.locator(".outputs small").inner_text() == "FP32 [1, 2, 3]"


def test_names_of_values_are_fields(opened: Opened) -> None:
    page = opened("/#/names")
    for name, value in (("red", "1"), ("green", "2.5"), ("blue", "-3e-3")):
        page.get_by_label(name).fill(value)
    predicted(page)
    assert page.locator("td").all_inner_texts() == ["0", "1", "1", "2.5", "2", "-0.003"]


def test_tokens(opened: Opened) -> None:
    page = opened("/#/encoder")
    predicted(page)
    assert page.locator(".outputs small").first.inner_text() == "FP32 [1, 192]"
    shown = [float(text) for text in page.locator("td").all_inner_texts()[1:40:2]]
    assert shown == pytest.approx(example("encoder")["expect"]["embedding"][:20], abs=2e-4)


def test_another_version(opened: Opened) -> None:
    page = opened("/#/digits")
    page.get_by_role("link", name="1", exact=True).click()
    page.locator("strong", has_text="1").wait_for()
    page.get_by_role("button", name="Fill in the example").click()
    assert predicted(page).startswith("7 (")


def test_a_table(opened: Opened) -> None:
    page = opened("/#/diabetes")
    page.get_by_text("Many rows: a table").click()
    columns = [tensor["name"] for tensor in example("diabetes")["inputs"]]
    row = [str(tensor["data"][0]) for tensor in example("diabetes")["inputs"]]
    other = ["38", "1", "24.0", "87", "180", "109.0", "48", "4", "4.4", "77"]
    # In another order, with one column more, and cells in quotation marks.
    lines = [
        ";".join(["who", *columns[::-1]]),
        *(";".join([f'"a ""{i}"""', *cells[::-1]]) for i, cells in enumerate((row, other))),
    ]
    page.get_by_label("Rows as CSV").fill("\n".join(lines))
    page.get_by_role("button", name="Predict all rows").click()
    page.get_by_role("link", name="Save diabetes.csv").wait_for()
    assert page.locator("details.panel td:last-child").all_inner_texts() == ["256.53", "111.15"]
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save diabetes.csv").click()
    head, *rows = Path(saved.value.path()).read_text().splitlines()
    assert head.split(",") == [*columns, "progression"]
    assert [float(line.split(",")[-1]) for line in rows] == pytest.approx([256.5348, 111.15196], abs=1e-3)


@pytest.mark.parametrize(
    ("model", "path"), [("newsline", "/predict"), ("newsline/1", "/v2/models/newsline/versions/1/infer")]
)
def test_a_table_of_texts(opened: Opened, model: str, path: str) -> None:
    """/predict proves that the rows are apart; a version that is named gets them one by one."""
    page = opened(f"/#/{model}")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.get_by_text("Many rows: a table").click()
    page.get_by_label("Rows as CSV").fill('text\n"Shares fall, and fall"\nTeam wins the final\n')
    page.get_by_role("button", name="Predict all rows").click()
    page.get_by_text("2 rows in").wait_for()
    assert page.locator("details.panel td:nth-child(3)").all_inner_texts() == ["business", "sport"]
    assert {url.partition("127.0.0.1")[2].partition("/")[2] for url in sent} == {path[1:]}


def test_a_table_of_one_input_in_a_file(opened: Opened, tmp_path: Path) -> None:
    """1,201 rows, which are more than one request."""
    pixels = example("digits")["inputs"][0]["data"]
    path = tmp_path / "digits.csv"
    path.write_text("".join(",".join(map(str, pixels)) + "\n" for _ in range(1201)))
    page = opened("/#/digits")
    page.get_by_text("Many rows: a table").click()
    page.get_by_label("or a file").set_input_files(path)
    page.get_by_role("button", name="Predict all rows").click()
    page.get_by_text("1,201 rows in").wait_for()
    assert set(page.locator("details.panel td:nth-child(65)").all_inner_texts()) == {"7"}
    assert page.locator("details.panel tbody tr").count() == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Paste rows, or drop a file."),
        ("red,green\n1,2", "The columns blue are missing; there are red, green."),
        ("1,2", "The first line has 2 cells, but a row has 3: red, green, blue."),
        ("1,2,3\n1,2", "Row 2 has 2 cells, the first line 3."),
        ("red,green,blue\n1,2,x", "Row 1, blue: “x” is no number."),
        ("red,green,blue", "There are names of columns, but no rows."),
    ],
)
def test_a_table_that_does_not_fit(opened: Opened, text: str, expected: str) -> None:
    page = opened("/#/names")
    page.get_by_text("Many rows: a table").click()
    page.get_by_label("Rows as CSV").fill(text)
    page.get_by_role("button", name="Predict all rows").click()
    assert page.get_by_role("alert").inner_text() == expected


# Strokes on a board of 100 x 100.
STROKES = {
    "7": [[(15, 12), (85, 12), (40, 90)]],
    "0": [[(50 + 30 * np.sin(a), 50 - 40 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 24)]],
}


def draw(page: Any, digit: str) -> None:
    page.get_by_role("button", name="Draw").click()
    box = page.locator("canvas.board").bounding_box()
    for stroke in STROKES[digit]:
        (x, y), *others = [
            (box["x"] + px / 100 * box["width"], box["y"] + py / 100 * box["height"]) for px, py in stroke
        ]
        page.mouse.move(x, y)
        page.mouse.down()
        for place in others:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


@pytest.mark.parametrize("digit", STROKES)
@pytest.mark.parametrize("model", ["digits", "digits-conv"])
def test_a_digit_that_is_drawn_is_read(opened: Opened, model: str, digit: str) -> None:
    page = opened(f"/#/{model}")
    draw(page, digit)
    assert predicted(page).startswith(f"{digit} (")


def test_the_numbers_of_a_picture(opened: Opened) -> None:
    page = opened("/#/digits")
    page.get_by_role("radio", name="Numbers").check()
    assert page.get_by_role("button", name="Draw").count() == 0
    assert predicted(page).startswith("7 (")


def test_nothing_drawn_is_no_picture(opened: Opened) -> None:
    page = opened("/#/digits")
    assert refused(page) == "pixels: choose a picture, or draw one."
    page.get_by_role("button", name="Draw").click()
    assert refused(page) == "pixels: choose a picture, or draw one."


def test_the_camera_is_asked_for_by_a_click_only(opened: Opened) -> None:
    page = opened("/#/red-pad", permissions=["camera"])
    page.evaluate(
        """() => {
            const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            window.asked = 0;
            navigator.mediaDevices.getUserMedia = (wanted) => { window.asked += 1; return get(wanted); };
        }"""
    )
    assert page.evaluate("window.asked") == 0
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_alt_text("The picture to be sent").wait_for()
    assert page.evaluate("window.asked") == 1
    # The camera is off again.
    assert page.evaluate(
        "document.querySelector('video').srcObject.getTracks().every((track) => track.readyState === 'ended')"
    )
    predicted(page)


RED = (40, 20, 120, 80)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 x 120 pixels of grey, with a red rectangle."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    image = Image.new("RGB", (160, 120), (90, 90, 90))
    left, top, right, bottom = RED
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=(250, 20, 20))
    image.save(path)
    return path


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_boxes_are_drawn_over_the_picture(opened: Opened, photo: Path, resize: str) -> None:
    page = opened(f"/#/red-{resize}")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(photo)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("rect.box").wait_for(state="attached")
    assert page.locator(".headline").inner_text() == f"1 × {LABELS[1]}"  # noqa: RUF001
    rect = page.locator("rect.box")
    x, y, width, height = (float(rect.get_attribute(name)) for name in ("x", "y", "width", "height"))
    # A pixel of 64 is 2.5 of the picture's.
    assert (x, y, x + width, y + height) == pytest.approx(RED, abs=2.6)
    cells = page.locator("td").all_inner_texts()
    assert cells[:2] == [LABELS[1], "0.98"]
    page.get_by_label("Score at least").fill("0.99")
    assert page.locator("rect.box").count() == 0
    assert page.get_by_text("0 of 1 boxes").count() == 1


@pytest.mark.parametrize("form", BOXES)
def test_boxes_of_each_form(opened: Opened, photo: Path, form: str) -> None:
    page = opened(f"/#/boxes-{form}")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(photo)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("rect.box").wait_for(state="attached")
    rect = page.locator("rect.box")
    x, y, width, height = (float(rect.get_attribute(name)) for name in ("x", "y", "width", "height"))
    assert (x, y, x + width, y + height) == pytest.approx(RED, abs=0.1)
    named = LABELS[1] if form in ("xyxy", "by-class") else LABELS[0]
    assert page.locator("td").all_inner_texts()[:2] == [named, "0.9"]


def test_a_picture_is_dropped(opened: Opened, photo: Path) -> None:
    page = opened("/#/red-pad")
    drop(page, ".drop", photo)
    assert predicted(page)
    page.locator("rect.box").wait_for(state="attached")


def test_a_picture_of_the_last_tries(opened: Opened, photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 30), (255, 0, 0)).save(tmp_path / "second.png")
    page = opened("/#/red-pad")
    for path in (photo, tmp_path / "second.png"):
        page.get_by_label("A picture, dropped here or chosen").set_input_files(path)
        predicted(page)
        page.get_by_role("status").get_by_text(path.name).wait_for()
    page.locator(".tries button").nth(1).click()
    page.get_by_role("status").get_by_text("photo.png").wait_for()
    assert float(page.locator("rect.box").get_attribute("x")) == pytest.approx(RED[0], abs=2.6)


def drop(page: Any, selector: str, path: Path) -> None:
    """Drops a file as a hand would, as far as a page can tell."""
    page.locator(selector).first.wait_for()
    page.evaluate(
        """([selector, bytes, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: data, bubbles: true });
            document.querySelector(selector).dispatchEvent(event);
        }""",
        [selector, list(path.read_bytes()), path.name],
    )


def test_a_picture_beside_other_values(opened: Opened, photo: Path) -> None:
    page = opened("/#/mixed")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(photo)
    page.get_by_label("k number").fill("7.5")
    predicted(page)
    assert page.locator(".value").inner_text() == "7.5"


def test_what_is_no_picture(opened: Opened, tmp_path: Path) -> None:
    page = opened("/#/red-pad")
    (tmp_path / "text.gif").write_text("no picture")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(tmp_path / "text.gif")
    page.get_by_text("This is no picture that the browser can read.").wait_for()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(tmp_path / "broken.png")
    assert "broken PNG" in refused(page)


def lines(page: Any) -> dict[str, str]:
    """The code for what was sent, by its heading."""
    blocks = page.locator("pre")
    return {
        blocks.nth(i).get_attribute("aria-label").removeprefix("Lines for "): blocks.nth(i).text_content()
        for i in range(blocks.count())
    }


def run(command: list[str], cwd: Path) -> str:
    env = environment({"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize(("model", "expected"), [("diabetes", "256.5"), ("newsline", "weather"), ("kinds", "word")])
def test_the_lines_send_the_same(opened: Opened, tmp_path: Path, model: str, expected: str) -> None:
    page = opened(f"/#/{model}")
    if model == "kinds":
        page.get_by_label("flag").select_option("true")
        page.get_by_label("word").fill("a 'word' and \"another\"")
        expected = "'word"
    predicted(page)
    found = lines(page)
    assert expected in run(["sh", "-c", found["curl"]], tmp_path)
    assert expected in run([sys.executable, "-c", found["Python"]], tmp_path)
    assert expected in run([sys.executable, "-c", found["tritonclient"]], tmp_path)


def test_the_lines_for_a_picture(opened: Opened, photo: Path) -> None:
    page = opened("/#/red-pad")
    page.get_by_label("A picture, dropped here or chosen").set_input_files(photo)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("pre").first.wait_for(state="attached")
    found = lines(page)
    assert '"classes":1' in run(["sh", "-c", found["curl"]], photo.parent)
    assert "'classes': 1" in run([sys.executable, "-c", found["Python"]], photo.parent)


def test_sound_is_resampled(opened: Opened, tmp_path: Path) -> None:
    """A tone of 400 Hz for half a second, at 8,000 samples per second, for a model that takes 16,000."""
    path = tmp_path / "tone.wav"
    wave_of = np.sin(2 * np.pi * 400 * np.arange(4000) / 8000) * 0.5
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((wave_of * 32767).astype("<i2").tobytes())
    page = opened("/#/loudness")
    assert refused(page) == "wave: choose a file, or record a sound."
    page.get_by_label("A file, dropped here or chosen").set_input_files(path)
    page.get_by_text("0.5 seconds, 8,000 samples").wait_for()
    predicted(page)
    values = dict(zip(("loudest", "count"), page.locator(".value").all_inner_texts(), strict=True))
    assert float(values["loudest"]) == pytest.approx(0.5, abs=0.02)
    assert values["count"] == "8000"


def test_statistics(opened: Opened) -> None:
    page = opened("/#/diabetes")
    predicted(page)
    page.get_by_text("Statistics").click()
    page.get_by_role("img", name="Where the time goes").wait_for()
    assert re.search(r"\d+ requests? answered", page.locator("details.panel", has_text="Statistics").inner_text())


def test_by_the_keyboard_alone(opened: Opened) -> None:
    page = opened()
    page.locator(".tiles a").first.wait_for()
    page.keyboard.press("Tab")
    for _ in range(40):
        if page.evaluate("document.activeElement.textContent") == "newsline":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="newsline", level=1).wait_for()
    for _ in range(20):
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("Team wins the final")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert headline(page).startswith("sport (")


SCREENS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
}


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(opened: Opened, photo: Path, screen: str) -> None:
    """Of the tiles, of forms of each kind, and of answers of each kind."""
    page = opened(**SCREENS[screen])
    for model in ("", "newsline", "diabetes", "digits", "kinds", "names", "encoder", "red-pad", "broken"):
        page.goto(f"{page.url.partition('#')[0]}#/{model}")
        page.get_by_role("heading", level=1, name=model or "Models", exact=True).wait_for()
        if model and model not in ("broken", "digits"):
            if model == "red-pad":
                page.get_by_label("A picture, dropped here or chosen").set_input_files(photo)
            page.get_by_role("button", name="Predict", exact=True).click()
            page.locator(".headline").wait_for()
        for summary in page.locator("summary").all():
            summary.click()
        if model == "digits":
            draw(page, "7")
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        problems = [(item["id"], [node["html"][:120] for node in item["nodes"]]) for item in found["violations"]]
        assert problems == [], model
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), model

"""The pages as a site: all are in it, their links hold, and it is read without the network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, which is not built with a page in no list, or a link to a heading that is not there."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", str(DOCS), str(folder), "-d", str(folder / ".doctrees")]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in DOCS.glob("*.md"):
        (title,) = re.findall(r"\A# (.*)", page.read_text())
        assert f">{title}<a" in (site / f"{page.stem}.html").read_text(), page.name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = r'<(?:script|img|link|iframe)[^>]*(?:src|href)="((?:https?:)?//[^"]*)"|@import|url\((?!["\']?data:)[^)]*//'
    for page in (*site.glob("*.html"), *site.glob("_static/**/*.css")):
        assert re.findall(loaded, page.read_text()) == [], page

"""The pages themselves: their links, their length, the files that they name."""

import re
from pathlib import Path

import pandas as pd

from tests.helpers.written import ROOT

ALL = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.md"),
        *ROOT.glob("studies/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_what_a_page_links_to_exists() -> None:
    for page in ALL:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, part = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page}: {link}"
            assert not part or there.suffix != ".md" or part in anchors(there), f"{page}: {link}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_every_csv_file_is_linked() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("studies/*.md"))
    for file in (ROOT / "studies/results").rglob("*.csv"):
        assert f"]({file.relative_to(ROOT / 'studies').as_posix()})" in pages


def test_every_speed_up_has_a_file_with_its_rows_or_the_commit_that_has_it() -> None:
    for source in pd.read_csv(ROOT / "studies/speedups.csv")["source"]:
        name, _, commit = source.partition(" at commit ")
        assert commit or (ROOT / "studies" / name).is_file()

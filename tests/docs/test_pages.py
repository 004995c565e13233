"""The pages themselves: their links, their length, their tables."""

import re
from pathlib import Path

import pytest

from studies import pages, summary
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


def test_the_results_are_those_of_the_rows() -> None:
    earlier = (summary.minilm, summary.mean_drops, summary.others, summary.baselines)
    for page, tables in {"studies": earlier, "docs": (summary.compressed,)}.items():
        text = (ROOT / page / "results.md").read_text(encoding="utf-8")
        for table in tables:
            assert "\n".join(summary.lines(table())) in text


def test_the_tables_are_those_of_the_csv_files() -> None:
    for page in ALL:
        text = page.read_text(encoding="utf-8")
        assert pages.rendered(page) == text
        assert text.count("<!-- table: ") == len(pages.TABLE.findall(text))


def test_every_csv_file_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("studies/*.md"))
    for file in (ROOT / "studies/results").rglob("*.csv"):
        at = file.relative_to(ROOT / "studies").as_posix()
        assert f"<!-- table: {at} " in shown or f"]({at})" in shown


def test_a_table_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("task,ratio,score,std\nrte,0.5,50,\nsst2,0.7,84.25,0.5\n")
    mark = "<!-- table: a.csv where ratio > 0.4 | task | score = {score:.1f} ± {std:.1f} -->"
    page = tmp_path / "page.md"
    page.write_text(f"above\n{mark}\nold\n<!-- /table -->\nbelow\n")
    assert pages.main([str(page)]) == 0
    assert page.read_text().splitlines() == [
        *("above", mark, ""),
        *("| task | score |", "| --- | --- |", "| rte | - |", "| sst2 | 84.2 ± 0.5 |"),
        *("", "<!-- /table -->", "below"),
    ]
    (tmp_path / "a.csv").unlink()
    with pytest.raises(SystemExit, match=r"page\.md: .*a\.csv"):
        pages.main([str(page)])

"""The site that `make docs` builds from the pages of this repository and from the docstrings.

The source folder is the root of the repository: README.md is the first page, every page stays where
it is, and a link between pages is the same on GitHub and here.
"""

import os
import shutil
import textwrap
from pathlib import Path

from sphinx.application import Sphinx

from skip_exp import __version__
from skip_exp.config.checks import keys
from skip_exp.config.schema import Config

project = "skip_exp"
author = "skip_exp maintainers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
root_doc = "README"
WEIGHTS = "src/skip_exp/weights"
include_patterns = [
    "*.md",
    "docs/**",
    "studies/*.md",
    f"{WEIGHTS}/**",
]
exclude_patterns = [".*", "build", "dist", "outputs", "tests", "docs/api/modules.rst"]
# What the side bar shows, in this order. A page that is in none of them is an error.
PAGES = {
    "Use": ["docs/rows", "docs/sweeps", "docs/serving", "docs/results", "docs/api/keys"],
    "Change": ["docs/extending", "docs/design", "CONTRIBUTING", "CHANGELOG"],
    "Evidence": [
        "studies/README",
        "studies/anatomy",
        "studies/speed",
        "studies/cuts",
        "studies/depth",
        "studies/few",
    ],
    "Reference": [
        "docs/api/skip_exp",
        *(f"{WEIGHTS}/{name}" for name in ("minilm", "roberta_mini/README", "t5_mini/README")),
        f"{WEIGHTS}/skills/nli-minilm/README",
    ],
}

highlight_language = "none"  # a block names its language
myst_heading_anchors = 3
apidoc_modules = [{"path": "../src/skip_exp", "destination": "docs/api", "module_first": True}]
# Its key for this, apidoc_automodule_options, does not reach the pages of packages.
os.environ["SPHINX_APIDOC_OPTIONS"] = "members"
autodoc_inherit_docstrings = False  # Lightning's speak of Lightning's pages
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"skip_exp {release}"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def _side_bar(app: Sphinx, page: str, source: list[str]) -> None:
    """The tables of contents, in no page of the repository: GitHub would show them as code."""
    if page == root_doc:
        for caption, names in PAGES.items():
            lines = ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""]
            source[0] += "\n".join(lines)


def _first_page(app: Sphinx, error: Exception | None) -> None:
    """A server looks for index.html."""
    built = Path(app.outdir) / f"{root_doc}.html"
    if error is None and built.exists():
        shutil.copy(built, built.with_name("index.html"))


def keys_page() -> str:
    """docs/api/keys.md: a table of keys for each group."""
    lines = ["# Configuration keys", "", "Set a key as `key=value`. This page is generated."]
    recipes = "[recipes](../sweeps.md#recipes)"
    lines += ["", f"The defaults are the recipe `skip`; {recipes} hold the others."]
    lines += ["", "| key | default | what it sets |", "|---|---|---|"]
    every = {each.name: each for each in keys(Config)}
    single = [each for each in every.values() if not each.is_group and "." not in each.name]
    rows = {each.name: (each.default, each.sentence) for each in every.values()}
    retune = [name for name in rows if name.startswith("retune.")]
    same = [name for name in retune if rows.get(name.removeprefix("re")) == rows[name]]
    for each in [*single, *(each for each in every.values() if each not in single)]:
        if each.is_group:
            lines += ["", f"## {each.name}", "", each.sentence]
            if each.name == "retune":
                listed = ", ".join(f"`{name}`" for name in same)
                lines += ["", textwrap.fill(f"These keys are as in `tune`: {listed}.", 100)]
            lines += ["", "| key | default | what it sets |", "|---|---|---|"]
        elif each.name not in same:
            lines.append(f"| `{each.name}` | `{as_written(each.default)}` | {each.sentence} |")
    return "\n".join(lines) + "\n"


def as_written(default: object) -> str:
    """A default as it would be written on the command line."""
    match default:
        case "???":
            return "required"
        case None:
            return "null"
        case bool():
            return str(default).lower()
        case list():
            return f"[{','.join(map(str, default))}]"
        case _:
            return str(default)


def setup(app: Sphinx) -> None:
    page = Path(__file__).with_name("api") / "keys.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(keys_page(), encoding="utf-8")
    app.connect("source-read", _side_bar)
    app.connect("build-finished", _first_page)

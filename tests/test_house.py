"""The house: imports run downward only, no circles, ten files at the top."""

import ast
import io
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skip_exp

PACKAGE = Path(skip_exp.__file__).parent
# From the ground up: a room imports from those before it, and from itself.
ROOMS = (
    *("errors", "utils", "outcomes", "config", "cache", "results", "data", "models", "backbones"),
    *("attribution", "pruning", "callbacks", "training", "logger", "skill", "forms", "phases"),
    *("pipeline", "report", "within", "api", "sweep", "commands", "__main__"),
)


def modules() -> dict[str, Path]:
    """Every module of the package, the package's own ``__init__`` left out, by dotted name."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            names[name] = path
    return names


MODULES = modules()


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Modules of the package that a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert path.parent == PACKAGE / "models", f"{path}:{node.lineno}: a relative import"
            yield f"models.{node.module}", node
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] != "skip_exp":
                continue
            # An export carries these files, and the package may not be there.
            assert path.parent != PACKAGE / "models", f"{path}:{node.lineno}: not relative"
            base = (node.module or "").removeprefix("skip_exp").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                yield (inner if inner in MODULES else base), node


GRAPH = {name: {target for target, _ in imports(path) if target} for name, path in MODULES.items()}


def test_every_room_is_known() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(ROOMS)


def test_no_import_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downward(room: str) -> None:
    below = set(ROOMS[: ROOMS.index(room) + 1])
    for name in MODULES:
        if name.partition(".")[0] == room:
            upward = {target for target in GRAPH[name] if target.partition(".")[0] not in below}
            assert not upward, f"{name} imports from above: {sorted(upward)}"


def test_ten_files_at_the_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_packages_re_export_nothing() -> None:
    """Else importing one module would import its whole package, and its code version hold it."""
    for path in PACKAGE.glob("*/**/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), path


LAYOUT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def find_docstrings(tree: ast.Module) -> set[int]:
    """The lines where docstrings start."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            lines.add(node.body[0].lineno)
    return lines


def count_tokens(source: str) -> int:
    """Tokens of a file, without comments, docstrings and layout."""
    docstrings = find_docstrings(ast.parse(source))
    count = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and token.start[0] in docstrings
        count += token.type not in LAYOUT and not is_docstring
    return count


def count_statements(source: str) -> int:
    """Statements of a file, without docstrings."""
    tree = ast.parse(source)
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(tree))
    return statements - len(find_docstrings(tree))


def test_tokens_and_statements_are_those_of_code() -> None:
    source = '"""A page."""\n# why\nvalue = f(1)\n\ndef g():\n    "Does."\n    return value\n'
    assert count_tokens(source) == 6 + 5 + 2 and count_statements(source) == 3


NO_NOUNS = {
    *("each", "found", "place", "kept", "given", "own", "made", "told"),
    *("why", "what", "more", "every"),
}


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Every name that a file binds: variables, loop variables, parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if isinstance(node, ast.arg):
            yield node.arg


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_values_have_names_of_the_field(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = {"kept"} if path.name == "modeling_skip.py" else set()  # a key of config.json
    assert not NO_NOUNS.intersection(bound_names(tree)) - allowed


def is_dense(node: ast.AST) -> str:
    """The kind of a dense form: comprehension, tuple assignment, star; "" for others."""
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return "comprehensions"
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        return "tuples" if isinstance(node.targets[0], ast.Tuple) else ""
    if isinstance(node, ast.Starred) or (isinstance(node, ast.keyword) and node.arg is None):
        return "stars"
    return "stars" if isinstance(node, ast.Dict) and None in node.keys else ""


def test_code_is_not_dense() -> None:
    """Per 100 statements, at most: 4 comprehensions, 1 tuple assignment, 1.5 star unpackings."""
    counts = Counter[str]()
    statements = 0
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        statements += count_statements(source)
        counts.update(map(is_dense, ast.walk(ast.parse(source))))
    limits = {"comprehensions": 4, "tuples": 1, "stars": 1.5}
    assert all(100 * counts[kind] / statements <= limit for kind, limit in limits.items()), counts


def test_the_house_keeps_its_budget() -> None:
    """What grows makes room for itself: the numbers in pyproject.toml are only ever lowered."""
    root = PACKAGE.parents[1]
    budget = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["skip_exp"]["budget"]
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "CHANGELOG.md"]
    for folder in ("docs", "studies"):
        pages += (root / folder).glob("*.md")
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    assert sum(map(count_tokens, sources)) <= budget["tokens"]
    assert sum(map(count_statements, sources)) <= budget["statements"]
    words = 0
    for page in pages:
        words += count_words(page.read_text(encoding="utf-8"))
    assert words <= budget["words"]


def count_words(page: str) -> int:
    """Of what stands between spaces, what has a letter or a digit: no bars of tables.

    Example:
        >>> count_words("| a-b | -0.1 |")
        2
    """
    return sum(any(map(str.isalnum, word)) for word in page.split())

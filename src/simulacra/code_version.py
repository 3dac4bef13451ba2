"""Which code a result depends on: every definition of the package that a function reaches by name, as one hash."""

import ast
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT.name
PARSING = Lock()

WHOLE = "*"
"""Stands for all of a module, where it is not known which of its names are used."""

ON_IMPORT = ""
"""Stands for those statements of a module that define nothing, such as a call."""

STOPS = {
    (f"{PACKAGE}.models", "FAMILIES"),
    (f"{PACKAGE}.incremental", "skippable"),
    (f"{PACKAGE}.code_version", "code_version"),
}
"""Not followed: one more family changes none of the others, and running a node or not does not change its result, nor
does the version that a checkpoint notes."""

Unit = tuple[str, str]
"""A module, and one name that it defines."""


class Module(NamedTuple):
    """One parsed file: the statements that define each name, and what each import's name stands for."""

    statements: dict[str, list[ast.stmt]]
    imports: dict[str, Unit]


def code_version(function: Callable[..., Any], families: frozenset[str] = frozenset()) -> str:
    """Return the sha256 of a function and of all that it reaches; comments, layout and docstrings do not count.

    Args:
        function: of this package, defined at the top of its module.
        families: those that it loads by name while it runs.
    """
    return _version(function.__module__, function.__qualname__, families)


@cache
def _version(module: str, name: str, families: frozenset[str]) -> str:
    units = _reach([(module, name), *((f"{PACKAGE}.models.{family}", WHOLE) for family in families)])
    digest = hashlib.sha256()
    for unit in sorted(units):
        digest.update(json.dumps([*unit, _text(unit)]).encode())
    for path in sorted({path for module, _ in units for path in _data_files(module)}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _reach(start: list[Unit]) -> set[Unit]:
    """Return the units that these lead to, with themselves."""
    found: set[Unit] = set()
    waiting = list(start)
    while waiting:
        unit = waiting.pop()
        if unit not in found and unit not in STOPS and _parse(unit[0]) is not None:
            found.add(unit)
            waiting += _uses(unit)
    return found


@cache
def _uses(unit: Unit) -> list[Unit]:
    """Return the units that one unit names."""
    module, name = unit
    statements, imports = _parse(module) or Module({}, {})
    if name == WHOLE:
        return [*((module, each) for each in statements), *imports.values()]
    used = [(module, ON_IMPORT), *([imports[name]] if name in imports else [])]
    for node in (node for statement in statements.get(name, []) for node in ast.walk(statement)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            used += _imported(node, module).values()
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used += [(module, node.id)] if node.id in statements else []
            used += [imports[node.id]] if node.id in imports else []
    return used


@cache
def _text(unit: Unit) -> str:
    """Return what one unit says, whatever its layout."""
    module = _parse(unit[0])
    return "\n".join(ast.dump(statement) for statement in module.statements.get(unit[1], [])) if module else ""


@cache
def _parse(name: str) -> Module | None:
    """Return one module of the package; None for what is none of its files."""
    path = _path(name)
    if path is None:
        return None
    module = Module({}, {})
    # Python 3.11 counts how deep it is in a tree for all threads together, and stumbles where two parse at once.
    with PARSING:
        tree = _Bare().visit(ast.parse(path.read_text(encoding="utf-8")))
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(statement, name))
        else:
            for bound in set(_bound(statement)) or {ON_IMPORT}:
                module.statements.setdefault(bound, []).append(statement)
    return module


class _Bare(ast.NodeTransformer):
    """Takes away docstrings; imports for the type checker stay, since a node's inputs are known by their types."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Drop a constant that stands alone."""
        return None if isinstance(node.value, ast.Constant) else node

    def visit_If(self, node: ast.If) -> Any:
        """Keep both branches of `if TYPE_CHECKING`, side by side."""
        self.generic_visit(node)
        only_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return [*node.body, *node.orelse] if only_types else node


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


def _imported(statement: ast.Import | ast.ImportFrom, where: str) -> dict[str, Unit]:
    """Return what the names of an import stand for, as far as they come from this package."""
    if isinstance(statement, ast.Import):
        found = {(alias.asname or alias.name): (alias.name, WHOLE) for alias in statement.names}
    else:
        base = _base(statement, where)
        found = {(alias.asname or alias.name): _target(base, alias.name) for alias in statement.names}
    return {name: unit for name, unit in found.items() if unit[0].split(".")[0] == PACKAGE}


def _base(statement: ast.ImportFrom, where: str) -> str:
    """Return the module that names are imported from."""
    if not statement.level:
        return statement.module or ""
    path = _path(where)
    package = where.split(".") if path and path.name == "__init__.py" else where.split(".")[:-1]
    return ".".join([*package[: len(package) + 1 - statement.level], *filter(None, [statement.module])])


def _target(base: str, name: str) -> Unit:
    """Return what `from base import name` brings: a module, or a name of one."""
    return (f"{base}.{name}", WHOLE) if _path(f"{base}.{name}") else (base, name)


@cache
def _path(name: str) -> Path | None:
    """Return the file of a module of this package."""
    package, *parts = name.split(".")
    place = ROOT.joinpath(*parts)
    candidates = [place / "__init__.py", place.with_name(f"{place.name}.py")] if package == PACKAGE else []
    return next((path for path in candidates if path.is_file()), None)


@cache
def _data_files(module: str) -> list[Path]:
    """Return what lies in folders beside a module that hold no Python, such as its templates."""
    path = _path(module)
    found = path.parent.glob("*/*") if path else []
    return [file for file in found if file.is_file() and not any(file.parent.glob("*.py*"))]

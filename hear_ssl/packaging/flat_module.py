"""Merge a package into one Python file: the definitions that an entry file needs, in an order in which they can run.

Loaders that copy a single file, such as that of transformers, cannot follow subpackages. Definitions keep their source text; unused
definitions and imports between the files are left out. Nothing is executed: the sources are only parsed.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

Import = ast.Import | ast.ImportFrom
Place = tuple[str, str]  # a module, and a name that it defines


@dataclass
class Module:
    """A file: its lines, its top-level definitions by name, and the origins of the names that it imports."""

    lines: list[str]
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    own: dict[str, Place] = field(default_factory=dict)  # names from other modules of the package
    others: dict[str, tuple[str, str]] = field(default_factory=dict)  # names from elsewhere: the module, and the name there or ''


class Package:
    """The sources of a package, and of an entry file that imports from it by the package's name."""

    def __init__(self, name: str, sources: Mapping[str, str], entry: str) -> None:
        """Parse `sources`, by their path in the package, and the entry file."""
        self.name = name
        self.modules: dict[str, Module] = {}
        for path, source in sources.items():
            place = PurePosixPath(path).with_suffix("")
            inner = place.parts[:-1] if place.name == "__init__" else place.parts
            self.modules[".".join([name, *inner])] = self.parsed(source, ".".join([name, *place.parts[:-1]]))
        self.modules[""] = self.parsed(entry, "")

    def parsed(self, source: str, parent: str) -> Module:
        """Return a file's definitions and imports; `parent` is the package to which its relative imports refer."""
        tree, module = ast.parse(source), Module(source.splitlines())
        for node in top_level(tree):
            if isinstance(node, ast.ImportFrom):
                base = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
                source_module = ".".join([*base, *([node.module] if node.module else [])])
                inside = source_module == self.name or source_module.startswith(f"{self.name}.")
                for alias in node.names:
                    if inside:
                        module.own[alias.asname or alias.name] = (source_module, alias.name)
                    else:
                        module.others[alias.asname or alias.name] = (source_module, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    module.others[alias.asname or alias.name] = (alias.name, "")
            else:
                module.definitions.update(dict.fromkeys(bound_names(node), node))
        return module

    def origin(self, place: Place) -> Place | None:
        """Return where a name is defined, following imports within the package; None if it is from another package or unknown."""
        module, name = place
        known = self.modules.get(module)
        if known is None:
            return None
        if name in known.definitions:
            return place
        return self.origin(known.own[name]) if name in known.own else None

    def needed(self, roots: list[Place]) -> list[Place]:
        """Return every definition to which the roots refer, including the roots; definitions of imported modules come first.

        Raises ValueError when an imported name is not defined in any file.
        """
        ordered: dict[str, None] = {}
        found: set[Place] = set()

        def visit(place: Place) -> None:
            origin = self.origin(place)
            if origin is None:
                raise ValueError(f"{place[0]} has no {place[1]}; package the model again")
            if origin in found:
                return
            found.add(origin)
            module, name = self.modules[origin[0]], origin[1]
            for used in used_names(module.definitions[name]):
                if used in module.definitions:
                    visit((origin[0], used))
                elif used in module.own:
                    visit(module.own[used])

        def order(module: str) -> None:
            for source, name in self.modules[module].own.values():
                origin = self.origin((source, name))
                if origin is not None and origin[0] != module and origin[0] not in ordered and any(one[0] == origin[0] for one in found):
                    order(origin[0])
            ordered.setdefault(module)

        for root in roots:
            visit(root)
        for module, _ in [*sorted(found)]:
            if module not in ordered:
                order(module)
        return [(module, name) for module in ordered for name in self.modules[module].definitions if (module, name) in found]

    def text(self, place: Place) -> str:
        """Return the source of a definition with its decorators and the comments directly before it."""
        module = self.modules[place[0]]
        node = module.definitions[place[1]]
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]) - 1
        while first and module.lines[first - 1].startswith("#"):
            first -= 1
        return "\n".join(module.lines[first : node.end_lineno])


def flat_source(package: Package, extra: list[Place], head: str, tail: str) -> str:
    """Return one file with the definitions of a package's entry file and the `extra` names, between `head` and `tail`.

    Raises ValueError when two files define the same name, or a definition has the name of an import or a builtin.
    """
    roots = [("", name) for name in package.modules[""].definitions]
    places = package.needed([*extra, *roots])
    others: dict[str, tuple[str, str]] = {}
    for module, name in places:
        known = package.modules[module]
        for used in sorted(used_names(known.definitions[name])):
            origin = known.others.get(used)
            if origin and origin[0] != "__future__" and others.setdefault(used, origin) != origin:
                raise ValueError(f"two files import different things as {used}; package the model again")
    taken: dict[str, str] = dict.fromkeys(others, "an import") | dict.fromkeys(dir(builtins), "a builtin")
    for module, name in places:
        if name in taken:
            raise ValueError(f"{module or 'the entry file'} defines {name}, which is also {taken[name]}; package the model again")
        taken[name] = f"defined in {module}"
    pieces: dict[tuple[str, int], str] = {}  # a statement that binds several names once
    for module, name in places:
        pieces.setdefault((module, package.modules[module].definitions[name].lineno), package.text((module, name)))
    body = "\n\n\n".join([*pieces.values(), *([tail] if tail else [])])
    return f"{head}\nfrom __future__ import annotations\n\n{import_lines(others)}\n\n\n{body}\n"


def import_lines(names: Mapping[str, tuple[str, str]]) -> str:
    """Return the sorted import statements for names, each given with its module and its name there, '' for a module."""
    whole = sorted(module if name == module else f"{module} as {name}" for name, (module, there) in names.items() if not there)
    parts: dict[str, list[str]] = {}
    for name, (module, there) in sorted(names.items()):
        if there:
            parts.setdefault(module, []).append(there if name == there else f"{there} as {name}")
    return "\n".join(
        [*(f"import {one}" for one in whole), *(f"from {module} import {', '.join(parts[module])}" for module in sorted(parts))]
    )


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield a file's statements, including those under TYPE_CHECKING, where an __init__ with lazy imports lists its modules."""
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from node.body
        else:
            yield node


def bound_names(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


def used_names(node: ast.AST) -> set[str]:
    """Return the names to which a statement refers, also in annotations, which dataclasses evaluate."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def with_flat_imports(source: str, package: str, module: str) -> tuple[str, list[Place]]:
    """Return a file in which imports of `package` are imports of the sibling `module`, and the names imported in this way."""
    lines, places = source.splitlines(), []
    for node in sorted(ast.walk(ast.parse(source)), key=lambda node: getattr(node, "lineno", 0), reverse=True):
        if isinstance(node, ast.ImportFrom) and not node.level and f"{node.module}.".startswith(f"{package}."):
            names = ", ".join(alias.name + (f" as {alias.asname}" if alias.asname else "") for alias in node.names)
            places += [(str(node.module), alias.name) for alias in node.names]
            assert node.end_lineno is not None
            rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            line = lines[node.lineno - 1].encode()[: node.col_offset].decode()
            lines[node.lineno - 1 : node.end_lineno] = [f"{line}from .{module} import {names}{rest}"]
    return "\n".join(lines) + "\n", places

"""A user's classes in a wheel: their files, and the oldest Python that can run them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vermin

from hear_ssl.model.embedder_config import EmbedderConfig
from hear_ssl.part_files import is_reference
from hear_ssl.part_imports import check_imports, with_own_package

OLDEST = (3, 8)  # the oldest Python for hear_ssl.model
FOLDER = "own"


@dataclass(frozen=True)
class OwnPart:
    """A user's class: its name, its module in the wheel, its file at the time of training, and the required Python."""

    name: str
    module: str
    source: bytes
    python: tuple[int, int]

    def record(self) -> dict[str, str]:
        """Return its record for the manifest."""
        return {"module": self.module, "sha256": hashlib.sha256(self.source).hexdigest()}


def own_parts(config: EmbedderConfig) -> list[OwnPart]:
    """Return the user's classes of an embedder.

    Raises ValueError when one has imports that a wheel does not allow or needs a Python that does not exist, or two have the same name.
    """
    parts: dict[str, OwnPart] = {}
    for part in config.own():
        if not is_reference(part.key):
            continue
        path = Path(part.key.rpartition(":")[0])
        source = path.read_bytes()
        check_imports(path, source)
        module = path.stem if path.stem.isidentifier() else part.name.lower()
        own = OwnPart(part.name, module, source, oldest_python(path, source))
        taken = next((other for other in parts.values() if other.module == module or other.name == own.name), own)
        if (taken.name, taken.source) != (own.name, own.source) and taken.source != own.source:
            raise ValueError(f"two files would have the name {module}.py in the wheel, those of {taken.name} and {own.name}; rename one")
        parts[own.name] = own
    return list(parts.values())


def part_files(parts: list[OwnPart], package: str) -> dict[str, bytes]:
    """Return the files of a wheel for a user's classes by their paths in it."""
    if not parts:
        return {}
    files = {f"{package}/{FOLDER}/{part.module}.py": with_own_package(part.source, package) for part in parts}
    return {f"{package}/{FOLDER}/__init__.py": b'"""The user\'s own classes of this model."""\n', **files}


def required_python(parts: Sequence[OwnPart]) -> str:
    """Return the Requires-Python of a wheel with these classes."""
    return ">={}.{}".format(*max([OLDEST, *(part.python for part in parts)]))


def oldest_python(path: Path, source: bytes) -> tuple[int, int]:
    """Return the oldest Python that runs a file, judged by its syntax and its use of the standard library, but at least OLDEST.

    Annotations count only if they are evaluated; those of options always are. Raises ValueError when no Python runs it.
    """
    text = source.decode("utf-8-sig")
    tree = ast.parse(text)
    deferred = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in ast.walk(tree))
    options = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Options"]
    evaluated = ast.unparse(WithoutAnnotations().visit(tree)) if deferred else text
    needed = [_minimum(text, path, False), *(_minimum(code, path, True) for code in (evaluated, *options))]
    return max([OLDEST, *needed])


class WithoutAnnotations(ast.NodeTransformer):
    """Remove the annotations of a file with `from __future__ import annotations`, which are never evaluated."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Remove the annotation of an argument."""
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Remove the return annotation of a function."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Remove the annotation of a variable."""
        return ast.copy_location(ast.Assign([node.target], node.value), node) if node.value else ast.copy_location(ast.Pass(), node)


def _minimum(text: str, path: Path, annotations: bool) -> tuple[int, int]:
    config = vermin.Config()
    config.set_eval_annotations(annotations)
    if annotations:
        config.enable_feature("union-types")
    found: Any = vermin.visit(text, config).minimum_versions()
    version = found[1] if len(found) > 1 else None
    if version is None:
        raise ValueError(f"{path} is Python 2, or needs parts of Python that were never in one version; a wheel needs Python 3.8 or newer")
    return (int(version[0]), int(version[1])) if version != (0, 0) else OLDEST

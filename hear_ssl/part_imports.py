"""Check and rewrite the imports of a user's file that ships in a wheel: only torch, the standard library and hear_ssl.model.

In the wheel, hear_ssl.model is the wheel's own package, so imports of it are rewritten to that package.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MODEL = "hear_ssl.model"
MODEL_NAME = re.compile(rb"\bhear_ssl\s*\.\s*model\b")
Import = ast.Import | ast.ImportFrom


def check_imports(path: Path, source: bytes) -> None:
    """Raise ValueError that names the line of an import that fails in a wheel; imports under TYPE_CHECKING never run."""
    for node in _imports(ast.parse(source)):
        for module, bound in _modules(node):
            if module == MODEL or module.startswith(f"{MODEL}."):
                if not bound:
                    raise ValueError(f"{path}, line {node.lineno}: write `from {module} import ...`, which can be rewritten for a wheel")
            elif (root := module.partition(".")[0]) != "torch" and root not in sys.stdlib_module_names:
                raise ValueError(
                    f"{path}, line {node.lineno}: imports {module}, which a wheel does not have; what ships may import torch, the standard"
                    f" library and {MODEL}"
                )


def with_own_package(source: bytes, package: str) -> bytes:
    """Return a file's source with imports of hear_ssl.model replaced by imports of `package`, otherwise unchanged."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Import)]
    for node in sorted(nodes, key=lambda node: node.lineno, reverse=True):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        source = source[:begin] + MODEL_NAME.sub(package.encode(), source[begin:end]) + source[end:]
    return source


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Yield the import statements that can run, also inside functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Import):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from _imports(ast.Module([other], []))
        else:
            yield from _imports(node)


def _modules(node: Import) -> list[tuple[str, bool]]:
    """Return the modules that a statement imports, and whether each is bound to a new name; relative ones with their dots."""
    if isinstance(node, ast.Import):
        return [(alias.name, alias.asname is not None) for alias in node.names]
    return [("." * node.level + (node.module or ""), True)]

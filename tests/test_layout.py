"""The house keeps its shape: who may import what, and how long files and functions may grow."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STANDARD = set(sys.stdlib_module_names) | {"__future__"}
FILES = sorted(
    path
    for folder in ("hear_ssl", "train", "export", "examples", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if not path.is_relative_to(ROOT / "export" / "reference")  # a package that package.py wrote
)

SHIPPED = ("hear_ssl/model/", "hear_ssl/packaging/rules/")  # they run where nothing else of hear_ssl is installed
HELPERS = {
    f"hear_ssl.{name}"
    for name in (
        "addresses",
        "download",
        "errors",
        "files",
        "folder_lock",
        "help_text",
        "machine",
        "old_versions",
        "part_files",
        "part_imports",
        "progress",
        "safe_open",
        "safe_tar",
        "sample_random",
        "test_data_rule",
        "version",
    )
}
DATA = {"torchaudio", "webdataset", "soundfile", "soxr", "numpy", "fsspec", "tqdm", "braceexpand", "hear_ssl.model", "hear_ssl.data"}
EVALUATION = {
    "numpy",
    "soundfile",
    "soxr",
    "sklearn",
    "threadpoolctl",
    "matplotlib",
    "umap",
    "tqdm",
    "hear_ssl.model",
    "hear_ssl.checkpoint",
}
TABLE: list[tuple[str, set[str]]] = [  # the first prefix that fits counts; torch, the standard library and HELPERS are for all
    ("hear_ssl/model/__main__.py", {"numpy", "soundfile", "soxr", "tqdm", "."}),  # the extra `embed` of the wheel
    ("hear_ssl/model/audio_file.py", {"numpy", "soundfile", "."}),
    ("hear_ssl/model/suites/mteb.py", {"mteb", "numpy", "tqdm", "."}),  # an adapter may import its benchmark
    ("hear_ssl/model/suites/xares_llm.py", {"torchaudio", "."}),
    ("hear_ssl/model/suites/evar.py", {"evar", "."}),
    ("hear_ssl/model/onnx_export.py", {"onnx", "onnxruntime", "."}),  # the extra `onnx` of the wheel, inside functions
    ("hear_ssl/model/", {"."}),
    ("hear_ssl/checkpoint.py", {"hear_ssl.model"}),
    ("hear_ssl/readout_lists.py", {"hear_ssl.model"}),
    ("hear_ssl/download.py", {"hear_ssl.model"}),  # inside functions: it loads torch
    ("hear_ssl/distributed/", {"hear_ssl.distributed"}),
    ("hear_ssl/objectives/", {"hear_ssl.model", "hear_ssl.distributed", "hear_ssl.objectives"}),
    ("hear_ssl/views/", {"torchaudio", "hear_ssl.model", "hear_ssl.distributed", "hear_ssl.views"}),
    ("hear_ssl/data/packing/parquet.py", DATA | {"pyarrow"}),  # inside a function: an extra
    ("hear_ssl/data/", DATA),
    ("hear_ssl/synthesis/", DATA | {"hear_ssl.synthesis"}),
    ("hear_ssl/__init__.py", {"hear_ssl"}),
    ("hear_ssl/evaluate.py", {"hear_ssl.evaluation"}),
    ("hear_ssl/loading.py", {"hear_ssl.model", "hear_ssl.checkpoint", "hear_ssl.evaluation", "hear_ssl.data"}),
    ("hear_ssl/embed.py", {"hear_ssl.loading"}),
    ("hear_ssl/evaluation/", EVALUATION | {"hear_ssl.evaluation"}),
    ("hear_ssl/runs/", {"yaml", "hear_ssl.evaluation.report", "hear_ssl.runs"}),  # reads plain files and draws a page, without torch
    ("hear_ssl/packaging/rules/", {"."}),  # runs next to the wheel in a clean environment
    (
        "hear_ssl/packaging/linear_export.py",  # the fit inside functions: it loads Lightning
        {"hear_ssl.model", "hear_ssl.checkpoint", "hear_ssl.data", "hear_ssl.packaging", "hear_ssl.training.fit_linear"},
    ),
    ("hear_ssl/packaging/transformers_model.py", {"transformers", "hear_ssl.model"}),  # entry of a generated file, imported by nothing
    (
        "hear_ssl/packaging/",
        {"fsspec", "tqdm", "packaging", "vermin", "omegaconf", "yaml", "hear_ssl.model", "hear_ssl.checkpoint", "hear_ssl.readout_lists"}
        | {"hear_ssl.evaluation", "hear_ssl.data", "hear_ssl.packaging"},
    ),
    (
        "hear_ssl/training/",
        DATA | EVALUATION | {"pytorch_lightning", "lightning_fabric", "wandb", "omegaconf", "yaml", "submitit", "hear_ssl"},
    ),
    ("hear_ssl/", set()),
    ("export/", {"hear_ssl"}),
    ("train/", {"hear_ssl"}),
    ("docs/", {"yaml", "griffe", "hear_ssl", "docs"}),
    ("examples/browser/", {"numpy", "onnxruntime", "hear_ssl"}),
    ("examples/", {"numpy", "soundfile", "soxr", "tqdm", "examples", "hear_ssl"}),
]


def imported_modules(path: Path) -> set[str]:
    """Return the modules a file imports, a relative one as '.'; what stands under TYPE_CHECKING counts too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {"."} if node.level else {node.module or ""}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_imports_only_what_its_place_may(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    allowed = next((allowed for prefix, allowed in TABLE if place.startswith(prefix)), None)
    assert allowed is not None, f"{place} stands in no row of the import table"
    names = allowed | {"torch"} | (set() if place.startswith(SHIPPED) else HELPERS)
    for module in imported_modules(path):
        fits = module.split(".")[0] in STANDARD or any(module == name or module.startswith(name + ".") for name in names)
        assert fits, f"{place} imports {module}; allowed are {sorted(names)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 50, f"{node.name} has {length} lines"


def test_median_function_is_short() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[len(lengths) // 2] <= 14


def test_model_parses_as_python_3_8() -> None:
    for path in (ROOT / "hear_ssl" / "model").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_only_the_trainer_names_wandb() -> None:
    for path in FILES:
        if not path.relative_to(ROOT).as_posix().startswith(("hear_ssl/training/",)):
            assert "wandb" not in imported_modules(path)


def module_name(path: Path) -> str:
    """Return the name that a file is imported by; that of a package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_imports(path: Path, modules: set[str]) -> set[str]:
    """Return those of `modules` that a file imports anywhere, also in functions, by absolute or relative names."""
    package = path.relative_to(ROOT).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name if (name := f"{source}.{alias.name}") in modules else source for alias in node.names}
    return found & modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {module_name(path): path for path in FILES if path.relative_to(ROOT).parts[0] == "hear_ssl"}
    graph = {name: own_imports(path, set(paths)) for name, path in paths.items()}
    assert graph["hear_ssl.model.hear"] >= {"hear_ssl.model.download", "hear_ssl.model.embedder"}  # relative imports are seen
    assert "hear_ssl.evaluation.tasks.archive" in graph["hear_ssl.evaluation.tasks.__main__"]  # and those in functions
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    names = {part: path for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert {name: str(path) for name, path in names.items() if name in sys.stdlib_module_names} == {}


def test_no_file_changes_where_python_looks_for_modules() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node) if isinstance(node, (ast.Assign, ast.AugAssign, ast.Call)) else ""
            assert not name.startswith(("sys.path.", "sys.path[", "sys.path +")), f"{path} changes sys.path: {name}"

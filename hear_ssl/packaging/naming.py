"""Check the name and the version of a package."""

from __future__ import annotations

import keyword
import re
import sys
from functools import cache
from importlib import metadata

VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*((a|b|rc)(0|[1-9]\d*))?(\.post(0|[1-9]\d*))?(\.dev(0|[1-9]\d*))?", re.ASCII)
OURS = {"hear_ssl", "examples", "export", "train", "tests", "rules", "checks"}
# Modules that Python, pip or pytest import by name, and modules of standard libraries from 3.6 on that this Python may not have.
STARTUP = "sitecustomize usercustomize conftest setup test site pkg_resources virtualenv easy_install readline"
OTHER_PYTHONS = """aifc annotationlib asynchat asyncore audioop binhex cgi cgitb chunk compression crypt distutils
dummy_threading formatter imghdr imp lib2to3 macpath macurl2path mailcap msilib nis nntplib ossaudiodev parser
pipes smtpd sndhdr spwd sunau symbol telnetlib tomllib uu xdrlib zoneinfo graphlib"""
# Imports of torch, of the extras `embed` and `onnx` and of benchmark kits, whether they are installed or not.
INSTALLED = """torch torchaudio torchvision torchgen torchtext functorch triton nvidia sympy isympy mpmath filelock fsspec jinja2
markupsafe networkx typing_extensions numpy scipy pandas soundfile soxr cffi pycparser tqdm pip setuptools wheel
packaging heareval hearvalidator hearbaseline mteb maeb tensorflow keras jax flax librosa numba llvmlite sklearn
joblib matplotlib pytest _pytest pluggy transformers datasets huggingface_hub safetensors onnx onnxruntime
onnxscript onnx_ir ml_dtypes flatbuffers google requests
urllib3 certifi idna charset_normalizer yaml attr attrs six dateutil pytz click rich einops timm lightning
pytorch_lightning lightning_fabric lightning_utilities torchmetrics omegaconf hydra wandb webdataset braceexpand s3fs
gcsfs boto3 botocore aiohttp intervaltree sed_eval dcase_util pynvml PIL pillow resampy"""
TAKEN = OURS | set(STARTUP.split()) | set(OTHER_PYTHONS.split()) | {name.lower() for name in INSTALLED.split()} | sys.stdlib_module_names


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be both the module and the distribution: lower-case letters, digits, single underscores."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ValueError(
            f"package name {name!r} is not allowed; use lower-case letters, digits and single underscores, such as hear_mymodel"
        )
    if name in TAKEN or name in installed_by_others(tuple(sys.path)):
        raise ValueError(f"package name {name!r} would hide another package; choose one of your own, such as hear_mymodel")


@cache
def installed_by_others(path: tuple[str, ...]) -> frozenset[str]:
    """Return the names of modules and distributions on a path, in lower case with underscores, without models exported before.

    The path is searched once per process, which takes seconds.
    """
    names: set[str] = set()
    for distribution in metadata.distributions(path=list(path)):
        own = str(distribution.metadata["Name"] or "").lower().replace("-", "_").replace(".", "_")
        files = distribution.files or []
        if any(file.as_posix() == f"{own}/manifest.json" for file in files):
            continue
        tops = {file.parts[0] for file in files if len(file.parts) > 1 or file.suffix == ".py"}
        names |= {own, *(top.removesuffix(".py").lower() for top in tops)}
    return frozenset(names)


def check_version(version: str) -> None:
    """Raise ValueError unless `version` is a normalised public version (PEP 440), such as 0.1.0 or 1.0rc1."""
    if not VERSION.fullmatch(version):
        raise ValueError(f"version {version!r} is not allowed; give numbers with dots, such as 0.1.0 or 1.0rc1 (PEP 440)")

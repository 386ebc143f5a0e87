"""Publish a model's weights, and prove that a stranger can load them.

hear-ssl publish --tree dist/hear_mymodel --weights dist/hear_mymodel-0.1.0.safetensors --to TARGET --public-url URL

Uploads the weights to TARGET (a folder, s3://, gs://, hf:// or any fsspec address), fetches them from the public URL, writes
that into the source tree, its COMPLIANCE.md and the wheel, then installs the wheel in a clean environment, downloads the
weights from the public URL without any credentials, and calls load_model(). A name that holds other weights already is never
overwritten.

By hand to Zenodo: new upload, the .safetensors file, licence CC BY 4.0, publish; the file's address is then
https://zenodo.org/records/N/files/NAME. To a GitHub release: gh release create TAG NAME.safetensors; its address is
https://github.com/OWNER/REPOSITORY/releases/download/TAG/NAME. Neither lets a published file be replaced by another under
its address unseen: load_model() compares the SHA-256. Then, with the file already there, run this script with --to the local
folder that holds the weights and --public-url that address: nothing is uploaded, all the rest is done and checked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from hear_ssl.addresses import check_public, redacted
from hear_ssl.checkpoint import exported_manifest
from hear_ssl.errors import one_line
from hear_ssl.files import PART
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.machine import user_path
from hear_ssl.model.download import check_url
from hear_ssl.old_versions import current_manifest
from hear_ssl.packaging import compliance
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.clean_environment import make_environment, pip, without_secrets
from hear_ssl.packaging.url_check import check_published
from hear_ssl.packaging.writer import WRITING_SECONDS, write_export

STORES = (("s3", "s3a"), ("gs", "gcs"))  # they have no folders: makedirs would create a bucket of a mistyped name


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish as the command line says."""
    given = parse_arguments(arguments)
    tree, weights = Path(given.tree).resolve(), Path(given.weights)
    check_url(given.public_url)
    check_public(given.public_url, "--public-url")
    if not given.to:
        raise ValueError("--to is empty; give a folder, s3://, gs://, hf:// or any fsspec address")
    check_weights(tree, weights)
    name = unquote(urlsplit(given.public_url).path).rpartition("/")[2]
    print(f"upload       {one_line(upload(weights, given.to, name))}", flush=True)
    record = exported_manifest((tree / tree.name / "manifest.json").read_bytes(), "manifest.json").weights
    check_published(given.public_url, record.sha256, record.bytes, "is the file public under that URL?")
    wheel = with_url(tree, given.public_url)
    print(f"wheel        {wheel} fetches from {given.public_url}", flush=True)
    print(f"stranger     {load_as_a_stranger(wheel, tree.name)}", flush=True)
    return 0


def check_weights(tree: Path, weights: Path) -> None:
    """Raise ValueError unless `tree` is an exported source tree and `weights` are its own."""
    manifest_path = tree / tree.name / "manifest.json"
    if not manifest_path.is_file():
        raise ValueError(
            f"{tree} is no exported source tree: it has no {tree.name}/manifest.json; give the folder that hear-ssl package wrote"
        )
    if not weights.is_file():
        raise ValueError(f"weights {weights} do not exist; give the .safetensors file that hear-ssl package wrote")
    manifest = exported_manifest(manifest_path.read_bytes(), manifest_path.name)
    if hashlib.sha256(weights.read_bytes()).hexdigest() != manifest.weights.sha256:
        raise ValueError(f"{weights} are not the weights of {tree}: another SHA-256; package again and publish what it wrote")


def upload(weights: Path, target: str, name: str) -> str:
    """Copy the weights to target/name and return what was done; the same weights there already are left alone.

    Raises ValueError when other weights lie there or the target cannot be reached.
    """
    content = weights.read_bytes()
    try:
        filesystem, folder = fsspec.core.url_to_fs(target)
        path = f"{folder.rstrip('/')}/{name}"
        if filesystem.exists(path):
            if filesystem.cat_file(path) == content:
                return f"{path} holds these weights already"
            raise ValueError(f"{path} holds other weights; never overwritten: give a new version or another --public-url")
        if filesystem.protocol not in STORES:
            filesystem.makedirs(folder, exist_ok=True)
        partial = f"{path}.{uuid.uuid4().hex}.part"  # a name that nobody can have planted a link under
        try:
            filesystem.pipe_file(partial, content)
            filesystem.mv(partial, path)
        except BaseException:
            with suppress(Exception):
                filesystem.rm_file(partial)
            raise
        if filesystem.cat_file(path) != content:
            raise ValueError(f"{path} came out differently; upload again")
    except ImportError as error:
        raise ValueError(f"{target} needs another package ({error}); install it beside hear_ssl") from None
    except ValueError:
        raise
    except Exception as error:  # each store's client has errors of its own, for credentials or a server that is not there
        raise ValueError(f"cannot write to {redacted(target)}: {one_line(error)[:160]}") from None
    return f"{path}, {len(content) / 1e6:.1f} MB"


def with_url(tree: Path, url: str) -> Path:
    """Write the public URL, which serves the weights, into the tree; build the wheel again beside it and return its path.

    Raises ValueError when the tree has no COMPLIANCE.md to say so in.
    """
    name = tree.name
    files = {
        file.relative_to(tree).as_posix(): file.read_bytes()
        for file in sorted((tree / name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and not PART.fullmatch(file.name)
    }
    manifest: dict[str, Any] = json.loads(files[f"{name}/manifest.json"])
    manifest["weights"]["url"] = url
    for report in ("COMPLIANCE.md", f"{name}/COMPLIANCE.md"):
        if not (tree / report).is_file():
            raise ValueError(f"{tree} is no whole source tree: {tree / report} is missing; package again")
        files[report] = compliance.as_published((tree / report).read_text(encoding="utf-8"), manifest["weights"]).encode()
    files[f"{name}/manifest.json"] = texts.manifest_text(manifest)
    current = current_manifest(manifest)
    files["README.md"] = texts.readme(current, bundled=f"{name}/{manifest['weights']['file']}" in files).encode()
    files["MODEL_CARD.md"] = texts.model_card(current).encode()
    with folder_lock(tree.absolute().parent, OUT_BUSY, wait_seconds=WRITING_SECONDS):
        return write_export(tree, manifest["version"], files, texts.requires_python(manifest))


def load_as_a_stranger(wheel: Path, name: str) -> str:
    """Install the wheel in a clean environment without credentials, let load_model() fetch, and return what it says.

    Raises ValueError with the last line when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="hear-publish-") as scratch:
        folder = Path(scratch)
        python = make_environment(folder)
        pip(python, ["install", "--no-index", str(wheel)], f"{wheel.name} does not install", folder)
        environment = without_secrets(folder, HEAR_WEIGHTS_CACHE=str(folder / "cache"))
        code = f"import {name}, torch; m = {name}.load_model(); print(tuple({name}.get_scene_embeddings(torch.zeros(1, 16000), m).shape))"
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ValueError(f"a stranger cannot load the model: {last[:200]}; is the file public under that URL?")
        fetched = len(list((folder / "cache").glob("*"))) if (folder / "cache").is_dir() else 0
        origin = "fetched from the URL" if fetched else "weights in the wheel"
        return f"loads it in a clean environment ({origin}), scene {one_line(done.stdout)[:80]}"


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl publish",
        description="Upload a model's weights, then load the model as a stranger would: clean environment, no credentials, public URL.",
        epilog="Zenodo and GitHub releases: upload the .safetensors file by hand under the name that hear-ssl package gave it (Zenodo: new "
        "upload, licence CC BY 4.0, publish; GitHub: gh release create TAG FILE), then run this with --to the local folder of that file "
        "and --public-url the address of the upload (Zenodo: https://zenodo.org/records/N/files/NAME, "
        "GitHub: https://github.com/OWNER/REPOSITORY/releases/download/TAG/NAME): nothing is uploaded, the rest is done and checked.",
    )
    parser.add_argument("--tree", required=True, type=user_path, metavar="DIR", help="source tree that hear-ssl package wrote")
    parser.add_argument("--weights", required=True, type=user_path, metavar="FILE", help="weights file that hear-ssl package wrote")
    parser.add_argument("--to", required=True, type=user_path, metavar="TARGET", help="a folder, s3://, gs://, hf:// or any fsspec address")
    parser.add_argument("--public-url", required=True, metavar="URL", help="http(s) address under which anyone reads the uploaded file")
    return parser.parse_args(given)

"""Publish a model's weights, and check that anyone can load them.

`publish` uploads the weights to TARGET (a folder, s3://, gs://, hf:// or any fsspec address), downloads them from the public URL, and
writes that URL into the source tree, its COMPLIANCE.md and the wheel. It uploads the manifest, which `hear_ssl.load` reads next to the
weights, and, to a folder or the hub, the files for `transformers.AutoModel`. Then it installs the wheel in a clean environment, downloads
the weights from the public URL without credentials, and calls load_model(). Other weights under the same name are never overwritten.

Zenodo, by hand: new upload, the .safetensors file, licence CC BY 4.0, publish; the address of the file is then
https://zenodo.org/records/N/files/NAME. GitHub release: gh release create TAG NAME.safetensors; its address is
https://github.com/OWNER/REPOSITORY/releases/download/TAG/NAME. A published file cannot be replaced unnoticed at either, because
load_model() compares the SHA-256. After the upload, run this script with --to the local folder of the weights and --public-url that
address: nothing is uploaded, everything else is done and checked.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hear_ssl.addresses import check_public, redacted
from hear_ssl.checkpoint import exported_manifest
from hear_ssl.errors import one_line
from hear_ssl.files import PART
from hear_ssl.folder_lock import OUT_BUSY, folder_lock
from hear_ssl.model.download import check_url
from hear_ssl.old_versions import current_manifest
from hear_ssl.packaging import compliance
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.clean_environment import make_environment, pip, without_secrets
from hear_ssl.packaging.model_card import model_card
from hear_ssl.packaging.transformers_files import WEIGHTS, transformers_files
from hear_ssl.packaging.upload import check_manifest, check_same_model, has_folders, last_part, put, upload
from hear_ssl.packaging.url_check import check_published
from hear_ssl.packaging.writer import WRITING_SECONDS, write_export
from hear_ssl.progress import report


def publish(tree: Path, weights: Path, to: str, public_url: str, weights_only: bool = False) -> None:
    """Upload weights, download them from their public URL, write that URL into tree and wheel, and load the wheel; report each step.

    The manifest is uploaded next to the weights; unless weights_only, a folder or a repository of the hub also gets the files for
    transformers, see `transformers_files`. Raises ValueError when tree and weights do not match, the target cannot be written or has other
    files, or the URL does not serve the weights.
    """
    tree = tree.resolve()
    check_url(public_url)
    check_public(public_url, "--public-url")
    if not to:
        raise ValueError("--to is empty; give a folder, s3://, gs://, hf:// or any fsspec address")
    check_weights(tree, weights)
    name = last_part(public_url)
    record = f"{name.removesuffix('.safetensors')}.json"
    manifest = json.loads(manifest_file(tree).read_bytes())
    for_transformers = has_folders(to) and not weights_only
    if for_transformers:
        names = [*transformers_files(tree), WEIGHTS]
        if record in names:
            raise ValueError(f"--public-url ends in {name}, and {record} is a file of transformers; give the weights another name")
        check_same_model(to, names, manifest, WEIGHTS)
    check_manifest(to, record, manifest["weights"]["sha256"])
    report(f"upload       {one_line(upload(weights, to, name))}")
    check_published(public_url, manifest["weights"]["sha256"], manifest["weights"]["bytes"], "is the file public under that URL?")
    wheel = with_url(tree, public_url)
    report(f"wheel        {wheel} fetches from {public_url}")
    report(f"manifest     {one_line(put(manifest_file(tree).read_bytes(), to, record))}")
    if for_transformers:
        report(f"transformers {one_line(upload_for_transformers(tree, weights, to))}")
    report(f"stranger     {load_as_a_stranger(wheel, tree.name)}")


def upload_for_transformers(tree: Path, weights: Path, to: str) -> str:
    """Write the files for `transformers.AutoModel` to a folder or a repository of the hub and return their names."""
    files = transformers_files(tree)
    order = ["manifest.json", *(name for name in files if name not in ("manifest.json", "config.json")), WEIGHTS, "config.json"]
    for (
        name
    ) in order:  # the manifest first, to recognise an interrupted upload; the config last, which makes the model complete for transformers
        put(weights.read_bytes() if name == WEIGHTS else files[name], to, name)
    return f"{redacted(to)}: {', '.join(order)}"


def manifest_file(tree: Path) -> Path:
    """Return the manifest of a source tree."""
    return tree / tree.name / "manifest.json"


def check_weights(tree: Path, weights: Path) -> None:
    """Raise ValueError unless `tree` is an exported source tree and `weights` are its weights."""
    manifest_path = manifest_file(tree)
    if not manifest_path.is_file():
        raise ValueError(
            f"{tree} is not an exported source tree: it has no {tree.name}/manifest.json; give the folder that hear-ssl package wrote"
        )
    if not weights.is_file():
        raise ValueError(f"weights {weights} do not exist; give the .safetensors file that hear-ssl package wrote")
    manifest = exported_manifest(manifest_path.read_bytes(), manifest_path.name)
    if hashlib.sha256(weights.read_bytes()).hexdigest() != manifest.weights.sha256:
        raise ValueError(f"{weights} are not the weights of {tree}: another SHA-256; package again and publish what it wrote")


def with_url(tree: Path, url: str) -> Path:
    """Write the public URL of the weights into the tree, rebuild the wheel next to it and return its path.

    Raises ValueError when the tree has no COMPLIANCE.md to record it in.
    """
    name = tree.name
    files = {
        file.relative_to(tree).as_posix(): file.read_bytes()
        for file in sorted((tree / name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and not PART.fullmatch(file.name)
    }
    manifest: dict[str, Any] = json.loads(files[f"{name}/manifest.json"])
    manifest["weights"]["url"] = url
    for page in ("COMPLIANCE.md", f"{name}/COMPLIANCE.md"):
        if not (tree / page).is_file():
            raise ValueError(f"{tree} is not a complete source tree: {tree / page} is missing; package again")
        files[page] = compliance.as_published((tree / page).read_text(encoding="utf-8"), manifest["weights"]).encode()
    files[f"{name}/manifest.json"] = texts.manifest_text(manifest)
    current = current_manifest(manifest)
    files["README.md"] = texts.readme(current, bundled=f"{name}/{manifest['weights']['file']}" in files).encode()
    files["MODEL_CARD.md"] = model_card(current).encode()
    with folder_lock(tree.absolute().parent, OUT_BUSY, wait_seconds=WRITING_SECONDS):
        return write_export(tree, manifest["version"], files, texts.requires_python(manifest))


def load_as_a_stranger(wheel: Path, name: str) -> str:
    """Install the wheel in a clean environment without credentials, call load_model(), and return a line about the result.

    Raises ValueError with the last line of output when it fails.
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

"""No secret of the environment, of an address or of the command line reaches a file of a run, of its cache or of its package."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.packaging.package import without_places
from hear_ssl.training.config import load_config
from tests.conftest import NT_XENT, ROOT, TINY

SECRET = "hunter2"
BASE = ["name=base", "seed=5"]


class Private(http.server.SimpleHTTPRequestHandler):
    """Serves a folder to the user `me` with the password SECRET, or to those with a signature."""

    refused: list[str]

    def do_GET(self) -> None:
        authorised = self.headers.get("Authorization") == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        path, _, query = self.path.partition("?")
        if not (authorised or query == f"sig={SECRET}"):
            self.refused.append(self.path)
            return self.send_error(401)
        self.path = path
        return super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def host(shards: Path) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Private,), {"refused": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(shards), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}", handler.refused
        running.shutdown()


def fit(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run fit.py in a folder of its own with a secret in the environment."""
    given = {**os.environ, "TOKEN": SECRET, "NETRC": str(tmp_path / "netrc"), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, str(ROOT / "train" / "fit.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=given, timeout=300)


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder whose bytes or names hold the secret, also as base64."""
    forms = (SECRET.encode(), base64.b64encode(f"me:{SECRET}".encode()))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "netrc"]
    return [str(path) for path in files if any(form in path.read_bytes() for form in forms) or SECRET in str(path)]


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:TOKEN}",
        "a ${oc.env:TOKEN} b",
        "${ oc.env:TOKEN }",
        "${oc.env:TOKEN,default}",
        "${oc.decode:${oc.env:TOKEN}}",
        "${oc.select:seed}",
        "${oc.create:{a: 1}}",
        "${oc.dict.keys:data}",
        "${oc.deprecated:seed}",
        "${data.${oc.env:TOKEN}}",
        "${unknown:x}",
        "\\${oc.env:TOKEN}",
    ],
)
@pytest.mark.parametrize("key", ["name", "data.cache", "trainer.steps", "encoder.audio_ntt.dim"])
def test_a_config_takes_nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    (tmp_path / "c.yaml").write_text(json.dumps(nested))
    for path, overrides in ((tmp_path / "c.yaml", []), (None, [f"{key}={value}"])):
        with pytest.raises(ValueError, match=r"only references to other keys are allowed|cannot be read") as error:
            load_config(path, [*NT_XENT, *overrides])
        assert SECRET not in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def test_a_resolver_cannot_be_put_together_from_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    for overrides in (["name=$", "run=${name}{oc.env:TOKEN}"], ["name=$", "run=${name}{oc.env:TOKEN}", "output=${run}"]):
        with pytest.raises(ValueError, match="only references") as error:
            load_config(None, [*NT_XENT, *overrides])
        assert SECRET not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "[" * 100_000, "{a: " * 60_000, "- " * 100_000, "? " * 50_000])
def test_deep_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    """libyaml overflows the stack of the process."""
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match="nested deeper than 50 levels") as error:
        load_config(tmp_path / "c.yaml", NT_XENT)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match="nested deeper than 50 levels"):
        load_config(None, [*NT_XENT, f"name={text}"])


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"] + [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="more than 100000 values"):
        load_config(tmp_path / "c.yaml", NT_XENT)


def test_lists_and_keys_of_a_file_are_looked_at(tmp_path: Path) -> None:
    for text in ("data: {shards: [a, '${oc.env:TOKEN}']}", "'${oc.env:TOKEN}': 1", "objective: {'${oc.env:TOKEN}': {}}"):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ValueError, match="only references"):
            load_config(tmp_path / "c.yaml", [])


@pytest.mark.parametrize(
    ("reference", "value"), [("${name}", "base"), ("${.name}-x", "base-x"), ("${data.codec}", None), ("${seed}/${name}", "5/base")]
)
def test_references_to_other_keys_are_followed(reference: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match=r"not found|data\.codec"):
            load_config(None, [*NT_XENT, *BASE, f"run={reference}"])
    else:
        assert load_config(None, [*NT_XENT, *BASE, f"run={reference}"]).run == value


@pytest.mark.slow
@pytest.mark.parametrize("form", ["me:{}@HOST", "HOST?sig={}"])
def test_a_run_on_a_private_address_stores_no_credentials(tmp_path: Path, host: tuple[str, list[str]], form: str) -> None:
    address, refused = host
    user, _, rest = form.format(SECRET).rpartition("@")
    shards = f"data.shards=http://{user}{'@' * bool(user)}{rest.replace('HOST', f'{address}/')}"
    given = [shards, f"data.cache={tmp_path}/cache", *NT_XENT, *TINY, "wandb=offline"]
    config = ["--config", str(ROOT / "configs" / "base.yaml")]
    first = fit(tmp_path, *config, *given, "run=run", "trainer.steps=3")
    assert first.returncode == 0, first.stderr
    assert refused == []
    assert leaks(tmp_path) == []
    assert SECRET not in first.stdout + first.stderr
    assert load_checkpoint(tmp_path / "run")["config"]["data"]["shards"] == [f"http://{address}/"]
    assert f"data.shards=http://{address}/" in json.loads((tmp_path / "run" / "environment.json").read_text())["command"]

    for path in (tmp_path / "cache").rglob("*.tar"):
        path.unlink()
    without = fit(tmp_path, "--resume", "run", "trainer.steps=4")
    assert without.returncode == 2
    assert "give it again with them" in without.stderr.strip().splitlines()[-1]
    again = fit(tmp_path, "--resume", "run", "trainer.steps=4", shards)
    assert again.returncode == 0, again.stderr
    for path in (tmp_path / "cache").rglob("*.tar"):
        path.unlink()
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    by_netrc = fit(tmp_path, "--resume", "run", "trainer.steps=5")
    assert by_netrc.returncode == 0, by_netrc.stderr
    assert leaks(tmp_path) == []


def test_a_manifest_holds_no_place_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = {
        "name": "base",
        "run": "/scratch/run",
        "output": "runs",
        "data": {"shards": [f"https://me:{SECRET}@host/a"], "cache": "/scratch/cache", "batch_size": 8},
        "probe": {"every": 0, "tasks": ["/home/somebody/tasks"]},
        "encoder": {"/home/somebody/net.py:Net": {"file": "/home/somebody/a.txt"}},
        "later": [{"folder": "/scratch/x/y"}, f"s3://k:{SECRET}@bucket/x", "relative/to/it"],
    }
    kept = without_places(config)
    assert kept["data"] == {"shards": [], "cache": "~/.cache/hear_ssl/shards", "batch_size": 8}
    assert kept["probe"]["tasks"] == []
    assert kept["encoder"] == {"Net": {"file": "a.txt"}}
    assert kept["later"] == [{"folder": "y"}, "s3://bucket/x", "relative/to/it"]
    assert not any(part in str(kept) for part in ("somebody", "scratch", SECRET))

"""Shards from stores that fsspec reaches: a real S3-speaking server, healthy and flaky, and schemes whose package is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl import download
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards.cache import ShardCache
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.batch_stream import BatchStream
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.stream_datamodule import data_module
from tests.data.plain_shards import plain_folder


class FlakyStore:
    """A WSGI application in front of moto's: `faults` says how the next reads of shards go wrong."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.faults: list[str] = []

    def __call__(self, environment: dict[str, Any], start: Any) -> Iterable[bytes]:
        shard = environment["REQUEST_METHOD"] == "GET" and environment["PATH_INFO"].endswith(".tar")
        fault = self.faults.pop(0) if shard and self.faults else ""
        if fault.isdigit():
            start(f"{fault} Fault", [("Content-Length", "0")])
            return [b""]
        content = b"".join(self.application(environment, start))
        if fault == "wrong bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        return [content[: len(content) // 2] if fault == "truncated" else content]


@pytest.fixture
def store(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """Serve s3://audio/shards on loopback."""
    import s3fs
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    application = FlakyStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = s3fs.S3FileSystem(skip_instance_cache=True)
    if not bucket.exists("audio"):  # moto keeps its buckets as long as the process lives
        bucket.mkdir("audio")
    for path in shards.iterdir():
        bucket.put_file(str(path), f"audio/shards/{path.name}")
    yield application
    server.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_shards_stream_from_a_real_s3_server(store: FlakyStore, shards: Path, tmp_path: Path) -> None:
    config = DataConfig(shards=["s3://audio/shards"], cache=str(tmp_path), batch_size=8, crops=[CropConfig(0.5)], workers=0)
    stream = BatchStream(ShardDataModule(config, 16000, 0).shards, config, 16000, 0)
    local = BatchStream(ShardSet([str(shards)]), config, 16000, 0)
    assert all(torch.equal(stream.batch(step).waveform, local.batch(step).waveform) for step in range(3))
    for address in ("s3://audio/nothing", "s3://nobucket/shards"):
        with pytest.raises(ValueError, match="is not there"):
            ShardDataModule(replace(config, shards=[address]), 16000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["500", "503", "403", "truncated", "wrong bytes"])
def test_a_flaky_store_is_tried_again_until_the_bytes_are_right(store: FlakyStore, shards: Path, tmp_path: Path, fault: str) -> None:
    store.faults += [fault] * 2
    cache = ShardCache("s3://audio/shards", tmp_path)
    cache.fetch_all(cache.index())
    assert store.faults == []
    for path in shards.glob("*.tar"):
        assert (cache.folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_store_that_does_not_let_us_in_or_answer_is_one_line(store: FlakyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setattr(download, "ATTEMPTS", 2)

    def refusal() -> str:
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(ValueError, match=r"s3://audio/shards/index.json cannot be fetched after 2 attempts") as caught:
            ShardCache("s3://audio/shards", tmp_path).index()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "credentials" in refusal()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in refusal()


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("hf", "huggingface_hub")])
def test_a_scheme_whose_package_is_missing_asks_for_it(scheme: str, package: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from hear_ssl.data.shards.cache import ShardCache; ShardCache(*sys.argv[1:]).index()"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{scheme}://bucket/shards", str(tmp_path)], capture_output=True, text=True)
    line = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf"ValueError: {scheme}:// cannot be read \(.*\); install {package} too", line)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "500", "truncated"])
def test_shards_without_an_index_stream_from_a_real_s3_server(store: FlakyStore, tmp_path: Path, fault: str) -> None:
    import s3fs

    plain = plain_folder(tmp_path / "speech", [5, 6, 4])
    for path in plain.iterdir():
        s3fs.S3FileSystem(skip_instance_cache=True).put_file(str(path), f"audio/speech/{path.name}")
    config = DataConfig(shards=["s3://audio/speech"], batch_size=5, crops=[CropConfig(0.25)], workers=0)
    data, local = data_module(config, 16000, 0), data_module(replace(config, shards=[str(plain)]), 16000, 0)
    store.faults += [fault] * 2 if fault else []
    for one, other in islice(zip(data.train_dataloader(), local.train_dataloader(), strict=True), 4):
        assert torch.equal(one.waveform, other.waveform)
        assert not one.lost
    assert store.faults == []
    named = data_module(replace(config, shards=["s3://audio/speech/a-{000,002}.tar"]), 16000, 0)
    assert named.pass_line() == "shards read in sequence: 2 (2 without an index); readers: 1"

"""Publishing to a server that speaks S3, on loopback: uploaded with credentials, fetched without any."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from tests.conftest import ROOT

NAME = "hear_public-0.1.0.safetensors"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*"}],
}


@dataclass
class Bucket:
    """The bucket `models` of a running server, private at first, and the environment that may write to it."""

    address: str
    client: Any
    environment: dict[str, str]

    def make_public(self) -> None:
        """Let anyone read."""
        self.client.put_bucket_policy(Bucket="models", Policy=json.dumps(POLICY))


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"").close()  # buckets outlive a server of the same process
    client = boto3.client("s3", "us-east-1", endpoint_url=address, aws_access_key_id="key", aws_secret_access_key="secret")
    client.create_bucket(Bucket="models")
    yield Bucket(address, client, {**os.environ, **keys, "AWS_ENDPOINT_URL": address})
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s3")
    checkpoint = run / "checkpoints" / "last.ckpt"
    package(PackageRequest(checkpoint, "hear_public", "0.1.0", "https://example.com/w.safetensors", False, False, {}, True), folder)
    return folder


def publish(dist: Path, bucket: Bucket) -> subprocess.CompletedProcess[str]:
    arguments = ["--tree", str(dist / "hear_public"), "--weights", str(dist / NAME), "--to", "s3://models/hear"]
    command = [sys.executable, str(ROOT / "export/publish.py"), *arguments, "--public-url", f"{bucket.address}/models/hear/{NAME}"]
    return subprocess.run(command, capture_output=True, text=True, env=bucket.environment, check=False)


@pytest.mark.slow
def test_weights_in_a_bucket_count_as_published_once_anyone_may_read_them(exported: Path, bucket: Bucket, tmp_path: Path) -> None:
    dist = Path(shutil.copytree(exported, tmp_path / "dist"))
    report = dist / "hear_public" / "COMPLIANCE.md"
    private = publish(dist, bucket)
    assert (private.returncode, private.stderr.count("\n")) == (2, 1), private.stderr
    assert "the weights are not published" in private.stderr
    assert "403" in private.stderr
    assert "| NOT PUBLISHED |" in report.read_text()
    stored = bucket.client.list_objects_v2(Bucket="models")["Contents"]
    assert [entry["Key"] for entry in stored] == [f"hear/{NAME}"]
    bucket.make_public()
    public = publish(dist, bucket)
    assert public.returncode == 0, public.stderr
    assert "holds these weights already" in public.stdout
    assert "fetched from the URL" in public.stdout
    assert f"fetched from {bucket.address}/models/hear/{NAME}" in report.read_text()
    assert bucket.client.get_object(Bucket="models", Key=f"hear/{NAME}")["Body"].read() == (dist / NAME).read_bytes()
    stored = bucket.client.list_objects_v2(Bucket="models")["Contents"]
    assert sorted(entry["Key"] for entry in stored) == ["hear/hear_public-0.1.0.json", f"hear/{NAME}"]


@pytest.mark.slow
def test_other_weights_in_a_bucket_are_never_overwritten(exported: Path, bucket: Bucket, tmp_path: Path) -> None:
    dist = Path(shutil.copytree(exported, tmp_path / "dist"))
    bucket.client.put_object(Bucket="models", Key=f"hear/{NAME}", Body=b"precious")
    result = publish(dist, bucket)
    assert result.returncode == 2
    assert "holds other weights; never overwritten" in result.stderr
    assert bucket.client.get_object(Bucket="models", Key=f"hear/{NAME}")["Body"].read() == b"precious"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no bucket", "no credentials", "no server"])
def test_a_bucket_that_cannot_be_written_is_one_line(exported: Path, bucket: Bucket, tmp_path: Path, fault: str) -> None:
    if fault == "no bucket":
        bucket.client.delete_bucket(Bucket="models")
    elif fault == "no credentials":
        bucket.environment = {key: value for key, value in bucket.environment.items() if "KEY" not in key}
        bucket.environment["AWS_EC2_METADATA_DISABLED"] = "true"
        bucket.environment["HOME"] = str(tmp_path)
    else:
        bucket.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    result = publish(Path(shutil.copytree(exported, tmp_path / "dist")), bucket)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write to s3://models/hear")
    assert result.stderr.count("\n") == 1

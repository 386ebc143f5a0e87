"""Credentials in addresses: what counts as one, and that nothing of them is left in what is stored, printed or compared."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from hear_ssl.addresses import authorised, check_public, joined, redacted, redacted_arguments, redacted_text, redacted_values
from hear_ssl.errors import one_line, printable

SECRET = [
    ("https://user:hunter2@host/x", "https://host/x"),
    ("https://hunter2@host:80/x", "https://host:80/x"),
    ("https://:hunter2@host/x", "https://host/x"),
    ("https://user:hun/ter2@host/x", "https://host/x"),
    ("https://user:hun?ter2@host/x", "https://host/x"),
    ("https://user:hun#ter2@host/x", "https://host/x"),
    ("https://user:hun@ter2@host/x", "https://host/x"),
    ("https://user:hun ter2@host/x", "https://host/x"),
    ("s3://key:hunter2@bucket/x", "s3://bucket/x"),
    ("ftp://user:hunter2@host/x", "ftp://host/x"),
    ("filecache::https://user:hunter2@host/x", "filecache::https://host/x"),
    ("https://proxy/https://user:hunter2@host/x", "https://proxy/https://host/x"),
    ("https://host/x?X-Amz-Signature=hunter2&X-Amz-Credential=k", "https://host/x"),
    ("https://host/x?sv=2024&sp=r&sig=hunter2", "https://host/x"),
    ("https://host/x?download=1&token=hunter2", "https://host/x?download=1"),
    ("https://host/x?Expires=1;Signature=hunter2", "https://host/x"),
    ("https://host/x?hunter2", "https://host/x"),
    ("https://host/x?id=" + "hunter2" * 20, "https://host/x"),
    ("https://host/x#access_token=hunter2", "https://host/x"),
    ("https://host/t-{000..002}.tar?sig=hunter2", "https://host/t-{000..002}.tar"),
]
PUBLIC = [
    "https://zenodo.org/records/1/files/w.safetensors?download=1",
    "https://host:8080/a@b/x.safetensors",
    "https://[::1]:80/a@b",
    "s3://bucket/a#b",
    "https://drive.google.com/uc?export=download&id=1aB",
    "/local/folder?x=@y",
    "shards/train-{000..001}.tar",
]


@pytest.mark.parametrize(("address", "stored"), SECRET)
def test_credentials_are_left_out(address: str, stored: str) -> None:
    assert redacted(address) == redacted(stored) == stored
    with pytest.raises(ValueError, match="everyone could read") as error:
        check_public(address, "--weights-url")
    assert "hun" not in str(error.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_holds_none_stays(address: str) -> None:
    assert redacted(address) == redacted_text(address) == address
    check_public(address, "--weights-url")


@pytest.mark.parametrize(("address", "stored"), [pair for pair in SECRET if " " not in pair[0]])
def test_texts_with_addresses_hold_no_credentials(address: str, stored: str) -> None:
    for text in ("{}", "data.shards={}", "data.shards=[{},/local]", "['{}', b]", '"{}"', "cannot read {}: refused", "a {} b {} c"):
        assert "hun" not in redacted_text(text.replace("{}", address))
        assert "hun" not in one_line(ValueError(text.replace("{}", address)))
    assert "hun" not in str(redacted_arguments(["fit.py", f"data.shards=[/a,{address},b]", f"--x={address}", address]))
    nested = {"data": {"shards": [address, "/local"], "weights": (1.0, None)}, "name": f"from {address}"}
    assert "hun" not in str(redacted_values(nested))
    assert redacted_values({"data": (1, None, True)}) == {"data": (1, None, True)}


def test_a_command_line_without_addresses_stays() -> None:
    assert redacted_arguments(["fit.py", "--config", "a@b:c.yaml", "trainer.steps=1"]) == [
        "fit.py",
        "--config",
        "a@b:c.yaml",
        "trainer.steps=1",
    ]
    assert redacted_arguments(["data.shards=[https://h/a,https://u:p q@h/b]"]) == ["data.shards=[https://h/a,https://h/b]"]


def test_a_file_of_a_folder_comes_before_the_query() -> None:
    assert joined("https://host/a/?sig=1", "index.json") == "https://host/a/index.json?sig=1"
    assert joined("https://host/a", "b.tar") == "https://host/a/b.tar"
    assert joined("s3://bucket/a/", "b.tar") == "s3://bucket/a/b.tar"


def test_user_and_password_become_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    url, headers = authorised("https://us%40er:pa%2Fss@host:80/a?b=c")
    assert url == "https://host:80/a?b=c"
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"us@er:pa/ss"
    assert authorised("https://host/a") == ("https://host/a", {})
    with pytest.raises(ValueError, match="%2F"):
        authorised("https://user:pa/ss@host/a")


def test_a_netrc_file_has_the_password_of_its_host_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine host login user password word\n")
    assert base64.b64decode(authorised("https://host/a")[1]["Authorization"].split()[1]) == b"user:word"
    assert authorised("https://other/a")[1] == {}
    (tmp_path / "netrc").write_text("machine\n")
    with pytest.raises(ValueError, match="netrc cannot be parsed"):
        authorised("https://host/a")


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable("a\x1b[31mb\rc\x07\u202e\x9b") == "a\\x1b[31mb\\rc\\x07\\u202e\\x9b"
    assert printable("größe 音 [x]") == "größe 音 [x]"
    assert one_line(OSError("a\nb\x1b]0;title\x07")) == "a b\\x1b]0;title\\x07"
    assert one_line(KeyError()) == "KeyError"

"""Check the name, version and address of a publication."""

from __future__ import annotations

from hear_ssl.addresses import check_public
from hear_ssl.model.download import check_url
from hear_ssl.packaging.naming import check_name, check_version


def check_publication(name: str, version: str, weights_url: str) -> None:
    """Raise ValueError when the name or version of a package, or the address of its weights, is not allowed."""
    check_name(name)
    check_version(version)
    check_url(weights_url)
    check_public(weights_url, "--weights-url")

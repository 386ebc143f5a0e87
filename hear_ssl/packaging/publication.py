"""What may be published: names, versions and addresses."""

from __future__ import annotations

from hear_ssl.addresses import check_public
from hear_ssl.model.download import check_url
from hear_ssl.packaging.naming import check_name, check_version


def check_publication(name: str, version: str, weights_url: str) -> None:
    """Raise ValueError when a package may not have this name or version, or its weights not this address."""
    check_name(name)
    check_version(version)
    check_url(weights_url)
    check_public(weights_url, "--weights-url")

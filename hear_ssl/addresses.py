"""Remove credentials from addresses that are stored, printed or compared.

Credentials are a user name with or without a password before the host (`https://user:password@host/`), and all parameters of a query
except a short list of harmless ones, because the names of signatures and tokens differ between stores. A secret in the path itself
cannot be detected.
"""

from __future__ import annotations

import base64
import netrc
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

HARMLESS = frozenset(
    [
        *("alt", "branch", "confirm", "dl", "download", "export", "file", "filename", "format", "id", "inline", "lfs", "name", "path"),
        *("raw", "record", "ref", "rev", "revision", "tag", "v", "version", "versionid"),
    ]
)
LONGEST_VALUE = 64  # of a harmless parameter; signatures are longer
USER = re.compile(r"(?<=://)[^/?#]*@")
USER_WITH_SLASH = re.compile(r"(?<=://)[^/?#\[:]*:(?!\d*(?:[/?#\s,]|$)).*@")  # user:pa/ss@host: the text after the colon is not a port
START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def redacted(address: str) -> str:
    """Return an address without user, password, fragment and parameters that may be secret; a local path is unchanged.

    In a `pipe:` command, every address is redacted.
    """
    if address.startswith("pipe:"):
        return redacted_text(address)
    if "://" not in address:
        return address
    address = USER_WITH_SLASH.sub("", USER.sub("", address))
    if address.startswith(("http://", "https://")):
        address = address.partition("#")[0]
    place, _, query = address.partition("?")
    kept = "&".join(pair for pair in re.split("[&;]", query) if _harmless(pair))
    return f"{place}?{kept}" if kept else place


def _harmless(pair: str) -> bool:
    name, _, value = pair.partition("=")
    return name.lower() in HARMLESS and len(value) <= LONGEST_VALUE and "://" not in unquote(value)


def redacted_text(text: str) -> str:
    """Return a text, such as a command line or an error, with redacted addresses."""
    return IN_TEXT.sub(lambda found: redacted(found[0]), text)


def redacted_arguments(arguments: list[str]) -> list[str]:
    """Return a command line for a record: in each argument, everything that may be secret is removed from the first address on."""
    places = [START.search(argument) for argument in arguments]
    return [
        argument[: found.start()] + redacted(argument[found.start() :]) if found else argument
        for argument, found in zip(arguments, places, strict=True)
    ]


def redacted_values(value: Any) -> Any:
    """Return plain data with redacted addresses in its texts."""
    if isinstance(value, dict):
        return {key: redacted_values(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(redacted_values(element) for element in value)
    return redacted_text(value) if isinstance(value, str) else value


def check_public(address: str, what: str) -> None:
    """Raise ValueError when an address that will be public contains credentials."""
    if redacted(address) != address:
        raise ValueError(
            f"{what} {redacted(address)} was given with a user, a password or a signed query, which everyone could read in the package;"
            " give an address that needs none"
        )


def joined(address: str, name: str) -> str:
    """Return the address of a file in the folder at an address; a query stays at the end."""
    place, mark, query = address.partition("?") if "://" in address else (address, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def authorised(url: str) -> tuple[str, dict[str, str]]:
    """Return an http or https URL without user and password, and an authorization header with them.

    Those in the URL have priority over those for its host in ~/.netrc, or in the file named by $NETRC.
    Raises ValueError when user and password cannot be separated from the host, OSError when the netrc file cannot be read.
    """
    if USER_WITH_SLASH.search(USER.sub("", url)):
        raise ValueError(f"{redacted(url)}: write /, ?, # and @ in the password as %2F, %3F, %23 and %40")
    head, _, rest = url.partition("://")
    user, at, _ = rest.partition("/")[0].partition("?")[0].rpartition("@")
    if at:
        name, _, password = user.partition(":")
        return f"{head}://{rest[len(user) + 1 :]}", basic(unquote(name), unquote(password))
    found = from_netrc(urlsplit(url).hostname or "")
    return url, basic(*found) if found else {}


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP basic authentication (RFC 7617)."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def from_netrc(host: str) -> tuple[str, str] | None:
    """Return user and password for a host from the netrc file, or None.

    Raises ValueError when the file cannot be parsed, OSError when it cannot be read.
    """
    file = Path(os.environ.get("NETRC") or os.path.expanduser("~/.netrc"))
    if not file.is_file():
        return None
    try:
        found = netrc.netrc(str(file)).authenticators(host)
    except netrc.NetrcParseError as error:
        raise ValueError(f"{file} cannot be parsed (line {error.lineno}); correct it, or set NETRC to another file") from None
    return (found[0] or "", found[2] or "") if found else None

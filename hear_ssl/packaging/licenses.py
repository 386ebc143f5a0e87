"""Licences of training data: SPDX names and expressions, in the spellings that occur in data.

`packaging` has the SPDX list and parses expressions (https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/). This module adds
addresses and names of Creative Commons, Debian's short names and a few common titles.
"""

from __future__ import annotations

import re
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from hear_ssl.data.shards.shard_index import each_once

LONGEST = 10_000  # characters of an expression; a Debian archive may have a thousand
ALLOWED = "give an SPDX name (https://spdx.org/licenses), an expression such as 'CC0-1.0 OR MIT', or LicenseRef-NAME for one of your own"
STATED = "license_stated"  # the key of a source whose licence was given to hear-ssl package
URL = re.compile(
    r"https?://(?:www\.)?(creativecommons\.org/(?:licenses|publicdomain)|spdx\.org/licenses|opensource\.org/licenses?)/(\S+)", re.I
)
GNU = re.compile(r"(?:gnu )?(a?gpl|lgpl|gfdl) ?(?:v|version )?(\d(?:\.\d)?)(?:\.0)? ?(\+|or later|or newer|only)?")
CC_WORDS = {"attribution": "by", "noncommercial": "nc", "sharealike": "sa", "noderivatives": "nd", "noderivs": "nd", "deriv": "nd"}
FILLERS = {"cc", "international", "unported", "generic", "universal", "public", "domain", "dedication", "v"}
TITLES = {
    "expat": "MIT",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache2.0": "Apache-2.0",
    "artistic 2": "Artistic-2.0",
    "bsl 1": "BSL-1.0",
    "mpl 2": "MPL-2.0",
    "ofl": "OFL-1.1",
    "sil open font": "OFL-1.1",
    "odbl": "ODbL-1.0",
    "odc by": "ODC-By-1.0",
    "pd": "LicenseRef-Public-Domain",
    "public domain": "LicenseRef-Public-Domain",
}

KINDS = {  # kinds of licence, from the strictest to the freest, and their conditions for redistribution
    "non-commercial": "name the author; no commercial use",
    "no derivatives": "name the author; pass on unchanged copies only",
    "share-alike": "name the author; changed works under the same licence",
    "copyleft": "the source and the same licence, for works derived from it (GPL, LGPL and the like)",
    "attribution": "keep the name of the author and the licence text",
    "public domain": "nothing",
    "other": "read the licence",
}
FREE = {"CC0-1.0", "UNLICENSE", "WTFPL", "PDDL-1.0", "0BSD", "LICENSEREF-PUBLIC-DOMAIN"}
COPYLEFT = re.compile(r"(A|L)?GPL-|GFDL-|ARTISTIC-|MPL-|EUPL-|CC-BY-SA-|ODBL-", re.I)
ATTRIBUTION = re.compile(r"CC-BY-|MIT|BSD-|APACHE-|ISC$|ZLIB$|BSL-|X11$|OFL-|OPENSSL$|ODC-BY-", re.I)


def kind_of_license(license: str) -> str:
    """Return the kind of a licence, a key of KINDS; for an expression, the strictest kind of its licences."""
    found = {_kind(name) for name in re.findall(r"[\w.+-]+", license) if name.upper() not in ("AND", "OR", "WITH")}
    return next((kind for kind in KINDS if kind in found and kind != "other"), "other")


def _kind(name: str) -> str:
    upper = name.upper()
    if upper in FREE:
        return "public domain"
    if re.search(r"-NC(-|$)", upper):
        return "non-commercial"
    if re.search(r"-ND(-|$)", upper):
        return "no derivatives"
    if COPYLEFT.match(name):
        return "share-alike" if upper.startswith(("CC-BY-SA", "ODBL")) else "copyleft"
    return "attribution" if ATTRIBUTION.match(name) else "other"


def known_license(text: str) -> str:
    """Return the SPDX expression of a licence, '' if it is unknown: 'CC BY 4.0' gives CC-BY-4.0, 'GPL-2+ or MIT' an expression.

    A licence without an SPDX name is written LicenseRef-NAME, as in SPDX.
    """
    text = text.strip()
    if not text or len(text) > LONGEST:
        return ""
    whole = _one(text)
    if whole:
        return whole
    parts = re.split(r"([()]|(?<=[\s)])(?:and|or|with)(?=[\s(]))", text, flags=re.IGNORECASE)
    words = [part.strip() for part in parts if part.strip()]
    if len(words) < 2:
        return ""
    named = [word.upper() if word.lower() in ("and", "or", "with", "(", ")") else _one(word) or word for word in words]
    return _spdx(" ".join(named))


def _spdx(expression: str) -> str:
    try:
        return str(canonicalize_license_expression(expression))
    except (InvalidLicenseExpression, RecursionError, MemoryError):
        return ""


def _one(text: str) -> str:
    """Return the SPDX name of one licence, or '' when it is unknown."""
    address = URL.fullmatch(text)
    if address:
        return _of_address(address[1].lower(), address[2].lower().rstrip("/"))
    if re.fullmatch(r"[\w.+-]+", text, re.ASCII) and _spdx(text):
        return _spdx(text)
    plain = re.sub(r"[\s_,:/-]+", " ", text.lower().replace("creative commons", "cc").replace("non commercial", "noncommercial"))
    plain = plain.replace("non-commercial", "noncommercial").replace("share alike", "sharealike").replace("no deriv", "noderiv")
    plain = re.sub(r"\b(the|licen[sc]es?|version)\b", " ", plain)
    plain = " ".join(plain.split())
    found = GNU.fullmatch(plain)
    if found:
        family, number, later = found[1].upper(), found[2], found[3] or ""
        number += "" if "." in number else ".0"
        return _spdx(f"{family}-{number}-{'only' if later in ('', 'only') else 'or-later'}")
    return TITLES.get(plain) or _creative_commons(plain) or _spdx(plain.replace(" ", "-"))


def _of_address(host: str, path: str) -> str:
    parts = path.split("/")
    if not host.startswith("creativecommons"):
        return _spdx(parts[0].removesuffix(".html").removesuffix(".php"))
    kind, version = parts[0], parts[1] if len(parts) > 1 else ""
    if kind in ("zero", "mark"):
        return "CC0-1.0" if kind == "zero" else "LicenseRef-Public-Domain"
    country = f"-{parts[2]}" if len(parts) > 2 and re.fullmatch("[a-z]{2,3}", parts[2]) else ""
    return _spdx(f"CC-{kind}-{version}{country}") or _spdx(f"CC-{kind}-{version}")


def _creative_commons(plain: str) -> str:
    """Return CC-BY-NC-SA-4.0 for 'cc by nc sa 4.0' and the like, with words in any order and case."""
    words = [CC_WORDS.get(word, word) for word in plain.replace("noderivatives", "nd").replace("noderivs", "nd").split()]
    if words[:1] in (["cc0"], ["cczero"]) or words[:2] in (["cc", "0"], ["cc", "zero"], ["cc", "cc0"]):
        rest = set(words) - FILLERS - {"cc0", "cczero", "0", "zero", "1.0", "1"}
        return "" if rest else "CC0-1.0"
    versions = [word.lstrip("v") for word in words if re.fullmatch(r"v?\d(\.\d)?", word)]
    terms = [word for word in ("by", "nc", "nd", "sa") if word in words]
    others = {word for word in words if not re.fullmatch(r"v?\d(\.\d)?", word)} - FILLERS - set(terms)
    if len(versions) != 1 or not terms or others or words[0] not in ("cc", "by"):
        return ""
    version = versions[0] if "." in versions[0] else f"{versions[0]}.0"
    return _spdx(f"CC-{'-'.join(terms)}-{version}")


def described(license: str) -> str:
    """Return 'no licence' for an empty text, otherwise a phrase for an unknown licence."""
    text = " ".join(license.split())
    return "no licence" if text.lower() in ("", "unknown") else f"the licence {text[:60]!r}, which is not a known one"


def missing_license(source: dict[str, Any]) -> str:
    """Return the error for a source without a known licence."""
    name = source.get("name")
    return (
        f"training source {name} has {described(str(source.get('license') or ''))}; give hear-ssl package --data-license {f'{name}=NAME'!r}"
        " (an SPDX name or expression), or pack it with --license NAME (or a license column) and train again"
    )


def parse_data_licenses(pairs: list[str]) -> dict[str, str]:
    """Return {source: SPDX expression} of --data-license SOURCE=NAME options. Raises ValueError for another form or an unknown licence."""
    stated: dict[str, str] = {}
    for pair in pairs:
        source, equals, name = pair.rpartition("=")
        if not equals or not source:
            raise ValueError(f"--data-license {pair!r} is not of the form SOURCE=NAME, such as recordings=CC-BY-4.0")
        license = known_license(name)
        if not license:
            raise ValueError(f"--data-license {pair!r}: {name!r} is not a known licence; {ALLOWED}")
        if stated.setdefault(source, license) != license:
            raise ValueError(f"--data-license gives {source} both {stated[source]} and {license}; give one")
    return stated


def with_licenses(checkpoint: dict[str, Any], stated: dict[str, str]) -> dict[str, Any]:
    """Return a checkpoint whose data cards have SPDX names for known licences, and the stated licences for sources without one.

    Raises ValueError when a licence is stated for an unknown source, or for one with another licence in its shards.
    """
    fitted = checkpoint.get("fitted")
    cards = [checkpoint.get("data_card"), fitted.get("data") if isinstance(fitted, dict) else None]
    sources = [source for card in cards if isinstance(card, dict) for source in _sources(card)]
    for name, license in stated.items():
        given = {known_license(source["license"]) for source in sources if source["name"] == name}
        if not given:
            names = ", ".join(sorted({source["name"] for source in sources}))
            raise ValueError(f"--data-license names {name!r}, which the model was not trained on; its sources: {names[:300]}")
        if not given & {"", license}:
            raise ValueError(f"--data-license states {license} for {name}, which has {given.pop()} from its shards; leave it out")
    changed = {**checkpoint, "data_card": _licensed(cards[0], stated)}
    return {**changed, "fitted": {**fitted, "data": _licensed(cards[1], stated)}} if isinstance(fitted, dict) and cards[1] else changed


def _sources(card: dict[str, Any]) -> list[dict[str, Any]]:
    listed = card.get("sources")
    return [
        source
        for source in (listed if isinstance(listed, list) else [])
        if isinstance(source, dict) and isinstance(source.get("name"), str) and isinstance(source.get("license"), str)
    ]


def _licensed(card: Any, stated: dict[str, str]) -> Any:
    if not isinstance(card, dict) or not _sources(card) or len(_sources(card)) != len(card["sources"]):
        return card  # damaged; check_training_data reports it
    sources = []
    for source in card["sources"]:
        license = known_license(source["license"])
        given = {"license": stated[source["name"]], STATED: "at export"} if not license and source["name"] in stated else {}
        sources.append({**source, **({"license": license} if license else given)})
    whole = all({"hours", "clips"} <= set(source) for source in sources)
    return {**card, "sources": each_once(sources) if whole else sources}


def shown(source: dict[str, Any]) -> str:
    """Return a source's licence for the cards."""
    return f"{source['license']} (stated {source[STATED]})" if source.get(STATED) else str(source["license"])

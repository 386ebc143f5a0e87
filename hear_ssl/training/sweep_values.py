"""The values of a sweep: `key=a,b` arguments, their combinations, and the name of each. Needs no torch.

Values are separated by commas. A comma within brackets, braces or quotes belongs to the value: `data.crops=[{seconds: 1}],[{seconds: 2}]`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence

CLOSING = {"[": "]", "{": "}", "(": ")"}
OWN = ("run", "output", "name", "base")  # keys for the location of a sweep, not for its training
LONGEST = 100  # characters of a folder's name


def parse_sweep(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key of `key=a,b` arguments, as they are written. Raises ValueError for another form, or a key twice."""
    keys: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise ValueError(f"--sweep {argument!r} is not of the form key=value,value, such as seed=0,1")
        if key in OWN:
            raise ValueError(f"--sweep cannot vary {key}; each run has a folder of its own in the sweep's, which run=FOLDER names")
        if key in keys:
            raise ValueError(f"--sweep has {key} twice; give its values in one argument, separated by commas")
        keys[key] = split_values(argument, text)
    return keys


def split_values(argument: str, text: str) -> list[str]:
    """Return the values of a text, separated by commas outside of brackets, braces and quotes; `argument` is named in errors."""
    values, closing, quote = [""], list[str](), ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (closing or not values[-1].strip()):  # elsewhere it is an apostrophe
            quote = character
        elif character in CLOSING:
            closing.append(CLOSING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            values.append("")
            continue
        values[-1] += character
    values = [value.strip() for value in values]
    if quote or closing:
        raise ValueError(f"--sweep {argument!r} has no {quote or closing[-1]} at its end; close every bracket and quote")
    if "" in values:
        raise ValueError(f"--sweep {argument!r} has an empty value; separate the values by one comma each")
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"--sweep {argument!r} has the value {twice} twice; leave one out")
    return values


def combined(keys: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return every combination of values as `key=value` texts by its name; the last key changes fastest.

    Names contain the keys with several values, shortened to their last part if that is unique: temperature=0.1,seed=0. Characters that
    a folder's name should not have become hyphens. If that, or shortening, makes two names equal, they end with a hash of the values.
    """
    varied = [key for key, values in keys.items() if len(values) > 1] or list(keys)
    last = Counter(key.rpartition(".")[2] for key in varied)
    short = {key: name if last[name := key.rpartition(".")[2]] == 1 and not name.isdecimal() else key for key in varied}
    made = [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]
    names = [",".join(f"{safe(short[key])}={safe(one[key])}" for key in varied) for one in made]
    clashing = Counter(name[:LONGEST].lower() for name in names)
    found = {}
    for name, one in zip(names, made, strict=True):
        texts = [f"{key}={value}" for key, value in one.items()]
        if len(name) > LONGEST or clashing[name[:LONGEST].lower()] > 1:
            name = f"{name[:LONGEST]}-{hashlib.sha256(repr([one[key] for key in varied]).encode()).hexdigest()[:8]}"
        found[name] = texts
    return found


def safe(text: str) -> str:
    """Return a text with only characters that a folder's name can have."""
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-") or "none"

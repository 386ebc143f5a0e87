"""Options of the model's parts: frozen dataclasses that the manifest in the wheel records.

Each field is declared with `option`, which keeps its unit, meaning and allowed range next to the default, so that the training
config, its help page and the manifest reader use the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar, get_type_hints

Options = TypeVar("Options")
Classes = Mapping[str, Type[Any]]  # of parts, by their short names
SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)


def option(
    default: Any,
    help: str,
    unit: str = "",
    low: Optional[float] = None,
    high: Optional[float] = None,
    choices: Tuple[Any, ...] = (),
) -> Any:
    """Declare a config field and return the dataclass field.

    low and high are inclusive bounds in `unit`; lists are checked element by element.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FrontendConfig:
    """Log spectrogram in mel or pitch bands, with fixed normalisation statistics."""

    sample_rate: int = option(16000, "sample rate of the model's input; callers resample", "Hz", choices=SAMPLE_RATES)
    layout: str = option(
        "mel",
        "bands equally spaced in mel, with one window (mel), or in pitch, each with the shortest window that resolves it (log)",
        choices=("mel", "log"),
    )
    n_fft: int = option(1024, "length of the Fourier transform; log layout: longest window, for the lowest bands", "samples", 16, 65536)
    win_length: int = option(1024, "mel layout: length of the Hann window, at most n_fft", "samples", 16, 65536)
    min_window: int = option(512, "log layout: shortest window, for the highest bands; n_fft / 2, / 4, ...", "samples", 16, 65536)
    hop_length: int = option(160, "step between frames", "samples", 1, 65536)
    n_mels: int = option(64, "bands", "bands", 1, 1024)
    f_min: float = option(60.0, "lower edge of the lowest band; above 0 in the log layout", "Hz", 0.0)
    f_max: float = option(7800.0, "upper edge of the highest band, at most half the sample rate", "Hz", 1.0)
    log_offset: float = option(1e-6, "added to the power of a band before the logarithm", "power", 1e-12, 1.0)
    mean: float = option(-5.0, "subtracted from the log features", "ln power")
    std: float = option(4.0, "divisor of the log features", "ln power", 1e-3)


@dataclass(frozen=True)
class Part:
    """A class that a config selects by name, such as an encoder, with the values of its options.

    key: its short name, or path/to/file.py:Class for a user's class, with the `sha256` of its file. options: an instance of the
    dataclass `kind.Options`.
    """

    key: str
    kind: Type[Any]
    options: Any
    sha256: str = ""

    @property
    def name(self) -> str:
        """The short name; the class name of a user's class."""
        return self.key.rpartition(":")[2]


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check every field of a dataclass and of the dataclasses nested in it against its declared range.

    Raises ValueError that names the key, the given value and the allowed values.
    """
    for item in fields(settings):
        value, key = getattr(settings, item.name), prefix + item.name
        if isinstance(value, dict):
            elements = [(key, element) for element in value.values()]
        elif isinstance(value, (list, tuple)):
            elements = [(f"{key}.{place}" if isinstance(element, Part) else key, element) for place, element in enumerate(value)]
        else:
            elements = [(key, value)]
        for place, (name, element) in enumerate(elements):
            if isinstance(element, Part):
                check_ranges(element.options, f"{name}.{element.name}.")
            elif is_dataclass(element):
                check_ranges(element, f"{name}." if element is value else f"{name}[{place}].")
            else:
                _check_value(name, element, item.metadata)


def _check_value(key: str, value: Any, rules: Any) -> None:
    choices, low, high = rules.get("choices"), rules.get("low"), rules.get("high")
    if choices and value not in choices:
        raise ValueError(f"{key} is {value!r}; allowed are {', '.join(map(str, choices))}")
    if value is None or isinstance(value, (str, bool)):
        return
    if value != value or (low is not None and value < low) or (high is not None and value > high):
        bounds = " and ".join(f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None)
        raise ValueError(f"{key} is {value}; it must be {bounds or 'a number'} {rules.get('unit', '')}".rstrip())


@dataclass(frozen=True)
class NoOptions:
    """The options of a class that declares none."""


def options_of(kind: Type[Any]) -> Type[Any]:
    """Return the dataclass with the options of a part's class. Raises ValueError when its `Options` is not a frozen dataclass."""
    options: Type[Any] = getattr(kind, "Options", NoOptions)
    if not (isinstance(options, type) and is_dataclass(options) and "__setattr__" in vars(options)):
        raise ValueError(f"{kind.__name__}.Options must be a class with @dataclass(frozen=True)")
    return options


def select(classes: Classes, key: str, options: Any, where: str) -> Part:
    """Return the part with this name and these options; omitted options have their defaults.

    Raises ValueError that names the key in `where` when there is no such class, or an option is unknown, of the wrong type or out of
    range.
    """
    name = key.rpartition(":")[2]
    if name not in classes:
        close = get_close_matches(name, list(classes), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"{where} has no {printable(name)!r}{hint}; allowed are {', '.join(classes)} or path/to/file.py:Class")
    return Part(key, classes[name], from_mapping(options_of(classes[name]), options, f"{where}.{name}"))


def from_mapping(kind: Type[Options], mapping: Any, where: str, classes: Optional[Mapping[str, Classes]] = None) -> Options:
    """Build a settings dataclass from parsed JSON and check its types and ranges; a Part is chosen from the `classes` of its field.

    Raises ValueError that names the key in `where` that is unknown, of the wrong type or out of range.
    """
    settings = _build(kind, mapping, where, classes or {})
    check_ranges(settings, where + ".")
    return settings


def printable(text: str) -> str:
    """Return the first 80 characters of a text from a file, with control characters replaced by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text[:80])


def _build(kind: Type[Options], mapping: Any, where: str, classes: Mapping[str, Classes]) -> Options:
    if not isinstance(mapping, dict):
        raise ValueError(f"{where} is a {type(mapping).__name__}; it must be an object with the keys of {kind.__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(map(str, set(mapping) - set(hints)))
    if unknown:
        raise ValueError(f"{where}.{printable(unknown[0])} is not known; allowed are {', '.join(hints) or 'no options'}")
    values: Dict[str, Any] = {
        name: _convert(hints[name], value, f"{where}.{name}", classes.get(name, {})) for name, value in mapping.items()
    }
    return kind(**values)


def _convert(hint: Any, value: Any, where: str, classes: Classes) -> Any:
    if hint is Part:
        return _convert_part(value, where, classes)
    if is_dataclass(hint):
        return _build(hint, value, where, {})  # type: ignore[arg-type]
    if type(None) in getattr(hint, "__args__", ()):  # Optional[...]
        kind = next(kind for kind in hint.__args__ if kind is not type(None))
        return None if value is None else _convert(kind, value, where, classes)
    origin = getattr(hint, "__origin__", hint)
    if origin in (list, tuple):
        _require(value, (list, tuple), where, "a list")
        return origin(_convert(hint.__args__[0], element, f"{where}[{index}]", classes) for index, element in enumerate(value))
    if origin is dict:
        _require(value, (dict,), where, "an object")
    return value if origin in (dict, Any) else _convert_scalar(hint, value, where)


def _convert_part(value: Any, where: str, classes: Classes) -> Part:
    value = {value: {}} if isinstance(value, str) else value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"{where} must be an object with one name and its options")
    ((key, options),) = value.items()
    return select(classes, str(key), options, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where} is larger than any float") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} is {value!r}; it must be of type {hint.__name__}")
    return value


def _require(value: Any, kinds: Tuple[Type[Any], ...], where: str, name: str) -> None:
    if not isinstance(value, kinds):
        raise ValueError(f"{where} is a {type(value).__name__}; it must be {name}")


def to_mapping(settings: Any) -> Dict[str, Any]:
    """Convert a settings dataclass to a plain dict for JSON and checkpoints; tuples become lists."""
    plain: Dict[str, Any] = _plain(settings)
    return plain


def _plain_options(value: Any) -> Any:
    return _plain(value.options if isinstance(value, Part) else value)


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return {value.key: _plain(value.options)}
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {element.key if isinstance(element, Part) else key: _plain_options(element) for key, element in value.items()}
    return [_plain(element) for element in value] if isinstance(value, (list, tuple)) else value

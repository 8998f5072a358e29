"""Values of `config.json`, checked against the dataclass that they fill. Errors name the setting."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from primitives.text import is_encodable
from training.engine.errors import ConfigError

_LARGEST = 2**53  # of whole numbers: what every reader of JSON keeps exactly
_LONGEST_OBJECT = 10_000  # as JSON


def build(cls: Any, data: Any, prefix: str = "") -> Any:
    """Return `data` as an instance of the dataclass `cls`, or raise ConfigError naming the setting."""
    if not isinstance(data, Mapping):
        if not prefix:
            raise ConfigError(None, "The configuration must be an object of settings.")
        raise ConfigError(prefix.rstrip("."), "must be an object of settings.")
    options = {option.name: option for option in dataclasses.fields(cls)}
    for key in data:
        if key not in options:
            name = "".join(one if one.isprintable() else "?" for one in str(key)[:100])
            near = difflib.get_close_matches(name, options, n=1)
            hint = f" Did you mean {prefix}{near[0]}?" if near else ""
            raise ConfigError(prefix + name, f"Unknown setting {prefix}{name}.{hint}", separator=None)
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, option in options.items():
        if name in data:
            values[name] = _check(prefix + name, data[name], hints[name], option.metadata)
        elif option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING:
            raise ConfigError(prefix + name, "is missing.")
    return cls(**values)


def within_bounds(cls: Any, data: Any) -> Any:
    """Return stored settings with the bound in place of each whole number above it: it may be newer than they are."""
    if not isinstance(data, Mapping):
        return data
    hints, lowered = get_type_hints(cls), dict(data)
    for option in dataclasses.fields(cls):
        value, high = data.get(option.name), option.metadata["high"]
        kinds = get_args(hints[option.name]) or (hints[option.name],)
        if dataclasses.is_dataclass(kinds[0]) and option.name in data:
            lowered[option.name] = within_bounds(kinds[0], value)
        elif int in kinds and high is not None and isinstance(value, (int, float)) and value > high:
            lowered[option.name] = high
    return lowered


def _check(name: str, value: Any, hint: Any, bounds: Mapping[str, Any]) -> Any:
    """Return `value` as the type that `hint` names, or raise ConfigError naming `name`."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = get_origin(kinds[0]) or kinds[0]
    if value is None and NoneType in kinds:
        return None
    if dataclasses.is_dataclass(kind):
        return build(kind, value, name + ".")
    if kind in (int, float):
        return _check_number(name, value, kind is float, bounds)
    if any(get_origin(other) is tuple for other in kinds) and (
        isinstance(value, (list, tuple)) or kind is tuple
    ):
        return _check_list(name, value, bounds)
    if not isinstance(value, kind) or value == "":
        wanted = {bool: "true or false", dict: "an object", str: "a non-empty string"}[kind]
        raise ConfigError(name, f"must be {wanted}, not {shortened(value)}.")
    if kind in (str, dict):
        _check_encodable(name, value)
    if kind is str and len(value) > bounds["longest"]:
        raise ConfigError(name, f"must be at most {bounds['longest']} characters, not {len(value)}.")
    if kind is dict and len(json.dumps(value)) > _LONGEST_OBJECT:
        raise ConfigError(name, f"must be at most {_LONGEST_OBJECT} characters of JSON.")
    if bounds["choices"] and value not in bounds["choices"]:
        raise ConfigError(name, f"must be one of {', '.join(bounds['choices'])}, not {shortened(value)}.")
    return value


def _check_list(name: str, value: Any, bounds: Mapping[str, Any]) -> tuple[str, ...]:
    is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)
    if not is_list or not (value or bounds["may_be_empty"]):
        what = "a list of texts" if bounds["may_be_empty"] else "a non-empty list of names"
        raise ConfigError(name, f"must be {what}.")
    if len(value) > bounds["most"] or any(len(item) > bounds["longest_item"] for item in value):
        raise ConfigError(
            name, f"must be at most {bounds['most']} names of at most {bounds['longest_item']} characters."
        )
    _check_encodable(name, list(value))
    for item in value if bounds["choices"] else ():
        if item not in bounds["choices"]:
            choices = ", ".join(bounds["choices"])
            raise ConfigError(name, f"must be names out of {choices}, not {shortened(item)}.")
    return tuple(value)


def _check_encodable(name: str, value: Any) -> None:
    """Refuse half a character anywhere in a value: no file, tokenizer or template can hold it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # it takes more of the stack than the parser did
        raise ConfigError(name, "is nested too deeply.") from None
    if not is_encodable(text):
        raise ConfigError(name, "holds half a character (a lone surrogate).")


def shortened(value: Any) -> str:
    """Return a value as Python writes it, cut to a length that fits into a sentence."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _check_number(name: str, value: Any, fractional: bool, bounds: Mapping[str, Any]) -> float | int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(name, f"must be a number, not {shortened(value)}.")
    if abs(value) > _LARGEST and (isinstance(value, int) or not fractional):
        raise ConfigError(name, f"must be a number of at most {_LARGEST}.")
    if not fractional and value != int(value):
        raise ConfigError(name, f"must be a whole number, not {value!r}.")
    number: float | int = float(value) if fractional else int(value)
    low, above, high, below = bounds["low"], bounds["above"], bounds["high"], bounds["below"]
    if low is not None and number < low:
        raise ConfigError(name, f"must be at least {low}, not {value}.")
    if above is not None and number <= above:
        raise ConfigError(name, f"must be greater than {above}, not {value}.")
    if high is not None and number > high:
        raise ConfigError(name, f"must be at most {high}, not {value}.")
    if below is not None and number >= below:
        raise ConfigError(name, f"must be less than {below}, not {value}.")
    return number

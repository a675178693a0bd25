"""From the options of `spi sweep`, and a config file of the same names, to the specification of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import ConfigError
from bridge.running.config import read_config_file

if TYPE_CHECKING:
    from theory.sweeping.spec import ResidualSweepSpec, SweepSpec

    Spec = SweepSpec | ResidualSweepSpec

FAMILIES = ("flat", "low-rank", "quarter-circle", "residual")
"""Kinds of chains: what remains of a layer beside its dominant path, or I + F with a low-rank F."""

_REAL_GRIDS = ("gain", "alignment", "gap", "strength", "persistence")
_WHOLE_GRIDS = ("depth", "dimension", "rank")
_WHOLE = ("seeds", "seed", "context_dimension")
_LISTS = ("quantities", "injections")
_WORDS = ("dtype", "simulator", "engine")
_RUN = {"out": Path("runs/sweep"), "workers": None, "limit": None}
KEYS = ("study", "family", *_REAL_GRIDS, *_WHOLE_GRIDS, *_WHOLE, *_LISTS, *_WORDS, "level", *_RUN)
"""Options that a config file may hold, with `-` or `_`."""


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What `spi sweep` is asked to do.

    Attributes:
        spec: the sweep.
        out: its directory.
        workers: processes; None for one.
        limit: number of parts to compute now; None for all.
    """

    spec: Spec
    out: Path
    workers: int | None
    limit: int | None


def make_request(config: Path | None, options: Mapping[str, Any]) -> SweepRequest:
    """Settings from a YAML file and the options given beside it; the options win.

    Args:
        config: YAML mapping of option names to values; None means no file.
        options: option values; None means "not given".

    Raises:
        ConfigError: if the file cannot be read, a key or a study is unknown, a value leaves its range, or an option
            has no meaning in this family.
    """
    given = {} if config is None else {k: v for k, v in read_config_file(config, KEYS).items() if v is not None}
    given |= {name: value for name, value in options.items() if value is not None}
    run = {name: given.pop(name, default) for name, default in _RUN.items()}
    for name in ("workers", "limit"):
        if run[name] is not None:
            run[name] = _whole(name, run[name], 1)
    out = directory_of("out", run["out"])
    return SweepRequest(_spec(given), out, run["workers"], run["limit"])


def directory_of(name: str, value: Any) -> Path:
    """A directory that was named: an empty name would be the current one.

    Raises:
        ConfigError: if it is no name.
    """
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ConfigError(f"{name} must be a directory's name; got {value!r}")
    return Path(value)


def grid(name: str, value: Any) -> tuple[float, ...]:
    """Values of a grid: a number, a list of them, or text as "a,b,c" or "first:last:count".

    Evenly spaced; in the logarithm for gain and strength.

    Raises:
        ConfigError: if it is none of these, or not finite.
    """
    if isinstance(value, str):
        return _grid_of_text(name, value)
    items = value if isinstance(value, list | tuple) else [value]
    if not items or any(isinstance(item, bool) or not isinstance(item, int | float) for item in items):
        raise ConfigError(f"{name} must be a number, a list of numbers or first:last:count; got {value!r}")
    return tuple(items)


def _grid_of_text(name: str, text: str) -> tuple[float, ...]:
    import numpy as np

    try:
        if ":" in text:
            first, last, count = text.split(":")
            if int(count) > 1_000_000:
                raise ConfigError(f"{name} must have at most a million values; got {text!r}")
            space = np.geomspace if name in ("gain", "strength") else np.linspace
            values = np.round(space(float(first), float(last), int(count)), 12).tolist()
        else:
            values = [float(part) for part in text.split(",")]
        if not np.isfinite(values).all():
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name} must be finite values a,b,c or first:last:count; got {text!r}") from error
    whole = name in _WHOLE_GRIDS
    return tuple(int(value) if whole and float(value).is_integer() else value for value in values)


def _spec(given: dict[str, Any]) -> Spec:
    base, family = _base(given.pop("study", None), given.pop("family", None))
    known = {field.name for field in fields(base)}
    changes: dict[str, Any] = {}
    if family != _family_of(base):
        changes["residual"] = family.replace("-", "_")
        if family != "low-rank":
            changes["rank"] = None
    for name, value in given.items():
        if name not in known or (name == "rank" and family in ("flat", "quarter-circle")):
            raise ConfigError(f"{_option(name)} has no meaning for the family {family}")
        changes[name] = _value(name, value, family)
    if family == "low-rank" and changes.get("rank", base.rank) is None:
        raise ConfigError("rank must be given for the family low-rank; got nothing")
    try:
        return replace(base, **changes)
    except (ValueError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _base(study: Any, family: Any) -> tuple[Any, str]:
    """The specification that options change, a study or the default of a family, and the family asked for."""
    from bridge.running.pool import limit_threads

    limit_threads()
    from theory.sweeping.spec import default_sweep

    if family is not None and family not in FAMILIES:
        raise ConfigError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
    if study is None and family != "residual":
        base: Any = default_sweep()
    else:
        from theory.sweeping.studies import studies

        known = studies()
        name = "residual" if study is None else study
        if not isinstance(name, str) or name not in known:
            raise ConfigError(f"study must be one of {', '.join(known)}; got {name!r}")
        base = known[name]
    if family is None:
        return base, _family_of(base)
    if family != _family_of(base) and "residual" in (family, _family_of(base)):
        raise ConfigError(f"study {study} is of the family {_family_of(base)}; got the family {family}")
    return base, family


def _family_of(base: Any) -> str:
    return str(getattr(base, "residual", "residual")).replace("_", "-")


def _value(name: str, value: Any, family: str) -> Any:
    if name == "rank" and family == "low-rank":
        values = grid(name, value)
        return _whole(name, values[0] if len(values) == 1 else value, 1)
    if name in (*_REAL_GRIDS, *_WHOLE_GRIDS):
        return grid(name, value)
    if name in _WHOLE:
        return _whole(name, value, 0 if name == "seed" else 1)
    if name in _LISTS:
        items = value if isinstance(value, list | tuple) else str(value).split(",")
        return tuple(item.strip() if isinstance(item, str) else item for item in items if item != "")
    return value


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{_option(name)} must be a whole number of at least {least}; got {value!r}")
    return value


def _option(name: str) -> str:
    return name.replace("_", "-")

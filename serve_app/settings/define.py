"""How a setting is defined: one field with its default, bounds, meaning, and every other name it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

ENV_PREFIX = "STT_"


class SettingsError(ValueError):
    """Settings that cannot be used: `problems` holds one line for each, `str(error)` all of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True, slots=True)
class About:
    """What the documentation and the loader know of a field beside its type.

    `aliases` are variables of other servers, `flags` start flags beside the field's own name.
    """

    meaning: str
    aliases: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    secret: bool = False


_BOUNDS: Final = ("ge", "gt", "le", "lt", "max_length")


def setting(
    default: Any,
    meaning: Any,
    *aliases: str,
    flags: tuple[str, ...] = (),
    secret: bool = False,
    more: str = "",
    in_s: bool = False,
    **bounds: Any,
) -> Any:
    """One field of `Settings`; `bounds` are pydantic's (ge, le, gt, min_length, ...).

    `meaning` is a text, or the type of an option that clients may choose too (`MinSilenceMs`): meaning and
    bounds are its own then, `more` is added to its meaning. `in_s`: a setting in seconds of an option, bounds
    and default in milliseconds.
    """
    if not isinstance(meaning, str):
        (option,) = (part for part in get_args(meaning) if isinstance(part, msgspec.Meta))
        meaning = f"{(option.description or '').removesuffix('.')}{more}."
        limits = {name: getattr(option, name) for name in _BOUNDS}
        bounds |= {name: _plain(limit, in_s) for name, limit in limits.items() if limit is not None}
        default = _plain(default, in_s)
    extra: dict[str, Any] = {
        "aliases": list(aliases),
        "flags": list(flags),
        "secret": secret,
    }
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)


def _plain(value: Any, in_s: bool) -> Any:
    """Milliseconds as seconds where wanted, and numbers as a person writes them: 30, not 30.0."""
    value = value / 1000 if in_s else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def about(field: FieldInfo) -> About:
    """The `About` of a field that `setting` made."""
    extra: Any = field.json_schema_extra
    return About(
        meaning=field.description or "",
        aliases=tuple(extra["aliases"]),
        flags=tuple(extra["flags"]),
        secret=extra["secret"],
    )


class Section(BaseModel):
    """Base of the groups that `Settings` is made of; its docstring is the group's heading in the docs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        str_strip_whitespace=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

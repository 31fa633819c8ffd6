"""How a setting is defined: one field with its default, bounds, meaning, and every other name it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

    `aliases` are variables of other servers, `flags` start flags beside the field's own name. `later` says
    what does not happen yet when it is given; values in `now` are true today and need no warning.
    """

    meaning: str
    aliases: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    later: str | None = None
    now: tuple[Any, ...] = ()
    secret: bool = False


def setting(
    default: Any,
    meaning: str,
    *aliases: str,
    flags: tuple[str, ...] = (),
    later: str | None = None,
    now: tuple[Any, ...] = (),
    secret: bool = False,
    **bounds: Any,
) -> Any:
    """One field of `Settings`; `bounds` are pydantic's (ge, le, gt, min_length, ...)."""
    extra: dict[str, Any] = {
        "aliases": list(aliases),
        "flags": list(flags),
        "later": later,
        "now": list(now),
        "secret": secret,
    }
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)


def about(field: FieldInfo) -> About:
    """The `About` of a field that `setting` made."""
    extra: Any = field.json_schema_extra
    return About(
        meaning=field.description or "",
        aliases=tuple(extra["aliases"]),
        flags=tuple(extra["flags"]),
        later=extra["later"],
        now=tuple(extra["now"]),
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

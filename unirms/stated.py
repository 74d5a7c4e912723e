"""The base of what users state in parts: clips, groups and schedules, whose constructors raise unirms's own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from unirms.errors import ConfigError

if TYPE_CHECKING:

    class Stated(BaseModel):
        """A part of a config. Its constructor raises a `ConfigError` with a sentence for each problem."""

else:

    class _RaisesConfigErrors(type(BaseModel)):
        """The call of a class. Validation of a part within a config does not come here: its errors keep their place."""

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().__call__(*args, **kwargs)
            except ValidationError as error:
                from unirms.problems import explain_problems  # which imports the parts

                raise ConfigError(explain_problems(error.errors(include_url=False), part=cls)) from None

    class Stated(BaseModel, metaclass=_RaisesConfigErrors):
        """A part of a config. Its constructor raises a `ConfigError` with a sentence for each problem."""

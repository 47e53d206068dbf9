"""What both plug-ins take from an evaluation harness's --model_args."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...model import OscarModel


def load_model(pretrained: str, arguments: dict[str, Any]) -> OscarModel:
    """The model of a command line.

    Args:
        pretrained: as oscar_x.load takes it, and the command line's embedded models.
        arguments: of oscar_x.load; texts as a command line gives them.
    """
    from ...cli.options import find_model
    from ...loading import load

    numbers = ("kv_bits", "key_bits", "value_bits")
    given: dict[str, Any] = {name: int(value) if name in numbers else value for name, value in arguments.items()}
    return load(find_model(pretrained), **given)


def until(text: str, stops: Any) -> str:
    """A text up to the first of some strings; one string, several, or none."""
    for stop in [stops] if isinstance(stops, str) else stops or ():
        if stop:
            text = text.split(stop)[0]
    return text

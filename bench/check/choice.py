"""Laws of every choice of conf/, such as ``algo=maml``. A law is a function of a `Choice`."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from bench.check.laws import require
from bench.config.groups import sentences_of
from bench.config.schema import Component


class Choice(NamedTuple):
    """A choice in a config group, with its code and options."""

    group: str
    name: str
    code: Component


Law = Callable[[Choice], None]


def it_names_itself(choice: Choice) -> None:
    """Its name is that of its file."""
    named = choice.code.name
    require(named == choice.name, f"{choice.group}={choice.name} is named {named!r}")


def it_states_all_options(choice: Choice) -> None:
    """It states all options of its code: the keyword-only parameters."""
    parameters = inspect.signature(choice.code.resolve()).parameters.values()
    wanted = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    missing = ", ".join(sorted(wanted - set(choice.code.options)))
    require(not missing, f"it does not state {missing}")


def every_key_has_a_sentence(choice: Choice) -> None:
    """Above each key is a comment of one sentence, which is its help text."""
    sentences = sentences_of(choice.group, choice.name)
    for key in ("name", "target", *choice.code.options):
        sentence = sentences.get(f"{choice.group}.{key}", "")
        require(sentence.endswith("."), f"{choice.group}.{key} has none")


LAWS: tuple[Law, ...] = (it_names_itself, it_states_all_options, every_key_has_a_sentence)

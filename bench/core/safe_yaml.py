"""Reading untrusted YAML, without aliases."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A loader that rejects aliases, by which a short text can expand to a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has references")
        return super().compose_node(parent, index)


def plain_yaml(text: str) -> Any:
    """Return the content of a YAML text without aliases; raise YAMLError or ValueError."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("it is too deep") from None

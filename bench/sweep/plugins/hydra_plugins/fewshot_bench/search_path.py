"""Hydra's search path for configurations: ours, then those of plug-in packages."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class Extensions(SearchPathPlugin):
    """Adds the folders of `bench.config.plugins`, for the commands of this suite alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the conf/ folders of plug-in packages to the search path."""
        from bench.config.plugins import CONF, extensions

        main = next((each.path for each in search_path.get_path() if each.provider == "main"), "")
        if main.removeprefix("file://") == str(CONF):
            for each in extensions():
                search_path.append(each.name, f"file://{each.conf}")

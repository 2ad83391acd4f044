"""Where Hydra looks for configurations: in ours, then in those of third parties."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class Extensions(SearchPathPlugin):
    """Adds the folders of `bench.extensions`, for the commands of this suite alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from bench.extensions import CONF, extensions

        main = next((each.path for each in search_path.get_path() if each.provider == "main"), "")
        if main.removeprefix("file://") == str(CONF):
            for each in extensions():
                search_path.append(each.name, f"file://{each.conf}")

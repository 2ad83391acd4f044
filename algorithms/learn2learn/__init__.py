"""The same methods as learn2learn 0.2.0 runs them: peers to compare the speed with.

https://github.com/learnables/learn2learn (Arnold et al. 2020, arXiv 2008.12284). They use that
library's own classes and its examples' loop over tasks behind our contract, on our backbones and
episodes, so that losses and gradients are those of our learners and only the way there differs.
"""

import contextlib
import io
import warnings

# Its import prints the notices of unmaintained dependencies.
with (
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
    warnings.catch_warnings(),
):
    warnings.simplefilter("ignore")
    import learn2learn  # noqa: F401

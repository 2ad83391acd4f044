"""The same methods as implemented by learn2learn 0.2.0: peers for comparing speed.

https://github.com/learnables/learn2learn (Arnold et al. 2020, arXiv 2008.12284). They use the
classes of that library and the loop over tasks of its examples behind our learner interface, on our
backbones and episodes, so that losses and gradients equal those of our learners and only the
computation differs.
"""

import contextlib
import io
import warnings

# Importing it prints notices of its unmaintained dependencies.
with (
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
    warnings.catch_warnings(),
):
    warnings.simplefilter("ignore")
    import learn2learn  # noqa: F401

"""What is shown as a result is what the stored runs say."""

import re
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from bench import report
from bench.report import build, gather
from bench.report.rows import SCORE, comparisons, with_labels
from bench.report.tables import cell_text

ROOT = Path(__file__).parent.parent
OMNIGLOT = ROOT / "results" / "reference" / "omniglot-cpu"


@pytest.mark.parametrize("name", ["omniglot-cpu", "saturation-cpu"])
def test_tables_and_figures_are_those_of_the_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"png": report.image, "pdf": lambda *_: b""}  # PDF files are not compared
    monkeypatch.setattr(report, "image", lambda figure, kind: drawn[kind](figure, kind))
    shown = ROOT / "results" / "reference" / name
    shutil.copytree(shown / "runs", tmp_path / "runs")
    built = {str(path.relative_to(tmp_path)) for path in build(tmp_path).paths}
    files = [path for path in shown.rglob("*") if path.is_file() and "runs" not in path.parts]
    kept = {str(path.relative_to(shown)) for path in files} - {"README.md"}
    assert kept <= built and {Path(file).suffix for file in kept} >= {".csv", ".md", ".png", ".pdf"}
    for file in kept:
        assert_same(shown / file, tmp_path / file)


def assert_same(old: Path, new: Path) -> None:
    """The same text, numbers or picture; digits and pixels as exact as other processors allow."""
    if old.suffix == ".md":
        assert old.read_text(encoding="utf-8") == new.read_text(encoding="utf-8"), old
    elif old.suffix == ".csv":
        pd.testing.assert_frame_equal(pd.read_csv(old), pd.read_csv(new), rtol=1e-9, obj=str(old))
    elif old.suffix == ".png":
        one, other = imread(old), imread(new)
        assert one.shape == other.shape and np.abs(one - other).mean() < 1e-3, old


def test_the_table_of_the_readme_is_that_of_the_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (comparison,) = comparisons(with_labels(gather(OMNIGLOT).records), SCORE)
    for name in {row["label"] for row in comparison.rows}:
        cells = []
        for setting in ("5-way 1-shot", "5-way 5-shot"):
            seconds = fmean(row["train_seconds"] for row in comparison.at(name, setting))
            text = cell_text(comparison, name, setting).removesuffix(" (3 seeds)")
            cells += [text, f"{seconds:.0f} s"]
        assert f"| {name} | {' | '.join(cells)} |" in readme
    figures = re.findall(r"!\[[^]]+\]\((\S+)\)", readme)
    assert len(figures) == 2 and all((ROOT / figure).exists() for figure in figures)

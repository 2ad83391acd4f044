"""The table of speed ratios, from the file that pytest-benchmark saves."""

import json
from pathlib import Path

import pytest

from bench.report import speed

RESULT = {
    "work": "MAML",
    "ours_tasks_per_s": 1234.5,
    "ours_layout": "1 x 2",
    "peer_tasks_per_s": 600.04,
    "peer_layout": "2 x 1",
    "ratio": 2.057,
    "ratio_low": 2.0,
    "ratio_high": 2.1,
    "rounds": 7,
    "stolen": 0.034,
}


def saved(folder: Path, *infos: dict) -> str:
    file = folder / "speed.json"
    file.write_text(json.dumps({"benchmarks": [{"extra_info": info} for info in infos]}))
    return str(file)


def test_the_command_prints_a_row_for_each_comparison(tmp_path, capsys):
    assert speed.main([saved(tmp_path, RESULT, {"other": 1})]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2] == (
        "| MAML | 1,234.5 | 1 x 2 | 600.0 | 2 x 1 | **2.06x** | 2.00 to 2.10 | 3% |"
    )


def test_cost_at_scale_is_a_table_of_its_own(tmp_path, capsys):
    growth = {
        "work": "MAML",
        "axis": "ways",
        "sizes": [5, 10, 1000],
        "ms": [4.567, 99.97, 1234.5],
        "mib": [3.4, 20.0, 1000.0],
        "exponent": 1.06,
    }
    assert speed.main([saved(tmp_path, growth)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert (
        lines[2] == "| MAML | ways | 5 / 10 / 1,000 | 4.57 / 100 / 1,234 | 3 / 20 / 1,000 | 1.1 |"
    )

    assert speed.main([saved(tmp_path, growth, RESULT)]) == 0
    ratios, scale = capsys.readouterr().out.split("\n\n")
    assert ratios.count("\n") == 2 and "2.06x" in ratios and "ways" in scale


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "Cannot read"),
        ("no json", "is no JSON file of pytest-benchmark"),
        ('{"benchmarks": []}', "holds no comparison"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path, capsys, content, sentence):
    file = tmp_path / "speed.json"
    if content is not None:
        file.write_text(content)
    assert speed.main([str(file)]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1

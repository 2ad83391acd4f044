"""Tables: golden text, order, mixing of protocols, seeds, failed cells."""

import io
import random
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from bench.report import tables
from tests.bench.report.samples import ACCURACY, failed, record, timed

RATES = {"examples_per_s": 4096.0, "ms_median": 312.1, "ms_iqr": 8.0, "tasks_per_call": 16}


def phases(train: float, adapt: float, infer: float) -> list[dict[str, object]]:
    named = {"infer": infer, "train": train, "adapt": adapt}
    return [
        {"phase": phase, "tasks_per_s": value, "calls": 10, "peak_mib": None, **RATES}
        for phase, value in named.items()
    ]


FIXED = [
    record("maml", score=93.21, ci95=0.42, train_seconds=231.2, throughput=phases(51.2, 99, 4e3)),
    record("protonet", score=98.97, ci95=0.04, train_seconds=12.5, throughput=phases(1, 2, 3)),
    record("reptile", shots=5, score=90.0, ci95=0.5, train_seconds=7300.0, transductive=True),
    failed("maml", shots=5),
]
FIXED[2]["throughput"] = []


def score_markdown(rows: list) -> str:
    return tables.joined(tables.score_tables(rows))


def test_accuracy_markdown_golden() -> None:
    assert score_markdown(FIXED) == (
        "### omniglot\n"
        "\n"
        "| Learner | 5-way 1-shot | 5-way 5-shot |\n"
        "| --- | ---: | ---: |\n"
        "| MAML | 93.2 ± 0.4 | failed |\n"
        "| Reptile † | – | 90.0 ± 0.5 |\n"
        "| ProtoNet | 98.97 ± 0.04 | – |\n"
        "\n"
        "Test accuracy in %; ±: 95 % interval over 1000 test episodes of one trained model. "
        "In each column all learners are tested on the same episodes; chance is 20 % at 5 ways. "
        "Code 01234567, data digest ab12cd34, backbone conv4, filters 64, queries 15, precision fp32, "
        "train examples 200000, episodes 1000. "
        "† transductive: a prediction may depend on the other queries of its episode. "
        "Failed: maml-omniglot-5w5s-seed0-1a2b3c4d (Out of memory).\n"
    )


def test_accuracy_latex_golden() -> None:
    lines = tables.latex(tables.score_tables(FIXED)).split("\n")
    assert lines[0] == r"\begin{table}"
    assert lines[1].startswith(
        r"\caption{omniglot. Test accuracy in \%; ±: 95 \% interval over 1000"
    )
    assert lines[2:] == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"Learner & 5-way 1-shot & 5-way 5-shot \\",
        r"\midrule",
        r"MAML & 93.2 ± 0.4 & failed \\",
        r"Reptile † & – & 90.0 ± 0.5 \\",
        r"ProtoNet & 98.97 ± 0.04 & – \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    strange = tables.latex(tables.score_tables([record("my_learner", dataset="a_b")]))
    assert r"my\_learner &" in strange and r"\caption{a\_b. Test" in strange
    assert tables.latex([]) is None


def test_latex_of_signs_and_weights() -> None:
    text = tables.latex(
        [tables.Table("T", ["a", "p"], [["A ≈ B", "< 0.001"], [r"\x^~", "**9** *8*"]])]
    )
    assert r"A $\approx$ B & $<$ 0.001 \\" in text
    assert r"\textbackslash{}x\textasciicircum{}\textasciitilde{} & \textbf{9} \emph{8} \\" in text


def test_throughput_markdown_golden() -> None:
    assert tables.joined(tables.throughput_tables(FIXED)) == (
        "### omniglot\n"
        "\n"
        "| Learner | 5-way 1-shot |\n"
        "| --- | ---: |\n"
        "| MAML | 51.2 / 99.0 / 4,000 |\n"
        "| ProtoNet | 1.00 / 2.00 / 3.00 |\n"
        "\n"
        "Tasks per second: train / adapt / infer, the mean over seeds. Backbone conv4, filters 64, "
        "queries 15, precision fp32, device cpu, device name Some CPU @ 2.0 GHz, threads 2, "
        "torch 2.15.0.\n"
    )


def test_how_well_training_scales_is_a_row() -> None:
    rows = [
        record(algo, seed=seed, processes=2) for algo in ("maml", "protonet") for seed in (0, 1)
    ]
    for row, share in zip(rows, (0.9, 0.8), strict=False):
        next(e for e in row["throughput"] if e["phase"] == "train")["scaling_efficiency"] = share
    text = tables.joined(tables.throughput_tables(rows))
    assert "| MAML, scaling efficiency | 0.85 |" in text and "processes 2" in text
    assert text.count("scaling efficiency |") == 1 and tables.EFFICIENCY_NOTE in text


def test_accuracy_csv_golden() -> None:
    lines = tables.to_csv(tables.score_table(FIXED, ACCURACY)).split("\n")
    assert lines[0] == (
        "algo,dataset,ways,shots,seed,accuracy,ci95,episodes,transductive,episodes_digest,status,"
        "reason,schema,cell,queries,order,algo_options,examples,norm_statistics,code,elapsed_seconds,train_process_seconds,data_digest,backbone,backbone_options,"
        "parameters,train_ways,train_shots,train_queries,train_examples,train_split,optimizer,momentum,"
        "weight_decay,lr,lr_schedule,clip_value,label_smoothing,augmentation,validations,val_episodes,val_score,selected_episode,train_episodes,train_seconds,"
        "meta_batch,device,device_name,threads,processes,launcher,precision,deterministic,python,created,torch,version,"
        "commit"
    )
    assert lines[1] == (
        "maml,omniglot,5,1,0,93.21,0.42,1000,False,9f0501aabbccdd,done,,1,"
        'maml-omniglot-5w1s-seed0-1a2b3c4d,15,2,"{""inner_steps"": 5}",images,running,'
        "0123456789abcdef,544.9,435.9,ab12cd34ef56,conv4,"
        '"{""filters"": 64}",28357,5,1,5,200000,train,adam,0.0,0.0,0.002,cosine,,0.0,none,5,100,'
        "96.248,24000,24000,231.2,16,cpu,"
        "Some CPU @ 2.0 GHz,2,1,basic,fp32,False,3.11.7,2026-11-23T13:57:54+00:00,2.15.0,0.1.0,abc1234"
    )
    assert lines[3] == (
        "maml,omniglot,5,5,0,,,,False,,failed,Out of memory.,1,maml-omniglot-5w5s-seed0-1a2b3c4d,"
        '15,2,"{""inner_steps"": 5}",images,running,0123456789abcdef,,,ab12cd34ef56,conv4,'
        '"{""filters"": 64}",28357,5,5,5,200000,'
        "train,adam,0.0,0.0,0.002,cosine,,0.0,none,5,100,,,,,16,cpu,"
        "Some CPU @ 2.0 GHz,2,1,basic,fp32,False,3.11.7,2026-11-23T13:57:54+00:00,2.15.0,0.1.0,abc1234"
    )
    assert lines[5:] == [""]


def test_throughput_csv_golden() -> None:
    lines = tables.to_csv(tables.throughput_table(FIXED)).split("\n")
    assert lines[0].startswith(
        "algo,dataset,ways,shots,device,phase,tasks_per_s,examples_per_s,ms_median,peak_mib,"
        "gflop_per_task,gflop_per_s,matmul_share,power_w,joules_per_1000_tasks,seed,"
    )
    assert lines[1].startswith(
        "maml,omniglot,5,1,cpu,train,51.2,4096.0,312.1,,,,,,,0,8.0,16,10,Some"
    )
    assert [line.split(",")[5] for line in lines[1:4]] == ["train", "adapt", "infer"]
    assert len(lines) == 1 + 6 + 1


def test_saturation_markdown_golden() -> None:
    rates = {"maml": {1: 10.0, 4: 95.0, 16: 100.0}, "protonet": {4: 20.0, 16: 30.0}}
    rows = [
        record(algo, meta_batch=size, cell=f"{algo}{size}", throughput=timed(speed))
        for algo, each in rates.items()
        for size, speed in each.items()
    ]
    rows.append(record("maml", shots=5, cell="of one meta-batch alone"))
    assert tables.joined(tables.saturation_tables(rows)) == (
        """### omniglot, 5-way 1-shot

| Meta-batch | 1 | 4 | 16 | saturated at |
| --- | ---: | ---: | ---: | ---: |
| MAML | 10.0 | 95.0 | 100 | 4 |
| ProtoNet | – | 20.0 | 30.0 | > 16 |

Training, tasks per second, the mean over seeds. Saturated: from this meta-batch on, 90% of the \
best rate of its line. Backbone conv4, filters 64, queries 15, precision fp32, device cpu, \
device name Some CPU @ 2.0 GHz, threads 2, torch 2.15.0.
"""
    )
    assert not tables.saturation_tables([rows[0], rows[-2]])


def test_csv_keeps_every_digit() -> None:
    rows = [record(seed=seed, score=value) for seed, value in enumerate((0.1 + 0.2, 1e-7, 95.0))]
    read = pd.read_csv(io.StringIO(tables.to_csv(tables.score_table(rows, ACCURACY))))
    assert read["accuracy"].tolist() == [0.1 + 0.2, 1e-7, 95.0]


def test_order_of_reading_does_not_matter() -> None:
    rows = [record(a, w, s) for a in ("protonet", "maml", "x") for w in (20, 5) for s in (5, 1)]
    rows += [record("maml", 5, 1, seed=1), record("maml", 5, 1, backbone="resnet12", cell="r")]
    rows += [failed("maml", ways=20, seed=3)]

    def everything(records: list[dict[str, object]]) -> list[str]:
        return [
            tables.to_csv(tables.score_table(records, ACCURACY)),
            tables.to_csv(tables.throughput_table(records)),
            score_markdown(records),
            tables.joined(tables.throughput_tables(records)),
            tables.terminal_table(records),
        ]

    wanted = everything(rows)
    for seed in range(5):
        assert everything(random.Random(seed).sample(rows, len(rows))) == wanted


def test_interval_over_seeds_by_hand() -> None:
    # 90, 92, 97: mean 93, standard deviation sqrt(13), half-width 4.30265 * sqrt(13 / 3) = 8.957.
    rows = [
        record(seed=seed, score=value, scores=np.array([value, value]))
        for seed, value in enumerate((90.0, 92.0, 97.0))
    ]
    text = score_markdown(rows)
    assert "| MAML | 93.0 ± 9.0 (3 seeds) |" in text
    said = (
        "±: where 3 seeds were run, 95 % interval around their mean for other seeds and episodes."
    )
    assert said in text
    assert "one trained model" not in text


@pytest.mark.parametrize(
    "change", ["data_digest", "backbone", "train_examples", "queries", "episodes", "precision"]
)
def test_other_protocol_gets_its_own_table(change: str) -> None:
    other = 77 if isinstance(record()[change], int) else "otherone"
    text = score_markdown([record("maml"), record("protonet", **{change: other})])
    assert text.count("### omniglot") == 2
    assert f"### omniglot, {change.replace('_', ' ')} {other}\n\n| Learner | 5-way 1-shot |" in text


@pytest.mark.parametrize("change", ["device", "device_name", "threads", "torch", "precision"])
def test_other_machine_gets_its_own_throughput_table(change: str) -> None:
    other = 77 if change == "threads" else "otherone"
    rows = [record("maml"), record("protonet", **{change: other})]
    assert tables.joined(tables.throughput_tables(rows)).count("### omniglot, ") == 2
    if change != "precision":
        assert score_markdown(rows).count("### omniglot\n") == 1


def test_other_test_episodes_get_their_own_column() -> None:
    rows = [record("maml"), record("protonet", episodes_digest="0123456789")]
    assert "| Learner | 5-way 1-shot, episodes 01234567 | 5-way 1-shot, episodes 9f0501aa |" in (
        score_markdown(rows)
    )


def test_other_network_gets_its_own_table() -> None:
    rows = [record("maml"), record("protonet", backbone_options={"filters": 32})]
    text = score_markdown(rows)
    assert "### omniglot, filters 32\n" in text and "### omniglot, filters 64\n" in text


def test_one_seed_twice_is_not_two_seeds() -> None:
    rows = [record(score=90.0), record(score=94.0, cell="maml-again-55667788")]
    text = score_markdown(rows)
    assert "| MAML [1a2b3c4d] | 90.0 ± 0.4 |" in text
    assert "| MAML [55667788] | 94.0 ± 0.4 |" in text


def test_variants_of_one_algorithm_are_two_learners() -> None:
    text = score_markdown([record(), record(order=1, seed=1)])
    assert "| MAML (order 1) |" in text and "| MAML (order 2) |" in text
    text = score_markdown([record(), record(algo_options={"inner_steps": 9}, seed=1)])
    assert "| MAML (inner steps 5) |" in text and "| MAML (inner steps 9) |" in text


def test_options_that_depend_on_the_setting_make_no_variants() -> None:
    text = score_markdown([record(meta_batch=16), record(ways=20, meta_batch=8)])
    assert text.count("| MAML |") == 1


def test_some_failed_seeds_are_counted() -> None:
    rows = [record(seed=0, score=93.0), failed(seed=1)]
    assert "| MAML | 93.0 ± 0.4 (1 failed) |" in score_markdown(rows)


def test_failed_rows_join_the_first_table_they_fit() -> None:
    rows = [record("maml", backbone=name, cell=name) for name in ("conv4", "resnet12")]
    rows.append(failed("protonet", backbone="resnet12"))
    first, second = score_markdown(rows).split("### omniglot, ")[1:]
    assert "ProtoNet" not in first
    assert "| ProtoNet | failed |" in second


@pytest.mark.parametrize(("fact", "value"), [("clip_value", 0.5), ("train_ways", 20)])
def test_a_fact_that_one_row_has_and_another_lacks_tells_them_apart(
    fact: str, value: float
) -> None:
    rows = [record(**{fact: value}), record(seed=1, cell="maml-other", **{fact: None})]
    text = score_markdown(rows)
    name = fact.replace("_", " ")
    assert f"MAML ({name} none)" in text and text.count("| MAML (") == 2
    assert "seeds)" not in text


def test_chance_is_of_accuracy_alone() -> None:
    loss = {"name": "loss", "label": "cross-entropy", "higher_is_better": False}
    assert "chance" in score_markdown([record()])
    assert "chance" not in score_markdown([record(metric=loss, score=0.4)])


def test_terminal_table_golden() -> None:
    assert tables.terminal_table(FIXED).split("\n")[:8] == [
        "omniglot",
        "learner   setting       accuracy (%)  trans-     train    adapt     infer  training",
        "                                      ductive  tasks/s  tasks/s  images/s      time",
        "--------  ------------  ------------  -------  -------  -------  --------  --------",
        "MAML      5-way 1-shot  93.2 ± 0.4    no          51.2     99.0     4,096    3m 51s",
        "ProtoNet  5-way 1-shot  98.97 ± 0.04  no          1.00     2.00     4,096    12.5 s",
        "MAML      5-way 5-shot  failed        –              –        –         –         –",
        "Reptile   5-way 5-shot  90.0 ± 0.5    yes            –        –         –         –",
    ]


def test_terminal_table_fits_100_columns() -> None:
    names = ("learn2learn/metaoptnet_of_a_long_name", "maml")
    rows = [record(a, 20, 5, seed, device_name="GPU " * 30) for a in names for seed in range(12)]
    for row in rows:
        for entry in row["throughput"]:
            entry["tasks_per_s"], entry["examples_per_s"] = 123456.7, 1234567.8
    rows.append(record("x", 20, 5, backbone="a" * 50, data_digest="e" * 64))
    assert max(len(line) for line in tables.terminal_table(rows).split("\n")) <= 100


def test_tables_change_no_record() -> None:
    before = repr(FIXED)
    for order in list(permutations(FIXED))[:2]:
        score_markdown(order)
        tables.terminal_table(order)
    assert repr(FIXED) == before

"""``--help`` and ``--cfg job``: the options of a cell, each with its description."""

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from bench.config.groups import GROUPS, OTHERS, names, read_sentences, sentences_of
from bench.config.plugins import CONF

HELP = """\
Compare few-shot learners on the same episodes.

  python -m bench                                           one cell with the defaults below
  python -m bench algo=reptile dataset=omniglot             one cell
  python -m bench -m algo=maml,protonet shots=1,5 seed=0,1  a sweep over all combinations
  python -m bench -m launcher=joblib algo=maml,protonet     the same on all cores, see docs/engines/
  python -m bench algo=maml --cfg job                       the options of a cell; runs nothing
  python -m bench tune=optuna algo=maml,protonet            the same with options found by trials
  python -m bench experiment=paper/omniglot_maml_5w1s       as a paper did it, see claimed.md
  python -m bench ... dry_run=true                          how long that would take; runs nothing
  python -m bench.report                                    tables and figures anew, from stored runs
  python -m bench.probe                                     the stored runs under other conditions
  python -m bench.status                                    what became of each cell of the last sweep
  python -m bench.plan workers=8 ...                        what a sweep would take, from measured rows
  python -m bench.reproduce until=170m                      published cells, for so long
  python -m bench.predict RUN support=... images=...        labels of new photographs by a trained learner
  python -m bench.export RUN support=...                    that learner as an ONNX file
  python -m bench.verify                                    stored runs evaluated again: as stored?

Choices:
{choices}

Options, with their defaults (give them as key=value, such as ways=20 train.examples=9000):

{options}"""


def wanted(arguments: list[str]) -> bool:
    """Return whether the command line asks for help or for the options of a cell."""
    return bool({"-h", "--help"} & set(arguments)) or (
        {"-c", "--cfg"} & set(arguments) != set() and "job" in arguments
    )


def show(arguments: list[str]) -> int:
    """Print the help, or the options of the cell given by the overrides; return the exit status.

    Raises UserError and Hydra's exceptions.
    """
    overrides = [a for a in arguments if not a.startswith("-") and a != "job"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        options = annotated(hydra.compose("config", overrides))
    if {"-h", "--help"} & set(arguments):
        choices = "\n".join(
            f"  {group:10} {', '.join(names(group))}" for group in (*GROUPS, *OTHERS)
        )
        options = HELP.format(choices=choices, options=options)
    print(options)
    return 0


def annotated(cfg: DictConfig) -> str:
    """Return a configuration as YAML, with a description above each key."""
    sentences = read_sentences(CONF / "config.yaml")
    chosen = [(group, cfg[group].name) for group in (*GROUPS, "logger") if cfg[group]]
    for choice in (*chosen, *([("tune", "optuna")] if cfg.tune else [])):
        sentences |= sentences_of(*choice)

    def lines(node: DictConfig, path: str, indent: str) -> list[str]:
        out = []
        for key in map(str, node):
            full = f"{path}{key}"
            if full in sentences:
                out.append(f"{indent}# {sentences[full]}")
            value = node._get_node(key)
            if isinstance(value, DictConfig):
                out += [f"{indent}{key}:", *lines(value, full + ".", indent + "  ")]
            elif isinstance(value, ListConfig):
                out.append(f"{indent}{key}: {list(value)}")
            else:
                out.append(indent + OmegaConf.to_yaml({key: value}).strip())
        return out

    return "\n".join(lines(cfg, "", ""))


def ordered(arguments: list[str]) -> list[str]:
    """Move -m to the front: Hydra takes no overrides after a flag that follows other overrides."""
    return sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))

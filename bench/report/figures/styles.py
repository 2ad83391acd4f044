"""Style of learners in all figures."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.report.rows import Comparison, Row, learners

# The Okabe-Ito palette, which is safe for colour-blind readers: four colours for the methods of
# this project, four for any other algorithm in the results folder.
KNOWN = {
    "maml": ("#0072B2", "o"),
    "reptile": ("#E69F00", "s"),
    "protonet": ("#009E73", "^"),
    "metaoptnet": ("#CC79A7", "D"),
}
OTHERS = (("#D55E00", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#F0E442", "h"))
INK, GREY = "#222222", "#666666"


@dataclass(frozen=True)
class Style:
    """Appearance of a series: its colour, marker (of matplotlib, if any), line and opacity.

    Learners that share a colour differ in ``kind``: a hatch, a dash and a fill of markers.
    """

    colour: str
    marker: str = ""
    kind: int = 0
    width: float = 1.1
    opacity: float = 1.0

    @property
    def edge(self) -> str:
        """The colour of edges, dark where the colour is pale."""
        return INK if self.colour == OTHERS[3][0] else self.colour


CHANCE, FLOOR, BEST = Style(INK, kind=1, width=0.9), Style(INK, kind=2), Style(GREY, kind=2)
"""Lines of chance, of floors, and of the best for a cost."""


def styles(rows: Iterable[Row], found: Iterable[Comparison] = ()) -> dict[str, Style]:
    """Return a style for each label of all `rows` and of the comparisons built from some of them.

    The project's methods have their own colour; their variants and peers share it and differ in
    hatch, dash and fill. Other learners take the remaining colours in the order of their names.
    """
    algos = {row["label"]: row["algo"] for row in rows}
    order = learners({"label": label, "algo": algo} for label, algo in algos.items())
    for comparison in found:
        algos |= {row["label"]: row["algo"] for row in comparison.rows}
        order += [label for label in comparison.labels if label not in order]

    looks: dict[str, Style] = {}
    strangers: list[str] = []
    for label in order:
        family = algos[label].rsplit("/", 1)[-1]
        if family in KNOWN:
            colour, marker = KNOWN[family]
            # Only the plain method is filled, even where its peers are shown without it.
            first = 0 if algos[label] == family else 1
        else:
            strangers += [algos[label]] if algos[label] not in strangers else []
            colour, marker = OTHERS[strangers.index(algos[label]) % len(OTHERS)]
            first = 0
        taken = [look.kind for look in looks.values() if look.colour == colour]
        looks[label] = Style(colour, marker, max([first, *(kind + 1 for kind in taken)]))
    return looks

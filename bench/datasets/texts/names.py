"""Names: what the world's languages call countries, languages, currencies and scripts; no download.

A class is one such thing, such as Germany or the Swahili language; its texts are its names in up to
220 languages, as the Unicode CLDR has them, by Babel. It is **no benchmark of the literature**: it is
for trying things out, for tests and for machines without a network, as glyphs are for images. Names
are alike where languages took them from each other, and have to be read by their letters.

A name that a language has from English, untranslated, is left out, and so are names of two things or
of more than 64 bytes, and things of fewer than 20 names. A territory, its currencies, the languages
spoken there and their scripts are in the same split, so that Germany is not learned before German is
tested.
"""

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import babel
from babel.core import Locale, get_global
from babel.localedata import locale_identifiers

from bench.datasets.io.cache import DataDirs, cached
from bench.datasets.io.class_split import random_split
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset
from bench.tasks.texts import normalized, pools

log = logging.getLogger(__name__)

# content digest behind the reference results; another Babel brings other names
DIGEST = "99e1bb73cd594699b50a48de26dfcd0601a738e718e7fd832b974e63d16542c9"

MIN_NAMES = 20
MOST_BYTES = 64
"""Of a name; few are longer, and all take the room of the longest."""
MIN_CLASSES = 20
"""Of each split."""


def prepare(folders: DataDirs) -> Dataset:
    """Return the names that the installed Babel has; see the module.

    Logs a warning if they are not those of the reference results.
    """
    recipe = babel.__version__.encode() + Path(__file__).read_bytes()
    dataset = cached(folders.cache, "names", recipe, build)
    if dataset.digest != DIGEST:
        log.warning(
            "Babel %s has other names than Babel 2.19, which the reference results stand on; compare "
            "only rows of the same data digest",
            babel.__version__,
        )
    return replace(dataset, examples="texts").with_groups(group_of)


def build() -> Dataset:
    """Collect the names and split the things."""
    names = names_of_things()
    things = random_split(names, 0, MIN_CLASSES, group_of)
    splits = pools({split: {each: names[each] for each in of} for split, of in things.items()})
    check(splits)
    return Dataset.of("names", splits)


def names_of_things() -> dict[str, list[str]]:
    """Return the names of each thing, such as ``territory/DE``, in order, and none twice."""
    english = names_in("en")
    found: dict[str, dict[str, str]] = defaultdict(dict)
    things: dict[str, set[str]] = defaultdict(set)
    for language in sorted(each for each in locale_identifiers() if "_" not in each):
        for thing, name in names_in(language).items():
            words = normalized(name)
            if words and (language == "en" or name != english.get(thing)):
                found[thing].setdefault(words, name)
                things[words].add(thing)
    unique = {
        thing: sorted(name for words, name in names.items() if is_kept(name, things[words]))
        for thing, names in found.items()
    }
    return {thing: names for thing, names in unique.items() if len(names) >= MIN_NAMES}


def is_kept(name: str, things: Collection[str]) -> bool:
    """Return whether a name of these things is of one alone, and not too long."""
    return len(things) == 1 and len(name.encode()) <= MOST_BYTES


def names_in(language: str) -> dict[str, str]:
    """Return the name of each thing in a language; codes that stand for a name are left out."""
    locale = Locale.parse(language)
    kinds = {
        "territory": locale.territories,
        "language": locale.languages,
        "script": locale.scripts,
        "currency": locale.currencies,
    }
    return {
        f"{kind}/{code}": name
        for kind, names in kinds.items()
        for code, name in names.items()
        if isinstance(name, str) and name != code
    }


def group_of(thing: str) -> str:
    """Return the territory that a thing belongs to, by its code, or the thing itself.

    That of a currency begins its code (ISO 4217); that of a language or script is where it is most
    used (CLDR's likely subtags).
    """
    kind, code = thing.split("/")
    likely = get_global("likely_subtags")
    if kind == "territory":
        return code
    if kind == "currency":
        return code[:2]
    language, *rest = code.split("_")
    if rest and len(rest[-1]) == 2:
        return rest[-1]
    most_used = likely.get(language if kind == "language" else f"und_{code}")
    return most_used.split("_")[2] if most_used else thing

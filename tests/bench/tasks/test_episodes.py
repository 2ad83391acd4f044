"""The numbered-episode sampler and its random numbers."""

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.learner import Setting
from bench.core.errors import UserError
from bench.core.philox import key_of, philox
from bench.tasks import episodes
from bench.tasks.episodes import EpisodeSampler, sample_without_replacement
from bench.tasks.pool import Dataset, Pool


def pool(classes: int = 30, sizes: tuple[int, ...] = (7, 9, 12)) -> Pool:
    """Images whose only two pixels tell their class and their place in it."""
    return Pool.of(
        {
            f"class {c}": torch.tensor(
                [[[[c, i]]] for i in range(sizes[c % len(sizes)])], dtype=torch.uint8
            )
            for c in range(classes)
        }
    )


def words(*values: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([value]) for value in values)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF,) * 4,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_known_answers(key, counter, expected):
    """Known answers of the authors' Random123 library for philox4x32-10."""
    assert tuple(philox(key, words(*counter))[0].tolist()) == expected


def test_episodes_have_the_promised_shape_and_labels():
    drawn = EpisodeSampler(pool(), Setting(4, 2, 3), ("a",)).draw(0, 50)
    assert drawn.support_x.shape == (50, 4, 2, 1, 1, 2)
    assert drawn.query_x.shape == (50, 12, 1, 1, 2)
    assert drawn.support_x.dtype == torch.uint8
    support, queries = drawn.support_x.flatten(-3), drawn.query_x.flatten(-3)
    queries = queries.view(50, 4, 3, 2)
    images = torch.cat((support, queries), 2)
    classes = images[..., 0]
    assert (classes == classes[..., :1]).all(), "a label covers one class"
    assert all(len(set(task)) == 4 for task in classes[..., 0].tolist()), "labels are distinct"
    for task in images.tolist():
        for of_class in task:
            assert len({tuple(image) for image in of_class}) == 5, "no image comes twice"
    assert drawn.support_y.tolist() == [[[n, n] for n in range(4)]] * 50
    assert drawn.query_y.tolist() == [[n for n in range(4) for _ in range(3)]] * 50
    assert torch.equal(drawn.classes, classes[..., 0].long())


def test_an_episode_is_a_function_of_its_number_alone():
    one = EpisodeSampler(pool(), Setting(5, 1, 2), ("a", 0))
    other = EpisodeSampler(pool(), Setting(5, 1, 2), ("a", 0))
    whole = one.indices(0, 3000)
    assert torch.equal(other.indices(2990, 10), whole[2990:])
    for first, count in ((1500, 7), (0, 3), (1016, 8), (1020, 8), (1021, 1), (2999, 1)):
        drawn, again = other.draw(first, count), one.draw(first, count)
        assert torch.equal(drawn.query_x, again.query_x)
        classes = one.classes(first, count)
        assert torch.equal(drawn.classes, classes) and torch.equal(again.classes, classes)
        rows = whole[first : first + count, :, :1]
        assert torch.equal(drawn.support_x, pool().inputs[rows])
    far = one.indices(2**32 + 5, 1)
    assert not torch.equal(far, one.indices(5, 1)), "numbers beyond 32 bits count"
    assert torch.equal(far, other.indices(2**32, 6)[5:])
    first = EpisodeSampler(pool(), Setting(5, 1, 2), ("a", 0)).draw(0, 1)
    assert torch.equal(first.support_x, pool().inputs[whole[:1, :, :1]])


@pytest.mark.parametrize(("elements", "ahead"), [(0, 1024), (300, 5), (60, 1), (1, 1)])
def test_as_many_episodes_are_planned_ahead_as_memory_allows(monkeypatch, elements, ahead):
    """An episode shuffles five decks of the largest class, of 12 images, so 60 elements."""
    monkeypatch.setattr(episodes, "PLAN_ELEMENTS", elements or episodes.PLAN_ELEMENTS)
    sampler = EpisodeSampler(pool(), Setting(5, 1, 2), ("a",))
    planned = []

    def indices(first: int, count: int) -> torch.Tensor:
        planned.append((first, count))
        return EpisodeSampler.indices(sampler, first, count)

    monkeypatch.setattr(sampler, "indices", indices)
    for number in range(2 * ahead):
        sampler.draw(number, 1)
    assert planned == [(0, ahead), (ahead, ahead)]
    assert len(sampler.draw(0, ahead + 2).query_x) == ahead + 2


def test_classes_are_known_of_episodes_with_one_image_each():
    sampler = EpisodeSampler(pool(), Setting(4, 1, 0), ("a",))
    assert torch.equal(sampler.classes(0, 9), sampler.draw(0, 9).support_x[:, :, 0, 0, 0, 0].long())


def test_any_axis_makes_other_episodes():
    def rows(shape: Setting, *axes: object) -> torch.Tensor:
        return EpisodeSampler(pool(), shape, axes).indices(0, 40)[:, :, :3]

    base = rows(Setting(5, 1, 2), "digest", "test", 0)
    for other in (
        rows(Setting(5, 1, 2), "digest", "test", 1),
        rows(Setting(5, 1, 2), "digest", "val", 0),
        rows(Setting(5, 1, 2), "other", "test", 0),
        rows(Setting(5, 2, 1), "digest", "test", 0),
    ):
        assert (other != base).any(-1).any(-1).float().mean() > 0.9


def test_the_global_random_state_is_neither_used_nor_touched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = EpisodeSampler(pool(), Setting(5, 1, 2), ("a",)).indices(0, 9)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(EpisodeSampler(pool(), Setting(5, 1, 2), ("a",)).indices(0, 9), first)


def test_golden_episodes():
    """The very episodes of this version: should they change, all stored results are stale."""
    sampler = EpisodeSampler(pool(), Setting(5, 1, 3), ("golden",))
    assert sampler.indices(0, 1).tolist() == GOLDEN_ROWS
    assert sampler.digest(100) == GOLDEN_DIGEST
    rows = sampler.indices(0, 100).numpy().tobytes()
    assert sampler.digest(100) == hashlib.sha256(repr(sampler.key).encode() + rows).hexdigest()[:16]


GOLDEN_ROWS = [
    [
        [254, 253, 257, 258],
        [154, 152, 149, 153],
        [120, 122, 119, 123],
        [191, 187, 195, 184],
        [174, 169, 168, 172],
    ]
]
GOLDEN_DIGEST = "afd20a9c9f04d34f"


def test_digests_tell_lists_of_episodes_apart():
    sampler = EpisodeSampler(pool(), Setting(5, 1, 3), ("a",))
    assert sampler.digest(10) == EpisodeSampler(pool(), Setting(5, 1, 3), ("a",)).digest(10)
    assert sampler.digest(10) != sampler.digest(11)
    assert sampler.digest(10) != EpisodeSampler(pool(), Setting(5, 1, 3), ("b",)).digest(10)


def test_draws_are_uniform_and_independent_of_place():
    """Chi-square over classes by label, images by place, and pairs in neighbouring episodes."""
    from scipy.stats import chisquare

    many = EpisodeSampler(pool(classes=6, sizes=(5,)), Setting(3, 1, 2), ("u",)).indices(0, 20000)
    classes, within = many // 5, many % 5
    for label in range(3):
        assert chisquare(classes[:, label, 0].bincount(minlength=6)).pvalue > 1e-4
    for place in range(3):
        assert chisquare(within[..., place].flatten().bincount(minlength=5)).pvalue > 1e-4
    ordered = classes[:, 0, 0] * 36 + classes[:, 1, 0] * 6 + classes[:, 2, 0]
    counts = ordered.bincount(minlength=216)
    assert (counts > 0).sum() == 6 * 5 * 4
    assert chisquare(counts[counts > 0]).pvalue > 1e-4
    neighbours = classes[:-1, 0, 0] * 6 + classes[1:, 0, 0]
    assert chisquare(neighbours.bincount(minlength=36)).pvalue > 1e-4


def test_uneven_classes_and_their_images_are_drawn_uniformly():
    """A large class comes no more often than a small one; chi-square over all images by place."""
    from scipy.stats import chisquare

    source = pool(classes=6, sizes=(4, 40))
    sampler = EpisodeSampler(source, Setting(2, 1, 1), ("u",))
    rows, classes = sampler.indices(0, 12000), sampler.classes(0, 12000)
    for place in range(2):
        assert chisquare(classes[:, place].bincount(minlength=6)).pvalue > 1e-4
        seen = rows[..., place].flatten().bincount(minlength=len(source.inputs))
        for of_class in seen.split(source.sizes.tolist()):
            assert chisquare(of_class).pvalue > 1e-4


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=7), data=st.data())
def test_whatever_fits_a_pool_is_drawn_without_repetition(sizes, data):
    """Distinct classes, exact counts, and queries that are not in the support set."""
    ways = data.draw(st.integers(1, len(sizes)), "ways")
    wanted = data.draw(st.integers(1, min(sizes)), "images of a class")
    shots = data.draw(st.integers(0, wanted), "shots")
    source = pool(len(sizes), tuple(sizes))
    axes = ("a", data.draw(st.integers(0, 99), "seed"))
    sampler = EpisodeSampler(source, Setting(ways, shots, wanted - shots), axes)
    number = st.one_of(st.integers(0, 2100), st.integers(2**32 - 3, 2**32 + 3))
    for _ in range(2):  # the second draw may lie ahead of the first, before it or across its plan
        first, count = data.draw(number, "first"), data.draw(st.integers(1, 5), "count")
        drawn = sampler.draw(first, count)
        assert drawn.support_x.shape[:3] == (count, ways, shots)
        queries = drawn.query_x.unflatten(1, (ways, wanted - shots))
        images = torch.cat((drawn.support_x, queries), 2).flatten(-3)
        for task, classes in zip(images, sampler.classes(first, count).tolist(), strict=True):
            assert task[..., 0].tolist() == [[c] * wanted for c in classes]
            assert len(set(classes)) == ways
            assert all(len(set(places)) == wanted for places in task[..., 1].tolist())
        fresh = EpisodeSampler(source, sampler.setting, axes).indices(first, count)
        assert torch.equal(images, source.inputs[fresh].flatten(-3))


def test_a_whole_deck_can_be_drawn():
    drawn = sample_without_replacement(torch.randint(2**32, (50, 8)), torch.full((50,), 8), 8)
    assert drawn.sort(-1).values.tolist() == [list(range(8))] * 50
    assert sample_without_replacement(
        torch.tensor([[2**32 - 1] * 3]), torch.tensor([40000]), 40000
    ).tolist() == [[39999, 0, 1]], (
        "the last card is swapped with the first, and then with the second"
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Setting(31, 1, 1), "ways=31 is more than the 30 classes there are to draw from"),
        (
            Setting(5, 4, 4),
            r"shots=4 plus queries=4 is 8 examples a class, but class 'class 0' has only 7",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_a_mistake(shape, message):
    with pytest.raises(UserError, match=message):
        EpisodeSampler(pool(), shape, ())


def test_all_classes_and_all_images_can_be_asked_for():
    small = pool(classes=3, sizes=(4,))
    rows = EpisodeSampler(small, Setting(3, 1, 3), ("a",)).indices(0, 5)
    assert rows.flatten(1).sort().values.tolist() == [list(range(12))] * 5


def test_keys_are_told_apart_by_kind_and_place():
    keys = {key_of(0), key_of("0"), key_of(0, 1), key_of(1, 0), key_of("0, 1"), key_of()}
    assert len(keys) == 6


def square(prefix: str, classes: int) -> Pool:
    return Pool.of({f"{prefix} {c}": torch.zeros(2, 1, 2, 2).byte() for c in range(classes)})


@pytest.mark.parametrize("split", ["train", "train+val"])
def test_an_episode_has_one_turn_of_a_drawing_where_the_pool_says_so(split):
    """1,000 episodes of 7 ways of 8 drawings: no two turns of one, all turns alike often."""
    plain = Dataset.of("x", {part: square(part, 8) for part in ("train", "val")})
    turned = plain.rotated(one_turn=True).pool(split)
    assert len(turned.choices) == 8 * len(split.split("+"))
    classes = EpisodeSampler(turned, Setting(7, 1, 1), ("a",)).classes(0, 1000)
    assert all(len(set(row)) == 7 for row in turned.base_class[classes].tolist())
    seen = classes.flatten().bincount(minlength=len(turned.names))
    expected = 7000 / len(turned.names)
    assert ((seen - expected) ** 2 / expected).sum() < 105  # chi-square of 63 at 0.1 %
    every = EpisodeSampler(plain.rotated().pool(split), Setting(7, 1, 1), ("a",))
    assert any(len(set(row)) < 7 for row in every.pool.base_class[every.classes(0, 99)].tolist())


def test_more_ways_than_drawings_are_refused_where_an_episode_has_one_turn_of_each():
    dataset = Dataset.of("x", {"train": square("train", 3)}).rotated(one_turn=True)
    with pytest.raises(UserError, match="ways of at most 3"):
        EpisodeSampler(dataset.pool("train"), Setting(4, 1, 1), ("a",))


def grouped_pool() -> Pool:
    """Classes of groups of 6, 4 and 2."""
    made = pool(12)
    groups = tuple("a" * 6 + "b" * 4 + "c" * 2)
    return replace(made, groups=groups, within_group=True)


def test_classes_of_an_episode_are_of_one_group_and_groups_are_drawn_alike():
    sampler = EpisodeSampler(grouped_pool(), Setting(4, 2, 3), ("a",))
    classes = sampler.classes(0, 6000)
    groups = [{("a", "b", "c")[0 if c < 6 else 1 if c < 10 else 2] for c in row} for row in classes]
    assert all(len(each) == 1 for each in groups), "and none of the group that has too few"
    share = sum(each == {"a"} for each in groups) / 6000
    assert abs(share - 1 / 2) < 4 * (0.25 / 6000) ** 0.5
    assert all(len(set(row)) == 4 for row in classes.tolist())
    of_a = [tuple(row) for row in classes.tolist() if row[0] < 6]
    counts = torch.tensor(of_a).flatten().bincount(minlength=6).double()
    expected = counts.sum() / 6
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()


def test_episodes_within_groups_are_addressed_by_number():
    sampler = EpisodeSampler(grouped_pool(), Setting(2, 1, 1), ("a",))
    every = sampler.indices(0, 20)
    assert torch.equal(sampler.indices(13, 5), every[13:18])


def test_more_ways_than_the_largest_group_has_are_refused():
    with pytest.raises(UserError, match="ways=7 is more than the 6 classes of the largest group"):
        EpisodeSampler(grouped_pool(), Setting(7, 1, 1), ("a",))


def test_a_data_set_within_groups_has_a_name_and_a_digest_of_its_own():
    whole = Dataset.of("small", {"train": pool(4)})
    within = whole.within_groups()
    assert within.name == "small-within" and within.digest != whole.digest
    assert within.splits["train"].within_group and not whole.splits["train"].within_group


def test_turns_of_a_class_do_not_make_its_group_larger():
    names = tuple(f"{name}{turn}" for turn in ("", "@90", "@180", "@270") for name in "abcd")
    groups = 4 * ("first", "first", "second", "second")
    turned = replace(pool(16), names=names, groups=groups, one_turn=True, within_group=True)
    assert episodes.most_ways(turned) == 2 and episodes.most_ways(pool(4)) == 4
    with pytest.raises(UserError, match="ways=3 is more than the 2 classes of the largest group"):
        EpisodeSampler(turned, Setting(3, 1, 1), ("a",))

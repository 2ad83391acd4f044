import hashlib
from dataclasses import replace

import torch

from bench.tasks.pool import Dataset, Pool, content_digest


def pool(names: tuple[str, ...] = ("a", "b"), sizes: tuple[int, ...] = (2, 3)) -> Pool:
    draw = torch.Generator().manual_seed(0)
    total = sum(sizes)
    images = torch.randint(256, (total, 1, 4, 4), dtype=torch.uint8, generator=draw)
    return Pool.of(dict(zip(names, images.split(sizes), strict=True)))


def test_classes_keep_their_order_and_sizes() -> None:
    made = Pool.of({"z": torch.full((3, 1, 2, 2), 9).byte(), "a": torch.zeros(2, 1, 2, 2).byte()})
    assert made.names == ("z", "a")
    assert made.offsets.tolist() == [0, 3, 5]
    assert made.sizes.tolist() == [3, 2]
    assert made.inputs[:3].eq(9).all() and made.inputs[3:].eq(0).all()


def test_rotated_turns_every_class_anticlockwise() -> None:
    plain = pool()
    turned = plain.rotated()
    assert turned.names[:4] == ("a", "b", "a@90", "b@90")
    assert turned.sizes.tolist() == [2, 3] * 4
    assert len(turned.inputs) == 20
    for number, name in enumerate(turned.names):
        start, end = turned.offsets[number : number + 2].tolist()
        base, _, angle = name.partition("@")
        source = plain.inputs[:2] if base == "a" else plain.inputs[2:]
        expected = torch.rot90(source, int(angle or 0) // 90, (2, 3))
        assert torch.equal(turned.inputs[start:end], expected)
        if angle == "90":
            assert torch.equal(turned.inputs[start:end][..., -1, 0], source[..., 0, 0])


def test_turned_classes_know_which_class_was_turned() -> None:
    assert pool(("b", "a@x")).base_class.tolist() == [0, 1]
    assert pool(("b", "a@x")).rotated().base_class.tolist() == [0, 1] * 4


def test_groups_have_the_number_of_their_first_class_also_turned_and_with_other_splits() -> None:
    plain = pool(("a1", "b1", "a2"), (1, 2, 2))
    assert plain.grouped.tolist() == [0, 1, 2]
    assert plain.rotated().grouped.tolist() == [0, 1, 2] * 4
    parts = {"train": plain, "val": pool(("b2", "c1"), (2, 3))}
    made = Dataset.of("x", parts).with_groups(lambda name: name[0])
    assert made.digest == Dataset.of("x", parts).digest
    assert made.splits["train"].grouped.tolist() == [0, 1, 0]
    assert made.pool("train+val").grouped.tolist() == [0, 1, 0, 1, 4]
    assert made.rotated().splits["train"].grouped.tolist() == [0, 1, 0] * 4


def test_an_episode_has_each_class_or_one_turn_of_each_drawing() -> None:
    plain = pool()
    assert not plain.one_turn and plain.choices.tolist() == [[0], [1]]
    assert plain.rotated().choices.tolist() == [[n] for n in range(8)]
    turned = replace(plain.rotated(), one_turn=True)
    assert turned.choices.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_splits_together_have_the_classes_of_each_in_order() -> None:
    parts = {"train": pool(), "val": pool(("c", "d", "e"), (1, 4, 2)), "test": pool(("f",), (2,))}
    made = Dataset.of("x", parts)
    assert made.pool("val") is parts["val"]
    both = made.pool("train+val")
    assert both.names == ("a", "b", "c", "d", "e") and both.sizes.tolist() == [2, 3, 1, 4, 2]
    assert torch.equal(both.inputs, torch.cat([parts["train"].inputs, parts["val"].inputs]))
    assert made.pool("train+val+test").names == ("a", "b", "c", "d", "e", "f")
    assert not both.one_turn and not made.rotated().pool("train+val").one_turn
    turned = made.rotated(one_turn=True)
    assert turned.pool("train").one_turn and turned.pool("train+val").one_turn
    only = replace(made, splits=turned.splits | {"val": parts["val"]})
    assert only.pool("train+val").one_turn and not only.pool("val+train").one_turn


def test_digest_sees_pixels_names_sizes_splits_and_shapes() -> None:
    base = pool()
    other = base.inputs.clone()
    other[-1, 0, 3, 3] ^= 1
    variants = [
        {"train": base, "val": base},
        {"train": Pool(other, base.offsets, base.names), "val": base},
        {"train": base, "val": Pool(base.inputs, base.offsets, ("a", "c"))},
        {"train": base, "val": Pool(base.inputs, base.offsets, ("a', 'b", ""))},
        {"train": Pool(base.inputs, torch.tensor([0, 3, 5]), base.names), "val": base},
        {
            "train": Pool(base.inputs.reshape(5, 1, 2, 8), base.offsets, base.names),
            "val": base,
        },
        {"train": base, "test": base},
        {"train": base},
    ]
    assert len({content_digest(variant) for variant in variants}) == len(variants)


def test_digest_does_not_see_how_memory_is_laid_out() -> None:
    base = pool()
    strided = Pool(base.inputs.mT.contiguous().mT, base.offsets, base.names)
    assert not strided.inputs.is_contiguous()
    assert content_digest({"train": strided}) == content_digest({"train": base})


def test_digest_stays_the_same_between_versions() -> None:
    made = Pool.of({"a": torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)})
    assert content_digest({"train": made}) == (
        "660ed6645289bf3bdb2b9324b2e3f34ff2fe9e9eb4359eea8b05ffb423a294c8"
    )


def test_a_rotated_data_set_has_another_digest() -> None:
    plain = Dataset.of("x", {"train": pool()})
    assert plain.rotated().digest not in ("", plain.digest)
    assert plain.rotated().digest == Dataset.of("y", {"train": pool()}).rotated().digest
    assert plain.rotated().splits["train"].names == pool().rotated().names
    assert len({plain.rotated(only).digest for only in (None, "train", "test")}) == 3
    recipe = f"{plain.digest} rotated".encode()  # as stored runs have it
    assert plain.rotated().digest == hashlib.sha256(recipe).hexdigest()
    assert plain.rotated(one_turn=True).digest not in (plain.digest, plain.rotated().digest)


def test_a_data_set_shares_no_image_between_splits_unless_it_says_so() -> None:
    pool = Pool.of({"a": torch.zeros(2, 1, 3, 3, dtype=torch.uint8)})
    assert Dataset.of("toy", {"train": pool}).expected_duplicates == 0


def test_the_turns_of_a_drawing_are_one_choice_where_an_episode_has_one_of_them() -> None:
    plain = Dataset.of("x", {"train": pool(), "val": pool(("c",), (2,))})
    assert plain.pool("train").choices.tolist() == [[0], [1]]
    made = plain.rotated(one_turn=True)
    assert made.pool("train").choices.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    together = made.pool("train+val")
    assert [together.names[row[1]] for row in together.choices.tolist()] == ["a@90", "b@90", "c@90"]
    assert len({made.digest, plain.digest, plain.rotated().digest}) == 3
    assert plain.rotated().pool("val").choices.tolist() == [[0], [1], [2], [3]]
    some = plain.rotated("train", one_turn=True)
    assert some.splits["train"].one_turn and not some.splits["val"].one_turn


def test_several_splits_may_be_rotated() -> None:
    plain = Dataset.of(
        "x", {"train": pool(), "val": pool(("c",), (2,)), "test": pool(("d",), (2,))}
    )
    made = plain.rotated("train+val").splits
    assert [len(each.names) for each in made.values()] == [8, 4, 1]

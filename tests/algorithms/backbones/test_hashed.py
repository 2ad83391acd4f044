"""Hashed words and n-grams, and the bag that learners put on them."""

import pytest
import torch

from algorithms.backbones.bag import Bag
from algorithms.backbones.hashed import TOKENS, Ngrams, Words, hashed
from algorithms.maml import MAML
from algorithms.nn.functional import with_tensors
from algorithms.reptile import Reptile


def test_words_are_case_folded_and_keep_their_marks():
    assert list(Words(()).tokens("Where's my CARD, straße? हिन्दी")) == [
        *("where", "s", "my", "card", "strasse", "हिन्दी"),
    ]


def test_ngrams_are_those_of_words_with_their_ends_or_of_the_whole_text():
    assert list(Ngrams((), shortest=3, longest=4).tokens("my card")) == [
        *("my", "3:<my", "3:my>", "4:<my>"),
        *("card", "3:<ca", "3:car", "3:ard", "3:rd>", "4:<car", "4:card", "4:ard>"),
    ]
    whole = Ngrams((), shortest=1, longest=2, in_words=False)
    assert list(whole.tokens("A b")) == [
        *("1:<", "1:a", "1: ", "1:b", "1:>", "2:<a", "2:a ", "2: b", "2:b>")
    ]


def test_texts_are_numbers_that_no_process_changes():
    found = Words((), length=3).prepare("card card lost today")
    assert found.dtype == torch.int16 and found.tolist() == [17661, 17661, hashed("lost")]
    assert Words((), length=3).prepare("").tolist() == [0, 0, 0]
    assert all(0 < hashed(str(n)) < TOKENS for n in range(1000))


def test_digests_tell_the_tokens_apart_but_not_what_is_learned_of_them():
    encoders = [Words(()), Ngrams(()), Ngrams((), longest=4), Ngrams((), in_words=False)]
    assert len({each.digest for each in encoders}) == 4
    assert Words((), dim=7).digest == Words(()).digest


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Words((), length=0), "length and dim must be at least 1"),
        (lambda: Ngrams((), shortest=6), "shortest must be at least 1 and at most longest"),
    ],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.fixture
def bag() -> Bag:
    torch.manual_seed(0)
    found = Bag(50, dim=8, adapts_vectors=False).double()
    torch.nn.init.normal_(found.weights.weight)
    return found


TOKENS_OF_TASKS = torch.tensor([[[3, 7, 7, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [49, 2, 5, 9]]])


def test_a_bag_is_the_weighted_mean_at_length_sqrt_of_features(bag):
    found = bag(TOKENS_OF_TASKS.short())
    weights, vectors = bag.weights.weight[:, 0].exp(), bag.vectors.weight
    mean = weights[3] * vectors[3] + 2 * weights[7] * vectors[7]
    torch.testing.assert_close(found[0, 0], mean / mean.norm() * 8**0.5)
    assert found[0, 1].eq(0).all(), "of no tokens"
    longer = torch.nn.functional.pad(TOKENS_OF_TASKS, (0, 5))
    torch.testing.assert_close(bag(longer), found)


def test_weights_per_task_are_those_of_each_task(bag):
    one = {name: weight.detach() for name, weight in bag.named_parameters()}
    weights = {name: torch.stack((weight, 2 + weight)) for name, weight in one.items()}
    found = with_tensors(bag, weights)(TOKENS_OF_TASKS)
    for task in range(2):
        own = with_tensors(bag, {name: weight[task] for name, weight in weights.items()})
        torch.testing.assert_close(found[task], own(TOKENS_OF_TASKS)[task])


@pytest.mark.parametrize("adapts", [False, True])
def test_the_inner_loop_of_maml_leaves_the_vectors_alone_unless_asked(adapts):
    bag = Bag(50, dim=8, adapts_vectors=adapts)
    learner = MAML(bag, 2).eval()
    fast, _ = learner.adapt(TOKENS_OF_TASKS.unsqueeze(2), torch.arange(2).expand(2, 2).unsqueeze(2))
    assert ("backbone.vectors.weight" in fast) == adapts
    assert {"backbone.weights.weight", "head.weight"} < set(fast)


def test_reptile_moves_them_all_the_same():
    learner = Reptile(Bag(50, dim=8, adapts_vectors=False), 2)
    fast, _ = learner.adapt(TOKENS_OF_TASKS.unsqueeze(2), torch.arange(2).expand(2, 2).unsqueeze(2))
    assert "backbone.vectors.weight" in fast

"""The table of facts: schema, comparability and provenance follow from it."""

from bench.runs import cell as cells
from bench.runs import protocol
from bench.runs.records import Done, Protocol, Role, facts, usual_values


def test_a_card_holds_the_declared_facts(make):
    cell = make()
    learner = cells.build_learner(cell.config, cell.dataset, cell.train_setting)
    declared = {field.alias or name: field for name, field in Protocol.model_fields.items()}
    needed = {name for name, field in declared.items() if field.is_required()}
    assert needed <= set(protocol.card(cell, learner)) <= set(declared)


def test_roles_are_those_of_the_markers():
    for role in Role:
        assert facts(role), role
        for name in facts(role):
            assert role in Done.model_fields[name].metadata
    both = facts(Role.NETWORK, Role.SPEED)
    assert set(both) == {*facts(Role.NETWORK), *facts(Role.SPEED)} and len(set(both)) == len(both)
    assert usual_values()["processes"] == 1

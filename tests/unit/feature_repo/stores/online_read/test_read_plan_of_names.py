"""For which features there is a plan, and what stands in it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from feast.errors import FeatureViewNotFoundException
from feast.value_type import ValueType

from feature_repo.stores.online_read.read_plan import build_read_plan
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import decode
from tests.support.read_plan_repository import opened


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("plans"))


def plan(store, features, *, full=False):
    memo = BoundedCache(decode)
    return build_read_plan(store.registry, "plan", features, full_feature_names=full, versioned=False, decoded=memo)


@pytest.mark.parametrize(
    ("refs", "planned"),
    [
        (["bills:amount"], True),
        (["bills:amount", "calls:calls"], True),
        (["sites:visits"], True),
        (["scaled:scaled"], True),
        (["visits:seen"], False),
        (["bills:amount", "sites:visits"], False),
        (["prices:price"], False),
        (["doubled:doubled"], False),
        (["single:single"], False),
    ],
    ids=str,
)
def test_there_is_a_plan_for_one_entity_and_functions_of_columns(store, refs, planned):
    assert (plan(store, refs) is not None) is planned


def test_two_features_of_one_name_need_their_views_before_them(store):
    refs = ["bills:amount", "twins:amount"]
    found = plan(store, refs, full=True)
    assert {column.name for column in found.requested} == {"bills__amount", "twins__amount"}
    assert len({column.index for column in found.requested}) == 2


def test_every_value_has_a_place_and_the_views_their_time_to_live(store):
    found = plan(store, store.get_feature_service("both"))
    views = {view.name: view for view in found.views}
    assert {name: view.ttl for name, view in views.items()} == {"bills": timedelta(days=30), "calls": None}
    places = sorted([column.index for column in found.stored] + [view.stamp for view in found.views])
    assert places == list(range(found.width))
    assert {column.name: column.value_type for column in found.requested} == {
        "amount": ValueType.DOUBLE,
        "paid_on": ValueType.UNIX_TIMESTAMP,
        "items": ValueType.STRING_LIST,
        "calls": ValueType.INT64,
    }
    assert (found.join_key, found.key_type, found.request_data) == ("customer_id", str, frozenset({"rate"}))


def test_an_input_that_nobody_asked_for_is_read_and_not_answered(store):
    found = plan(store, ["scaled:scaled", "bills:paid_on"])
    assert {column.name for column in found.stored} >= {"amount", "paid_on"}
    assert [column.name for column in found.requested] == ["paid_on"]
    (computed,) = found.computed
    assert dict(computed.features) == {"scaled": ValueType.DOUBLE}


def test_a_function_sees_its_own_views_under_both_names_and_no_other(store):
    (computed,) = plan(store, ["scaled:scaled", "calls:calls"]).computed
    assert computed.inputs["amount"] == computed.inputs["bills__amount"] == "amount"
    assert "rate" in computed.inputs
    assert not {"calls", "calls__calls"} & computed.inputs.keys()
    (computed,) = plan(store, ["scaled:scaled", "calls:calls"], full=True).computed
    assert computed.inputs["amount"] == computed.inputs["bills__amount"] == "bills__amount"


def test_names_that_nobody_registered_are_feasts_to_refuse(store):
    with pytest.raises(FeatureViewNotFoundException):
        plan(store, ["nothing:amount"])

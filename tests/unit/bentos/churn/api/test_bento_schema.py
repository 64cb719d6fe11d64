"""The document from which BentoML's own client makes its methods."""

import pytest

from bentos.churn.api.bento_schema import schema_document
from bentos.churn.api.schemas import BatchRequest, PredictRequest, WhatIfRequest


@pytest.fixture
def routes():
    return {route["name"]: route for route in schema_document(1000)["routes"]}


def test_each_method_posts_to_its_route(routes):
    assert {name: route["route"] for name, route in routes.items()} == {
        "predict": "/predict",
        "predict_batch": "/predict/batch",
        "predict_what_if": "/predict/what-if",
    }


def test_arguments_are_the_fields_of_the_bodies(routes):
    for name, body in (
        ("predict", PredictRequest),
        ("predict_batch", BatchRequest),
        ("predict_what_if", WhatIfRequest),
    ):
        assert list(routes[name]["input"]["properties"]) == list(body.model_fields)
        assert routes[name]["input"]["required"] == list(body.model_fields)


def test_only_the_batch_is_capped(routes):
    assert routes["predict_batch"]["input"]["properties"]["customer_ids"]["maxItems"] == 1000
    assert "maxItems" not in str(routes["predict"]) + str(routes["predict_what_if"])


def test_nothing_of_an_answer_is_left_out_by_its_schema(routes):
    assert all("properties" not in route["output"] for route in routes.values())
    assert {route["output"]["type"] for route in routes.values()} == {"object"}

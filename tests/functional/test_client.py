"""bentos.client and BentoML's own client against the real service."""

import asyncio
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from bentos.churn.api.schemas import Answer, RefusedCustomer
from bentos.client import (
    AsyncChurnClient,
    ChurnClient,
    CustomerUnknownError,
    Patience,
    RequestRefusedError,
    UnavailableError,
)
from tests.support.patience import until
from tests.support.serving_home import CANARY, EXPIRED, INCOMPLETE

CHANGES = {"Contract": "Two year"}
GATHERED = 500
THREADS = 200


@pytest.fixture(scope="module")
def client(sqlite_service):
    with ChurnClient(sqlite_service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def bentoml():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a part that it loads calls a part of another that is deprecated
        import bentoml

        assert bentoml.SyncHTTPClient
    return bentoml


@pytest.fixture(scope="module")
def monthly(sqlite_service):
    """A customer whose contract can be made longer."""
    world = sqlite_service.world
    return world.ids[int((world.frame["contract_type"] == "Month-to-month").to_numpy().argmax())]


def settled(said):
    """What was said but for what is new each time; numbers to 1e-9: the last digits depend on who else is asked for."""
    if isinstance(said, dict):
        return {name: settled(value) for name, value in said.items() if name != "prediction_id"}
    if isinstance(said, list):
        return [settled(each) for each in said]
    return round(said, 9) if isinstance(said, float) else said


def kept(client, prediction_id):
    """The receipt of an answer: it is written a moment after the answer was given."""

    def written():
        try:
            return client.prediction(prediction_id)
        except RequestRefusedError as refused:
            if refused.status != 404:
                raise

    return until(written)


def test_one_customer_as_the_api_says(client, sqlite_service):
    customer_id = sqlite_service.world.ids[0]
    found = client.predict(customer_id)
    said = sqlite_service.predict(customer_id).json()
    assert isinstance(found, Answer)
    assert settled(found.model_dump(mode="json")) == settled(said)


def test_all_customers_in_batches_keep_their_order(sqlite_service):
    ids = [*sqlite_service.world.ids[:250], "nobody-0", sqlite_service.world.ids[0]]
    with ChurnClient(sqlite_service.url, batch_ids_max=100) as client:
        found = client.predict_many(ids)
    assert [each.customer_id for each in found] == ids
    assert [type(each) for each in found].count(RefusedCustomer) == 1
    assert found[250].error.error == "customer_unknown"
    assert settled(found[251].model_dump()) == settled(found[0].model_dump())


def test_a_what_if_and_its_receipt(client, monthly):
    found = client.what_if(monthly, CHANGES)
    assert found.before.probability == pytest.approx(client.predict(monthly).probability, abs=1e-9)
    assert found.after.probability < found.before.probability
    assert "contract_type" in {each.feature for each in found.actionable}
    written = kept(client, found.prediction_id)
    assert (written.receipt.kind, written.receipt.customer_id) == ("what_if", monthly)
    assert written.receipt.probability == pytest.approx(found.after.probability, abs=1e-9)
    assert written.replay.agrees


def test_a_what_if_without_changes_says_what_may_be_changed(client, monthly):
    found = client.what_if(monthly, {})
    assert found.before.probability == pytest.approx(found.after.probability, abs=1e-9)
    assert found.changes == []
    assert found.actionable


def test_the_receipt_of_an_answer(client, sqlite_service):
    answer = client.predict(sqlite_service.world.ids[1])
    written = kept(client, answer.prediction_id)
    assert written.receipt.kind == "predict"
    assert written.receipt.probability == pytest.approx(answer.probability, abs=1e-9)
    assert written.replay.agrees


def test_the_model_and_readiness(client, sqlite_service):
    assert client.metadata().bundle_digest == sqlite_service.world.bundle.digest
    assert client.ready()


@pytest.mark.parametrize(
    ("customer_id", "family", "error"),
    [
        ("nobody-0", CustomerUnknownError, "customer_unknown"),
        (EXPIRED, UnavailableError, "features_expired"),
        (INCOMPLETE, RequestRefusedError, "features_missing"),
        ("no id!", RequestRefusedError, "request_invalid"),
    ],
)
def test_refusals_are_their_errors(client, customer_id, family, error):
    with pytest.raises(family) as caught:
        client.predict(customer_id)
    assert caught.value.error == error
    assert customer_id not in str(caught.value) + caught.value.hint


def test_a_prediction_that_nobody_made_is_refused(client):
    with pytest.raises(RequestRefusedError) as caught:
        client.prediction("01a204b1-6022-79d9-a58e-4cb07ee36e70")
    assert caught.value.status == 404


def test_the_awaiting_client_gives_the_same(client, sqlite_service, monthly):
    async def ask():
        async with AsyncChurnClient(sqlite_service.url, patience=Patience(total_s=60)) as other:
            return await asyncio.gather(
                other.predict(monthly),
                other.predict_many([monthly, "nobody-0"]),
                other.what_if(monthly, CHANGES),
                other.metadata(),
                other.ready(),
            )

    one, many, supposed, metadata, ready = asyncio.run(ask())
    assert settled(one.model_dump()) == settled(client.predict(monthly).model_dump())
    assert [type(each) for each in many] == [Answer, RefusedCustomer]
    assert settled(supposed.model_dump()) == settled(client.what_if(monthly, CHANGES).model_dump())
    assert metadata == client.metadata()
    assert ready


def test_thousands_of_calls_at_once_are_answered(sqlite_service):
    ids = [sqlite_service.world.ids[number % 50] for number in range(GATHERED)]

    async def ask():
        async with AsyncChurnClient(sqlite_service.url) as other:
            return await asyncio.gather(*map(other.predict, ids))

    assert [each.customer_id for each in asyncio.run(ask())] == ids


def test_hundreds_of_threads_share_one_client(client, sqlite_service):
    ids = [sqlite_service.world.ids[number % 50] for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        assert [each.customer_id for each in threads.map(client.predict, ids)] == ids


def test_bentoml_s_own_client_finds_the_routes(bentoml, sqlite_service, monthly):
    said = settled(sqlite_service.predict(monthly).json())
    with bentoml.SyncHTTPClient(sqlite_service.url) as bento:
        assert bento.is_ready()
        assert settled(bento.predict(customer_id=monthly)) == said
        found = bento.predict_batch(customer_ids=[monthly, "nobody-0"])["results"]
        assert settled(found[0]) == said
        assert found[1]["error"]["error"] == "customer_unknown"
        supposed = bento.predict_what_if(customer_id=monthly, changes=CHANGES)
        assert supposed["before"]["probability"] == pytest.approx(said["probability"], abs=1e-9)
        with pytest.raises(bentoml.exceptions.NotFound, match="customer_unknown"):
            bento.predict("nobody-0")
        bento._temp_dir.cleanup()  # it forgets to


def test_bentoml_s_awaiting_client_finds_them_too(bentoml, sqlite_service, monthly):
    async def ask():
        async with bentoml.AsyncHTTPClient(sqlite_service.url) as bento:
            bento._temp_dir.cleanup()  # it forgets to
            return await bento.predict(monthly), await bento.predict_what_if(monthly, CHANGES)

    one, supposed = asyncio.run(ask())
    assert one["customer_id"] == monthly
    assert supposed["before"]["probability"] == pytest.approx(one["probability"], abs=1e-9)


def test_no_id_reaches_the_log(client, sqlite_service):
    client.predict(CANARY)
    client.what_if(CANARY, {})
    assert CANARY not in sqlite_service.log()

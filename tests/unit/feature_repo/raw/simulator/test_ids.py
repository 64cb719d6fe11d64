import numpy as np

from feature_repo.raw.simulator.ids import IDS, customer_ids, opaque_ids
from tests.support.single_extract import simulate_snapshot


def test_customer_ids_are_unique_and_written_like_the_real_ones():
    numbers = np.concatenate([np.arange(200_000), [IDS - 1, IDS - 2, 10**10]])
    told = customer_ids(numbers, 2**32 - 1).astype("U")
    assert len(set(told)) == len(told)
    assert all(len(each) == 10 and each[:4].isdigit() and each[4] == "-" and each[5:].isalpha() for each in told)


def test_the_arithmetic_is_exact():
    number = 10**11
    stride = 48_271 * 1_000_003
    code = (8 + number * stride) % IDS
    assert customer_ids(np.array([number]), 7)[0].decode().startswith(f"{code % 10**4:04d}-")


def test_a_snapshot_s_customers_are_the_first_of_a_world():
    assert simulate_snapshot(5, 7)["customerID"].tolist() == customer_ids(np.arange(5), 7).astype("U").tolist()


def test_opaque_ids_are_unique_and_of_the_salt():
    numbers = np.arange(100_000, dtype=np.uint64)
    one, other = opaque_ids(numbers, 1).to_pylist(), opaque_ids(numbers, 10**9).to_pylist()
    assert len({*one, *other}) == 200_000
    assert {len(each) for each in one} == {16}

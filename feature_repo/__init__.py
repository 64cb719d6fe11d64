"""Feature definitions: the contract, its Feast views and transforms, and the stores of the values."""

from configs.type_checks import leave_out

leave_out()  # before anything imports Feast, see docs/decisions/0031-no-type-checks-in-feast.md

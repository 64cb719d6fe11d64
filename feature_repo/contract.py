"""The feature contract: every name, type and meaning, once. Standard library only.

Training, serving, monitoring and the Feast definitions all read this module; nothing else spells a column list.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

PROJECT: Final = "churn"
"""Feast's project: the namespace of every object and online key."""
CUSTOMER: Final = "customer_id"
"""Join key: the customer's id, a non-empty string."""
CUSTOMER_PATTERN: Final = r"^\w[\w.-]{0,63}$"
"""What an id looks like: letters of any script, digits, - . _, at most 64; the gate and the service agree on it."""
OBSERVED_AT: Final = "observed_at"
"""UTC instant: the last at which anything may be known when we score."""
EVENT_TIMESTAMP: Final = "event_timestamp"
"""UTC instant: when a value became true in the world."""
CREATED_TIMESTAMP: Final = "created_timestamp"
"""UTC instant: when this platform could first have known the value."""
LABEL: Final = "churned"
"""True if the customer left in (observed_at, observed_at + 30 days]."""

SOURCE: Final = "customer_snapshot"
"""The offline table, one row a customer and snapshot, that the CSV-derived views read."""
TTL_DAYS: Final = 92
"""A value older than this is expired: three monthly extracts missed in a row."""

CORE_SERVICE: Final = "churn_core_v1"
AUDIT_SERVICE: Final = "churn_audit_v1"

DType = Literal["bool", "int64", "float64", "string"]
YES_NO_INTERNET: Final = ("No", "No internet service", "Yes")


@dataclass(frozen=True)
class View:
    """One feature view: a grain, an owner and whether it is served online."""

    name: str
    owner: str
    description: str
    online: bool = True


@dataclass(frozen=True)
class Feature:
    """One feature.

    ``column`` is the CSV column it is read from (empty for a derived one); ``categories`` its closed domain
    (strings only); ``nullable`` whether a missing value has a trained meaning: any other null is refused, never
    scored; ``protected`` marks an attribute that no model reads and no reason names.
    """

    name: str
    dtype: DType
    view: str
    description: str
    column: str = ""
    unit: str = ""
    nullable: bool = False
    protected: bool = False
    categories: tuple[str, ...] = ()

    @property
    def derived(self) -> bool:
        """Whether the feature is computed from others at read time."""
        return not self.column


CONTRACT: Final = View(
    "customer_contract", "retention-analytics@telco.example", "Who the customer is to us: household, age of contract."
)
SERVICES: Final = View(
    "customer_services", "product-catalogue@telco.example", "What the customer uses: telephone, internet, add-ons."
)
BILLING: Final = View(
    "customer_billing", "billing-platform@telco.example", "What the customer pays, how, and how the bill arrives."
)
PROTECTED: Final = View(
    "customer_protected",
    "privacy-office@telco.example",
    "Protected attributes, kept for fairness audits alone; never online, never a model input.",
    online=False,
)
DERIVED: Final = View(
    "customer_derived", "retention-analytics@telco.example", "Computed from the other views at read time."
)
VIEWS: Final = (CONTRACT, SERVICES, BILLING, PROTECTED)
"""The views with a source; :data:`DERIVED` is computed on demand."""


def _add_on(name: str, column: str, what: str) -> Feature:
    return Feature(
        name, "string", SERVICES.name, f"Whether the customer has {what}", column, categories=YES_NO_INTERNET
    )


FEATURES: Final[tuple[Feature, ...]] = (
    Feature("partner", "bool", CONTRACT.name, "Lives with a partner", "Partner"),
    Feature("dependents", "bool", CONTRACT.name, "Has dependents in the household", "Dependents"),
    Feature("tenure_months", "int64", CONTRACT.name, "Full months since the customer joined", "tenure", "months"),
    Feature(
        "contract_type",
        "string",
        CONTRACT.name,
        "Length of the running contract",
        "Contract",
        categories=("Month-to-month", "One year", "Two year"),
    ),
    Feature("phone_service", "bool", SERVICES.name, "Has a telephone line", "PhoneService"),
    Feature(
        "multiple_lines",
        "string",
        SERVICES.name,
        "Has more than one telephone line",
        "MultipleLines",
        categories=("No", "No phone service", "Yes"),
    ),
    Feature(
        "internet_service",
        "string",
        SERVICES.name,
        "Technology of the internet access",
        "InternetService",
        categories=("DSL", "Fiber optic", "No"),
    ),
    _add_on("online_security", "OnlineSecurity", "the online security add-on"),
    _add_on("online_backup", "OnlineBackup", "the online backup add-on"),
    _add_on("device_protection", "DeviceProtection", "the device protection add-on"),
    _add_on("tech_support", "TechSupport", "the technical support add-on"),
    _add_on("streaming_tv", "StreamingTV", "the television streaming add-on"),
    _add_on("streaming_movies", "StreamingMovies", "the film streaming add-on"),
    Feature("paperless_billing", "bool", BILLING.name, "Receives the bill electronically", "PaperlessBilling"),
    Feature(
        "payment_method",
        "string",
        BILLING.name,
        "How the bill is paid",
        "PaymentMethod",
        categories=("Bank transfer (automatic)", "Credit card (automatic)", "Electronic check", "Mailed check"),
    ),
    Feature("monthly_charges_usd", "float64", BILLING.name, "Charge of the current month", "MonthlyCharges", "USD"),
    Feature(
        "total_charges_usd",
        "float64",
        BILLING.name,
        "Sum of all charges so far; null before the first bill (tenure 0)",
        "TotalCharges",
        "USD",
        nullable=True,
    ),
    Feature(
        "gender",
        "string",
        PROTECTED.name,
        "Gender on the contract",
        "gender",
        protected=True,
        categories=("Female", "Male"),
    ),
    Feature("senior_citizen", "bool", PROTECTED.name, "Is 65 or older", "SeniorCitizen", protected=True),
    Feature(
        "protection_count",
        "int64",
        DERIVED.name,
        "Number of protective internet add-ons: security, backup, device protection, support (0 to 4)",
        unit="add-ons",
    ),
    Feature("automatic_payment", "bool", DERIVED.name, "Pays by bank transfer or card without acting each month"),
)

CSV_KEY: Final = "customerID"
CSV_LABEL: Final = "Churn"

BY_NAME: Final[dict[str, Feature]] = {feature.name: feature for feature in FEATURES}
STORED: Final[tuple[Feature, ...]] = tuple(f for f in FEATURES if not f.derived)
"""Features read from the CSV, hence columns of the snapshot."""
ADD_ONS: Final[tuple[str, ...]] = tuple(f.name for f in FEATURES if f.categories == YES_NO_INTERNET)
"""All internet add-ons: what nobody without internet has."""
PROTECTION: Final = ("online_security", "online_backup", "device_protection", "tech_support")
"""The add-ons that solve or prevent problems, as against those that entertain."""

SERVICES_OF: Final[dict[str, tuple[str, ...]]] = {
    CORE_SERVICE: tuple(f.name for f in FEATURES if not f.protected),
    AUDIT_SERVICE: tuple(f.name for f in FEATURES if f.protected),
}
"""Feature service -> its features, in the order in which every vector and frame holds them."""


def features_of(service: str) -> tuple[Feature, ...]:
    """Return the features of a service in contract order. Raises KeyError for an unknown service."""
    return tuple(BY_NAME[name] for name in SERVICES_OF[service])


def contract_hash(service: str) -> str:
    """Return the sha256 (hex) of a service's names, types, domains and order; see :func:`hash_of`."""
    return hash_of(service, features_of(service))


def hash_of(service: str, features: tuple[Feature, ...]) -> str:
    """Return the sha256 (hex) of a service's name and its features' names, types, domains and order.

    A bundle keeps the hash it was trained on; loading it against another contract is refused. Descriptions and
    owners are left out: rewording one must not invalidate a model.
    """
    rows = [
        {key: value for key, value in asdict(feature).items() if key not in {"description", "unit", "column"}}
        for feature in features
    ]
    return hashlib.sha256(json.dumps([service, rows], sort_keys=True).encode()).hexdigest()

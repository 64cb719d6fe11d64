"""The feature contract: every name, type and meaning, defined once. Standard library only.

Training, serving, monitoring and the Feast definitions read this module; no other module holds a column list. See
docs/decisions/0001-layout-and-imports.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PROJECT: Final = "churn"
"""Feast's project: the namespace of every object and online key."""
CUSTOMER: Final = "customer_id"
"""Join key: the customer's id, a non-empty string."""
CUSTOMER_PATTERN: Final = r"^\w[\w.-]{0,63}$"
"""Pattern of an id: letters of any script, digits, - . _, at most 64; shared by gate and service."""
OBSERVED_AT: Final = "observed_at"
"""UTC instant of scoring: the last at which a used value may be known."""
EVENT_TIMESTAMP: Final = "event_timestamp"
"""UTC instant: when a value became true in the world."""
CREATED_TIMESTAMP: Final = "created_timestamp"
"""UTC instant: when this platform could first have known the value."""
LABEL: Final = "churned"
"""True if the customer left in (observed_at, observed_at + 30 days]."""

SOURCE: Final = "customer_snapshot"
"""The offline table, one row per customer and snapshot, that the CSV-derived views read."""
ACTIVITY_SOURCE: Final = "customer_activity"
"""The offline table, one row per customer and delivery of events, that the behavioural views read."""
TTL_DAYS: Final = 92
"""A value older than this is expired: three monthly extracts missed in a row."""
WINDOW_DAYS: Final = 90
"""The longest window over events.

A window of N days at O holds the UTC days d with day(O) - N < d <= day(O).
"""
OBSERVED_AT_US: Final = "observed_at_us"
"""Request data of the behavioural features: the observation date in UTC microseconds since 1970."""


DType = Literal["bool", "int64", "float64", "string", "int64_list"]
YES_NO_INTERNET: Final = ("No", "No internet service", "Yes")


@dataclass(frozen=True)
class View:
    """One feature view.

    Parameters
    ----------
    name, owner, description
        As they are registered in Feast.
    online
        Whether it is served online.
    source
        The offline table that it reads; empty for a view on demand.

    Examples
    --------
    >>> from feature_repo.contract import VIEWS
    >>> [view.name for view in VIEWS if not view.online]
    ['customer_protected']
    """

    name: str
    owner: str
    description: str
    online: bool = True
    source: str = SOURCE


@dataclass(frozen=True)
class Feature:
    """One feature.

    Parameters
    ----------
    name, dtype, view, description
        Its name, type, feature view and meaning.
    column
        The source column, in the CSV or in the activity table; empty for a derived feature.
    unit
        Unit of a number.
    nullable
        Whether a missing value has a trained meaning: any other null is refused and never scored.
    protected
        Whether it is an attribute that no model reads and no reason names.
    categories
        The closed domain (strings only).

    Examples
    --------
    >>> from feature_repo.contract import BY_NAME
    >>> BY_NAME["total_charges_usd"].nullable, BY_NAME["contract_type"].categories
    (True, ('Month-to-month', 'One year', 'Two year'))
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
    "customer_derived", "retention-analytics@telco.example", "Computed from the other views at read time.", source=""
)
USAGE: Final = View(
    "customer_usage",
    "network-analytics@telco.example",
    "Daily tiles of traffic and of logins to self-service, as known at the last delivery of events.",
    source=ACTIVITY_SOURCE,
)
SUPPORT: Final = View(
    "customer_support",
    "customer-care@telco.example",
    "Daily tiles of support tickets opened and closed, as known at the last delivery of events.",
    source=ACTIVITY_SOURCE,
)
PAYMENTS: Final = View(
    "customer_payments",
    "billing-platform@telco.example",
    "Daily tiles of payments and of changes of the price, as known at the last delivery of events.",
    source=ACTIVITY_SOURCE,
)
BEHAVIOR: Final = View(
    "customer_behavior",
    "retention-analytics@telco.example",
    "Windows over the daily tiles, summed at read time: they decay without events.",
    source="",
)
MILESTONES: Final = View(
    "customer_milestones",
    "retention-analytics@telco.example",
    "Where the customer stands between the turns of the contract, computed from it at read time.",
    source="",
)
SNAPSHOT_VIEWS: Final = (CONTRACT, SERVICES, BILLING, PROTECTED)
ACTIVITY_VIEWS: Final = (USAGE, SUPPORT, PAYMENTS)
VIEWS: Final = (*SNAPSHOT_VIEWS, *ACTIVITY_VIEWS)
"""The views with a source; :data:`DERIVED`, :data:`MILESTONES`, :data:`BEHAVIOR` are on demand."""
SNAPSHOT_DERIVED: Final = (DERIVED, MILESTONES)
"""Views computed from the snapshot alone, whose values expire with it; windows have their own TTL."""


def _add_on(name: str, column: str, what: str) -> Feature:
    return Feature(
        name, "string", SERVICES.name, f"Whether the customer has {what}", column, categories=YES_NO_INTERNET
    )


def _tiles(view: View, **descriptions: str) -> tuple[Feature, ...]:
    """Return a view's array columns (parallel: days since 1970 and values) and their known-at instant."""
    known = Feature(
        f"{view.name.removeprefix('customer_')}_known_at_us",
        "int64",
        view.name,
        "Instant of the last delivery that the tiles hold, UTC",
        f"{view.name.removeprefix('customer_')}_known_at_us",
        "microseconds since 1970",
        nullable=True,
    )
    arrays = (
        Feature(
            name,
            "int64_list",
            view.name,
            text,
            name,
            "days since 1970" if name.endswith(("_on", "_since")) else "",
            nullable=True,
        )
        for name, text in descriptions.items()
    )
    return (*arrays, known)


def _window(name: str, dtype: DType, description: str, unit: str) -> Feature:
    return Feature(name, dtype, BEHAVIOR.name, description, unit=unit, nullable=True)


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
    *_tiles(
        USAGE,
        usage_on="Days with metered usage, ascending",
        usage_data_mb="Traffic of each of these days, MB",
        usage_voice_minutes="Calls of each of these days, minutes",
        logins_on="Days with a login to self-service, ascending",
        login_counts="Logins of each of these days",
    ),
    *_tiles(
        SUPPORT,
        tickets_on="Days on which tickets were opened, ascending",
        ticket_counts="Tickets opened on each of these days",
        tickets_open_since="Day on which each ticket was opened that is still open, ascending",
        resolutions_on="Days on which tickets were closed, ascending",
        resolution_counts="Tickets closed on each of these days",
        resolution_hours="Hours from opening to closing of each of these days' tickets, summed",
    ),
    *_tiles(
        PAYMENTS,
        payments_on="Days with a payment, ascending",
        payments_late="Payments after their due date on each of these days",
        payment_days_late="Days late of each of these days' payments, summed",
        price_changes_on="Days on which the monthly price changed, ascending",
        price_change_cents="Change of the monthly price on each of these days, US cents, signed",
    ),
    Feature(
        "activity_known",
        "bool",
        BEHAVIOR.name,
        "Whether any event of the customer reached us within the views' time to live; if not, the rest is null",
    ),
    _window("usage_data_mb_7d", "int64", "Traffic of the last 7 days", "MB"),
    _window("usage_data_mb_30d", "int64", "Traffic of the last 30 days", "MB"),
    _window("usage_data_mb_90d", "int64", "Traffic of the last 90 days", "MB"),
    _window("usage_active_days_30d", "int64", "Days with metered usage among the last 30", "days"),
    _window("usage_voice_minutes_30d", "int64", "Calls of the last 30 days", "minutes"),
    _window(
        "usage_trend",
        "float64",
        "Traffic of the last 30 days over the monthly mean of the last 90; null without traffic in 90 days",
        "ratio",
    ),
    _window("logins_30d", "int64", "Logins to self-service in the last 30 days", "logins"),
    _window("days_since_login", "int64", "Days since the last login; null without one in 90 days", "days"),
    _window("tickets_30d", "int64", "Support tickets opened in the last 30 days", "tickets"),
    _window("tickets_90d", "int64", "Support tickets opened in the last 90 days", "tickets"),
    _window("tickets_open", "int64", "Tickets of the last 90 days that are still open", "tickets"),
    _window(
        "resolution_hours_90d",
        "float64",
        "Mean hours to close a ticket, over those closed in the last 90 days",
        "hours",
    ),
    _window("late_payments_90d", "int64", "Payments after their due date in the last 90 days", "payments"),
    _window("payment_days_late_90d", "int64", "Days late of the payments of the last 90 days, summed", "days"),
    _window("price_change_usd_90d", "float64", "Change of the monthly price over the last 90 days", "USD"),
    _window("days_since_price_change", "int64", "Days since the last one; null without one in 90 days", "days"),
    Feature(
        "months_to_renewal",
        "int64",
        MILESTONES.name,
        "Full months until the running contract ends; null on a monthly contract",
        unit="months",
        nullable=True,
    ),
    Feature(
        "months_since_anniversary",
        "int64",
        MILESTONES.name,
        "Full months since the last full year as a customer, 0 to 11",
        unit="months",
    ),
)

CSV_KEY: Final = "customerID"
CSV_LABEL: Final = "Churn"

BY_NAME: Final[dict[str, Feature]] = {feature.name: feature for feature in FEATURES}
_SNAPSHOT_NAMES: Final = {view.name for view in SNAPSHOT_VIEWS}
STORED: Final[tuple[Feature, ...]] = tuple(f for f in FEATURES if f.view in _SNAPSHOT_NAMES)
"""Features read from the CSV, hence columns of the snapshot."""
TILES: Final[tuple[Feature, ...]] = tuple(f for f in FEATURES if f.view in {view.name for view in ACTIVITY_VIEWS})
"""Columns of the activity table, from which the windows are computed. No model reads them."""
ADD_ONS: Final[tuple[str, ...]] = tuple(f.name for f in FEATURES if f.categories == YES_NO_INTERNET)
"""All internet add-ons; a customer without internet has none of them."""
PROTECTION: Final = ("online_security", "online_backup", "device_protection", "tech_support")
"""The add-ons that solve or prevent problems, as opposed to entertainment."""

SERVICES_OF: Final[dict[str, tuple[str, ...]]] = {
    "churn_core_v1": (
        *("partner", "dependents", "tenure_months", "contract_type", "phone_service", "multiple_lines"),
        *("internet_service", "online_security", "online_backup", "device_protection", "tech_support"),
        *("streaming_tv", "streaming_movies", "paperless_billing", "payment_method", "monthly_charges_usd"),
        *("total_charges_usd", "protection_count", "automatic_payment"),
    ),
}
"""Feature service -> its features, in the order in which every vector and frame holds them.

A name is a version, and a bundle names the one that it reads. A version that a bundle needs never changes; a change is
a new version next to it (``churn_core_v2``). See decision 0044.
"""
SERVICES_OF["churn_behavior_v1"] = (
    *SERVICES_OF["churn_core_v1"],
    *("activity_known", "usage_data_mb_7d", "usage_data_mb_30d", "usage_data_mb_90d", "usage_active_days_30d"),
    *("usage_voice_minutes_30d", "usage_trend", "logins_30d", "days_since_login", "tickets_30d", "tickets_90d"),
    *("tickets_open", "resolution_hours_90d", "late_payments_90d", "payment_days_late_90d", "price_change_usd_90d"),
    *("days_since_price_change", "months_to_renewal", "months_since_anniversary"),
)
SERVICES_OF["churn_audit_v1"] = ("gender", "senior_citizen")
SAME_CONTRACTS: Final[dict[str, tuple[str, ...]]] = {
    "db88af057a84b14c195e474961d21f432a0efac85223e8296ddc92daba3626cf": (
        "13460bdb6b6e8485e51869a22e3acee47a45f930244cec6c05806ce76133a951",
    ),
    "0ee83dfc423c42f7df29b2f88fe4b82799b1f8bd5f3754bfd98f29307f0f4301": (
        "c454a0744a27071af15dcedeff12b77b5d1168f2d3be84400996b7e357ba61df",
    ),
}
"""Contract hash of a service -> earlier hashes of the same contract: those of before transforms were part of it.

A refactoring that leaves every value as it was adds the hash of before.
"""


def features_of(service: str) -> tuple[Feature, ...]:
    """Return the features of a service in contract order.

    Raises
    ------
    KeyError
        For an unknown service.

    Examples
    --------
    >>> from feature_repo.contract import CORE_SERVICE, features_of
    >>> [feature.name for feature in features_of(CORE_SERVICE) if feature.derived]
    ['protection_count', 'automatic_payment']
    """
    return tuple(BY_NAME[name] for name in SERVICES_OF[service])


def request_data_of(service: str) -> tuple[str, ...]:
    """Return the request data (int64) that a service needs along with the customer."""
    windows = any(BY_NAME[name].view == BEHAVIOR.name for name in SERVICES_OF.get(service, ()))
    return (OBSERVED_AT_US,) if windows else ()


def reads_activity(service: str) -> bool:
    """Return whether a service reads the activity table, which exists where events were delivered."""
    return bool(request_data_of(service))


def family_of(service: str) -> tuple[str, int]:
    """Return the name and the number of a version: ("churn_core", 1) of ``churn_core_v1``."""
    name, _, number = service.rpartition("_v")
    return name, int(number)


def current_services() -> tuple[str, ...]:
    """Return the newest version of each service, in the contract's order."""
    newest = {family_of(service)[0]: service for service in sorted(SERVICES_OF, key=family_of)}
    return tuple(service for service in SERVICES_OF if service in newest.values())


CORE_SERVICE, BEHAVIOR_SERVICE, AUDIT_SERVICE = (
    max((service for service in SERVICES_OF if family_of(service)[0] == name), key=family_of)
    for name in ("churn_core", "churn_behavior", "churn_audit")
)
"""The newest versions: what a model reads without and with events, and what an audit reads."""

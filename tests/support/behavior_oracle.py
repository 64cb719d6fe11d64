"""The behavioural features by brute force, straight from event rows: plain Python, no library, no windows, no tiles."""

from __future__ import annotations

from datetime import timedelta

TTL = timedelta(days=92)


def behavior_as_known(deliveries, customer_id, observed_at):
    """Give the features as they were known: ``deliveries`` are pairs of known_at and rows (dicts of an event)."""
    known = [(at, row) for at, rows in deliveries for row in rows if at <= observed_at]
    mine = [(at, row) for at, row in known if row["customer_id"] == customer_id]
    if not mine or observed_at - max(at for at, _ in mine) > TTL:
        return {"activity_known": False}
    latest = {row["event_id"]: row for _, row in sorted(mine, key=lambda pair: pair[1]["revision"])}
    events = [row for row in latest.values() if not row["retracted"]]

    def age_days(row):
        return (observed_at.date() - row["occurred_at"].date()).days

    def within(kind, days):
        return [row for row in events if row["type"] == kind and 0 <= age_days(row) < days]

    def total(kind, days, name):
        return sum(row[name] for row in within(kind, days))

    def since(kind):
        return min(map(age_days, within(kind, 90)), default=None)

    opened = {}
    for row in sorted(within("ticket_opened", 90), key=lambda row: row["occurred_at"]):
        opened[row["ticket_id"]] = row["occurred_at"]
    closed = within("ticket_closed", 90)
    shut = {row["ticket_id"] for row in closed if row["occurred_at"] >= opened.get(row["ticket_id"], observed_at)}
    month, quarter = total("usage_day", 30, "data_mb"), total("usage_day", 90, "data_mb")
    changes = within("plan_change", 90)
    return {
        "activity_known": True,
        "usage_data_mb_7d": total("usage_day", 7, "data_mb"),
        "usage_data_mb_30d": month,
        "usage_data_mb_90d": quarter,
        "usage_active_days_30d": len({age_days(row) for row in within("usage_day", 30)}),
        "usage_voice_minutes_30d": total("usage_day", 30, "voice_minutes"),
        "usage_trend": 3 * month / quarter if quarter else None,
        "logins_30d": len(within("login", 30)),
        "days_since_login": since("login"),
        "tickets_30d": len(within("ticket_opened", 30)),
        "tickets_90d": len(within("ticket_opened", 90)),
        "tickets_open": len(opened.keys() - shut),
        "resolution_hours_90d": total("ticket_closed", 90, "resolution_hours") / len(closed) if closed else None,
        "late_payments_90d": sum(row["days_late"] > 0 for row in within("payment", 90)),
        "payment_days_late_90d": total("payment", 90, "days_late"),
        "price_change_usd_90d": sum(row["price_after_cents"] - row["price_before_cents"] for row in changes) / 100,
        "days_since_price_change": since("plan_change"),
    }

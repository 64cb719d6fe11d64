"""The page for people in a real Chromium, against the real service."""

import itertools
import json
import re
import zlib
from collections import Counter

import pytest
from playwright.sync_api import expect

from bentos.churn.errors import KeyForbiddenError, KeyMissingError, LoadingError, RateLimitedError, response_to
from bentos.churn.ui.page import render_page as page_of
from bentos.prediction.errors import CustomerWithdrawnError, InternalError
from tests.support.chromium import CONTRASTS, CUT_OFF, INJECTIONS, MOVING, REFERENCES, TRACES, Visit
from tests.support.serving_home import EXPIRED, INCOMPLETE

XSS = "<img src=x onerror=alert(1)><script>alert(2)</script>"
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 640}
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def new_visit(browser, sqlite_service):
    """Open a page in a context of its own, with these options."""

    def opened(**options):
        context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", "locale": "en-US"} | options)
        return Visit.watched(context.new_page(), sqlite_service.url)

    return opened


@pytest.fixture
def visit_as(new_visit):
    """The page in a new context; nothing may be complained about in the end."""
    visits = []

    def opened(**options):
        visits.append(new_visit(**options))
        visits[-1].open()
        return visits[-1]

    yield opened
    for visit in visits:
        visit.assert_clean()
        visit.page.context.close()


@pytest.fixture(scope="module")
def one_page(new_visit):
    return new_visit()


@pytest.fixture
def visit(one_page):
    """The page, loaded anew in the one window that most tests share: a new one costs a second."""
    one_page.page.unroute_all()
    one_page.open()
    yield one_page
    one_page.assert_clean()


@pytest.fixture(scope="module")
def answers(sqlite_service):
    said = sqlite_service.post("/predict/batch", {"customer_ids": list(sqlite_service.world.ids[:100])})
    return said.json()["results"]


@pytest.fixture(scope="module")
def leaver(answers, sqlite_service):
    """A customer with internet whom an offer is recommended for."""
    internet = sqlite_service.world.frame["internet_service"].head(len(answers)) != "No"
    return next(
        each for each, has in zip(answers, internet, strict=True) if has and each["label"] == "churn" and each["lever"]
    )


@pytest.fixture(scope="module")
def stayer(answers):
    return next(each for each in answers if each["label"] == "stay" and each["reasons"])


def percent(share):
    return f"{share * 100:.1f}%"


def dollars(amount):
    return f"{MINUS if amount < 0 else ''}${abs(amount):,.2f}"


def supposed(service, customer_id, changes):
    answer = service.post("/predict/what-if", {"customer_id": customer_id, "changes": changes})
    assert answer.status_code == 200
    return answer.json()


def actionable(service, customer_id, feature):
    """What may be changed about a customer: (own value, allowed values)."""
    found = {each["feature"]: each for each in supposed(service, customer_id, {})["actionable"]}
    return found[feature]["value"], found[feature]["allowed"]


def alter(page, **changes):
    """Let the page meet the service's own answer with something else in it."""
    page.route("**/predict", lambda route: route.fulfill(json=route.fetch().json() | changes))


def fulfil(page, refused, path="**/predict"):
    """Let the page meet a refusal, in the service's own words, that the service has no reason for now."""
    said = response_to(refused, 7)
    page.route(path, lambda route: route.fulfill(status=said.status_code, headers=dict(said.headers), body=said.body))


@pytest.mark.parametrize("which", ["leaver", "stayer"])
def test_it_shows_what_the_service_says(visit, request, which):
    answer = request.getfixturevalue(which)
    visit.look_up(answer["customer_id"])
    above = answer["label"] == "churn"
    assert visit.text("figure") == percent(answer["probability"])
    assert visit.text("level") in ({"High risk", "Raised risk"} if above else {"Moderate risk", "Low risk"})
    beside = f"is {'at or above' if above else 'below'} the threshold of {percent(answer['threshold'])}"
    assert beside in visit.text("level-why")
    assert visit.page.locator(".facts > div").first.inner_text().split() == ["Call:", "yes" if above else "no"]
    assert visit.text("profit") == dollars(answer["expected_profit_usd"])
    assert visit.text("model") == answer["model_version"]
    assert visit.text("age") == "2 days old"
    assert (visit.text("stale"), visit.text("missing")) == ("Nothing", "Nothing")
    assert visit.text("quality") == "Full: all data is fresh and known"
    assert re.fullmatch(r"[0-9a-f-]{36}", visit.text("prediction"))
    if answer["lever"]:
        assert visit.text("offer-text") == answer["lever"]["text"]
        assert percent(answer["lever"]["probability"]) in visit.text("offer-odds")
        assert f"{answer['lever']['accept_share'] * 100:.0f} of 100 customers take it" in visit.text("offer-odds")
    else:
        expect(visit.page.locator("#no-offer")).to_be_visible()


def test_the_waterfall_is_the_service_s_reasons_and_ends_at_the_score(visit, leaver):
    visit.look_up(leaver["customer_id"])
    rows = visit.page.locator("#waterfall > li")
    texts = [row.replace("\n", " ") for row in rows.all_inner_texts()]
    reasons = leaver["reasons"]
    assert len(texts) == len(reasons) + 2
    assert texts[0].startswith("All other causes together")
    assert texts[-1].endswith(percent(leaver["probability"]))
    for text, reason in zip(texts[1:-1], reasons, strict=True):
        assert text.startswith(reason["text"])
        assert f"{reason['direction']} the risk" in text
        assert ("worth talking about" in text) is reason["actionable"]
    assert f"to {percent(leaver['probability'])}" in texts[-2], "the last cause leads to the score"
    visit.page.get_by_text("Numbers behind it").click()
    table = [row.split("\t") for row in visit.page.locator("#numbers tr").all_inner_texts()]
    assert [row[0] for row in table] == [reason["code"] for reason in reasons]
    for row, reason in zip(table, reasons, strict=True):
        assert float(row[2].replace(MINUS, "-")) == pytest.approx(reason["contribution"], abs=6e-4)


def test_bars_are_as_long_as_their_contributions(visit, leaver):
    visit.look_up(leaver["customer_id"])
    widths = visit.page.locator("#waterfall .bar").evaluate_all("bars => bars.map((bar) => bar.offsetWidth)")
    sizes = [abs(reason["contribution"]) for reason in leaver["reasons"]]
    for width, size in zip(widths[1:], sizes[1:], strict=True):
        assert width / widths[0] == pytest.approx(size / sizes[0], abs=0.03)


def test_a_what_if_shows_the_service_s_own_value_and_can_be_reset(visit, sqlite_service, leaver):
    visit.look_up(leaver["customer_id"])
    own, allowed = actionable(sqlite_service, leaver["customer_id"], "contract_type")
    other = next(value for value in reversed(allowed) if value != own)
    expected = supposed(sqlite_service, leaver["customer_id"], {"contract_type": other})
    control = visit.page.get_by_label("Contract type")
    expect(control).to_have_value(str(allowed.index(own)))
    control.select_option(label=other)
    expect(visit.page.locator("#after-figure")).to_have_text(percent(expected["after"]["probability"]))
    assert percent(expected["before"]["probability"]) in visit.text("outcome")
    assert dollars(expected["after"]["expected_profit_usd"]) in visit.text("outcome")
    expect(visit.page.locator("#status")).to_contain_text(percent(expected["after"]["probability"]))
    expect(control).to_have_value(str(allowed.index(other)))
    visit.page.get_by_text("Reasons after the changes").click()
    shown = visit.page.locator("#after-waterfall > li").all_inner_texts()[1:-1]
    assert len(shown) == len(expected["reasons"])
    for text, reason in zip(shown, expected["reasons"], strict=True):
        assert text.replace("\n", " ").startswith(reason["text"])
    visit.page.get_by_role("button", name="Reset").click()
    expect(control).to_have_value(str(allowed.index(own)))
    expect(visit.page.locator("#outcome")).to_contain_text("Nothing is changed")


@pytest.mark.parametrize("feature", ["paperless_billing", "streaming_tv"])
def test_a_switch_changes_what_is_yes_or_no(visit, sqlite_service, leaver, feature):
    visit.look_up(leaver["customer_id"])
    own, allowed = actionable(sqlite_service, leaver["customer_id"], feature)
    name = {"paperless_billing": "Paperless billing", "streaming_tv": "Streaming TV"}[feature]
    switch = visit.page.get_by_role("switch", name=name)
    assert switch.is_checked() is (own in {True, "Yes"})
    switch.click()
    (other,) = set(allowed) - {own}
    expected = supposed(sqlite_service, leaver["customer_id"], {feature: other})
    expect(visit.page.locator("#after-figure")).to_have_text(percent(expected["after"]["probability"]))


def test_the_recommended_offer_can_be_tried(visit, leaver):
    visit.look_up(leaver["customer_id"])
    visit.page.get_by_role("button", name="Try it below").click()
    expect(visit.page.locator("#after-figure")).to_have_text(percent(leaver["lever"]["probability"]))


def test_it_shows_why_the_offer_is_not_the_one_with_the_lowest_risk(visit, sqlite_service, leaver):
    visit.look_up(leaver["customer_id"])
    offers = supposed(sqlite_service, leaver["customer_id"], {})["offers"]
    best, lowest = offers[0], min(offers, key=lambda each: each["probability"])
    assert (best["lever"], lowest["lever"]) == (leaver["lever"]["lever"], "TWO_YEAR_CONTRACT")
    expect(visit.page.locator("#offer-why")).to_have_text(
        f"“{lowest['text']}” would lower the risk further, to {percent(lowest['probability'])}, but only 2 of 100 "
        f"customers are assumed to take it. On average that is {lowest['expected_fall'] * 100:.1f} points less risk "
        f"per call, against {best['expected_fall'] * 100:.1f} for the recommended offer."
    )
    visit.page.get_by_text("All offers compared").click()
    shown = visit.page.locator("#offers-list > li").all_inner_texts()
    for text, offer in zip(shown, offers, strict=True):
        assert text.startswith(offer["text"])
        assert f"{percent(offer['probability'])} risk with it" in text
        assert f"taken by {offer['accept_share'] * 100:.0f} of 100" in text


def test_a_customer_not_worth_a_call_has_no_offer_and_the_page_says_why(visit, stayer):
    visit.look_up(stayer["customer_id"])
    assert visit.text("no-offer") == "None: calling this customer costs more than it brings on average."
    expect(visit.page.locator("#offers")).to_be_hidden()


def test_printed_it_is_one_sheet_with_its_bars(visit, leaver):
    """Without "background graphics", from the dark theme, with a what-if and four times the usual reasons."""
    visit.page.emulate_media(color_scheme="dark")
    many = [{**reason, "code": f"CODE_{n}"} for n in range(4) for reason in leaver["reasons"]]
    alter(visit.page, reasons=many, stale=["customer_billing"], score_quality="stale")
    visit.look_up(leaver["customer_id"])
    visit.page.get_by_role("button", name="Try it below").click()
    visit.page.locator("#after-figure").wait_for()
    visit.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    pages, drawn = printed(visit.page.pdf(format="A4", print_background=False))
    assert pages == printed(visit.page.pdf(format="Letter", print_background=False))[0] == 1
    raises = sum(reason["direction"] == "raises" for reason in many)
    bars = visit.page.locator("#waterfall .bar")
    assert bars.count() == len(many)
    # Each bar and that of the meter is a filled shape in the light theme's colour, on white paper.
    assert drawn[LIGHT_UP] == raises + 1 > 1
    visit.page.emulate_media(media="print")
    assert [bar.is_visible() for bar in bars.all()] == [True] * len(many)
    for hidden in (".themes", "#form", "#reset", "#numbers", "#after"):
        expect(visit.page.locator(hidden)).to_be_hidden()
    expect(visit.page.get_by_label("Tech support")).to_be_visible()
    visit.page.emulate_media(media="null", color_scheme="light")


LIGHT_UP = (168, 60, 18)
"""The page's --up in the light theme."""


def printed(pdf):
    """Return the number of pages of a PDF, and how often its pages fill a shape in each colour (RGB, 0 to 255)."""
    drawn = Counter()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue  # a font or a picture in another encoding
        colour = None
        for line in content.splitlines():
            if line.endswith(b" rg"):
                colour = tuple(round(float(part) * 255) for part in line.split()[-4:-1])
            elif line == b"f":
                drawn[colour] += 1
    return len(re.findall(rb"/Type\s*/Page\b", pdf)), drawn


def test_a_change_that_is_not_possible_is_refused_in_the_service_s_words(visit, leaver):
    visit.look_up(leaver["customer_id"])
    price = visit.page.get_by_label("Monthly charges (USD)")
    price.fill("100000")
    price.press("Tab")
    alert = visit.page.locator("#try-problem")
    expect(alert).to_contain_text("This change is not possible")
    expect(alert).to_contain_text("Monthly charges (USD) must be a number from 18 to 120 in steps of 0.05.")
    expect(visit.page.locator("#after-figure")).to_have_count(0)


@pytest.mark.parametrize(
    ("customer_id", "says", "advises"),
    [
        ("nobody-0", "No customer with this id is known", "Check the id"),
        (EXPIRED, "What is known about this customer is too old", "Tell the data team"),
        (INCOMPLETE, "This customer can't be scored", "missing in the source"),
        (XSS[:64], "This is no customer id", "letters, digits"),
        ("  ", "There is no id to look up", "Enter a customer id"),
    ],
)
def test_a_refusal_is_said_in_plain_words_and_leaves_nothing_of_another_customer(
    visit, leaver, customer_id, says, advises
):
    visit.look_up(leaver["customer_id"])
    visit.ask(customer_id)
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text(says)
    expect(alert).to_contain_text(advises)
    expect(visit.page.locator("#result")).to_be_hidden()
    expect(visit.page.get_by_label("Customer id")).to_be_focused()
    assert visit.page.locator("#problem img, #problem script").count() == 0


@pytest.mark.parametrize(
    ("refused", "says", "advises"),
    [
        (CustomerWithdrawnError("m", "h"), "This is no customer any more", "off your list"),
        (KeyMissingError("m", "h"), "You are not signed in", "sign in again"),
        (KeyForbiddenError("m", "h"), "You may not look up customers", "Ask the person"),
        (RateLimitedError(3), "Too many requests", "Wait 3 seconds"),
        (LoadingError("m", "h"), "The service can't answer right now", "Wait 7 seconds"),
        (InternalError(), "Something is broken in the service", "Tell the people who run it"),
    ],
    ids=lambda value: value.error if isinstance(value, Exception) else "",
)
def test_what_the_service_may_say_besides_is_in_plain_words_too(visit, refused, says, advises):
    fulfil(visit.page, refused)
    visit.ask("7590-VHVEG")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text(says)
    expect(alert).to_contain_text(advises)
    visit.page.get_by_text("Details for support").click()
    expect(alert).to_contain_text(f"{refused.http_status} {refused.error}: {refused.message}")


def test_when_the_service_can_t_be_reached_one_can_try_again(visit, leaver):
    visit.page.route("**/predict", lambda route: route.abort("connectionrefused"))
    visit.ask(leaver["customer_id"])
    expect(visit.page.get_by_role("alert")).to_contain_text("The service can't be reached")
    visit.page.unroute("**/predict")
    visit.page.get_by_role("button", name="Try again").click()
    expect(visit.page.locator("#figure")).to_have_text(percent(leaver["probability"]))
    expect(visit.page.get_by_role("alert")).to_have_count(0)


def test_an_answer_that_makes_no_sense_is_not_half_shown(visit, leaver):
    visit.look_up(leaver["customer_id"])
    visit.page.route("**/predict", lambda route: route.fulfill(status=200, body='{"customer_id": "other"}'))
    visit.ask("other")
    expect(visit.page.get_by_role("alert")).to_contain_text("Something is broken")
    expect(visit.page.locator("#result")).to_be_hidden()


def test_what_the_service_says_is_text_and_never_html(visit, leaver):
    def poisoned(route):
        body = route.fetch().json()
        body["customer_id"] = XSS
        body["model_version"] = XSS
        body["reasons"][0]["text"] = XSS
        body["lever"]["text"] = XSS
        body["stale"] = [XSS]
        route.fulfill(status=200, body=json.dumps(body))

    visit.page.route("**/predict", poisoned)
    visit.ask(leaver["customer_id"])
    expect(visit.page.locator("#result-title")).to_have_text(f"Customer {XSS}")
    assert XSS in visit.page.locator("#waterfall").inner_text()
    assert visit.text("offer-text") == visit.text("model") == XSS
    assert visit.page.locator("body img, body script").count() == 0
    visit.page.locator("#controls .control").first.wait_for()


def test_old_and_missing_data_is_said_beside_the_score(visit, leaver):
    alter(visit.page, stale=["customer_billing"], missing=["usage_trend"], score_quality="stale")
    visit.look_up(leaver["customer_id"])
    assert visit.text("notice") == "Read this score with care: old data about billing; no value for usage trend."
    assert (visit.text("stale"), visit.text("missing")) == ("Billing", "Usage trend")
    assert visit.text("quality") == "Stale: something is old"


def test_a_score_without_reasons_is_shown_and_says_so(visit, leaver):
    alter(visit.page, reasons=None, reasons_error="the explanation failed; the probability is not affected")
    visit.look_up(leaver["customer_id"])
    assert visit.text("figure") == percent(leaver["probability"])
    assert "the explanation failed" in visit.text("why-not")
    expect(visit.page.locator("#waterfall")).to_be_hidden()


def test_the_browser_refuses_to_make_html_or_code_of_text(visit):
    assert visit.page.evaluate(INJECTIONS) == ["TypeError", "TypeError"]
    assert visit.page.evaluate("window.hit") is None
    assert visit.violations() == ["require-trusted-types-for", "require-trusted-types-for"]
    assert "TrustedHTML" in str(visit.complaints)
    visit.forget()


def test_the_policy_is_sent_with_the_page(sqlite_service):
    answer = sqlite_service.get("/ui")
    body, policy = page_of()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == body


def test_a_late_answer_never_replaces_a_newer_one(visit, leaver, stayer):
    held = []
    visit.page.route("**/predict", lambda route: held.append(route) if not held else route.continue_())
    visit.ask(leaver["customer_id"])
    expect(visit.page.locator("#go")).to_have_text("Looking up…")
    visit.look_up(stayer["customer_id"])
    held[0].continue_()
    expect(visit.page.locator("#figure")).to_have_text(percent(stayer["probability"]))
    assert visit.text("result-title") == f"Customer {stayer['customer_id']}"
    assert visit.text("go") == "Look up"


def test_no_trace_of_whom_was_looked_up_stays_but_the_theme(visit_as, leaver):
    visit = visit_as()
    visit.look_up(leaver["customer_id"])
    visit.page.get_by_label("Dark").check()
    kept = visit.page.evaluate(TRACES)
    assert kept == {
        "url": visit.url + "/ui",
        "title": "Customer risk",
        "local": {"theme": "dark"},
        "session": {},
        "cookie": "",
        "state": None,
        "entries": 2,
        "databases": 0,
        "caches": 0,
    }
    visit.page.reload()
    assert visit.page.get_by_label("Customer id").input_value() == ""


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_is_the_system_s_until_one_is_chosen(visit_as):
    light, dark = visit_as(color_scheme="light"), visit_as(color_scheme="dark")
    grounds = ground(light.page), ground(dark.page)
    assert grounds[0] != grounds[1]
    light.page.get_by_label("Dark").check()
    assert ground(light.page) == grounds[1]
    light.page.reload()
    assert ground(light.page) == grounds[1]
    assert light.page.get_by_label("Dark").is_checked()
    light.page.get_by_label("Auto").check()
    assert ground(light.page) == grounds[0]
    assert light.page.evaluate("localStorage.length") == 0
    dark.page.get_by_label("Light").check()
    assert ground(dark.page) == grounds[0]


def test_a_whole_journey_by_keyboard(visit_as, sqlite_service, leaver):
    visit = visit_as()
    page = visit.page

    def tab_to(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} can't be reached by Tab")

    # The id has the focus from the start; Escape leads back to it from everywhere, and selects it.
    expect(page.get_by_label("Customer id")).to_be_focused()
    expect(page.locator(".keys")).to_have_text("The key Esc leads back to this field.")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("Light").is_checked()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Customer id")).to_be_focused()
    page.keyboard.type(leaver["customer_id"])
    page.keyboard.press("Enter")
    expect(page.locator("#result-title")).to_be_focused()
    page.locator("#controls .control").first.wait_for()
    tab_to("summary")
    page.keyboard.press("Enter")
    expect(page.locator("#numbers")).to_be_visible()
    tab_to("#try-offer")
    page.keyboard.press("Space")
    expect(page.locator("#after-figure")).to_have_text(percent(leaver["lever"]["probability"]))
    expect(page.locator("#try-title")).to_be_focused()
    tab_to("[role=switch]")
    own = page.get_by_role("switch", name="Paperless billing").is_checked()
    page.keyboard.press("Space")
    changes = leaver["lever"]["changes"] | {"paperless_billing": not own}
    expected = supposed(sqlite_service, leaver["customer_id"], changes)["after"]["probability"]
    expect(page.locator("#after-figure")).to_have_text(percent(expected))
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    expect(page.get_by_label("Customer id")).to_be_focused()
    assert page.evaluate("getSelection().toString()") == leaver["customer_id"]


ACCESSIBLE_NAMES = {"button", "textbox", "searchbox", "combobox", "switch", "radio", "spinbutton", "link", "region"}


def test_a_screen_reader_finds_names_landmarks_and_an_order(visit, leaver):
    visit.look_up(leaver["customer_id"])
    page = visit.page
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    tree = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]
    roles = [role for role, _ in tree]
    assert {"banner", "main", "contentinfo", "search", "status"} <= set(roles)
    assert roles.count("spinbutton") == 1
    assert [role for role, name in tree if role in ACCESSIBLE_NAMES and not name.strip()] == []
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map((each) => Number(each.tagName[1]))")
    assert levels[:2] == [1, 2]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    found = page.evaluate(REFERENCES)
    assert found == {"lang": "en", "positive": 0, "twins": [], "broken": []}
    assert percent(leaver["probability"]) in visit.text("status")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(visit_as, theme, leaver, stayer):
    visit = visit_as(color_scheme=theme)
    visit.look_up(leaver["customer_id"])
    visit.page.get_by_role("button", name="Try it below").click()
    visit.page.locator("#after-figure").wait_for()
    visit.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    visit.page.evaluate("document.getElementById('notice').hidden = false")
    visit.page.evaluate("document.getElementById('notice').textContent = 'Read this score with care'")
    visit.page.get_by_role("switch").first.focus()
    found = visit.page.evaluate(CONTRASTS)
    assert found["found"] == []
    assert found["looked"] > 60
    visit.look_up(stayer["customer_id"])
    assert visit.page.evaluate(CONTRASTS)["found"] == []
    visit.ask("nobody-0")
    expect(visit.page.get_by_role("alert")).to_be_visible()
    assert visit.page.evaluate(CONTRASTS)["found"] == []


def test_320_pixels_are_enough(visit_as, leaver):
    visit = visit_as(viewport=NARROW)
    width = "() => document.documentElement.scrollWidth"
    assert visit.page.evaluate(width) <= 320
    visit.look_up(leaver["customer_id"])
    visit.page.get_by_role("button", name="Try it below").click()
    visit.page.locator("#after-figure").wait_for()
    visit.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert visit.page.evaluate(width) <= 320
    assert visit.page.evaluate(CUT_OFF) == []
    visit.ask("nobody-0")
    expect(visit.page.get_by_role("alert")).to_be_visible()
    assert visit.page.evaluate(width) <= 320


def test_nothing_moves_for_who_wants_no_motion(visit_as, leaver):
    visit = visit_as(reduced_motion="reduce")
    visit.look_up(leaver["customer_id"])
    assert visit.page.evaluate(MOVING) == 0

"""A real Chromium and what a person's visit to the page leaves behind: complaints, hosts, storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import expect

from tests.programs import program
from tests.support.patience import PATIENCE_S

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""

# Text: each visible piece of text against what is painted below it, WCAG 1.4.3. Shapes: borders of controls, bars and
# marks, the outline of what has the focus, WCAG 1.4.11. Answers what falls short.
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    if (!element) return [255, 255, 255, 1];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement));
  };
  const luminance = (color) => color.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  let looked = 0;
  const judge = (what, color, below, least) => {
    looked += 1;
    const got = ratio(over(rgba(color), below), below);
    if (got < least) found.push(`${what}: ${got.toFixed(2)} is less than ${least}`);
  };
  const seen = (element) => element.checkVisibility() && !element.closest(":disabled, .unseen");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !seen(element) || element.tagName === "OPTION") continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    judge(node.data.trim().slice(0, 40), style.color, ground(element), large ? 3 : 4.5);
  }
  for (const field of document.querySelectorAll(".field, .switch, .button.quiet, .themes")) {
    if (!seen(field)) continue;
    const style = getComputedStyle(field);
    judge(`border of ${field.id || field.className}`, style.borderTopColor, ground(field.parentElement), 3);
    if (field.matches(".field")) judge(`text of ${field.id}`, style.color, ground(field), 4.5);
  }
  for (const shape of document.querySelectorAll(".bar, .dot, .fill, .mark")) {
    if (seen(shape)) judge(shape.className, getComputedStyle(shape).backgroundColor, ground(shape.parentElement), 3);
  }
  const focused = document.activeElement, outline = getComputedStyle(focused);
  if (outline.outlineStyle !== "none") judge("focus", outline.outlineColor, ground(focused.parentElement), 3);
  return {found, looked};
}"""

# What the browser keeps of a visit.
TRACES = """async () => ({
  url: location.href, title: document.title, state: history.state, entries: history.length, cookie: document.cookie,
  local: {...localStorage}, session: {...sessionStorage},
  databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length,
})"""

# Two ways to make code of text; answers the error of each, or that it ran.
INJECTIONS = """() => [
  () => { document.body.innerHTML = "<p>x</p>"; },
  () => {
    const made = document.createElement("script");
    made.textContent = "window.hit = 1";
    document.body.append(made);
  },
].map((attempt) => { try { attempt(); return window.hit || "ran"; } catch (error) { return error.name; } })"""

# What a screen reader depends on and the accessibility tree does not show.
REFERENCES = """() => {
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  const references = [...document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]")]
    .flatMap((each) => [each.getAttribute("aria-labelledby"), each.getAttribute("aria-describedby"), each.htmlFor]);
  return {
    lang: document.documentElement.lang,
    positive: document.querySelectorAll("[tabindex]:not([tabindex='0'], [tabindex='-1'])").length,
    twins: ids.filter((id, place) => ids.indexOf(id) !== place),
    broken: references.filter(Boolean).flatMap((each) => each.split(" ")).filter((id) => !ids.includes(id)),
  };
}"""

# Text that its own box cuts off.
CUT_OFF = """() => [...document.querySelectorAll("#result p, #result dd, #result h2")]
  .filter((each) => each.checkVisibility() && each.scrollWidth > each.clientWidth + 1)
  .map((each) => each.textContent)"""

MOVING = """() => [...document.querySelectorAll("*")]
  .filter((each) => getComputedStyle(each).transitionProperty !== "none").length"""


def start(playwright, *flags):
    """Start the system's Chromium, with these flags besides ours; what is expected of its pages may take its time."""
    expect.set_options(timeout=PATIENCE_S * 1000)
    return playwright.chromium.launch(
        executable_path=program("chromium"), args=[*FLAGS, *flags], timeout=PATIENCE_S * 1000
    )


@dataclass
class Visit:
    """One page in a context of its own, and what was noticed while it was open."""

    page: object
    url: str
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    @classmethod
    def watched(cls, page, url):
        """A page whose complaints are heard from the start."""
        page.set_default_timeout(PATIENCE_S * 1000)
        visit = cls(page, url)
        page.on("console", visit._console)
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("dialog", lambda dialog: visit.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
        page.add_init_script(NOTE_VIOLATIONS)
        return visit

    def assert_clean(self):
        """Nothing was complained about, and nobody but the service was asked."""
        assert (self.complaints, self.violations()) == ([], [])
        assert self.hosts == {urlsplit(self.url).netloc}

    def forget(self):
        """Let what was provoked on purpose be no complaint."""
        self.complaints.clear()
        self.page.evaluate("window.violations = []")

    def _console(self, message):
        # The browser itself notes each refused fetch; the page says it to the person.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def open(self):
        self.page.goto(self.url + "/ui")

    def look_up(self, customer_id):
        """Look a customer up as a person does, and wait for the whole answer."""
        self.ask(customer_id)
        self.page.get_by_role("heading", name=f"Customer {customer_id}", exact=True).wait_for()
        self.page.locator("#controls .control").first.wait_for()

    def ask(self, customer_id):
        self.page.get_by_label("Customer id").fill(customer_id)
        self.page.keyboard.press("Enter")

    def text(self, name):
        return self.page.locator(f"#{name}").inner_text()

    def violations(self):
        return self.page.evaluate("window.violations")

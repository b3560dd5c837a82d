"""The page: whole, without anything from elsewhere, and laid out in a browser without running over."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT
from report_cases import claim

from sgtheory.report import find_figures, make_ledger, write_page
from sgtheory.report._page import typeset
from sgtheory.report._registry import TOPICS
from sgtheory.report._table import SHORT

pytest_plugins = ("report_fixtures",)
NASTY = "<script>alert('x')</script> p < 0.05 & \"quoted\""
LONG = "one_very_long_word_" * 20
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
VOID = {"meta", "img", "br", "col", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page; notes those that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.errors, self.text = [], [], [], []
        self.feed(text)
        self.errors += self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


PROVENANCE = {
    "arguments": ["experiment=fig6_quick"],
    "settings": {},
    "versions": {"python": "3.11", "processor": "Abacus 1.0"},
    "runs": [{"name": "deterministic-seed1-abc", "seed": 1, "epochs": 300, "from": 0, "seconds": 7200.0}],
    "configs": {"deterministic": {"path": LONG, "note": NASTY}},
}
PROVENANCE["runs"][0]["versions"] = {"python": "3.12", "processor": "Abacus 2.0"}


@pytest.fixture
def path(write_figure):
    write_figure("fig1", [claim("C1", statement=NASTY, measured=LONG)])
    write_figure("fig3", [claim("C3"), claim("C3.averaging"), claim("C4", "contradicted")])
    write_figure("figS1", [claim("C5.small", "contradicted")])
    folder = write_figure(
        "fig6_quick", [claim("C10.1")], seeds=[1], epochs=300, provenance={**PROVENANCE, "settings": {"name": LONG}}
    )
    (folder / "fig3.png").unlink()
    figures = find_figures(folder)
    write_page(make_ledger(figures), figures, folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def page(path):
    return Page(path.read_text())


def test_nothing_is_loaded_from_elsewhere(page, path):
    assert not page.of("script")
    assert not page.of("link")
    sources = [
        a[key] for _, a in page.elements for key in ("src", "srcset", "data", "poster", "background") if key in a
    ]
    assert len(sources) == 6  # three pictures, each in small too
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    style = "".join(re.findall(r"<style>(.*?)</style>", path.read_text(), flags=re.S))
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_links_lead_somewhere_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = {a["href"].removeprefix("#") for a in page.of("a") if a["href"].startswith("#")}
    assert inner <= set(ids)
    assert {"fig1", "topic-C7", "claim-C5.small"} <= inner
    assert {"overview", "contradicted", "topics", "configurations", "runs", "machines", "commands"} <= set(ids)
    assert {a["href"] for a in page.of("a") if not a["href"].startswith("#")} == {
        "https://doi.org/10.1162/neco_a_01752"
    }


def test_the_page_is_well_formed_and_described(page, path):
    assert not page.errors
    assert page.of("html") == [{"lang": "en"}]
    assert all(len(image["alt"]) > 20 for image in page.of("img"))
    assert [tag for tag, _ in page.elements if tag in ("header", "main", "h1")] == ["header", "h1", "main"]
    assert all("scope" in cell for cell in page.of("th"))
    text = path.read_text()
    assert NASTY not in text
    assert html.escape(NASTY, quote=False) in text.replace("&#39;", "'").replace("&#34;", '"')


def test_every_claim_is_on_the_page_with_its_verdict(page, path):
    entries = make_ledger(find_figures(path.parent))
    ids = {attributes.get("id") for _, attributes in page.elements}
    text = "".join("".join(page.text).split())
    for entry in entries:
        assert f"claim-{entry.id}" in ids
        assert entry.id + SHORT.get(entry.verdict, entry.verdict).replace(" ", "") in text
        assert entry.command.replace(" ", "") in text
        if entry.verdict != "not run":
            for part in (entry.statement, entry.measured, entry.expected):
                assert "".join(typeset(part).striptags().split()) in text
    text = " ".join(" ".join(page.text).split())
    reason = "C5.small contradicted : the distance from the mean over paths is not small"
    assert reason in text.replace("contradicted:", "contradicted :")


def test_topics_come_as_pictures_first_with_their_verdicts(path):
    """The pictures with their verdicts lie before anything that is to be read."""
    grid, rest = path.read_text().split("</ul>", 1)
    cards = grid.split("<li>")[1:]
    assert len(cards) == len(TOPICS)
    (card,) = (card for card in cards if "#topic-C3" in card)
    assert "no picture yet" in card
    (card,) = (card for card in cards if "#topic-C5" in card)
    assert "data:image/png;base64," in card
    assert card.count('class="verdict contradicted"') == 1
    assert all('class="verdict' in card for card in cards)
    assert "<details>" not in grid
    assert "<details>" in rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3 +- 0.1 <= 1", "0.3 ± 0.1 ≤ 1"),
        ("1.1e-16 and 5e+03", "1.1 \u00d7 10<sup>\u221216</sup> and 5 \u00d7 10<sup>3</sup>"),
        ("16x68, 400 samples x 121", "16\u00d768, 400 samples \u00d7 121"),
        ("a fall of -0.5, C10-3, 200-200", "a fall of \u22120.5, C10-3, 200-200"),
        ("beta_SG^2 & <b>", "β<sub>SG</sub><sup>2</sup> &amp; &lt;b&gt;"),
    ],
)
def test_signs_are_typeset(text, expected):
    assert typeset(text) == expected


def test_it_says_how_the_numbers_were_made(page):
    text = " ".join(" ".join(page.text).split())
    for part in (
        "deterministic-seed1-abc",
        "2.0 h",
        "Abacus 1.0",
        "Abacus 2.0",
        "runs of fig6_quick",
        "make fig6 PROFILE=quick",
        "steepness of the escape noise",  # conf/experiment/fig1.yaml
        NASTY.replace('"', '\\"'),  # in a configuration
        "The picture fig3.png is not there. make fig3 draws it.",
    ):
        assert " ".join(part.split()) in text, part


def test_the_command_writes_the_page_of_the_figures_that_are_there(tmp_path, report_command):
    (tmp_path / "fig1.json").write_text((ROOT / "figures" / "published" / "fig1.json").read_text())
    code, out, _ = report_command("--html", "--figures", tmp_path)
    assert code == 0
    assert out.splitlines()[0] == str(tmp_path / "report.html")
    code, out, _ = report_command("--html", "--figures", tmp_path / "none")
    assert code == 0, "a page that says that nothing was run is a page"


# Runs in the browser: the page in a frame of each width, every element measured.
MEASURE = """
<!doctype html><meta charset="utf-8"><body>
<script>
const widths = [320, 375, 768, 1280], found = {};
function measure(frame) {
  const page = frame.contentDocument, root = page.documentElement, width = root.clientWidth;
  const over = [...page.querySelectorAll("body *")].filter(e => !e.closest("pre") && e.getClientRects().length)
    .filter(e => { const r = e.getBoundingClientRect(); return r.right > width + 1 || r.left < -1; });
  const cells = [...page.querySelectorAll(".grid a, .claims > li, .verdict, figcaption, h3, summary")];
  const boxes = cells.filter(e => e.getClientRects().length).map(e => [e, e.getBoundingClientRect()]);
  let overlaps = 0;
  for (const [a, p] of boxes) for (const [b, q] of boxes)
    if (a !== b && !a.contains(b) && !b.contains(a) && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1
        && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 1) overlaps += 1;
  const colour = e => frame.contentWindow.getComputedStyle(e);
  return { scroll: root.scrollWidth, width, over: over.map(e => e.tagName + "." + e.className), overlaps,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map(r => r.name)
      .filter(name => !name.startsWith("data:")),
    images: [...page.images].every(i => i.complete && i.naturalWidth > 0),
    colours: [...page.querySelectorAll("body, .verdict, .soft, a, .finding, .none, summary")].map(e => {
      let back = e; while (back && colour(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
      return [e.className || e.tagName, colour(e).color, colour(back || page.body).backgroundColor]; }) };
}
const page = PAGE;
let left = widths.length;
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.width = width + "px"; frame.style.height = "800px"; frame.srcdoc = page;
  frame.onload = () => { found[width] = measure(frame);
    if (!--left) { const out = document.createElement("output"); out.textContent = JSON.stringify(found);
      document.body.replaceChildren(out); } };
  document.body.append(frame);
}
</script>
"""


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours (WCAG 2)."""

    def luminance(colour):
        channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome, to lay out the page")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_layout_in_a_browser(scheme, path, tmp_path):
    harness = tmp_path / "measure.html"
    harness.write_text(MEASURE.replace("PAGE", json.dumps(path.read_text()).replace("</", "<\\/")))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", "--virtual-time-budget=20000"]
    command += ["--window-size=1400,1000", "--dump-dom", Path(harness).as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    found = re.search(r"<output>(.*)</output>", done.stdout, flags=re.S)
    assert found, done.stderr[-2000:]
    measured = json.loads(html.unescape(found.group(1)))
    assert set(measured) == {"320", "375", "768", "1280"}
    for width, layout in measured.items():
        assert layout["scroll"] <= layout["width"], f"scrolls sideways at {width}"
        assert not layout["over"], width
        assert layout["overlaps"] == 0, width
        assert layout["images"]
        assert not layout["loaded"]
        poor = {(name, c, b) for name, c, b in layout["colours"] if contrast(c, b) < 4.5}
        assert not poor, scheme
    body = measured["375"]["colours"][0]
    assert (contrast(body[2], "rgb(0, 0, 0)") < 2) == (scheme == "dark")

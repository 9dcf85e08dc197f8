"""The page for browsing predictions: its contents, its safety, its use.

The tests of its use run in a real browser: Debian's packages chromium and chromium-driver.
"""

import json
import re
import time
from random import Random

import pytest
from matplotlib.figure import Figure

from nerc.data import synthetic, tags
from nerc.evaluation.error_analysis import KINDS
from nerc.evaluation.page import as_script, compact, data_uri, render_page, tables_page
from nerc.evaluation.plots import png

EVIL = "</script><img src=x onerror=alert(1)>"
EVILS = (EVIL, "<script>alert(1)</script>", "<!--<script>", "]]>", "@@data@@", "\u2028&lt;\ud800")
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAC0lEQVR42m"
PNG += "P4DwYAFPIF+zepC7kAAAAASUVORK5CYII="  # 2 white pixels
TABLE = [
    ["Revision", "F1", "Sentences"],
    *(["beta", "9.5", "1,000"], ["alpha", "10.25 ± 0.10", "-"], ["gamma", "9.75", "200"]),
]


def simulated(size: int, revisions: list[str]) -> dict:
    """Data of a page: the built-in corpus, with predictions that have errors of all kinds."""
    random = Random(0)
    sentences = []
    for words, labels, document in synthetic.generate("test", size):
        gold = [list(entity) for entity in tags.entities(labels)]
        lines = [guess(gold, words, 0.08 + 0.03 * i, random) for i in range(len(revisions))]
        predicted, missed = zip(*lines, strict=True)
        sentence = {"words": words, "document": document, "gold": gold}
        sentences.append(sentence | {"predicted": list(predicted), "missed": list(missed)})
    return {
        "title": "model_primary and main on the built-in corpus, test",
        "note": "Simulated: the errors are random.",
        "types": list(tags.CONLL_TYPES),
        "revisions": revisions,
        "tables": [{"title": "Figures", "rows": TABLE}],
        "others": [{"title": "Errors", "rows": [["kind", "times"], ["missed", "3"]]}],
        "plots": [{"title": "Pixels", "image": PNG}],
        "sentences": sentences,
    }


def guess(gold: list, words: list[str], rate: float, random: Random) -> tuple[list, list]:
    """Predicted entities, with errors at a rate, and missed entities."""
    predicted, missed, end = [], [], 0
    for type_, start, stop in gold:
        if start > end and random.random() < rate / 3:
            predicted.append(["MISC", start - 1, start, random.random(), "spurious"])
        end = stop
        kind = random.choice(KINDS[1:]) if random.random() < rate else "correct"
        confidence = random.random() ** (0.1 if kind == "correct" else 0.6)
        if kind in ("missed", "spurious"):
            missed.append([type_, start, stop])
        elif kind == "wrong type":
            predicted.append([random.choice(["PER", "ORG"]), start, stop, confidence, kind])
        elif kind == "wrong boundary" and stop - start > 1:
            predicted.append([type_, start + 1, stop, confidence, kind])
        else:
            predicted.append([type_, start, stop, confidence, "correct"])
    return predicted, missed


def evil() -> dict:
    """Data of a page whose texts all look like code."""
    word = EVIL.replace(" ", "/")  # types have no white space
    data = simulated(1, [EVIL, "main"])
    sentence = {"words": [*EVILS, "\u00e9\u4e2d"], "document": 0, "gold": [[word, 0, 2]]}
    sentence |= {"predicted": [[[word, 0, 2, 0.9, "correct"]], []], "missed": [[], [[word, 0, 2]]]}
    data |= {
        "title": f"</title>{EVIL}",
        "note": EVILS[1],
        "types": ["PER", word],
        "sentences": [sentence],
    }
    data["tables"] = [{"title": EVIL, "rows": [[EVIL, word], [EVIL, word]]}]
    data["others"] = data["tables"]
    data["plots"][0]["title"] = EVIL
    return data


def read_back(document: str) -> dict:
    """The data in a page, decoded; compact() has encoded them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', document)
    data = json.loads(text)
    types, kinds = data["types"], data.pop("kinds")
    names = ("words", "document", "gold", "predicted", "missed")
    data["sentences"] = [dict(zip(names, s, strict=True)) for s in data["sentences"]]
    for sentence in data["sentences"]:
        for line in (sentence["gold"], *sentence["predicted"], *sentence["missed"]):
            for entity in line:
                entity[0] = types[entity[0]]
                if len(entity) > 3:
                    entity[3:] = [entity[3] / 1000, kinds[entity[4]]]
    return data


# --- The document, without a browser -------------------------------------------------------------


def test_the_document_contains_all_data():
    for data in (simulated(50, ["main", "other"]), evil()):
        for sentence in data["sentences"]:
            for entity in (entity for line in sentence["predicted"] for entity in line):
                entity[3] = round(entity[3], 3)
        assert read_back(render_page(data)) == data


def test_no_text_ends_the_script_or_begins_another():
    document = render_page(evil())
    plain = render_page(simulated(1, ["main"]))
    assert document.count("<script") == plain.count("<script") == 2
    assert document.count("</script") == plain.count("</script") == 2
    assert "<img" not in document and "<!--" not in document
    assert not set(as_script(list(EVILS))) & set("<>&\u2028\u2029\ud800")
    assert json.loads(as_script(list(EVILS))) == list(EVILS)
    document.encode()


def test_the_document_names_no_address_and_allows_only_its_own_script():
    document = render_page(simulated(1, ["main"]))
    assert not re.search(r"https?:|//\w+\.|\bfetch\(|@import|url\(", document)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", document)
    assert "default-src 'none'" in document and "unsafe" not in document and "@@" not in document


def test_types_that_are_not_listed_are_shown_too():
    data = simulated(1, ["main"]) | {"types": ["PER"]}
    data["sentences"][0]["gold"] = [["DATE", 0, 1]]
    assert compact(data)["types"][:2] == ["PER", "DATE"]


def test_a_sentence_without_one_of_the_revisions_is_refused():
    with pytest.raises(ValueError, match="2 revisions, but sentence"):
        render_page(simulated(1, ["main"]) | {"revisions": ["main", "other"]})


def test_five_revisions_on_a_test_split_take_less_than_2_mb():
    data = simulated(3453, ["model_primary", "main", "three", "four", "five"])
    assert 40_000 < sum(len(sentence["words"]) for sentence in data["sentences"])
    assert len(render_page(data).encode()) < 2_000_000


# --- In a browser --------------------------------------------------------------------------------


class Page:
    """A page in the browser: shows it, uses it, reads it."""

    def __init__(self, driver, data: dict, folder) -> None:
        self.driver = driver
        self.path = folder / "page.html"
        self.path.write_text(render_page(data), encoding="utf-8")
        self.open()

    def open(self, hash: str = "") -> None:
        self.driver.get("about:blank")  # else only the hash would change
        self.driver.get(self.path.as_uri() + hash)

    def js(self, code: str, *arguments):
        return self.driver.execute_script(code, *arguments)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str):
        (element,) = self.all(selector)
        return element

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, even of those that are not drawn because they are out of sight."""
        texts = "(e) => e.textContent.toWellFormed()"  # the driver's JSON has no lone surrogates
        return self.js(
            f"return [...document.querySelectorAll(arguments[0])].map({texts})", selector
        )

    def press(self, *keys: str) -> None:
        """Press keys, with the focus where it is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def choose(self, **filters) -> None:
        """Set filters, with the mouse or by typing."""
        for name, value in filters.items():
            if name in ("kind", "type"):
                choices = self.all(f"input[name={name}]")
                (choice,) = (c for c in choices if c.get_attribute("value") == value)
                choice.find_element("xpath", "..").click()
            elif name == "revision":
                options = self.all("#revision option")
                next(o for o in options if o.get_attribute("value") == value).click()
            elif name == "differ":
                self.one("#differ").click()
            else:
                box = self.one("#search" if name == "text" else f"#{name}")
                box.clear()
                box.send_keys(str(value))

    def count(self) -> tuple[int, int]:
        """The numbers of sentences that it says are shown, and that there are."""
        shown, all_ = re.findall(r"[\d,]+", self.one("#count").text)
        return int(shown.replace(",", "")), int(all_.replace(",", ""))

    def counts(self, group: str) -> list[int]:
        return [int(text.replace(",", "")) for text in self.texts(f"#{group} .count")]

    def numbers(self) -> list[int]:
        """The numbers of the sentences that it shows."""
        self.js("while (!byId('more').hidden) byId('more').click()")
        places = self.texts(".sentence .where")
        return [int(place.split()[1].strip(",").replace(",", "")) - 1 for place in places]

    def hash(self) -> str:
        return self.js("return location.hash")

    def focused(self) -> str:
        """The id of the element that has the focus, or its first words."""
        return self.js(
            "const e = document.activeElement; return e.id || e.textContent.slice(0, 25)"
        )

    def until(self, condition) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the condition was not met in 10 s"
            time.sleep(0.02)


@pytest.fixture
def show(chromium, tmp_path):
    """Open pages; afterwards, check that the browser's console has no errors."""
    from selenium.common.exceptions import NoAlertPresentException

    chromium.get_log("browser")
    yield lambda data: Page(chromium, data, tmp_path)
    with pytest.raises(NoAlertPresentException):
        chromium.switch_to.alert  # noqa: B018
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


DATA = simulated(300, ["model_primary", "main", "third"])


def chosen(
    data: dict, kind="", type="", revision="", min=0.0, max=1.0, text="", differ=False
) -> list[int]:
    """The numbers of the sentences that pass the filters, computed independently of the page."""
    kinds = {"": {"gold", *KINDS}, "any error": {*KINDS[1:]}}.get(kind, {kind})
    numbers = []
    for number, sentence in enumerate(data["sentences"]):
        entities = [(*gold, None, "gold") for gold in sentence["gold"]]
        for name, predicted, missed in zip(
            data["revisions"], sentence["predicted"], sentence["missed"], strict=True
        ):
            if revision in ("", name):
                entities += [*predicted, *((*span, None, "missed") for span in missed)]
        is_met = any(
            entity_kind in kinds
            and type in ("", entity_type)
            and (
                (min, max) == (0, 1)
                or (confidence is not None and min <= round(confidence, 3) <= max)
            )
            for entity_type, _, _, confidence, entity_kind in entities
        )
        is_met = is_met or (kind, type, min, max) == ("", "", 0, 1)
        spans = {str([entity[:3] for entity in predicted]) for predicted in sentence["predicted"]}
        is_met = is_met and text.lower() in " ".join(sentence["words"]).lower()
        if is_met and (len(spans) > 1 or not differ):
            numbers.append(number)
    return numbers


FILTERS = [
    {"kind": "any error"},
    *({"kind": kind} for kind in KINDS),
    {"type": "ORG"},
    {"kind": "any error", "revision": "main"},
    {"kind": "wrong type", "type": "PER", "revision": "third", "min": 0.3, "max": 0.9},
    {"kind": "missed", "type": "LOC"},
    {"type": "MISC", "max": 0.5},
    {"revision": "main", "min": 0.9},
    {"text": "THE "},
    {"text": "said", "kind": "any error", "differ": True},
    {"differ": True},
    {"text": "no such sentence"},
]


def test_filters_show_the_sentences_that_pass_them(show):
    page = show(DATA)
    assert page.count() == (300, 300) and page.numbers() == list(range(300))
    for filters in FILTERS:
        page.choose(**filters)
        numbers = chosen(DATA, **filters)
        assert page.count() == (len(numbers), 300), filters
        assert page.numbers() == numbers, filters
        assert page.one("#none").is_displayed() == (not numbers)
        page.one("#reset").click()
        assert page.count() == (300, 300)
    assert 0 < len(chosen(DATA, **FILTERS[8])) < len(chosen(DATA, kind="wrong type"))


def test_each_choice_says_how_many_sentences_it_would_show(show):
    page = show(DATA)
    for filters in ({}, {"revision": "main", "text": "a", "kind": "correct", "min": 0.7}):
        page.choose(**filters)
        kinds, types = ("", "any error", *KINDS), ("", *tags.CONLL_TYPES)
        assert page.counts("kinds") == [len(chosen(DATA, **filters | {"kind": k})) for k in kinds]
        assert page.counts("types") == [len(chosen(DATA, **filters | {"type": t})) for t in types]


def test_only_entities_that_pass_the_filter_are_marked(show):
    page = show(DATA)
    assert page.all(".hit") == []
    page.choose(kind="spurious", revision="main", type="MISC")
    page.numbers()
    spurious = [e for s in DATA["sentences"] for e in s["predicted"][1] if e[4] == "spurious"]
    code = "return [...document.querySelectorAll('.hit')].map((e) => e.dataset.kind)"
    assert page.js(code) == ["spurious"] * len(spurious)


def test_a_sentence_shows_gold_and_each_revision_with_its_errors(show):
    words = "The European Union met Ann Lee in Rome .".split()
    gold = [["ORG", 1, 3], ["PER", 4, 6], ["LOC", 7, 8]]
    one = [["ORG", 1, 3, 0.9, "correct"], ["ORG", 4, 6, 0.5, "wrong type"]]
    two = [["ORG", 2, 3, 0.25, "wrong boundary"], ["PER", 4, 6, 1.0, "correct"]]
    two += [["MISC", 6, 7, 0.125, "spurious"], ["LOC", 7, 8, 0.75, "correct"]]
    sentence = {"words": words, "document": 7, "gold": gold, "predicted": [one, two]}
    sentence["missed"] = [[["LOC", 7, 8]], []]
    page = show(DATA | {"revisions": ["one", "two"], "sentences": [sentence]})
    assert page.texts(".sentence .where") == ["sentence 1, document 7"]
    assert page.texts(".line .name") == ["gold", "one✗2", "two✗2"]
    assert [line.split() for line in page.texts(".line .words")] == [
        "The European UnionORG met Ann LeePER in RomeLOC .".split(),
        "The European UnionORG met Ann LeeORG≠ in RomeLOC∅ .".split(),
        "The European UnionORG↔ met Ann LeePER inMISC+ RomeLOC .".split(),
    ]
    borders = "return [...document.querySelectorAll('.line:nth-of-type(n+2) .entity')].map("
    borders += "(e) => getComputedStyle(e).borderTopColor === 'rgba(0, 0, 0, 0)' ? 'none' :"
    borders += " getComputedStyle(e).borderTopStyle)"
    assert page.js(borders) == ["none", "dashed", "double", "dotted", "none", "solid", "none"]


def test_pointing_at_or_focusing_an_entity_shows_what_it_is(show):
    from selenium.webdriver import ActionChains

    gold, predicted = ["PER", 0, 1], ["ORG", 0, 2, 0.61, "wrong boundary"]
    sentence = {"words": ["Ann", "Lee"], "document": 0, "gold": [gold], "predicted": [[predicted]]}
    page = show(DATA | {"revisions": ["one"], "sentences": [sentence | {"missed": [[]]}]})
    tip = "wrong boundary, confidence 0.610\npredicted: ORG  Ann Lee\ngold: PER  Ann"
    assert not page.one("#differing").is_displayed()  # one revision cannot
    assert not page.one("#tip").is_displayed()
    ActionChains(page.driver).move_to_element(page.all(".entity")[1]).perform()
    assert page.texts("#tip") == [tip] and page.one("#tip").is_displayed()
    ActionChains(page.driver).move_to_element(page.one("h1")).perform()
    assert not page.one("#tip").is_displayed()
    page.press("j", "\ue014")  # right
    assert page.texts("#tip") == ["gold: PER  Ann"] and page.one("#tip").is_displayed()
    page.press("\ue014")
    assert page.texts("#tip") == [tip]
    page.press("\ue012", "\ue012")  # left
    assert page.texts("#tip") == ["gold: PER  Ann"]
    page.js("byId('list').style.marginBottom = '100rem'")
    apart = "const [a, b] = ['.entity', '#tip'].map((s) => document.querySelector(s)); "
    apart += "return a.getBoundingClientRect().top - b.getBoundingClientRect().bottom"
    page.js("scrollBy(0, 99)")
    page.until(lambda: 0 < page.js(apart) < 20)  # the tip follows its entity


def test_keys_do_what_the_help_says(show):
    page = show(DATA)
    page.press("j")
    assert page.focused().startswith("sentence 1,")
    page.press("j", "j", "k")
    assert page.focused().startswith("sentence 2,")
    page.press("j" * 40)  # beyond those drawn at first
    assert page.focused().startswith("sentence 42,")
    top = page.js("return document.activeElement.getBoundingClientRect().top")
    assert 0 <= top < page.js("return innerHeight")
    page.press("/")
    assert page.focused() == "search"
    page.press("j", "r")  # text while the search has the focus
    assert page.one("#search").get_attribute("value") == "jr"
    page.press("\ue00c")  # escape
    assert page.focused() != "search" and page.one("#search").get_attribute("value") == "jr"
    assert page.count()[0] == len(chosen(DATA, text="jr")) < 300
    page.press("r")
    assert page.count() == (300, 300) and page.one("#search").get_attribute("value") == ""
    page.press("?")
    assert page.one("#help").is_displayed()
    page.press("\ue00c")
    assert not page.one("#help").is_displayed()


def test_filters_need_no_mouse(show):
    page = show(DATA)
    page.press("/", "\ue004", "\ue015", "\ue015")  # tab to the kinds, down to the third
    assert page.count()[0] == len(chosen(DATA, kind="correct"))
    page.press("\ue004", "\ue015")  # the first type
    assert page.count()[0] == len(chosen(DATA, kind="correct", type="PER"))
    page.press("\ue004", "main")  # a revision, by its name
    filters = {"kind": "correct", "type": "PER", "revision": "main"}
    assert page.count()[0] == len(chosen(DATA, **filters))
    page.press("\ue004", "\ue015", "\ue013", "\ue013")  # up from 0, in twentieths
    assert page.count()[0] == len(chosen(DATA, **filters, min=0.1))
    page.press("\ue004", "\ue015", "\ue015", "\ue004", " ")  # down from 1, and "Revisions differ"
    expected = chosen(DATA, **filters, min=0.1, max=0.9, differ=True)
    assert page.count()[0] == len(expected) > 0
    page.press("\ue004", "\ue007")  # enter, on the button
    assert page.count() == (300, 300)


def test_columns_sort_by_mouse_and_by_keyboard(show):
    page = show(DATA)
    assert not page.one("#others table").is_displayed()
    page.one("#others summary").click()
    assert page.one("#others table").is_displayed()
    names = ("beta", "alpha", "gamma")

    def rows() -> list[str]:
        return page.texts("#tables td:first-child")

    def sorts() -> list[str]:
        return [head.get_attribute("aria-sort") for head in page.all("#tables th")]

    assert rows() == list(names) and sorts() == ["none"] * 3
    revision, f1, sentences = page.all("#tables th button")
    f1.click()
    assert rows() == ["beta", "gamma", "alpha"]  # 9.5 before 9.75 before 10.25, as numbers
    assert sorts() == ["none", "ascending", "none"]
    f1.send_keys("\ue007")  # enter
    assert rows() == ["alpha", "gamma", "beta"] and sorts() == ["none", "descending", "none"]
    revision.send_keys(" ")
    assert rows() == sorted(names) and sorts() == ["ascending", "none", "none"]
    revision.click()
    assert rows() == sorted(names, reverse=True)
    revision.click()
    assert rows() == list(names) and sorts() == ["none"] * 3
    sentences.click()
    assert rows() == ["gamma", "beta", "alpha"]  # 200, 1,000; what is no number is last
    sentences.click()
    assert rows() == ["beta", "gamma", "alpha"]


def test_the_address_keeps_the_filters(show):
    page = show(DATA)
    filters = {"kind": "wrong type", "type": "PER", "revision": "main", "text": "a & b=#é%"}
    filters |= {"min": 0.2, "max": 0.95, "differ": True}
    page.choose(**filters)
    page.until(lambda: "differ" in page.hash())
    kept = page.hash()
    page.open(kept)
    code = "return Object.fromEntries(['search', 'revision', 'min', 'max'].map("
    values = page.js(code + "(id) => [id, byId(id).value]))")
    assert values == {"search": "a & b=#é%", "revision": "main", "min": "0.2", "max": "0.95"}
    checked = "return [...document.querySelectorAll(':checked')].map((e) => e.value)"
    assert page.js(checked) == ["wrong type", "PER", "main", "on"]
    page.js("location.hash = '#kind=missed&text=the'")  # by hand, or with the button Back
    expected = chosen(DATA, kind="missed", text="the")
    page.until(lambda: page.count()[0] == len(expected))
    page.one("#reset").click()
    page.until(lambda: page.hash() == "")
    page.open("#kind=nonsense&type=%3Cb%3E&revision=x&min=x&max=7&differ=maybe&other=1")
    assert page.count() == (300, 300)


def test_texts_that_look_like_code_are_shown_as_texts(show):
    data = evil()
    page = show(data)
    assert page.driver.title == data["title"]
    assert page.texts("h1, #note") == [data["title"], EVILS[1]]
    type_ = data["types"][1]
    assert page.texts("#types .name") == ["any", "PER", type_]
    assert page.texts("#revision option") == ["any revision", EVIL, "main"]
    assert page.texts("caption, th, td") == 2 * [EVIL, EVIL, type_, EVIL, type_]
    assert page.texts("figcaption") == [EVIL]
    words = " ".join(EVILS[2:])
    shown = [f"{EVILS[0]} {EVILS[1]}{type_}{symbol} {words} é中" for symbol in ("", "", "∅")]
    assert [s.replace("\ufffd", "\ud800") for s in page.texts(".line .words")] == shown
    assert page.texts(".line .name b") == ["gold", EVIL, "main"]
    assert page.all("img[src=x]") == [] and page.all("body script[src]") == []
    page.choose(type=type_, revision=EVIL, text="<script>")
    assert page.count() == (1, 1) and page.texts("mark")[0] == EVILS[1]
    page.until(lambda: "text" in page.hash())
    page.open(page.hash())
    assert page.one("#revision").get_attribute("value") == EVIL and page.count() == (1, 1)


def test_a_page_of_tables_shows_them_and_no_browser(show):
    tables = {EVIL: [["Word", "number"], [EVIL, "1,000"], ["b", "20"]], "empty": [["Word"]]}
    page = show(read_back(tables_page("Audit", tables, EVIL)))
    assert page.texts("h1, #note") == ["Audit", EVIL]
    assert page.texts("caption") == [EVIL, "empty"]
    page.all("th button")[1].click()  # sorts
    assert page.texts("td") == ["b", "20", EVIL, "1,000"]
    assert not page.one("#browser").is_displayed() and not page.one("#keys").is_displayed()
    page.press("j", "?", "/", "r")
    assert not page.one("#help").is_displayed() and page.one("#theme").is_displayed()


CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
const pixel = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = (color) => pixel(color).slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const contrasts = {};
for (const node of document.querySelectorAll("body *")) {
  const hasText = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!hasText || !node.checkVisibility()) continue;
  let ground = node;
  while (pixel(getComputedStyle(ground).backgroundColor)[3] < 255) ground = ground.parentElement;
  const a = light(getComputedStyle(node).color);
  const b = light(getComputedStyle(ground).backgroundColor);
  const name = `${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}`;
  contrasts[name] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
return contrasts;
"""


def test_light_and_dark_follow_the_system_and_the_button_and_are_legible(show):
    types = [f"T{i}" for i in range(30)]
    data = simulated(40, ["main"]) | {"types": types}
    gold = [[type_, i, i + 1] for i, type_ in enumerate(types)]
    sentence = {
        "words": ["word"] * 31,
        "document": 0,
        "gold": gold,
        "missed": [gold],
        "predicted": [[]],
    }
    page = show(data | {"sentences": [sentence, *data["sentences"]]})

    def ground(tag: str) -> str:
        code = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
        return page.js(code, tag)

    def is_dark() -> bool:
        assert ground("figure") == "rgb(255, 255, 255)"  # plots need white
        return ground("html") == "rgb(19, 21, 24)"

    def system(scheme: str) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    for scheme in ("dark", "light"):
        system(scheme)
        page.open("#text=e")
        assert is_dark() == (scheme == "dark")
        contrasts = page.js(CONTRASTS)
        assert len(contrasts) > 100
        assert {name: c for name, c in contrasts.items() if c < 4.5} == {}  # WCAG 2, level AA
        page.one("#theme").click()
        assert is_dark() == (scheme == "light")
    page.open()
    system("dark")
    page.until(is_dark)  # also while it is open
    image = "const {width, height, naturalWidth, naturalHeight} = document.querySelector('img');"
    assert page.js(image + "return [naturalWidth, naturalHeight]") == [2, 1]
    assert page.js(image + "return [width, height]") == [2, 1]  # known before it is drawn


def test_a_corpus_without_documents_has_no_document_0(show):
    sentences = [sentence | {"document": None} for sentence in DATA["sentences"][:2]]
    page = show(DATA | {"sentences": sentences})
    assert page.texts(".sentence .where") == ["sentence 1", "sentence 2"]


def test_counts_of_filters_say_that_they_count_sentences(show):
    page = show(DATA)
    for group in ("kinds", "types"):
        heading = page.js(f"return byId('{group}').closest('fieldset').firstElementChild")
        assert "sentences" in heading.text


@pytest.mark.parametrize("width", [1600, 1300, 500])
def test_plots_fill_the_width_of_the_page(show, width):
    shapes = [(5.2, 3.6), (4.2, 3.6), (7.2, 3.6), (4.3, 3.7), (4.3, 3.7)]
    plots = [png(Figure(shape, dpi=144)) for shape in shapes]
    images = [{"title": "Plot", "image": data_uri(plot)} for plot in plots]
    page = show(DATA | {"plots": images})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open()
    boxes = "return [...document.querySelectorAll(arguments[0])].map((node) => {"
    boxes += "const box = node.getBoundingClientRect(); return [box.left, box.right, box.top]; })"
    ((left, right, _),) = page.js(boxes, "#plots")
    rows: dict[float, list] = {}
    for start, end, top in page.js(boxes, "figure"):
        rows.setdefault(top, []).append((start, end))
    for row in rows.values():
        assert row[0][0] == pytest.approx(left) and row[-1][1] == pytest.approx(right, abs=1)
        assert all(b - a < 20 for (_, a), (b, _) in zip(row, row[1:], strict=False))
    assert len(rows) == {1600: 2, 1300: 2, 500: 5}[width]
    used = "const p = byId('plots').clientWidth * byId('plots').clientHeight; let sum = 0;"
    used += "for (const i of document.images) sum += i.width * i.height; return sum / p"
    assert page.js(used) > 0.6


def test_a_narrow_window_is_enough(show):
    wide = {"title": "", "rows": [[f"column {i}" for i in range(20)], ["text"] * 20]}
    page = show(DATA | {"revisions": ["main" * 20, "other", "third"], "tables": [wide]})
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open()
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    assert not page.one("#reset").is_displayed()
    page.one("#filters summary").click()
    page.choose(kind="missed")
    assert page.count()[0] == len(chosen(DATA, kind="missed"))
    page.until(lambda: "missed" in page.hash())
    page.open(page.hash())
    assert page.one("#reset").is_displayed()  # because a filter is set
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")


SHIFTS = """
const [done] = arguments;
const shifts = [];
new PerformanceObserver((list) => shifts.push(...list.getEntries().map((entry) => entry.value)))
  .observe({type: "layout-shift", buffered: true});
setTimeout(() => done(shifts), 300);
"""


def test_ten_thousand_sentences_open_and_filter_quickly(show):
    base = simulated(2000, ["model_primary", "main", "third"])
    data = base | {"sentences": base["sentences"] * 5}
    start = time.monotonic()
    page = show(data)
    assert page.count() == (10_000, 10_000)
    assert len(page.all(".sentence")) < 200  # only those near the window
    assert page.driver.execute_async_script(SHIFTS) == []
    for filters in ({"kind": "any error"}, {"text": "the"}, {"type": "ORG"}, {"differ": True}):
        milliseconds = page.js(
            "Object.assign(state, arguments[0]); const start = performance.now(); update();"
            "document.body.offsetHeight; return performance.now() - start",
            filters,
        )
        assert milliseconds < 5000  # it does not hang; about ten are normal
    filters = {"kind": "any error", "text": "the", "type": "ORG", "differ": True}
    assert page.count()[0] == 5 * len(chosen(base, **filters))
    assert time.monotonic() - start < 60

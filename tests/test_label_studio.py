"""Rounds of active learning whose sentences people label in a real Label Studio.

Install it in an environment of its own (python -m venv studio; studio/bin/pip install label-studio)
and name its program: LABEL_STUDIO=studio/bin/label-studio python -m pytest --slow
tests/test_label_studio.py
"""

import http.cookiejar
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest
from conftest import small, write_conll

import active_learn
from nerc.__main__ import main
from nerc.annotation import tools
from nerc.data import synthetic
from nerc.data.conll import read_conll
from nerc.data.pool import Query
from nerc.data.tags import entities
from nerc.store import query_records

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "correct horse battery staple"
SECONDS = 300  # that a start may take: the server makes its database first

Change = Callable[[dict, int], dict]  # of a task and its number: the annotation to submit


class Studio:
    """A server, as one user sees it through the API."""

    def __init__(self, address: str, token: str) -> None:
        self.address, self.token = address, token

    def call(self, path: str, body: Any = None) -> Any:
        """What the server answers to GET or, with a body, POST."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        with urlopen(Request(self.address + path, data, headers), timeout=60) as response:
            return json.load(response)

    def export(self, project: int, path: Path, kind: str = "JSON") -> None:
        headers = {"Authorization": f"Token {self.token}"}
        address = f"{self.address}/api/projects/{project}/export?exportType={kind}"
        with urlopen(Request(address, headers=headers), timeout=60) as response:
            path.write_bytes(response.read())

    def project(self, asked: Path, annotators: int = 1) -> int:
        """The number of a new project with the questions of a file."""
        config = (asked.parent / "label_config.xml").read_text(encoding="utf-8")
        about = {"title": asked.stem, "label_config": config, "maximum_annotations": annotators}
        number = self.call("/api/projects", about | {"sampling": "Uncertainty sampling"})["id"]
        tasks = json.loads(asked.read_text(encoding="utf-8"))
        made = self.call(f"/api/projects/{number}/import", tasks)
        assert made["task_count"] == made["prediction_count"] == len(tasks)
        return number

    def tasks(self, project: int, order: str = "tasks:id") -> list[dict]:
        about = {"project": project, "data": {"title": order, "ordering": [order]}}
        view = self.call("/api/dm/views", about)["id"]
        return self.call(f"/api/tasks?view={view}&fields=all")["tasks"]

    def annotate(self, project: int, change: Change) -> None:
        """Submit an annotation of each task; an empty one is none."""
        for number, task in enumerate(self.tasks(project)):
            if annotation := change(task, number):
                self.call(f"/api/tasks/{task['id']}/annotations", annotation)

    def another_user(self, email: str) -> "Studio":
        """Somebody who signs up by an invitation."""
        opener = build_opener(HTTPCookieProcessor(cookies := http.cookiejar.CookieJar()))
        page = self.address + self.call("/api/invite")["invite_url"]
        opener.open(page).close()
        (secret,) = [cookie.value for cookie in cookies if cookie.name == "csrftoken"]
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": secret}
        opener.open(Request(page, urlencode(form).encode(), {"Referer": page})).close()
        with opener.open(self.address + "/api/current-user/token") as response:
            return Studio(self.address, json.load(response)["token"])


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    program = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
    if program is None:
        pytest.skip("Label Studio is not installed: no label-studio, nor LABEL_STUDIO")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("studio")
    line = [program, "start", "--no-browser", "--data-dir", str(folder), "--port", port]
    line += ["--internal-host", "127.0.0.1", "--enable-legacy-api-token"]
    line += ["--username", "ann@example.org", "--password", PASSWORD, "--user-token", TOKEN]
    quiet = {"COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": ""}
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            line, env=os.environ | quiet, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log.txt")
            yield Studio(f"http://127.0.0.1:{port}", TOKEN)
        finally:
            server.terminate()
            server.wait(60)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            urlopen(address, timeout=60).close()
            return
        except URLError:
            assert server.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.5)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Text and weak labels in which every sentence begins with an emoji."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, split, size in (("unlabelled", "train", 10), ("llm", "llm", 500)):
        sentences = [
            (("😀", *words), ("O", *tags), document)
            for words, tags, document in synthetic.generate(split, size)
        ]
        write_conll(folder / f"{name}.txt", sentences)
    write_conll(folder / "valid.txt", synthetic.generate("validation", 20))
    return folder


def flags(corpus: Path, *more) -> list[str]:
    line = [*small(corpus, "tiny"), "--oracle", corpus.parent / "labels", "--rounds", 1]
    line += ["--repo", corpus.parent / "models", "--exchange", "label-studio", *more]
    return [str(flag) for flag in line]


def proposed(task: dict) -> list[dict]:
    (prediction,) = task["predictions"]
    return prediction["result"]


def marked(task: dict, word: str, type_: str) -> dict:
    start = task["data"]["text"].index(word)
    value = {"start": start, "end": start + len(word), "text": word, "labels": [type_]}
    return {"from_name": "label", "to_name": "text", "type": "labels", "value": value}


def answers(corpus: Path) -> list[Query]:
    """Those of the last round."""
    (last,) = (corpus.parent / "models").glob("active_iter_1_*")
    return query_records.read(last)


def test_the_rounds_of_a_person_in_label_studio(studio, corpus, capsys):
    labels = corpus.parent / "labels"
    line = flags(corpus, "--expert", 5, "--add", 4, "--epochs", 8)
    active_learn.main(line)
    assert "import" in (said := capsys.readouterr().out) and "label_config.xml" in said
    project = studio.project(labels / "round_0.json")
    tasks = studio.tasks(project)
    accepted = next(i for i, task in enumerate(tasks) if proposed(task))
    corrected, skipped = (i for i in range(3) if i != accepted)
    left = next(i for i in (3, 4) if i != accepted)
    words = [tuple(task["data"]["words"]) for task in tasks]

    def change(task, number) -> dict:
        if number == corrected:  # the first two words after the emoji
            return {"result": [marked(task, " ".join(words[number][1:3]), "ORG")]}
        return {"result": proposed(task), "was_cancelled": number == skipped}

    studio.annotate(project, lambda task, number: number != left and change(task, number))
    for kind, missing in (("JSON_MIN", 2), ("JSON", 1)):  # the first lacks skipped tasks
        studio.export(project, labels / "round_0.answers.json", kind)
        active_learn.main([*line, "--check"])
        assert f"waits for answers to {missing} more" in capsys.readouterr().out
    studio.annotate(project, lambda task, number: number == left and change(task, number))
    studio.export(project, labels / "round_0.answers.json")
    active_learn.main([*line, "--check"])
    assert "round 0: all 5 sentences are answered, without fault" in capsys.readouterr().out
    active_learn.main([*line, "--resume"])
    assert "round 1 waits for labels of 4 sentences" in capsys.readouterr().out

    # The proposals of a model, the most doubtful first.
    second = studio.project(labels / "round_1.json")
    asked = studio.tasks(second)
    scores = [task["predictions"][0]["score"] for task in asked]
    assert scores == sorted(scores) and 0 < scores[0] < scores[-1] < 1
    by_score = studio.tasks(second, "tasks:predictions_score")
    assert [task["id"] for task in by_score] == [task["id"] for task in asked]
    assert studio.call(f"/api/projects/{second}/next")["id"] == asked[0]["id"]
    studio.annotate(second, lambda task, number: {"result": proposed(task)})
    studio.export(second, labels / "round_1.answers.json")
    active_learn.main([*line, "--resume"])

    by_words = {query.words: query for query in answers(corpus)}
    assert len(by_words) == 9
    assert by_words[words[skipped]].tags is None
    assert entities(by_words[words[corrected]].tags) == [("ORG", 1, 3)]
    assert by_words[words[accepted]].tags == by_words[words[accepted]].proposed
    assert entities(by_words[words[accepted]].tags)
    rest = [q for q in by_words.values() if q.round == 1]
    assert len(rest) == 4 and all(q.tags == q.proposed for q in rest)
    assert [q.confidence for q in rest] != [None] * 4

    # The server's own CoNLL has the same tags where it cuts the same words.
    studio.export(second, corpus / "theirs.txt", "CONLL2003")
    theirs = {s.words: s.tags for s in read_conll(corpus / "theirs.txt")}
    same = [q for q in rest if q.words in theirs]
    assert same and all(theirs[q.words] == q.tags for q in same)


def test_where_two_people_differ_the_sentences_are_asked_again(studio, corpus, capsys):
    labels = corpus.parent / "labels"
    line = flags(corpus, "--expert", 4, "--add", 1, "--annotators", 2, "--epochs", 2)
    active_learn.main(line)
    project = studio.project(labels / "round_0.json", annotators=2)
    words = [tuple(task["data"]["words"]) for task in studio.tasks(project)]
    ben = studio.another_user("ben@example.org")
    studio.annotate(project, lambda task, number: {"result": [marked(task, "😀", "MISC")]})
    studio.export(project, labels / "round_0.answers.json")
    active_learn.main([*line, "--check"])
    assert "waits for answers by 2 people to 4 more sentences" in capsys.readouterr().out
    assert ben.call(f"/api/projects/{project}/next")["total_annotations"] == 1
    ben.annotate(
        project, lambda task, number: {"result": [] if number else [marked(task, "😀", "MISC")]}
    )
    studio.export(project, labels / "round_0.answers.json")
    active_learn.main([*line, "--check"])
    said = capsys.readouterr().out
    assert "1 and 2 both answered 4 sentences: F1 0.400" in said  # 1 of 4 and 1
    assert "the adjudication of round 0 waits for labels of 3 sentences" in said

    again = studio.project(labels / "round_0.adjudication.json")
    assert {tuple(task["data"]["words"]) for task in studio.tasks(again)} == {*words[1:]}
    studio.annotate(again, lambda task, number: {"result": [marked(task, "😀", "PER")]})
    studio.export(again, labels / "round_0.adjudication.answers.json")
    active_learn.main([*line, "--resume"])
    (name,) = (corpus.parent / "models").glob("active_iter_0_*")
    decided = {q.words: entities(q.tags) for q in query_records.read(name)}
    assert decided == {w: [("PER" if i else "MISC", 0, 1)] for i, w in enumerate(words)}


# ------------------------------------------------------------ in a browser

SHOWN = "return [...document.querySelectorAll('.lsf-richtext__line')].map(line => line.innerText)"
PRESS = "document.querySelector(arguments[0]).click()"
PLACE = """
const text = document.querySelector('.lsf-richtext__line');
const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const start = walker.currentNode.data.indexOf(arguments[0]);
    if (start < 0) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, start);
    range.setEnd(walker.currentNode, start + arguments[0].length);
    const place = range.getBoundingClientRect();
    return [place.left, place.top + place.height / 2, place.right];
}
"""


def log_in(browser, studio: Studio) -> None:
    browser.get(f"{studio.address}/user/login/")
    for name, text in (("email", "ann@example.org"), ("password", PASSWORD)):
        browser.find_element("name", name).send_keys(text)
    browser.find_element("css selector", "form [type=submit]").click()


def select(browser, part: str) -> None:
    """Draw the mouse over a part of the text."""
    from selenium.webdriver.common.action_chains import ActionChains

    left, middle, right = map(int, browser.execute_script(PLACE, part))
    chain = ActionChains(browser)
    mouse = chain.w3c_actions.pointer_action
    mouse.move_to_location(left + 1, middle).pointer_down()
    mouse.move_to_location(right - 1, middle).pointer_up()
    chain.perform()


def test_what_a_person_marks_in_a_browser_is_read(studio, chromium, tmp_path, capsys):
    from selenium.webdriver.support.ui import WebDriverWait

    accepted, corrected, skipped = "😀 Ann met Bob .", "😀 Nobody 😀 met Zoë .", "😀 Skip 😀 me ."
    left = [accepted, corrected, skipped]
    blocks = ["\n".join(f"{word} O" for word in text.split()) for text in left]
    source, export, result = (tmp_path / name for name in ("in.txt", "export.json", "out.txt"))
    source.write_text("\n\n".join(blocks).replace("Ann O", "Ann B-PER"), encoding="utf-8")
    main(["convert", str(source), str(tmp_path / "answered.json"), "--to", "label-studio"])
    tasks = json.loads((tmp_path / "answered.json").read_text(encoding="utf-8"))
    for task in tasks:
        task["predictions"] = [{"result": a["result"]} for a in task.pop("annotations")]
    (tmp_path / "round.json").write_text(json.dumps(tasks))
    (tmp_path / "label_config.xml").write_text(tools.label_config(["LOC", "PER"]))
    project = studio.project(tmp_path / "round.json")

    wait = WebDriverWait(chromium, 60)
    log_in(chromium, studio)
    wait.until(lambda browser: "/login" not in browser.current_url)
    chromium.get(f"{studio.address}/projects/{project}/data?labeling=1")
    while left:
        text = wait.until(lambda browser: {*browser.execute_script(SHOWN)} & {*left}).pop()
        left.remove(text)
        if text == corrected:
            chromium.execute_script(PRESS, ".lsf-label_clickable")  # the first, LOC
            select(chromium, "oë")  # a part of Zoë, which becomes the whole word
        button = "skip-task" if text == skipped else "Submit current annotation"
        chromium.execute_script(PRESS, f"button[aria-label='{button}']")
    wait.until(
        lambda _: all(
            task["total_annotations"] + task["cancelled_annotations"]
            for task in studio.tasks(project)
        )
    )

    studio.export(project, export)
    main(["convert", str(export), str(result), "--from", "label-studio"])
    assert f"{export}: left out 1 skipped text" in capsys.readouterr().out
    found = {" ".join(s.words): entities(s.tags) for s in read_conll(result)}
    assert found == {accepted: [("PER", 1, 2)], corrected: [("LOC", 4, 5)]}

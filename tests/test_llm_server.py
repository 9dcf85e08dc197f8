"""The stub of a language model's server: it speaks the protocol, and its faults are what they say.

python -m pytest tests/test_llm_server.py
"""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import write_conll
from llm_replies import FAULTS, GOOD_MODEL_ERRORS, Model
from llm_server import TRANSPORT, Server
from seqeval.metrics import f1_score

from nerc.data import synthetic

openai = pytest.importorskip("openai")

WORDS = tuple('" US beats Bank of England , \'s us , US " said it .'.split())
TAGS = tuple("O B-LOC O B-ORG I-ORG I-ORG O O O O B-LOC O O O O".split())
INLINE = '" <LOC>US</LOC> beats <ORG>Bank of England</ORG> , \'s us , <LOC>US</LOC> " said it .'
LISTED = [("US", "LOC", 1), ("Bank of England", "ORG", 1), ("US", "LOC", 2)]
GOLD = {WORDS: TAGS, ("Nothing", "here"): ("O", "O")}
TEXT = " ".join(WORDS)
FORMATS = {"inline": "Tag the entities.", "json": 'Reply as {"entities": [...]}.'}
VERIFY = "Is the tagged entity right? Answer yes or no."


def messages(text: str, form: str = "inline") -> list[dict]:
    return [
        {"role": "system", "content": FORMATS.get(form, form)},
        {"role": "user", "content": "Rome"},
        {"role": "assistant", "content": "<LOC>Rome</LOC>"},
        {"role": "user", "content": text},
    ]


@pytest.fixture(scope="module", autouse=True)
def client():
    """One client for all: each costs 0.1 s."""
    ask.client = openai.OpenAI(base_url="http://127.0.0.1:1", api_key="none")
    with ask.client:
        yield ask.client


def ask(server: Server, text: str = TEXT, form: str = "inline", retries: int = 0, **fields):
    fields = {"temperature": 0, "model": "any", "max_tokens": 99} | fields
    client = ask.client.with_options(base_url=server.url, max_retries=retries)
    return client.chat.completions.create(messages=messages(text, form), **fields)


def content(*args, **fields) -> str | None:
    return ask(*args, **fields).choices[0].message.content


def replied(model: Model, text: str = TEXT, form: str = "inline", **fields):
    """Reply and line of the log, without a connection."""
    return model.reply({"temperature": 0, "messages": messages(text, form)} | fields)


def test_the_real_client_reads_the_reply_the_model_and_the_usage(client):
    with Server(GOLD) as server:
        reply = ask(server, model="some-model")
        models = client.with_options(base_url=server.url).models.list()
    assert [model.id for model in models] == ["stub"]
    (choice,) = reply.choices
    assert (reply.model, choice.finish_reason) == ("some-model", "stop")
    assert (choice.message.role, choice.message.refusal) == ("assistant", None)
    assert choice.message.content == INLINE
    # A token for each four characters, and one a message: 17, 4, 15 and 51 characters, then 84.
    assert [len(m["content"]) for m in messages(TEXT)] == [17, 4, 15, 51] and len(INLINE) == 84
    assert reply.usage.prompt_tokens == 5 + 2 + 4 + 13
    assert reply.usage.completion_tokens == 22 and reply.usage.total_tokens == 46
    assert abs(reply.created - time.time()) < 60


def test_the_json_reply_counts_the_places_of_the_same_words():
    with Server(GOLD) as server:
        found = json.loads(content(server, form="json"))
    assert found == {
        "entities": [{"text": t, "type": y, "occurrence": o} for t, y, o in LISTED],
    }


@pytest.mark.parametrize(
    ("tagged", "wanted"),
    [
        ('" US beats <ORG>Bank of England</ORG> , \'s us , US " said it .', "yes"),
        ('" US beats <LOC>Bank of England</LOC> , \'s us , US " said it .', "no"),
        ('" US beats Bank of <ORG>England</ORG> , \'s us , US " said it .', "no"),
        ('" US beats Bank of England , \'s us , <LOC>US</LOC> " said it .', "yes"),
    ],
)
def test_a_verification_is_answered_by_the_meant_entities(tagged, wanted):
    with Server(GOLD, faults={"empty": 1}) as server:
        assert content(server, f"Think well.\n{tagged}", VERIFY) == wanted
    assert [(r["kind"], r["fault"]) for r in server.requests] == [("verify", None)]


# What each fault promises of the reply, in both formats.


def plain(text: str) -> list[str]:
    return re.sub("</?[A-Z]+>", "", text).split(" ")


def num_changed(words: list[str]) -> int:
    return sum(a != b for a, b in zip(words, WORDS, strict=True))


STRAIGHT = {"“": '"', "”": '"', "``": '"', "’": "'"}


def straight(text: str) -> str:
    return re.sub("|".join(STRAIGHT), lambda match: STRAIGHT[match[0]], text)


INLINE_PROMISES = {
    "changed": lambda text: num_changed(plain(text)) == 1,
    "missing": lambda text: (
        (Counter(WORDS) - Counter(plain(text))).total() == 1 and len(plain(text)) == 14
    ),
    "extra": lambda text: (
        (Counter(plain(text)) - Counter(WORDS)).total() == 1 and len(plain(text)) == 16
    ),
    "order": lambda text: sorted(plain(text)) == sorted(WORDS) and num_changed(plain(text)) == 2,
    "unknown_type": lambda text: text.count("<DATE>") == 1 and tuple(plain(text)) == WORDS,
    "nested": lambda text: "<ORG>Bank of <" in text and tuple(plain(text)) == WORDS,
    "unclosed": lambda text: text.count("<") == 5 and tuple(plain(text)) == WORDS,
    "within_word": lambda text: (
        re.search(r"\w<[A-Z]|</[A-Z]+>\w", text) is not None and tuple(plain(text)) == WORDS
    ),
    "case": lambda text: plain(text) in ([w.lower() for w in WORDS], [w.upper() for w in WORDS]),
    "quotes": lambda text: text != INLINE and straight(text) == INLINE,
    "spacing": lambda text: text != INLINE and text.replace(" ", "") == INLINE.replace(" ", ""),
}
BOTH_PROMISES = {
    "prose": lambda text, right: right in text.split("\n")[1:-1],
    "thinking": lambda text, right: (
        text.startswith("<think>") and text.endswith(f"</think>\n\n{right}") and len(text) > 99
    ),
    "cut_off": lambda text, right: text == right[: len(right) // 2],
    "empty": lambda text, right: text == "",
    "refusal": lambda text, right: text in (None, "I'm sorry, but I can't help with that."),
    "two_answers": lambda text, right: (
        right in text.split("\n") and len(set(text.split("\n"))) == text.count("\n") + 1 == 2
    ),
}


def is_json(text: str) -> bool:
    try:
        return bool(json.loads(text))
    except json.JSONDecodeError:
        return False


def strange(text: str) -> list[tuple]:
    """Entities of a reply in JSON that the right one does not have."""
    found = [(e["text"], e["type"], e["occurrence"]) for e in json.loads(text)["entities"]]
    assert len(found) >= 3
    return [entity for entity in found if entity not in LISTED]


JSON_PROMISES = {
    "changed": lambda text: (
        strange(text)[0][0] not in TEXT and strange(text)[0][0].count(" ") in (0, 2)
    ),
    "missing": lambda text: strange(text) == [("Bank England", "ORG", 1)],
    "extra": lambda text: strange(text)[0][0] not in TEXT and " " in strange(text)[0][0],
    "order": lambda text: strange(text)[0][0] in ("of Bank England", "Bank England of"),
    "unknown_type": lambda text: [type_ for _, type_, _ in strange(text)] == ["DATE"],
    "nested": lambda text: strange(text)[0][0] == "England",
    "case": lambda text: strange(text) == [("BANK OF ENGLAND", "ORG", 1)],
    "spacing": lambda text: strange(text)[0][0] in ("Bank  of England", "Bank of  England"),
    "json": lambda text: not is_json(text),
    "absent": lambda text: strange(text) == [("Wonderland", "ORG", 1)],
    "occurrence": lambda text: (
        strange(text)[0] in (("US", "LOC", 4), ("Bank of England", "ORG", 2))
    ),
}


def promise(name: str, form: str):
    if name in BOTH_PROMISES:
        right = replied(Model(GOLD), form=form)[0].content
        return lambda text: BOTH_PROMISES[name](text, right)
    return {"inline": INLINE_PROMISES, "json": JSON_PROMISES}[form].get(name)


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) for n, fault in FAULTS.items() for f in fault.formats.split()]
)
def test_a_reply_has_the_fault_that_the_log_names(name, form):
    num_planted = 0
    for seed in range(40):
        reply, about = replied(Model(GOLD, {name: 1}, seed=seed), form=form)
        assert about["meant"] == list(TAGS)
        if about["fault"] is None:
            assert reply == replied(Model(GOLD), form=form)[0]
            continue
        num_planted += 1
        assert about["fault"] == name
        assert promise(name, form)(reply.content), reply
        assert (reply.finish_reason == "length") == (name == "cut_off")
        assert (reply.refusal is not None) == (reply.content is None)
    # There are no quotes in the entities; "us" in lower case would be another word.
    assert (num_planted == 0) == ((name, form) == ("quotes", "json"))
    if (name, form) == ("case", "json"):
        assert 10 < num_planted < 30


@pytest.mark.parametrize("respell", ["case", "quotes"])
def test_entities_in_json_are_respelt_where_they_can_be_told_apart(respell):
    model = Model({("O'Neil", "won"): ("B-PER", "O")}, {respell: 1})
    reply, about = replied(model, "O'Neil won", "json")
    (found,) = json.loads(reply.content)["entities"]
    assert about["fault"] == respell and found["type"] == "PER" and found["occurrence"] == 1
    assert found["text"] in {"case": ("o'neil", "O'NEIL"), "quotes": ("O’Neil",)}[respell]


@pytest.mark.parametrize("name", ["nested", "unclosed", "within_word", "quotes", "spacing"])
def test_a_fault_that_does_not_apply_is_not_planted(name):
    model = Model({("a",): ("O",), ("Rome",): ("B-LOC",)}, {name: 1})
    reply, about = replied(model, "a")
    assert (reply.content, about["fault"]) == ("a", None)


def test_the_client_sees_a_refusal_a_cut_and_an_empty_reply():
    seen = set()
    for seed in range(10):
        with Server(GOLD, faults={"refusal": 1}, seed=seed) as server:
            message = ask(server).choices[0].message
        seen.add((message.content is None, message.refusal is None))
    assert seen == {(True, False), (False, True)}
    with Server(GOLD, faults={"cut_off": 1}) as server:
        assert ask(server).choices[0].finish_reason == "length"
    with Server(GOLD, faults={"empty": 1}) as server:
        assert content(server) == ""


def synthetic_gold(size: int) -> dict:
    return {tuple(w): tuple(t) for w, t, _ in synthetic.generate("train", size)}


def test_the_second_try_is_right_or_has_the_fault_again():
    gold = synthetic_gold(400)
    model = Model(gold, {"extra": 0.5}, again=0.3)
    first = [replied(model, " ".join(words))[1]["fault"] for words in gold]
    second = [replied(model, "It was wrong.\n" + " ".join(words))[1] for words in gold]
    again = [about["fault"] for about, fault in zip(second, first, strict=True) if fault]
    assert {about["try"] for about in second} == {2}
    assert {b["fault"] for b, fault in zip(second, first, strict=True) if not fault} == {None}
    assert len(again) / len(gold) == pytest.approx(0.5, abs=0.075)  # 3 standard errors
    assert again.count("extra") / len(again) == pytest.approx(0.3, abs=0.1)


def test_replies_depend_on_the_seeds_and_not_on_the_order_of_requests():
    faults = {name: 0.04 for name in FAULTS}
    gold = synthetic_gold(60)

    def all_of(seed: int, sample: int, order: list) -> dict:
        model = Model(gold, faults, errors=0.2, varies=0.2, seed=seed)
        fields = {"temperature": 1, "seed": sample}
        return {w: replied(model, " ".join(w), "json", **fields)[0] for w in order}

    order = list(gold)
    first = all_of(0, 0, order)
    assert first == all_of(0, 0, order[::-1])
    assert first != all_of(1, 0, order) and first != all_of(0, 1, order)


def test_the_constant_of_errors_gives_labels_of_f1_085():
    gold = synthetic_gold(3000)
    for seed in (0, 1):
        model = Model(gold, errors=GOOD_MODEL_ERRORS, seed=seed)
        meant = [model.meant(words) for words in gold]
        assert f1_score([list(t) for t in gold.values()], meant) == pytest.approx(0.85, abs=0.015)


def test_samples_differ_where_the_temperature_is_not_zero():
    gold = {(f"Rome{i}", "is", "far"): ("B-LOC", "O", "O") for i in range(1000)}
    model = Model(gold, varies=0.3)

    def same(**fields) -> float:
        replies = [replied(model, " ".join(w), **fields)[1]["meant"] for w in gold]
        return sum(a == list(b) for a, b in zip(replies, gold.values(), strict=True)) / 1000

    assert same(seed=1) == 1.0  # the temperature is 0
    assert same(temperature=0.7, seed=1) == pytest.approx(0.7, abs=0.045)  # 3 standard errors


@pytest.mark.parametrize("name", sorted(TRANSPORT), ids="way_{}".format)
def test_a_fault_on_the_way_hits_the_first_sending_only(name):
    with Server(GOLD, faults={name: 1}, slow=0.2) as server:
        begin = time.monotonic()
        if name == "slow":
            assert content(server) == INLINE and time.monotonic() - begin >= 0.2
            begin = time.monotonic()
        elif name.startswith("dropped"):
            with pytest.raises(openai.APIConnectionError):
                ask(server)
        else:
            with pytest.raises(openai.APIStatusError) as caught:
                ask(server)
            assert caught.value.status_code == int(name[:3])
            after = caught.value.response.headers.get("Retry-After", "")
            wanted = {"429": r"0\.05|1", "429_date": r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT"}
            assert re.fullmatch(wanted.get(name, ""), after)
        assert content(server) == INLINE and time.monotonic() - begin < 0.2
    first, second = server.requests
    assert (first["transport"], second["transport"]) == (name, None)
    assert first["body"] == second["body"] and first["meant"] == second["meant"] == list(TAGS)
    assert second["status"] == 200


@pytest.mark.parametrize(
    ("name", "error"),
    [("dropped", http.client.RemoteDisconnected), ("dropped_midway", http.client.IncompleteRead)],
)
def test_a_connection_ends_before_or_within_the_reply(name, error):
    body = json.dumps({"model": "any", "messages": messages(TEXT)})
    with Server(GOLD, faults={name: 1}) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/chat/completions", body)
        with pytest.raises(error):
            connection.getresponse().read()
        connection.close()


def test_the_real_client_tries_again_by_itself():
    with Server(GOLD, faults={"429": 1}) as server:
        assert content(server, retries=2) == INLINE
    assert [request["status"] for request in server.requests] == [429, 200]


def test_the_log_tells_bodies_apart():
    with Server(GOLD) as server:
        for text in (TEXT, "Nothing here", TEXT):
            ask(server, text)
    assert sorted(Counter(r["body"] for r in server.requests).values()) == [1, 2]


def test_a_connection_serves_many_requests():
    body = json.dumps({"model": "any", "temperature": 0, "messages": messages(TEXT)})
    with Server(GOLD) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.connect()
        port = connection.sock.getsockname()[1]
        for _ in range(3):
            connection.request("POST", "/v1/chat/completions", body)
            reply = json.loads(connection.getresponse().read())
            assert reply["choices"][0]["message"]["content"] == INLINE
            assert connection.sock.getsockname()[1] == port
        connection.close()


def test_concurrent_requests_wait_at_the_same_time():
    def one(_) -> float:
        ask(server)
        return time.monotonic()

    with Server(GOLD, latency=0.3) as server, ThreadPoolExecutor(8) as pool:
        begin = time.monotonic()
        ends = list(pool.map(one, range(8)))
    assert min(ends) - begin >= 0.3
    assert max(ends) - begin < 8 * 0.3 / 2  # one after the other, they would take 2.4 s


def test_the_end_of_the_server_waits_for_no_client():
    number = threading.active_count()
    with Server(GOLD) as server:
        ask(server)  # the client keeps the connection
        assert threading.active_count() == number + 2
        begin = time.monotonic()
    assert time.monotonic() - begin < 1 and threading.active_count() == number


@pytest.mark.parametrize("fields", [{"n": 2}, {"stream": True}, {"text": "Who is this ?"}])
def test_what_the_stub_cannot_answer_is_refused(fields):
    text = fields.pop("text", TEXT)
    with Server(GOLD) as server, pytest.raises(openai.BadRequestError, match="the stub"):
        ask(server, text, **fields)


@pytest.mark.parametrize("faults", [{"unheard_of": 0.1}, {"empty": 0.6, "prose": 0.6}])
def test_rates_that_cannot_be_are_refused(faults):
    with pytest.raises(ValueError, match="unheard_of|more than 1"):
        Server(GOLD, faults=faults)


def test_the_command_serves_until_it_is_told_to_end(tmp_path):
    write_conll(tmp_path / "gold.txt", [(WORDS, TAGS, 0)])
    log = tmp_path / "log.jsonl"
    script = Path(__file__).with_name("llm_server.py")
    command = f"{script} --gold {tmp_path / 'gold.txt'} --faults empty=1 500=0 --log {log}"
    program = subprocess.Popen(
        [sys.executable, *command.split()], stdout=subprocess.PIPE, text=True
    )
    with program:
        try:
            first = program.stdout.readline()
            server = Server({})
            server.port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/v1\n", first)[1])
            assert content(server) == ""
            program.send_signal(signal.SIGTERM)
            assert program.wait(10) == 0
        finally:
            program.kill()
    (line,) = log.read_text(encoding="utf-8").splitlines()
    about = json.loads(line)
    assert (about["fault"], about["sentence"], about["try"]) == ("empty", TEXT, 1)


def test_the_draw_of_a_rate_is_even():
    gold = {(str(i),): ("O",) for i in range(4000)}
    model = Model(gold | {("Rome",): ("B-LOC",)}, {"empty": 0.1, "prose": 0.2})
    counts = Counter(replied(model, words[0])[1]["fault"] for words in gold)
    assert counts["empty"] / 4000 == pytest.approx(0.1, abs=0.015)
    assert counts["prose"] / 4000 == pytest.approx(0.2, abs=0.02)

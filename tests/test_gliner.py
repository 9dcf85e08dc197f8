"""Labels by GLiNER: a real model with random weights, and what cannot be loaded."""

import json
import shutil
import sys

import pytest
from conftest import refused, write_conll

from nerc.annotation import gliner
from nerc.commands import annotate
from nerc.data.conll import read_conll
from nerc.data.tags import num_invalid_inside
from nerc.errors import InputError
from nerc.model.encoding import Window

NAMES = {"PER": "person", "LOC": "location"}
HUB = "urchade/gliner_small-v2.1"


def weights(folder, encoder, positions=64, **config) -> None:
    """Save a GLiNER model with random weights and the tokenizer of a tiny encoder in a folder."""
    library = pytest.importorskip("gliner")
    from transformers import set_seed

    shape = json.loads((encoder / "config.json").read_text())
    config = {"span_mode": "markerV0", "max_width": 4, "max_len": 384, "dropout": 0.0} | config
    shape["max_position_embeddings"] = positions
    config |= {"model_name": str(encoder), "encoder_config": shape, "hidden_size": 32}
    set_seed(0)
    made = library.GLiNER.from_config(config, backbone_from_pretrained=False)
    for parameter in made.parameters():  # large enough that scores differ
        parameter.data *= 2 if parameter.dim() > 1 else 1
    made.save_pretrained(folder, safe_serialization=True)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gliner")
    weights(folder, encoder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return gliner.load(str(folder))


def labelled(model, *sentences, threshold=0.0, batch_size=8):
    return list(gliner.label(model, sentences, NAMES, threshold, batch_size))


def words_of(text):
    return tuple(text.split())


TEXT = "Angela Merkel visited Paris on Monday with the minister of Finland and a few friends"


def test_words_have_the_entities_and_scores_that_gliner_itself_gives_for_their_text(folder, model):
    import gliner as library

    words = words_of(TEXT)  # GLiNER divides this text at its blanks, too
    starts = [len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
    expected = [{"O": 1.0} for _ in words]
    own = library.GLiNER.from_pretrained(str(folder))
    found = own.predict_entities(TEXT, ["person", "location"], threshold=0.0)
    assert len({entity["label"] for entity in found}) == 2
    for entity in found:
        type_ = {"person": "PER", "location": "LOC"}[entity["label"]]
        first = starts.index(entity["start"])
        for i in range(first, first + len(entity["text"].split())):
            tag = f"B-{type_}" if i == first else f"I-{type_}"
            expected[i] = {tag: pytest.approx(entity["score"], abs=1e-4)}
            expected[i]["O"] = pytest.approx(1 - entity["score"], abs=1e-4)
    assert labelled(model, words) == [expected]


def test_each_word_as_given_has_one_distribution_alone_and_in_a_batch(model):
    sentences = ["The U.N. 's 1996-08-22 report", "Paris", TEXT, "New\u00a0York -- 3.5%"]
    sentences = [words_of(text) if "\u00a0" not in text else text.split(" ") for text in sentences]
    together = labelled(model, *sentences, batch_size=3)
    assert [len(tags) for tags in together] == [5, 1, 15, 3]
    for words, tags in zip(sentences, together, strict=True):
        assert all(sum(one.values()) == pytest.approx(1) for one in tags)
        assert all(0 <= share <= 1 for one in tags for share in one.values())
        assert all(len(one) == 1 or len(one.keys() - {"O"}) == 1 for one in tags)
        best = [min(one, key=lambda tag: tag == "O") for one in tags]
        assert num_invalid_inside(best) == 0 and any(tag != "O" for tag in best)
        [alone] = labelled(model, words)
        assert [one.keys() for one in alone] == [one.keys() for one in tags]
        for one, other in zip(alone, tags, strict=True):
            assert one == pytest.approx(other, abs=2e-4)


def test_scores_up_to_the_threshold_do_not_count(model):
    words = words_of(TEXT)
    scores = [max(v for k, v in one.items() if k != "O") for one in labelled(model, words)[0]]
    middle = sorted(scores)[len(scores) // 2]
    [tags] = labelled(model, words, threshold=middle + 1e-4)
    kept = [one for one in tags if one != {"O": 1.0}]
    assert 0 < len(kept) < len(words) and labelled(model, words, threshold=1.0) == [
        [{"O": 1.0}] * len(words)
    ]
    assert all(share >= middle for one in kept for tag, share in one.items() if tag != "O")


def test_a_word_that_the_tokenizer_drops_moves_no_entity(model, caplog):
    words = words_of(TEXT)
    dropped = (*words[:2], "\u2063", *words[3:])
    assert model.data_processor.transformer_tokenizer.tokenize("\u2063") == []
    assert labelled(model, dropped) == labelled(model, (*words[:2], "?", *words[3:]))
    assert "1 words as ?" in caplog.text


def test_a_word_of_too_many_sub_words_is_read_as_unknown_and_counted(model, caplog):
    words = words_of(TEXT)
    assert labelled(model, ("x-" * 100, *words)) == labelled(model, ("?", *words))
    assert "1 words as ?" in caplog.text


def test_a_sentence_of_too_many_words_is_read_in_windows_that_overlap(encoder, tmp_path):
    # Windows of 20 words share a quarter on either side: 0 to 20, 10 to 30, 20 to 40 and 30 to 50,
    # whose entities start in 0 to 15, 15 to 25, 25 to 35 and 35 to 50. They have up to 4 words, so
    # those of another window do not reach beyond word 41 of the last one.
    weights(tmp_path, encoder, positions=512, max_len=20)
    model = gliner.load(str(tmp_path))
    words = (words_of(TEXT) * 4)[:50]
    [tags] = labelled(model, words)
    [first], [last] = labelled(model, words[:20]), labelled(model, words[30:])
    assert len(tags) == 50
    assert tags[:15] == first[:15] and tags[42:] == last[12:]
    assert any(one != {"O": 1.0} for one in tags[42:])


def test_where_windows_overlap_an_entity_counts_in_the_window_to_which_its_start_belongs():
    def entity(start, end, label, score):
        return {"start": start, "end": end, "label": label, "score": score}

    # Entities start in words 0 to 4 of the first window, and in words 4 and 5 of the second one.
    early = [entity(3, 5, "person", 0.9), entity(5, 6, "person", 0.8)]
    late = [entity(0, 1, "place", 0.7), entity(3, 4, "place", 0.6), entity(4, 5, "place", 0.5)]
    found = [(Window(0, 0, 4, 6), early), (Window(1, 4, 6, 6), late)]
    person = [{"B-PER": 0.9, "O": 0.1}, {"I-PER": 0.9, "O": 0.1}]  # so word 4 is no place
    types = {"person": "PER", "place": "LOC"}
    end = [{"B-LOC": 0.5, "O": 0.5}]
    assert gliner._tags(found, types) == [{"O": 1.0}] * 3 + person + end
    found = [(found[0][0], []), (found[1][0], late)]
    assert gliner._tags(found, types) == [{"O": 1.0}] * 4 + [{"B-LOC": 0.6, "O": 0.4}] + end


def test_the_last_word_of_a_sentence_of_too_many_sub_words_is_read(model):
    words = words_of(TEXT) * 8
    [first], [second] = (labelled(model, (*words, last)) for last in ("Paris", "minister"))
    assert len(first) == len(words) + 1
    assert first[:60] == second[:60] and first[-1] != second[-1]


def test_two_types_with_the_same_words_are_refused(model):
    with pytest.raises(InputError, match="two types have the same words: 'person', 'person'"):
        next(gliner.label(model, [("Paris",)], {"PER": "person", "MISC": "person"}, 0.5))


def test_types_that_leave_no_room_for_a_sentence_are_refused(model):
    names = {f"T{i}": f"kind of thing {i}" for i in range(30)}
    with pytest.raises(InputError, match="--model reads 64 with the sentence; wanted fewer types"):
        next(gliner.label(model, [("Paris",)], names, 0.5))


# ------------------------------------------------------------ what cannot be loaded


def refused_model(model) -> str:
    with pytest.raises(InputError) as caught:
        gliner.load(str(model))
    return str(caught.value)


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gliner", None)  # so Python refuses to import it
    assert "needs its library; pip install 'gliner>=0.2.24,<0.3'" in refused_model(HUB)


def test_weights_that_are_not_here_are_named_with_the_way_to_fetch_them(tmp_path):
    pytest.importorskip("gliner")
    message = refused_model(HUB)
    assert message.startswith(f"--model {HUB}: cannot be loaded (LocalEntryNotFoundError")
    assert message.endswith(
        f"; hf download {HUB} where there is a network; --model takes its folder"
    )
    wanted = "no such file; wanted a GLiNER model"
    assert refused_model(tmp_path) == f"--model {tmp_path}: {tmp_path}/{gliner.CONFIG}: {wanted}"
    assert refused_model("/a/b") == "--model /a/b: no such folder; wanted a GLiNER model"


def test_a_folder_that_lacks_weights_or_a_tokenizer_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    message = refused_model(tmp_path)
    assert f"No model file found in {tmp_path}" in message
    assert message.endswith("; fetch the model again")
    for file in tmp_path.glob("*token*"):
        file.unlink()
    change(tmp_path, model_name="microsoft/deberta-v3-small")
    shutil.copy(folder / "model.safetensors", tmp_path)
    assert refused_model(tmp_path).endswith("its encoder: hf download microsoft/deberta-v3-small")


def change(folder, **fields) -> None:
    config = json.loads((folder / gliner.CONFIG).read_text())
    (folder / gliner.CONFIG).write_text(json.dumps(config | fields))


def test_a_model_that_brings_code_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    change(tmp_path, encoder_config={"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}})
    assert "names code (auto_map), which nerc never runs" in refused_model(tmp_path)


def test_a_tokenizer_without_gliners_markers_is_refused(folder, encoder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for file in encoder.glob("*token*"):
        shutil.copy(file, tmp_path)
    message = refused_model(tmp_path)
    assert "<<ENT>>" in message or "class_token_index" in message


def test_annotate_writes_its_scores_as_probabilities(folder, tmp_path, capsys):
    pytest.importorskip("gliner")
    texts = [words_of(TEXT), words_of("She met Bo in Oslo"), words_of(TEXT)]
    write_conll(tmp_path / "unlabelled.txt", [(words, ["O"] * len(words), 1) for words in texts])
    flags = ["--corpus", tmp_path, "--labeller", "gliner", "--model", folder, "--types"]
    annotate.main([*map(str, flags), "PER", "LOC", "--quiet"])
    corpus = read_conll(tmp_path / "llm.txt", weak=True)
    assert [sentence.words for sentence in corpus] == texts
    names = {"PER": "person", "LOC": "location"}  # how the built-in definitions begin
    found = gliner.label(gliner.load(str(folder)), texts, names, 0.5)
    for sentence, row in zip(corpus, found, strict=True):
        soft = corpus.soft.get(sentence.location) or [None] * len(row)
        for tag, of_word, wanted in zip(sentence.tags, soft, row, strict=True):
            assert (of_word or {tag: 1.0}) == pytest.approx(wanted)
    record = json.loads((tmp_path / "llm.run.json").read_text())
    assert record["settings"]["names"] == names
    wrong = refused(annotate, capsys, *flags, "PER", "LOC", "--concurrency", "3")
    assert "--concurrency must be left out with --labeller gliner" in wrong

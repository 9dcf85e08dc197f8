"""Labels the sentences of a folder with a model on this machine, and writes the files."""

from collections import Counter

from nerc.annotation import gliner
from nerc.annotation.annotate import Job
from nerc.annotation.prompt import read_definitions
from nerc.data.tags import ordered
from nerc.progress import Progress
from nerc.tables import Table, markdown, shown

THRESHOLD = 0.5  # GLiNER's own default


def label(job: Job) -> str:
    """Label all sentences of a job with GLiNER, and describe what came out.

    The words before the first comma of a type's definition are what GLiNER is asked for.
    """
    definitions = read_definitions(job.llm.definitions, job.types)
    names = {type_: text.partition(",")[0] or type_ for type_, text in definitions.items()}
    settings = {"model": job.llm.model, "names": names, "threshold": THRESHOLD} | job.source
    job.files.check_free(settings, overwrite=job.config.overwrite)
    words, rows, counts = job.words, {}, Counter()
    found = gliner.label(gliner.load(job.llm.model), words, names, THRESHOLD)
    with Progress("annotating", len(words), unit="sentence") as progress:
        for sentence, row in zip(words, found, strict=True):
            rows[sentence] = row
            progress.advance(len(sentence))
    for sentence in job.sentences:
        tags = (max(of_word, key=of_word.get) for of_word in rows[sentence.words])
        counts.update(tag[2:] for tag in tags if tag[0] == "B")
    job.files.write_record({"settings": settings, "labelled": len(job.sentences)})
    job.files.write_labels((s, rows[s.words]) for s in job.sentences)
    table: Table = [["", "number"], ["sentences", len(job.sentences)]]
    table += [[f"entities: {type_}", counts[type_]] for type_ in ordered(counts)]
    where = f"labels: {job.files.labels}; record: {job.files.record}"
    return f"{markdown(shown(table))}\n\n{where}"

__doc__ = """\
python -m nerc VERB, or nerc VERB where nerc is installed: what a revision is used for.

train.py trains the revisions that these commands read.

python -m nerc predict --revision model_primary < text.txt
python -m nerc revisions list
python -m nerc results
python -m nerc VERB --help
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from nerc.cli import parse
from nerc.errors import WORLD_SIZES, InputError, fail, is_launched_alone, one_line_errors

PROGRAM = "python -m nerc"
VERBS = {
    "predict": "find the entities of text",
    "export": "write a revision for onnxruntime",
    "revisions": "list revisions, send them to the Hub, fetch them from it",
    "results": "tabulate the scores of all revisions",
    "curves": "show the learning curves of active learning",
    "annotate": "ask a language model for weak labels",
    "convert": "convert annotated text between the files of nerc and of other tools",
    "audit": "compare weak labels with expert labels",
    "agreement": "compare the labels of several annotators",
    "suspects": "find labels that are probably wrong",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that argv (default: the process's own arguments) begins with."""
    argv = sys.argv[1:] if argv is None else argv
    verb, rest = (argv[0], argv[1:]) if argv else (None, [])
    if verb in VERBS:
        with one_line_errors(f"{PROGRAM} {verb}"):
            _check_alone()
            import_module(f"nerc.commands.{verb}").main(rest)
        return
    verbs = "".join(f"\n  {name:10} {what}" for name, what in VERBS.items())
    parse([a for a in argv if a in ("-h", "--help")], PROGRAM, f"{__doc__}\nverbs:{verbs}")
    found = f"found {verb!r}" if verb else "found no verb"
    fail(PROGRAM, f"{found}, wanted one of: {', '.join(VERBS)}; see {PROGRAM} --help")


def _check_alone() -> None:
    """Raise InputError where a launcher started several processes: all would do the same."""
    given = [f"{name} is {os.environ[name]!r}" for name in WORLD_SIZES if name in os.environ]
    if not is_launched_alone():
        raise InputError(
            f"runs in one process, and {' and '.join(given)}; start it without a launcher, or "
            f"unset the variable"
        )


if __name__ == "__main__":
    main()

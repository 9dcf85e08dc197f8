__doc__ = """\
Export a revision to a folder that onnxruntime runs, without torch, transformers or nerc.

python -m nerc export --revision model_primary --output exported
python -m nerc export --revision model_primary --int8 --output exported

README.md in the folder holds code that tags sentences with onnxruntime, tokenizers and numpy.
python -m nerc predict --engine onnx --revision exported also reads the folder.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import check_flag, option, parse, start_logging
from nerc.config import REPO_HELP, TOKENIZER_HELP
from nerc.errors import InputError, one_line_errors

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc export"


@dataclass(frozen=True)
class ExportConfig:
    __doc__ = "What is exported, and where to."

    revision: str = option("model_primary", "revision to export")
    repo: str = option("models", REPO_HELP)
    to: str = option("onnx", "format of the export", ("onnx",))
    int8: bool = option(
        False,
        "keep the weights of products in 8 bits: a smaller file that runs faster, with "
        "slightly different predictions",
    )
    output: str | None = option(None, "folder to write; new or empty")
    tokenizer: str | None = option(None, TOKENIZER_HELP)

    def __post_init__(self) -> None:
        check_flag(self.output is not None, "output", "the folder to write", self.output)


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, ExportConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)


def run(config: ExportConfig) -> None:
    """Load the revision, and write the folder, whole or not at all."""
    output = Path(config.output)
    files.check_folder(output, "--output")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"--output {output}: is not empty, wanted a new folder or an empty one")

    from nerc.model import onnx_engine, onnx_graph
    from nerc.store import model_files
    from nerc.store.revisions import Store

    onnx_graph.import_library("onnx")
    folder = Store(config.repo).path(config.revision)
    model, tokenizer = model_files.load_revision(folder, tokenizer=config.tokenizer)
    with files.unfinished_folder(output) as new:
        onnx_engine.export(new, model, tokenizer, config.revision, int8=config.int8)
        files.make_readable(new, *new.iterdir())
    size = (output / onnx_engine.GRAPH).stat().st_size
    logger.info(f"written: {output}, {size / 2**20:.1f} MiB; README.md there says how it is read")

"""nerc: named-entity recognition from few expert labels and many weak ones."""

import sys
from importlib import import_module
from types import ModuleType

__all__ = ["NERSmall", "NERSmallConfig"]
__version__ = "0.1.0"


def __getattr__(name: str):
    """Load the model, which registers with transformers' Auto classes, on first use."""
    if name in __all__:
        return getattr(import_module("nerc.model.modeling"), name)
    raise AttributeError(f"module 'nerc' has no attribute {name!r}")


class _NoDocumentation(ModuleType):
    """Takes the place of the module by which transformers documents itself from docstrings.

    Without docstrings, which python -OO drops, that module fails or prints complaints.
    """

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda documented=None, **_: documented or (lambda documented: documented)


if sys.flags.optimize > 1:
    _DOCUMENTATION = "transformers.utils.auto_docstring"
    sys.modules[_DOCUMENTATION] = _NoDocumentation(_DOCUMENTATION)
    if _utils := sys.modules.get("transformers.utils"):
        _utils.auto_docstring = sys.modules[_DOCUMENTATION].auto_docstring

"""nerc: named-entity recognition from few expert labels and many weak ones."""

from importlib import import_module

__all__ = ["NERSmall", "NERSmallConfig"]
__version__ = "0.1.0"


def __getattr__(name: str):
    """Load the model, which registers with transformers' Auto classes, on first use."""
    if name in __all__:
        return getattr(import_module("nerc.model.modeling"), name)
    raise AttributeError(f"module 'nerc' has no attribute {name!r}")

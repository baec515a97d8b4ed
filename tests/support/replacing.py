"""Replace parts of the program in a process of its own, where there is no monkeypatch."""

from types import ModuleType


def replace_attributes(module: ModuleType, **attributes: object) -> None:
    """Give attributes that a module has already other values, until the process ends."""
    for name, value in attributes.items():
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        setattr(module, name, value)

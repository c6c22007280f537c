"""Message classes by the names that recordings have for them: the core's own, and those that installed nodes give."""

from __future__ import annotations

import foveate.messages
from foveate import catalog
from foveate.messages import Message
from foveate.node import schema_of


def message_kind(name: str) -> type[Message] | None:
    """The class of that name, None where no installed node gives such messages."""
    found = getattr(foveate.messages, name, None)
    if isinstance(found, type) and issubclass(found, Message):
        return found
    for node in catalog.listing("nodes"):
        try:
            outputs = schema_of(catalog.load("nodes", node)).outputs.values()
        except Exception:  # of a node that cannot be loaded here: another may give it, and importing it raises anything
            continue
        for port in outputs:
            if port.type.__name__ == name:
                return port.type
    return None

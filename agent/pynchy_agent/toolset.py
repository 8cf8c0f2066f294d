"""The tools as a model sees them: name, description, arguments. A table and nothing else.

Each schema is closed (unknown arguments are refused) and says what the host will check again: what is written here
helps a model to call rightly, it permits nothing.
"""

from __future__ import annotations

from typing import Any, Final

import attrs


@attrs.frozen
class Tool:
    """One tool: what a model reads, and the closed JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


def _tool(name: str, description: str, required: dict[str, Any], **optional: Any) -> Tool:
    return Tool(
        name=name,
        description=" ".join(description.split()),
        schema={
            "type": "object",
            "properties": {**required, **optional},
            "required": list(required),
            "additionalProperties": False,
        },
    )


def _text(description: str, *, most: int = 60_000) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, "description": description}


_ALL: Final = (
    _tool(
        "send_message",
        """Say something in the chat now, while you are still working: progress, or a first answer to something long.
        Your final answer is sent by itself: do not send it with this tool as well.""",
        {"text": _text("What to say.")},
        sender=_text("A name or role to speak as, when several voices take part.", most=64),
    ),
)

#: Every tool there is, by name. Which of them an agent is offered is the host's choice.
TOOLS: Final[dict[str, Tool]] = {tool.name: tool for tool in _ALL}

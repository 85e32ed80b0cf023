"""Recognize a timeout by a client's last words: the end of a command's output, or an exception's type and message.

A stack trace has names and lines of code, such as `timeout=timeout` or `listOnTimeout`, which say nothing about the
error. So only the text of the last error counts, as for an exception that a callable raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Words that mean that a client gave up waiting. "did not finish successfully" does not.
TIMEOUT_WORDS = re.compile(
    r"tim(?:ed|e)[ -]?out|deadline|(?:gave|giving) up waiting|still running|did not (?:end|finish)\b(?! success)",
    re.IGNORECASE,
)
# Characters at the end of the output that count as a command's last words: an error message, not a whole log.
MOST_CHARACTERS = 2_000
_PYTHON = re.compile(r"Traceback \(most recent call last\):")
# The prefix of the lines of an exception group.
_MEMBER = re.compile(r"\s+\| ?")
# A frame of a stack trace (JavaScript, Java), or a line that only points into the line above it.
_FRAME, _POINTER = re.compile(r"\s+at \S"), re.compile(r"\s*[\^~]+\s*")
# The box in which the library `rich` prints a traceback.
_BOX, _BOX_END = re.compile(r"╭.*Traceback \(most recent call last\)"), "╰"


def is_timeout(output: str) -> bool:
    """Whether the end of a command's output means that the command gave up waiting."""
    return TIMEOUT_WORDS.search(last_words(output)) is not None


def last_words(output: str) -> str:
    """Return the end of an output, without stack traces and the code in them."""
    lines = list(_outside_boxes(output.rstrip().splitlines()))
    began = max((number for number, line in enumerate(lines) if _PYTHON.match(line)), default=None)
    if began is not None:
        # Frames and their code are indented. Earlier tracebacks are causes, which a callable's exception may have too.
        lines = [line for line in lines[began + 1 :] if not line[:1].isspace()]
    elif any("Group Traceback" in line for line in lines):
        members = (_MEMBER.sub("", line) for line in lines)
        lines = [line for line in members if not line[:1].isspace()]
    return "\n".join(_without_frames(lines))[-MOST_CHARACTERS:]


def _outside_boxes(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = inside or _BOX.match(line) is not None
        if not inside:
            yield line
        inside = inside and not line.startswith(_BOX_END)


def _without_frames(lines: list[str]) -> Iterator[str]:
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        pointed = _POINTER.fullmatch(following) is not None
        if not (pointed or _FRAME.match(line) or _POINTER.fullmatch(line)):
            yield line

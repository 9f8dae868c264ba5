"""What a program wants a document to be, put on top of what it had not seen of it. Pure.

A program makes a value of the one that a document showed it. Another one may have come since: a moment ago, while the
local file was written, or long ago, if the document was kept. Then somebody else was first, as if the server had said
so, and the same is done about it as by `rules`, but at once: what is there is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncline.replica.entry import Refusal
from syncline.replica.report import EditMerged, Report
from syncline_protocol import Limits

from .assemble import NULL, Assembled
from .attribute import decode_attribute
from .policies import Policies, conflict_message, merged

__all__ = ["OnTop", "on_top"]


@dataclass(slots=True)
class OnTop:
    """What is to be written.

    Attributes:
        texts: the values, without those that nobody wants to change.
        refusal: the application has to decide about one of them first.
    """

    texts: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    refusal: Refusal | None = None


def on_top(
    known: Assembled, texts: Mapping[str, str], seen: Mapping[str, str], policies: Policies, limits: Limits
) -> OnTop:
    """Put values on top of what is there.

    Args:
        known: the document as it is.
        texts: what its attributes are to be.
        seen: what they were when the program decided that; one that was not set is not there.
    """
    made = OnTop()
    for attribute, ours in texts.items():
        live, wish = known.versions.get(attribute), policies.wish(known.path.collection.pattern, attribute)
        before, theirs = seen.get(attribute, NULL), live[-1].text if live else None
        if wish is None or wish == "last" or theirs is None or theirs in (before, ours):
            made.texts[attribute] = ours
        elif ours == before:
            # It is theirs alone that changes the attribute.
            continue
        else:
            text = merged(wish, None if before == NULL else before, ours, theirs, limits)
            made.texts[attribute] = ours if text is None else text
            if text is None:
                made.refusal = Refusal("conflict", message=conflict_message(known.path.text, attribute, theirs))
            elif text != theirs:
                made.reports.append(EditMerged(known.path.text, attribute, decode_attribute(text)))
    if made.refusal is not None:
        # Nothing is merged as long as the application has not decided.
        made.reports.clear()
    return made

"""Which feed a topic and a property name mean, for whole columns of messages.

One dictionary for each property, from the topic as it comes to the number of the feed: a look-up touches little memory,
which is what it costs where ten thousand devices take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

_NONE: Mapping[bytes, int] = {}


class Senders:
    """The topics of one broker that carry plain Pantau JSON, as they become known.

    Parameters
    ----------
    find : function
        Topic → the feeds of its device by property; None where it carries anything else, or the device is not known.
    """

    def __init__(self, find: Callable[[bytes], Mapping[str, int] | None]) -> None:
        self._find = find
        self._streams: dict[bytes, Mapping[str, int]] = {}
        self._feeds: dict[str, dict[bytes, int]] = {}

    def forget(self) -> None:
        """What topics mean has changed."""
        self._streams.clear()
        self._feeds.clear()

    def streams(self, topic: bytes) -> Mapping[str, int] | None:
        """The feeds of the topic's device by property; None where this is no such topic."""
        streams = self._streams.get(topic)
        if streams is None:
            streams = self._find(topic)
            if streams is not None:
                self._streams[topic] = streams
        return streams

    def feeds(self, topics: Sequence[bytes], properties: Sequence[str]) -> npt.NDArray[np.int32] | None:
        """(n,) the feed of each topic and property; None if one of them is not known."""
        if len(set(properties)) == 1:
            found = list(map(self._feeds.get(properties[0], _NONE).get, topics))
        else:
            by_property = self._feeds
            found = [by_property.get(p, _NONE).get(t) for p, t in zip(properties, topics, strict=True)]
        if None in found:
            for name in set(properties):
                self._feeds.setdefault(name, {})
            for place, feed in enumerate(found):
                if feed is None:
                    topic, name = topics[place], properties[place]
                    streams = self._find(topic)
                    new = None if streams is None else streams.get(name)
                    if new is None:
                        return None
                    self._feeds[name][topic] = found[place] = new
        return np.array(found, dtype=np.int32)

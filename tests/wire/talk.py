"""
Holds a conversation with the proxy for one row of a table, whole or cut, many at a time, and says how each went.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.wire.reading import Message
from tests.wire.sockets import Client, Loop, Peer, unread

#: The request that shows whether a connection is still of use: it must be answered, and then closed.
FOLLOW = b"GET /follow HTTP/1.1\r\nHost: follow.example\r\nConnection: close\r\n\r\n"

#: What is sent through a tunnel, and comes back.
PING = b"\x00ping through the tunnel\r\n\r\n"

#: How many conversations run at one time.
TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """
    How a conversation went, in the client's eyes.

    @ivar outcome: the statuses, joined by C{+} (or C{none}), a slash, and what became of the connection:
        C{open} (a further request was answered), C{closed}, C{reset}, C{cut} (closed, or reset where the message
        shows it, within a message), C{tunnel} (what was sent came back), C{silent} (nothing more came, though it
        should), C{garbage} (what came is no response).
    @ivar answers: the complete responses, without that to the further request.
    @ivar partial: what came of a response that was cut.
    """

    outcome: str
    answers: tuple[Message, ...]
    partial: Message | None
    detail: str = ""


class Talk:
    """
    One client's part of a row.

    @param data: what to send at first.
    @param then: what to send next, one by one, each when an answer to what went before is complete.
    @param finals: how many responses (not counting interim ones) are to come at most.
    @param heads: which of the requests, counted from 0, are HEAD requests.
    @param finish: whether to close the sending direction behind it all.
    """

    def __init__(
        self,
        loop: Loop,
        port: int,
        data: bytes,
        then: Sequence[bytes] = (),
        finals: int = 1,
        heads: tuple[int, ...] = (),
        finish: bool = False,
    ) -> None:
        self.client = Client(loop, port, heads)
        self.data = data
        self.then = list(then)
        self.finals = finals
        self.finish = finish
        self.following = False
        self.pinged = False
        self._answered = 0

    def send(self, start: int, end: int | None) -> None:
        """Sends a part of the data, whatever has become of the connection."""
        self.client.write(self.data[start:end])
        if end is None and self.finish and not self.then:
            self.client.finish()

    def done(self) -> bool:
        """Takes the next step, if it is due. Whether there is none left."""
        client = self.client
        if client.ended or client.broken:
            return True
        if client.tunnel:
            if not self.pinged:
                self.pinged = True
                client.write(PING)
            return len(client.rest) >= len(PING)
        if self.then and len(client.answers) > self._answered:
            self._answered = len(client.answers)
            client.write(self.then.pop(0))
            if self.finish and not self.then:
                client.finish()
        elif not self.following and not self.finish and client.finals == self.finals:
            self.following = True
            if b"close" not in [value.lower() for value in client.answers[-1].values(b"connection")]:
                client.write(FOLLOW)
        return False

    def seen(self) -> Seen:
        """How it went; closes the connection."""
        client = self.client
        answers = client.answers
        follow = None
        if self.following and client.finals > self.finals:
            follow = answers[-1]
            answers = answers[:-1]
        detail = client.broken
        if client.broken:
            end = "garbage"
        elif client.tunnel:
            end = "tunnel" if client.rest == PING else "garbage"
        elif client.open is not None and client.ended:
            end = "reset" if client.open.framing == "close" and client.ended == "reset" else "cut"
        elif client.rest:
            end = "cut" if client.ended else "silent"
        elif not client.ended:
            end = "silent"
        elif follow is None:
            end = "closed" if answers or client.ended == "closed" else "reset"
        elif follow.status == 200:
            end = "open"
        else:
            end = "garbage"
            detail = f"the further request got {follow.start!r}"
        statuses = "+".join(str(answer.status) for answer in answers) or "none"
        if client.open is not None and end in ("cut", "reset"):
            statuses = "+".join([*(str(answer.status) for answer in answers), str(client.open.status)])
        client.close()
        return Seen(f"{statuses}/{end}", tuple(answers), client.open, detail)


def hold(loop: Loop, talks: Sequence[Talk], seconds: float) -> list[Seen]:
    """Lets conversations run to their end, or until C{seconds} have passed."""
    open_talks = list(talks)

    def all_done() -> bool:
        open_talks[:] = [talk for talk in open_talks if not talk.done()]
        return not open_talks

    loop.until(all_done, seconds)
    return [talk.seen() for talk in talks]


def read_by_proxy(loop: Loop, mine: int = 0, peer: int = 0) -> bool:
    """
    Waits until the proxy has read all that was sent to it. Not for ever: it may have a reason not to read.

    @param mine: the proxy's port.
    @param peer: the port that the proxy is connected to.
    """
    return loop.until(lambda: unread(mine, peer) == 0, seconds=1.0, step=0.001)


def hasten(peers: Iterable[Peer]) -> None:
    """Resets what is still open."""
    for peer in peers:
        peer.reset()


def positions(length: int, dense: int = 400, sample: int = 48) -> list[int]:
    """
    Where to cut a message of C{length} bytes: everywhere in a short one; in a longer one at its first and last 24
    bytes and at evenly spread places between.
    """
    if length <= dense:
        return list(range(1, length))
    step = max(1, length // sample)
    places = {*range(1, 25), *range(length - 24, length), *range(25, length - 24, step)}
    return sorted(places)

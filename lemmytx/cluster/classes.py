"""What names the bucket of a request: a header field, a cookie, or somebody's plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from lemmytx.interfaces import IClassifier, IRequest

#: What C{QueueRules.classify} is.
Classify = Callable[[IRequest], object]


def by_header(name: str) -> Classify:
    """
    @param name: of a header field, in any case; its value is the bucket's name.
    """
    wanted = name.lower().encode("latin-1")

    def classify(request: IRequest) -> str | None:
        value = request.head.field(wanted)
        return None if value is None else value.decode("latin-1")

    return classify


def by_cookie(name: str) -> Classify:
    """
    @param name: of a cookie; its value is the bucket's name. The first one of the name counts.
    """
    wanted = name.encode("utf-8")

    def classify(request: IRequest) -> str | None:
        for field, line in request.head.fields():
            if field == b"cookie":
                for pair in line.split(b";"):
                    found, equals, value = pair.strip().partition(b"=")
                    if equals and found == wanted:
                        return str(value.strip(b'"'), "utf-8", "replace")
        return None

    return classify


def guarded(classifier: IClassifier, cluster: str, log: Logger | None = None) -> Classify:
    """
    A plugin's, that cannot harm: a request for which it raises is in no class. That is told once.

    @param cluster: its name, for the log.
    """
    told = False
    logger = log or Logger(namespace="lemmytx.cluster")

    def classify(request: Any) -> object:
        nonlocal told
        try:
            return classifier.classify(request)
        except BaseException as error:  # a plugin's, sys.exit() too; the request is served all the same
            if not told:
                told = True
                logger.error(
                    "cluster {cluster}: the classifier {classifier!r} raised {error!r}; such requests are in no class"
                    " (told once)",
                    cluster=cluster,
                    classifier=classifier,
                    error=error,
                )
            return None

    return classify

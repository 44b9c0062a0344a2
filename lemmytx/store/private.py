"""
What is only in memory, for several processes: C{memory} with workers is a file that nobody else sees and that goes with
the instance, so that what an operator does to a backend holds on all workers.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from twisted.logger import Logger

from lemmytx.model import Store

log = Logger(namespace="lemmytx.store")


def effective(settings: Store, folder: str) -> Store:
    """
    The store that a process is to open.

    @param settings: what the configuration says.
    @param folder: a L{PrivateFolder}'s, where several processes serve; empty: there is only this one.
    """
    if settings.type != "memory" or not folder:
        return settings
    return settings.model_copy(update={"type": "file", "options": {"path": os.path.join(folder, "table.db")}})


class PrivateFolder:
    """
    A folder of one instance.

    @ivar path: of the folder, once it is wanted; empty before, and after its end.
    """

    def __init__(self) -> None:
        self.path = ""

    def wanted(self, settings: Store) -> str:
        """
        @param settings: of the store.
        @return: the path. It is made where the store needs one.
        """
        if not self.path and settings.type == "memory":
            # systemd makes one in memory for each service, and removes it after a kill as well.
            home = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
            try:
                self.path = tempfile.mkdtemp(prefix="lemmytx-", dir=home or None)
            except OSError as error:
                log.error(
                    "there is no folder for what workers share ({why}): what changes at run time holds on the worker"
                    " alone that changes it",
                    why=error.strerror or str(error),
                )
        return self.path

    def end(self) -> None:
        """It is not needed any more."""
        path, self.path = self.path, ""
        if path:
            shutil.rmtree(path, ignore_errors=True)

"""The place of a file's results, which no other file of its folder may have."""

from contextlib import suppress

from inferry.errors import InvalidRequest, StoreError
from inferry.jobs import file_names
from inferry.jobs.formats.formats import Format
from inferry.storage.files import Files, split


class Place:
    """The URL `target` for the results of the file at `url`, in the format `to`; `source` are that file's folder."""

    def __init__(self, source: Files, url: str, target: str, to: Format) -> None:
        """InvalidRequest when it is the file's own, or of a name that only inferry's own files may have."""
        if target == url:
            raise InvalidRequest(f"the results of {url} would replace it: name another output")
        file_names.check_not_reserved(target)
        self._source = source
        self._folder, self._name = split(url)
        self._target = target
        self._ending = to.extension
        self._neighbour = file_names.neighbour(self._name, to)

    def check_neighbour(self) -> None:
        """InvalidRequest for x.jsonl.csv where the results of x.jsonl, as CSV, have that name too."""
        if self._neighbour:
            self._check(self._neighbour)

    def check_owner(self, url: str) -> None:
        """The same where results of the file at `url` are there first, by options of its own."""
        other, name = split(url)[1], split(self._target)[1]
        if other != self._name and other in (name, name.removesuffix(self._ending)):
            self._check(other)

    def _check(self, other: str) -> None:
        # Where nobody may look, nothing is known.
        with suppress(StoreError):
            if self._source.stat(other) is not None:
                raise InvalidRequest(
                    f"the results of {self._folder}{self._name} and those of {self._folder}{other} would both be "
                    f"{self._target}: rename one of them, or name another output"
                )

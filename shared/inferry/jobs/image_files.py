"""Images as the input of a job: one, or those of a folder or a pattern, which are the rows of one table."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from inferry.errors import InvalidFile
from inferry.jobs import file_names, patterns
from inferry.jobs.formats.image_reader import FILE, ImageListing
from inferry.jobs.job import Job
from inferry.runtime.images import ENDINGS
from inferry.runtime.model import Model
from inferry.storage.files import Files, open_files, split
from inferry.storage.stored import StoredFile


class Images(NamedTuple):
    """Images of `files`, in the order of their listing; `name`: what they are called together."""

    files: Files
    listing: Sequence[StoredFile]
    name: str

    @property
    def stored(self) -> StoredFile:
        """All of them as if they were one file, which is another once one of them is."""
        identity = hashlib.sha256("\n".join(f"{file.path} {file.identity}" for file in self.listing).encode())
        return StoredFile(self.name, sum(file.size for file in self.listing), identity.hexdigest())

    def opened(self) -> ImageListing:
        """What a reader of images takes for its file."""
        return ImageListing(self.files, self.listing)


def are_meant(url: str, model: Model) -> bool:
    """Whether a job for this URL is one of images, if `model` takes any."""
    if not model.preprocess:
        return False
    return url.endswith("/") or url.lower().endswith(ENDINGS) or bool(patterns.split(url)[1])


def check_taken(job: Job, model: Model) -> None:
    """InvalidFile for an image where the model takes none."""
    if job.input.lower().endswith(ENDINGS) and not job.format:
        raise InvalidFile(
            f"{job.input} is an image, but model '{model.name}' takes no images: its config.json has no 'preprocess'"
        )


def find(url: str) -> Images:
    """The images at a URL. InvalidFile when there are none."""
    base, pattern = patterns.split(url)
    if not pattern and not url.endswith("/"):
        folder, name = split(url)
        files = open_files(folder)
        file = files.stat(name)
        if file is None:
            raise InvalidFile(f"there is no file {url}")
        return Images(files, [file], name)
    files = open_files(base)
    is_meant = patterns.compiled(pattern or "**")
    listing = [
        file
        for file in files.list()
        if file.path.lower().endswith(ENDINGS) and is_meant.fullmatch(file.path) and not file_names.is_mark(file.path)
    ]
    if not listing:
        raise InvalidFile(f"there are no images ({', '.join(ENDINGS)}) in {url}")
    return Images(files, listing, _name(base))


def of_folder(job: Job, model: Model) -> Job | None:
    """The job for all images of a job's folder or pattern, with the names of their files in the results.

    None when the model takes no images, or when there are none in that folder.
    """
    if not model.preprocess or job.format:
        return None
    is_pattern = bool(patterns.split(job.input)[1])
    url = job.input if is_pattern else f"{job.input.rstrip('/')}/"
    try:
        find(url)
    except InvalidFile:
        return None
    return replace(job, input=url, keep=job.keep or (FILE,))


def _name(folder: str) -> str:
    """The last part of a folder's name."""
    name = folder.rstrip("/").rpartition("/")[2]
    return name if name.strip(".") and "://" not in folder.rstrip("/")[-3:] else "images"

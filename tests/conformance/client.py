#!/usr/bin/env python3
"""The command line that a conformance suite of TUF clients drives, over our verifier of the Image repository.

What judges is the agents' own: their strict reader and caps (`parse_offered`), one verified refresh (`refresh`), the
rule that no key counts twice, their search through delegations, their check of an image. What is Uptane's alone is left
out, as plain TUF repositories have none of it: the Director, and that a timestamp names its snapshot by hash.
Fetching and keeping files, which agents do elsewhere, is done here in the barest way.
Source: theupdateframework/tuf-conformance, CLIENT-CLI.md.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile

from signing.errors import AttackCode, SigningError, VerificationError
from signing.match import VerifiedImage
from signing.roots import check_delegation_keys, check_root_keys
from signing.tuf_client import (
    FAST_FORWARDED,
    IMAGE_CAPS,
    HeldFile,
    HeldFiles,
    RefreshError,
    TrustedFiles,
    keys_rotated,
    parse_offered,
    refresh,
)
from signing.verify import check_image

TIMEOUT_S = 20.0


class Client:
    """One repository as a vehicle sees it.

    Args:
        folder: Holds `root.json` and what else was verified, by role.
        metadata_url: Where the repository's metadata is.
    """

    def __init__(self, folder: Path, metadata_url: str) -> None:
        self._folder = folder
        self._url = metadata_url.rstrip("/") + "/"

    def refresh(self, now: datetime, find: Mapping[str, tuple[str, ...]] | None = None) -> TrustedFiles:
        """Verify what the repository has now and keep it, what was verified before something was refused as well.

        That is what plain TUF asks of a client. Our agents keep new roots only, and a bundle whole or not at all.

        Raises:
            SigningError: Something was refused.
        """
        root = (self._folder / "root.json").read_bytes()
        try:
            trusted = refresh(
                bootstrap=root, held=self._held(root), offered=self._offered, caps=IMAGE_CAPS, now=now, find=find or {}
            )
        except RefreshError as exc:
            self._keep(root, exc.roots, exc.verified)
            raise exc.reason from exc
        for targets in trusted.delegators:
            check_delegation_keys(targets)
        self._keep(root, trusted.held.roots, {role: file.content for role, file in trusted.held.roles.items()})
        return trusted

    def _held(self, root: bytes) -> HeldFiles:
        try:
            version = Metadata[Root].from_bytes(root).signed.version
            roles = {
                urllib.parse.unquote(path.stem): HeldFile(_version(path), path.read_bytes())
                for path in self._folder.glob("*.json")
                if path.stem != "root"
            }
        except RepositoryError as exc:
            raise SigningError(f"what is held cannot be read: {exc}") from exc
        return HeldFiles({version: root}, roles)

    def _offered(self, name: str) -> bytes | None:
        """A file of the repository, in one piece and in the agents' form."""
        content = fetch(self._url + name, IMAGE_CAPS.of(name) + 1)
        if content is not None:
            parse_offered(name, content, IMAGE_CAPS)
        return content

    def _keep(self, before: bytes, roots: Mapping[int, bytes], roles: Mapping[str, bytes]) -> None:
        for content in roots.values():
            check_root_keys(Metadata[Root].from_bytes(content).signed)
        newest = roots[max(roots)]
        if newest != before:
            old, new = (Metadata[Root].from_bytes(content).signed for content in (before, newest))
            for role in FAST_FORWARDED if keys_rotated(old, new) else ():
                self._path(role).unlink(missing_ok=True)
            self._path("root").write_bytes(newest)
        for role, content in roles.items():
            self._path(role).write_bytes(content)

    def _path(self, role: str) -> Path:
        return self._folder / f"{urllib.parse.quote(role, safe='')}.json"


def _version(path: Path) -> int:
    signed = Metadata.from_file(str(path)).signed
    return int(signed.version)


def fetch(url: str, most_bytes: int) -> bytes | None:
    """The content at `url`, None when there is nothing.

    Raises:
        DownloadError: Neither came about.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return bytes(response.read(most_bytes))
    except urllib.error.HTTPError as exc:
        if exc.code in (403, 404):
            return None
        raise DownloadError(f"{url}: {exc}") from exc
    except OSError as exc:
        raise DownloadError(f"{url}: {exc}") from exc


def download(target: TargetFile, base_url: str, folder: Path) -> None:
    """Fetch what was verified by its hash, unless it is there already.

    Raises:
        VerificationError: Other bytes came than were signed, or none.
    """
    wanted = target.hashes.get("sha256")
    if wanted is None:
        raise VerificationError(AttackCode.MALFORMED, f"{target.path!r} is listed without a SHA-256")
    path = folder / urllib.parse.quote(target.path, safe="")
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
        return
    parent, slash, name = target.path.rpartition("/")
    url = f"{base_url.rstrip('/')}/{urllib.parse.quote(f'{parent}{slash}{wanted}.{name}')}"
    content = fetch(url, target.length + 1)
    if content is None:
        raise VerificationError(AttackCode.MISSING, f"there is nothing at {url}")
    check_image(VerifiedImage(target.path, target.length, wanted, "", 0, ()), content)
    path.write_bytes(content)


def main(arguments: Sequence[str], now: datetime | None = None) -> int:
    """Run one command; 0 when it succeeded, 1 when anything was refused.

    Args:
        arguments: As the suite gives them.
        now: None asks the wall clock, which the suite sets by faketime.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", default="")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args(arguments)
    if options.command == "init":
        (options.metadata_dir / "root.json").write_bytes(options.trusted_root.read_bytes())
        return 0
    now = now or datetime.now(UTC)  # noqa: TID251 - there is no fleet here
    client = Client(options.metadata_dir, options.metadata_url)
    try:
        if options.command == "refresh":
            client.refresh(now)
            return 0
        found = client.refresh(now, {options.target_name: ()}).found[options.target_name]
        if found is None:
            raise VerificationError(AttackCode.MISSING, f"nobody lists {options.target_name!r}")
        download(found, options.target_base_url, options.target_dir)
    except (SigningError, DownloadError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

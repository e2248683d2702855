"""On which file system a path lies, as far as a SQLite file there must know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NETWORK = frozenset(
    {
        # Servers of files
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"),
        # File systems of clusters
        *("acfs", "beegfs", "ceph", "gfs2", "gpfs", "lustre", "ocfs2", "orangefs", "panfs"),
        *("pvfs2", "wekafs"),
    }
)
_NETWORK_FUSE = frozenset(
    {
        # Servers of files, and file systems of clusters
        *("afp", "ceph", "ceph-fuse", "curlftpfs", "davfs", "davfs2", "glusterfs", "hdfs"),
        *("juicefs", "moosefs", "mfs", "nfs", "smbnetfs", "sshfs"),
        # Buckets
        *("blobfuse", "blobfuse2", "gcsfuse", "goofys", "mount-s3", "mountpoint-s3", "rclone"),
        *("s3fs", "s3ql", "seaweedfs"),
    }
)


@dataclass(frozen=True)
class _Mount:
    """A line of /proc/self/mountinfo (proc(5))."""

    id: int
    parent: int
    point: Path
    kind: str


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The network file system on which a path lies: ``nfs4``, ``fuse.sshfs``; None if on none.

    hpo keeps SQLite files in write-ahead mode, whose readers and writers share memory and rely
    on POSIX locks. Hosts share no memory: "All processes using a database must be on the same
    host computer; WAL does not work over a network filesystem" (https://www.sqlite.org/wal.html),
    and over many of them locks are granted to everybody. What counts is whether several hosts
    may have the same file. So file systems of clusters do, however good their locks are; 9p and
    virtiofs, by which a virtual machine or sandbox sees its one host, do not.

    Args:
        path: A file or folder; it need not exist.
        mounts: What is mounted where, in the form of /proc/self/mountinfo.

    Returns:
        Its type as `mount` calls it; None where it is local, or where nothing is known of mounts
        (outside of Linux).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    mount = _mount_of(path.resolve(), [_parsed(line) for line in lines if " - " in line])
    if mount is None:
        return None
    kind, _, program = mount.kind.partition(".")
    is_network = program in _NETWORK_FUSE if kind == "fuse" else mount.kind in _NETWORK
    return mount.kind if is_network else None


def _parsed(line: str) -> _Mount:
    about, _, source = line.partition(" - ")
    mount_id, parent, _, _, point, *_ = about.split(" ")
    return _Mount(int(mount_id), int(parent), Path(_unescaped(point)), source.split(" ")[0])


def _unescaped(text: str) -> str:
    r"""A path in which space, tab, newline and backslash were written as ``\040`` and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _mount_of(path: Path, mounts: list[_Mount]) -> _Mount | None:
    """The mount that the kernel comes to on its way along a path.

    From each mount it steps into the first on it that lies on the path. So the longest mount
    point wins, of several at one point the last one, whose parent is the one below it, and a
    mount hidden by a later one further up does not count.
    """
    known = {mount.id for mount in mounts}
    on_path = [mount for mount in mounts if path.is_relative_to(mount.point)]
    nexts = [mount for mount in on_path if mount.parent not in known - {mount.id}]
    reached = None
    while nexts:
        reached = min(nexts, key=lambda mount: len(mount.point.parts))
        nexts = [m for m in on_path if m.parent == reached.id and m is not reached]
    return reached

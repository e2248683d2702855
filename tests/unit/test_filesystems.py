"""On which file system a path lies, by mountinfo files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.filesystems import network_file_system

_ROOT = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def _mounts(folder: Path, *lines: str) -> Path:
    path = folder / "mountinfo"
    path.write_text("".join(f"{line}\n" for line in (_ROOT, *lines)), encoding="utf-8")
    return path


def _line(number: int, parent: int, point: str, kind: str) -> str:
    return f"{number} {parent} 0:{number} / {point} rw,relatime shared:9 master:2 - {kind} src rw"


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "beegfs", "fuse.sshfs", "fuse.gcsfuse"],
)
def test_a_network_file_system_is_named(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, _line(30, 20, "/no/home", kind))
    assert network_file_system(Path("/no/home/me/hpo.db"), mounts) == kind
    assert network_file_system(Path("/no/home"), mounts) == kind


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "tmpfs", "overlay", "9p", "virtiofs", "fuse", "fuseblk", "fuse.bindfs"]
)
def test_a_local_one_is_not(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, _line(30, 20, "/no/home", kind))
    assert network_file_system(Path("/no/home/me/hpo.db"), mounts) is None


def test_the_longest_mount_point_that_contains_the_path_decides(tmp_path: Path) -> None:
    mounts = _mounts(
        tmp_path,
        _line(32, 30, "/no/home/me/disk", "xfs"),
        _line(30, 20, "/no/home", "nfs4"),
    )
    assert network_file_system(Path("/no/home/me/disk/hpo.db"), mounts) is None
    assert network_file_system(Path("/no/home/me/hpo.db"), mounts) == "nfs4"
    assert network_file_system(Path("/no/homestead/hpo.db"), mounts) is None
    assert network_file_system(Path("/no/hpo.db"), mounts) is None


def test_of_several_mounts_at_one_point_the_last_one_decides(tmp_path: Path) -> None:
    mounts = _mounts(
        tmp_path, _line(30, 20, "/no/home", "nfs4"), _line(31, 30, "/no/home", "tmpfs")
    )
    assert network_file_system(Path("/no/home/hpo.db"), mounts) is None
    mounts = _mounts(tmp_path, _line(30, 20, "/no/home", "ext4"), _line(31, 30, "/no/home", "cifs"))
    assert network_file_system(Path("/no/home/hpo.db"), mounts) == "cifs"


def test_a_mount_that_a_later_one_hides_does_not_count(tmp_path: Path) -> None:
    mounts = _mounts(
        tmp_path, _line(30, 20, "/no/home/me", "nfs4"), _line(31, 20, "/no/home", "tmpfs")
    )
    assert network_file_system(Path("/no/home/me/hpo.db"), mounts) is None


def test_escaped_characters_in_a_mount_point(tmp_path: Path) -> None:
    mounts = _mounts(tmp_path, _line(30, 20, r"/no/my\040home\134\011", "nfs"))
    assert network_file_system(Path("/no/my home\\\t/hpo.db"), mounts) == "nfs"
    assert network_file_system(Path("/no/my/hpo.db"), mounts) is None


def test_a_link_is_followed_and_a_new_file_lies_where_its_folder_does(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "link").symlink_to(share)
    mounts = _mounts(tmp_path, _line(30, 20, str(share.resolve()), "nfs4"))
    assert network_file_system(tmp_path / "link" / "new" / "hpo.db", mounts) == "nfs4"
    assert network_file_system(tmp_path / "hpo.db", mounts) is None


def test_in_a_container_whose_root_has_a_mount_above_it(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    lines = ["1 1 0:2 / / rw - rootfs none rw", _line(30, 1, "/no/data", "fuse.s3fs")]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert network_file_system(Path("/no/data/hpo.db"), path) == "fuse.s3fs"
    assert network_file_system(Path("/hpo.db"), path) is None


def test_where_nothing_is_known_of_mounts(tmp_path: Path) -> None:
    assert network_file_system(tmp_path / "hpo.db", tmp_path / "missing") is None


def test_this_machine_can_be_read() -> None:
    assert network_file_system(Path("/proc/self")) is None

"""What `scaling doctor` finds: addresses asked of Ray itself, folders that cannot be written, missing hard links."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scaling.cli import health


def test_ray_would_listen_on_loopback_and_an_address_in_the_environment_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    found = health._bind_address()
    assert found.state == "ok"
    assert "listen on 127.0.0.1 only, with a token; RAY_ADDRESS is set and ignored" in found.detail


@pytest.mark.parametrize(
    ("answer", "state"),
    [((True, "10.0.0.5", 0.1), "fail"), ((True, "?", 0.1), "warn"), ((False, "no ray", 0.1), "warn")],
)
def test_an_open_address_is_a_failure_and_an_unknown_one_a_warning(
    answer: tuple[bool, str, float], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_probe", lambda code: answer)
    assert health._bind_address().state == state
    assert answer[1] in health._bind_address().detail


def test_a_folder_is_tried_by_writing_and_linking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = health._writes("here", tmp_path / "new", "mend")
    assert found.state == "ok"
    assert "MB/s" in found.detail
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    blocked = health._writes("here", tmp_path / "file", "choose another")
    assert blocked.state == "fail"
    assert blocked.detail.endswith("choose another")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    linkless = health._writes("here", tmp_path, "mend")
    assert linkless.state == "warn"
    assert "no hard links" in linkless.detail


def test_little_disk_warns_and_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((3e9, "ok"), (1e9, "warn"), (1e7, "fail")):
        monkeypatch.setattr(health.shutil, "disk_usage", lambda path, free=free: type("U", (), {"free": int(free)})())
        assert health._disk("disk", tmp_path).state == state

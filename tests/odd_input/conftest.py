"""A trained study, for those commands that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trained import trained_unet


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_unet(tmp_path_factory.mktemp("trained"))

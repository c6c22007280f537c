"""What contract tests share: the fixed catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.sample_nodes import fixed_catalog


@pytest.fixture(scope="package", autouse=True)
def catalogue() -> Iterator[None]:
    with fixed_catalog():
        yield

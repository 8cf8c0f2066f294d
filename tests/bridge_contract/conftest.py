"""An account that is linked once, by the bridge under test; each test has a copy."""

import pytest
import trio

from tests.bridge_contract.running import Linked, link


@pytest.fixture(scope="session")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    return trio.run(link, tmp_path_factory.mktemp("linked"))

"""What the gates' tests share."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shape or type is checked, as outside of tests: what is refused, the gates refuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

from __future__ import annotations

import pytest

from middlewared.kernel.hidden import HIDDEN, hidden


@pytest.mark.parametrize("name", ["password", "new_password", "passphrase", "api_key", "otp_token", "PASSWORD_HASH"])
def test_what_has_the_name_of_a_secret_is_hidden(name: str) -> None:
    assert hidden(name, "x") == HIDDEN
    assert hidden("", {"deep": [{name: "x", "n": 1}]}) == {"deep": [{name: HIDDEN, "n": 1}]}


def test_a_sealed_secret_is_hidden_whatever_its_name_is() -> None:
    assert hidden("", {"psk": {"kid": "1", "nonce": "n", "ct": "c"}}) == {"psk": HIDDEN}


def test_what_is_no_secret_is_shown_and_that_a_secret_is_unset_too() -> None:
    assert hidden("domain", {"a": [1, None, "x"]}) == {"a": [1, None, "x"]}
    assert hidden("password", None) is None
    assert hidden("password_disabled", True) is True

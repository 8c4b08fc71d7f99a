"""What must never be kept, and what must still be readable."""

from __future__ import annotations

import base64
import json
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runbook_lib.sources.redaction import MASK, Redactor, from_environment

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40).filter(
    lambda s: len(s.strip()) >= 4
)
SPELLINGS = {
    "plain": str,
    "stripped": str.strip,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 without padding": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
    "URL-safe base64": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "in a URL": quote,
    "in a URL, whole": lambda s: quote(s, safe=""),
    "in a form": quote_plus,
    "in JSON": lambda s: json.dumps(s)[1:-1],
    "in JSON as it is": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
}
TEXT = st.text(max_size=30)


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(deadline=None)
@given(secret=SECRETS, before=TEXT, after=TEXT)
def test_a_known_secret_never_survives(spelling: str, secret: str, before: str, after: str) -> None:
    spelled = SPELLINGS[spelling](secret)
    assume(spelled not in MASK)
    redactor = Redactor([secret])
    assert spelled not in redactor.text(before + spelled + after)
    kept = redactor.clean({"a": [{before + spelled: (spelled, 1)}], "b": {spelled}})
    assert all(spelled not in text for text in _texts(kept))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [t for pair in value.items() for part in pair for t in _texts(part)]
    if isinstance(value, list):
        return [t for part in value for t in _texts(part)]
    return [str(value)]


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvbi1jYWxsIn0.dGhpcy1pcy1ub3QtYS1zaWduYXR1cmU"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQ\n"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://api:s3cr3t@db:5432/x", "s3cr3t"),
        ("https://:s3cr3t@proxy/", "s3cr3t"),
        ("DEBUG DATABASE_URL=postgresql://api:s3cr3t@database/mlflow", "s3cr3t"),
        ("PGPASSWORD=s3cr3t psql", "s3cr3t"),
        ("--password=s3cr3t", "s3cr3t"),
        ("password: s3cr3t", "s3cr3t"),
        ('{"db_password": "s3cr3t"}', "s3cr3t"),
        ('{\\"client-secret\\": \\"s3cr3t\\"}', "s3cr3t"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ("X-Api-Key: abcd1234", "abcd1234"),
        ("token='abcd1234'", "abcd1234"),
        ("key AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("key ASIAIOSFODNN7EXAMPLE.", "ASIAIOSFODNN7EXAMPLE"),
        ("Authorization: Bearer abcdefghij", "abcdefghij"),
        ("authorization': 'Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("sent bearer k8s-aws-v1.aHR0cHM6Ly9", "aHR0cHM6Ly9"),
        (f"cookie {JWT};", "eyJzdWIi"),
        (f"{KEY}-----END RSA PRIVATE KEY-----", "MIIEowIBAAKCAQ"),
        (KEY, "MIIEowIBAAKCAQ"),
    ],
)
def test_a_secret_is_known_by_its_shape(text: str, secret: str) -> None:
    found = Redactor().text(text)
    assert secret not in found
    assert MASK in found


@pytest.mark.parametrize(
    "text",
    [
        "Secret mlops-platform/platform-api-secrets has no key jwt-secret, "
        "which env JWT_SECRET needs",
        "Error: couldn't find key jwt-secret in Secret mlops-platform/platform-api-secrets",
        'password authentication failed for user "mlops_admin"',
        "Set PGPASSWORD or a password file for this role.",
        "basic authentication is off; bearer authentication is on",
        "Is the token expired, or has the identity no access entry?",
        "GET https://10.0.0.1:6443/api/v1/secrets?limit=500 gave 403",
        "kubectl get secret mlflow-db-secret -n mlops-platform -o yaml",
        "node/ip-10-0-1-7.ec2.internal at 2026-11-20T03:14:00Z, aws:///us-east-1a/i-0abc",
        "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----",
        "eyJust a word.",
    ],
)
def test_what_an_engineer_must_read_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "part",
    [
        "QUJD",
        "eyJ-",
        "eyJhbGciOi.",
        "eyJhbGciOiJIUzI1NiJ9 ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "password",
        "password ",
        "a-secret-",
        "token=",
        "bearer ",
        "basic\t",
        "authorization: ",
        "://",
        "://a",
        "AKIA",
    ],
)
def test_a_megabyte_of_one_word_is_no_work(part: str) -> None:
    """A pattern that starts anew everywhere would take hours over each of these."""
    text = part * (2**20 // len(part))
    assert len(Redactor(["unrelated"]).text(text)) <= len(text) * len(MASK)


def test_short_and_empty_values_teach_nothing() -> None:
    redactor = Redactor(["", "abc", "  a\n"])
    redactor.add(None)
    assert redactor.text("abc a") == "abc a"


def test_a_value_inside_another_hides_no_part_of_it() -> None:
    assert Redactor(["hunter", "hunter22"]).text("hunter22") == MASK


def test_other_values_pass_unchanged() -> None:
    assert Redactor(["1234"]).clean([1234, 1.5, None, True]) == [1234, 1.5, None, True]


def test_it_learns_while_others_read() -> None:
    redactor = Redactor()
    words = [a + b + "-word" for a in string.ascii_letters[:8] for b in string.ascii_letters[:8]]

    def learn(mine: list[str]) -> list[str]:
        told = []
        for word in mine:
            redactor.add(word)
            told.append(redactor.text(word))
        return told

    with ThreadPoolExecutor(4) as pool:
        told = [one for some in pool.map(learn, (words[n::4] for n in range(4))) for one in some]
    assert told == [MASK] * len(words)


def test_variables_that_say_secret_are_known(tmp_path: Path) -> None:
    redactor = from_environment(
        {
            "PGPASSWORD": "from-pgpassword",
            "AWS_SECRET_ACCESS_KEY": "/begins/with/a/slash+key",
            "AWS_SESSION_TOKEN": "from-session",
            "MY_TOKEN": str(tmp_path),
            "VERY_LONG_SECRET": "/" + "x" * 9000,
            "HOME": "/home/on-call",
        }
    )
    text = f"from-pgpassword /begins/with/a/slash+key from-session {tmp_path} /home/on-call"
    assert redactor.text(text) == f"{MASK} {MASK} {MASK} {tmp_path} /home/on-call"

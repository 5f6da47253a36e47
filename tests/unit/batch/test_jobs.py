"""Jobs: what they accept, their JSON, their `repr`, and what identifies them in a journal."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Dict

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
)
from runtimeuse_sync.batch import Job
from runtimeuse_sync.batch._jobs import Keys, digest_of, not_in_json

SECRET = "hunter-2-hunter"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, ValueError, "needs a prompt or commands"),
        ({"prompt": "p", "commands": ["c"]}, ValueError, "not both"),
        ({"prompt": " "}, ValueError, "prompt must not be empty"),
        ({"prompt": 3}, TypeError, "prompt must be a str"),
        ({"commands": 3}, TypeError, "commands must be a list"),
        ({"commands": []}, ValueError, "commands must not be empty"),
        ({"commands": [3]}, TypeError, r"commands\[0\]"),
        (
            {"prompt": "p", "options": ExecuteCommandsOptions()},
            TypeError,
            "options must be QueryOptions for a job",
        ),
        ({"commands": ["c"], "options": QueryOptions()}, TypeError, "options must be ExecuteCommandsOptions for a job"),
        ({"prompt": "p", "options": {"model": "m"}}, TypeError, "options must be QueryOptions"),
        ({"prompt": "p", "id": 3}, TypeError, "id must be a str"),
        ({"prompt": "p", "id": ""}, ValueError, "id must not be empty"),
    ],
)
def test_what_is_refused(arguments: Dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        Job(**arguments)


DOWNLOAD = RuntimeEnvironmentDownloadableInterface("http://h/?s=1", "/w")
JOBS = [
    Job("p"),
    Job("p😀é\n", id="é"),
    Job("p", options=QueryOptions(model="m", agent_env={"KEY": SECRET}, timeout=3)),
    Job(commands=["ls", CommandInterface("pwd", cwd="/", env={"KEY": SECRET})], id="c"),
    Job(commands=["ls"], options=ExecuteCommandsOptions(check=False, secrets_to_redact=[SECRET])),
    Job(
        "p",
        options=QueryOptions(pre_agent_downloadables=[RuntimeEnvironmentDownloadableInterface("http://h/?s=1", "/w")]),
    ),
]


@pytest.mark.parametrize("job", JOBS, ids=range(len(JOBS)))
def test_json(job: Job) -> None:
    assert Job.from_json(job.to_json()) == job
    assert Job.from_json(job.to_json().encode()) == job
    assert Job.from_dict(job.to_dict()) == job
    assert pickle.loads(pickle.dumps(job)) == job == copy.deepcopy(job)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[]", TypeError),
        ("{", ValueError),
        ("{}", ValueError),
        ('{"prompt": "p", "options": 3}', TypeError),
        ('{"prompt": "p", "options": {"timeout": "soon"}}', TypeError),
        ('{"commands": {"command": "ls"}}', TypeError),
        ('{"commands": [{}]}', KeyError),
    ],
)
def test_json_of_no_job(text: str, error: Any) -> None:
    with pytest.raises(error):
        Job.from_json(text)


def test_commands_are_copied() -> None:
    command = CommandInterface("ls", env={"A": "1"})
    job = Job(commands=[command])
    assert command.env is not None
    command.env = {"A": "2"}
    assert job.commands == [CommandInterface("ls", env={"A": "1"})]
    assert job != Job("ls")
    assert job != "ls"


def test_its_repr_is_short_and_has_no_secrets() -> None:
    job = Job(f"use {SECRET} " + "x" * 1000, options=QueryOptions(secrets_to_redact=[SECRET]), id="one")
    assert SECRET not in repr(job)
    assert repr(job).startswith("Job(id='one', prompt='use [REDACTED] xxx")
    assert len(repr(job)) < 300
    assert SECRET not in repr(Job(commands=[CommandInterface(f"echo {SECRET}", env={"A": SECRET})]))
    assert repr(Job(commands=["ls"])) == "Job(commands=['ls'])"


def test_options_that_json_lacks() -> None:
    assert not_in_json(Job("p")) == []
    assert not_in_json(Job("p", options=QueryOptions(timeout=3))) == []
    assert not_in_json(Job("p", options=QueryOptions(on_heartbeat=print, on_assistant_message=print))) == [
        "on_assistant_message",
        "on_heartbeat",
    ]


def key(job: Job) -> str:
    return Keys(for_journal=True).key_of(job)


def test_a_job_is_identified_by_its_id_or_its_content() -> None:
    assert key(Job("p", id="x")) == key(Job("q", id="x")) == "id:x"
    assert key(Job("p")) == key(Job("p", options=QueryOptions()))
    assert key(Job("p")) == key(Job("p", options=QueryOptions(timeout=3, idle_timeout=3, source_id="s")))
    assert key(Job("p")) == key(Job("p", options=QueryOptions(secrets_to_redact=[SECRET])))
    different = [
        Job("p"),
        Job("q"),
        Job(commands=["p"]),
        Job(commands=["p", "p"]),
        Job(commands=[CommandInterface("p", cwd="/")]),
        Job(commands=[CommandInterface("p", env={"A": "1"})]),
        Job(commands=[CommandInterface("p", env={"A": "2"})]),
        Job(commands=["p"], options=ExecuteCommandsOptions(check=False)),
        Job("p", options=QueryOptions(model="m")),
        Job("p", options=QueryOptions(agent_env={"CITY": "Oslo"})),
        Job("p", options=QueryOptions(agent_env={"CITY": "Rome"})),
    ]
    assert len({key(job) for job in different}) == len(different)


def test_it_is_the_same_in_the_next_version() -> None:
    """Journals outlive the program: this must never change."""
    assert (
        key(Job("p", options=QueryOptions(model="m")))
        == "sha256:48f44ad7fba75c74106c2fb2be55c43b537061989aa055bdbe19408f42197cc5"
    )


def test_equal_jobs_are_counted() -> None:
    keys = Keys(for_journal=True)
    first, other, second, third = (keys.key_of(Job(prompt)) for prompt in ("p", "q", "p", "p"))
    assert (second, third) == (f"{first}#2", f"{first}#3")
    assert other != first


@pytest.mark.parametrize("for_journal", [False, True])
def test_two_jobs_must_not_have_one_id(for_journal: bool) -> None:
    keys = Keys(for_journal=for_journal)
    keys.key_of(Job("p", id="x"))
    with pytest.raises(ValueError, match="two jobs have the id 'x'"):
        keys.key_of(Job("q", id="x"))


def test_the_digest_does_not_depend_on_secrets() -> None:
    jobs = [
        Job("p", options=QueryOptions(agent_env={"TOKEN": token}, secrets_to_redact=[token]))
        for token in ("one-1", "two-2")
    ]
    assert digest_of(jobs[0]) == digest_of(jobs[1]) == digest_of(Job("p"))
    assert digest_of(Job("p")) != digest_of(Job("q"))
    assert digest_of(Job("p")) != digest_of(Job("p", options=QueryOptions(model="m")))

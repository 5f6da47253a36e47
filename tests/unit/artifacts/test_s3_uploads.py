"""`s3_uploads` with a client that answers as a test says: keys, and what is told of what arrived."""

from __future__ import annotations

import datetime
from email.utils import format_datetime
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync import ArtifactUploadError, ArtifactUploadRequestMessageInterface, ArtifactUploadResult
from runtimeuse_sync._wire.artifact_paths import ArtifactDirectories
from runtimeuse_sync.artifacts import StoredObject, UploadFailure, s3_uploads
from runtimeuse_sync.artifacts import s3 as s3_module
from runtimeuse_sync.messages import announce_in

MISSING = "it is not there"


class Refused(Exception):
    """As botocore's `ClientError`."""

    def __init__(self, status: int) -> None:
        super().__init__("refused")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class Unreachable(Exception):
    """As botocore's errors for a storage that cannot be reached."""


Unreachable.__module__ = "botocore.exceptions"


class Bucket:
    """A client with one bucket.

    Attributes:
        objects: What is in it: sizes, by key.
        age: How many seconds ago they were stored, by the clock of the storage.
        says: Raised in place of an answer.
        asked: The calls so far.
    """

    def __init__(self, exists: bool = True) -> None:
        self.exists = exists
        self.objects: Dict[str, int] = {}
        self.age = 0.0
        self.date: Optional[str] = format_datetime(datetime.datetime(2001, 2, 3, tzinfo=datetime.timezone.utc), True)
        self.says: Optional[Exception] = None
        self.asked: List[Any] = []

    def generate_presigned_url(self, method: str, **arguments: Any) -> str:
        self.asked.append((method, arguments))
        return "https://bucket.test/signed?X-Sig=1"

    def head_bucket(self, **arguments: Any) -> Any:
        self.asked.append(("head_bucket", arguments))
        if self.says is not None:
            raise self.says
        if not self.exists:
            raise Refused(404)

    def head_object(self, **arguments: Any) -> Any:
        self.asked.append(("head_object", arguments["Key"]))
        if self.says is not None:
            raise self.says
        if arguments["Key"] not in self.objects:
            raise Refused(404)
        stored = datetime.datetime(2001, 2, 3, tzinfo=datetime.timezone.utc) - datetime.timedelta(seconds=self.age)
        headers = {} if self.date is None else {"date": self.date}
        return {
            "ContentLength": self.objects[arguments["Key"]],
            "LastModified": stored,
            "ResponseMetadata": {"HTTPHeaders": headers},
        }


def request_for(filepath: str, *directories: str, secrets: Any = ()) -> ArtifactUploadRequestMessageInterface:
    name = filepath.rsplit("/", 1)[-1]
    request = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", name, filepath)
    announce_in(request, ArtifactDirectories(directories, (), secrets))
    return request


def ask(uploads: Any, filepath: str, *directories: str, secrets: Any = ()) -> ArtifactUploadResult:
    result: ArtifactUploadResult = uploads(request_for(filepath, *directories, secrets=secrets))
    return result


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "_GRACE", 0.0)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("", "x/a.txt"),
        ("/", "x/a.txt"),
        ("embedded", "embedded/x/a.txt"),
        ("runs/42", "runs/42/x/a.txt"),
        ("runs/42/", "runs/42/x/a.txt"),
        ("/runs/42//", "runs/42/x/a.txt"),
    ],
)
def test_a_prefix_is_a_folder(prefix: str, key: str) -> None:
    bucket = Bucket()
    result = ask(s3_uploads(bucket, "b", prefix=prefix, expires=60), "/w/out/x/a.txt", "out")
    assert (result.presigned_url, result.content_type) == ("https://bucket.test/signed?X-Sig=1", "text/plain")
    assert bucket.asked[-1] == (
        "put_object",
        {"Params": {"Bucket": "b", "Key": key, "ContentType": "text/plain"}, "ExpiresIn": 60},
    )


def test_without_a_known_directory_keys_have_the_whole_path() -> None:
    bucket = Bucket()
    ask(s3_uploads(bucket, "b", "run-7/"), "/out/sub/a.txt")
    assert bucket.asked[-1][1]["Params"]["Key"] == "run-7/out/sub/a.txt"


def test_a_working_directory_decides() -> None:
    bucket = Bucket()
    ask(s3_uploads(bucket, "b", working_dir="/out/w"), "/out/w/out/a.txt", "out")
    assert bucket.asked[-1][1]["Params"]["Key"] == "a.txt"


def test_it_lists_what_arrived() -> None:
    bucket = Bucket()
    with s3_uploads(bucket, "b", "p") as uploads:
        for path in ("/w/out/a.txt", "/w/logs/a.txt"):
            ask(uploads, path, "out", "logs")
        bucket.objects = {"p/a.txt": 3, "p/logs/a.txt": 4}
    bucket.asked.clear()
    expected = [
        StoredObject("a.txt", 3, "p/a.txt", "/w/out/a.txt"),
        StoredObject("logs/a.txt", 4, "p/logs/a.txt", "/w/logs/a.txt"),
    ]
    assert uploads.files == uploads.check() == expected
    assert uploads.failures == []
    # What was seen is not asked for again, unless it may have changed.
    assert bucket.asked == []
    ask(uploads, "/w/out/a.txt", "out", "logs")
    assert uploads.files == expected
    assert [each for each in bucket.asked if each[0] == "head_object"] == [("head_object", "p/a.txt")]


def test_it_looks_for_very_many() -> None:
    bucket = Bucket()
    with s3_uploads(bucket, "b") as uploads:
        for number in range(200):
            ask(uploads, f"/out/{number}", "out")
            bucket.objects[f"{number}"] = number
    looked_for = [key for kind, key in bucket.asked if kind == "head_object"]
    assert sorted(looked_for) == sorted(bucket.objects)
    assert [(file.key, file.size) for file in uploads.files] == list(bucket.objects.items())


def test_a_key_that_is_too_long() -> None:
    uploads = s3_uploads(Bucket(), "b", prefix="é" * 512)
    ask(uploads, "/a")
    assert [failure.reason for failure in uploads.failures] == ["its key has more than 1024 bytes"]


def test_what_did_not_arrive_is_an_error_of_leaving() -> None:
    bucket = Bucket()
    uploads = s3_uploads(bucket, "b", "p")

    def use() -> None:
        with uploads:
            for name in ("a", "c"):
                ask(uploads, f"/w/out/{name}", "out")
            bucket.objects = {"p/c": 1}

    with pytest.raises(ArtifactUploadError) as caught:
        use()
    assert str(caught.value) == f"1 artifact(s) did not arrive in the bucket 'b': a ({MISSING})"
    assert caught.value.filepaths == ["/w/out/a"]
    assert uploads.failures == [UploadFailure("a", MISSING, "/w/out/a")]
    assert [file.key for file in uploads.files] == ["p/c"]


def end(uploads: Any, *paths: str) -> None:
    uploads.session_ended([request_for(path, "out") for path in paths])


def test_at_the_end_of_a_session_it_looks_for_its_files_only() -> None:
    bucket = Bucket()
    uploads = s3_uploads(bucket, "b", "p")
    for name in ("a", "c", "d"):
        ask(uploads, f"/w/out/{name}", "out")
    bucket.objects = {"p/a": 1}
    # Those of another session may still come.
    end(uploads, "/w/out/a")
    with pytest.raises(ArtifactUploadError, match=rf"^1 artifact.*: c \({MISSING}\)$") as caught:
        end(uploads, "/w/out/a", "/w/out/c")
    assert caught.value.filepaths == ["/w/out/c"]
    assert ("head_object", "p/d") not in bucket.asked


def test_at_the_end_of_a_session_it_does_not_take_doubt_for_loss(caplog: pytest.LogCaptureFixture) -> None:
    bucket = Bucket()
    uploads = s3_uploads(bucket, "b")
    ask(uploads, "/w/out/a", "out")
    bucket.says = Refused(403)
    end(uploads, "/w/out/a")
    assert "whether 1 artifact(s) arrived is not known" in caplog.text
    with pytest.raises(ArtifactUploadError, match="the storage does not tell: HTTP status 403"):
        uploads.check(0)


def test_the_bodys_own_exception_comes_out() -> None:
    def use() -> None:
        with s3_uploads(Bucket(), "b") as uploads:
            ask(uploads, "/a")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        use()


def test_secrets_are_not_shown() -> None:
    uploads = s3_uploads(Bucket(), "b")
    ask(uploads, "/w/of hunter2", "/w", secrets=["hunter2"])
    with pytest.raises(ArtifactUploadError, match=r"of \[REDACTED\] \(") as caught:
        uploads.check(0)
    assert "hunter2" not in str(caught.value)


def test_it_waits_for_what_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket()
    uploads = s3_uploads(bucket, "b")
    ask(uploads, "/a")
    waits: List[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            bucket.objects["a"] = 1

    monkeypatch.setattr("time.sleep", sleep)
    assert [file.key for file in uploads.check(timeout=100)] == ["a"]
    assert len(waits) == 3
    assert max(waits) <= 0.5


def test_a_bucket_that_does_not_exist() -> None:
    uploads = s3_uploads(Bucket(exists=False), "b")
    attempts: List[Tuple[Callable[[], object], List[str]]] = [
        (uploads.__enter__, []),
        (lambda: ask(uploads, "/w/a"), ["/w/a"]),
        (lambda: ask(uploads, "/w/c"), ["/w/c"]),
    ]
    for attempt, paths in attempts:
        with pytest.raises(ArtifactUploadError, match=r"^the bucket 'b' does not exist$") as caught:
            attempt()
        assert caught.value.filepaths == paths


@pytest.mark.parametrize(
    ("says", "shown"),
    [(Refused(403), "HTTP status 403"), (Refused(400), "HTTP status 400"), (Unreachable("no route"), "Unreachable")],
)
def test_who_may_not_ask_about_the_bucket_may_write_to_it(says: Exception, shown: str) -> None:
    bucket = Bucket()
    bucket.says = says
    uploads = s3_uploads(bucket, "b")
    for name in ("/a", "/c"):
        ask(uploads, name)
    assert [each[0] for each in bucket.asked] == ["head_bucket", "put_object", "put_object"]
    assert [failure.reason for failure in uploads.failures] == [f"the storage does not tell: {shown}"] * 2
    # It may know later.
    bucket.says = None
    bucket.objects = {"a": 1, "c": 2}
    assert [file.size for file in uploads.check(0)] == [1, 2]


def test_other_exceptions_come_out_unchanged() -> None:
    class TimeLimit(Exception):
        pass

    bucket = Bucket()
    uploads = s3_uploads(bucket, "b")
    ask(uploads, "/a")
    bucket.says = TimeLimit()
    with pytest.raises(TimeLimit):
        uploads.check()
    with pytest.raises(TimeLimit):
        ask(s3_uploads(bucket, "b"), "/a")


@pytest.mark.parametrize(("age", "arrived"), [(0.0, True), (1.5, True), (30.0, False)])
def test_an_object_of_an_earlier_run_does_not_count(age: float, arrived: bool) -> None:
    bucket = Bucket()
    bucket.objects = {"a": 1}
    bucket.age = age
    uploads = s3_uploads(bucket, "b")
    ask(uploads, "/a")
    assert [file.key for file in uploads.files] == (["a"] if arrived else [])
    assert [failure.reason for failure in uploads.failures] == ([] if arrived else ["only an older object is there"])


@pytest.mark.parametrize("date", [None, "", "no date"])
def test_a_storage_that_does_not_tell_the_time_is_believed(date: Optional[str]) -> None:
    bucket = Bucket()
    bucket.objects, bucket.age, bucket.date = {"a": 1}, 30.0, date
    uploads = s3_uploads(bucket, "b")
    ask(uploads, "/a")
    assert [file.key for file in uploads.files] == ["a"]


def test_a_client_that_only_signs() -> None:
    class Signer:
        def generate_presigned_url(self, *_: Any, **__: Any) -> str:
            return "https://bucket.test/signed"

    uploads = s3_uploads(Signer(), "b")
    assert ask(uploads, "/a").presigned_url == "https://bucket.test/signed"
    end(uploads, "/a")
    for look in (lambda: uploads.files, lambda: uploads.failures, uploads.check, uploads.__enter__):
        with pytest.raises(TypeError, match="Signer has no head_object"):
            look()


def test_its_repr() -> None:
    assert repr(s3_uploads(Bucket(), "b", "runs/42")) == "<S3Uploads s3://b/runs/42/>"


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"client": object()}, TypeError, "client must be a boto3 S3 client, not object"),
        ({"bucket": None}, TypeError, "bucket must be a str, not NoneType"),
        ({"bucket": " "}, ValueError, "bucket must not be empty"),
        ({"prefix": None}, TypeError, "prefix must be a str, not NoneType"),
        ({"expires": "60"}, TypeError, "expires must be a number of seconds, not str"),
        ({"expires": True}, TypeError, "expires must be a number of seconds, not bool"),
        ({"expires": 0}, ValueError, "expires must be more than 0 seconds, not 0"),
        ({"working_dir": "w"}, ValueError, "working_dir must be an absolute path in the sandbox, not 'w'"),
    ],
)
def test_wrong_arguments(arguments: Any, error: Any, named: str) -> None:
    with pytest.raises(error, match=named):
        s3_uploads(**{"client": Bucket(), "bucket": "b", **arguments})


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (None, TypeError), (-1, ValueError), (float("nan"), ValueError)]
)
def test_wrong_timeouts(timeout: Any, error: Any) -> None:
    with pytest.raises(error, match="timeout must be"):
        s3_uploads(Bucket(), "b").check(timeout)

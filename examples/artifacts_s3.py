"""Upload files that the agent writes to S3, by presigned URLs.

An S3 server on this machine, from `moto`, stands in for the real one, so you need no account. `boto3` signs the URLs:
pip install "moto[server]" boto3
"""

import logging
import sys
import tempfile
from typing import Any

from runtimeuse_sync import ArtifactUploadError, RuntimeUseClient
from runtimeuse_sync.artifacts import s3_uploads
from runtimeuse_sync.runtime import LocalRuntime

BUCKET = "reports"

SCRIPT = """
mkdir -p output/charts
echo '12 apples' > output/stock.txt
echo '{"apples": 12}' > 'output/charts/stock of today.json'
touch output/empty.txt
echo the report is written
"""


def upload(s3: Any) -> None:
    directory = tempfile.TemporaryDirectory()
    # Shorter waits than the defaults, for files to settle and for late files, so that the example ends soon.
    quick = LocalRuntime(root=directory.name, artifact_settle=0.2, end_session_delay=0.2)
    with directory, quick as runtime, s3_uploads(s3, BUCKET, prefix="runs/42") as uploads:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        result = client.query(SCRIPT, artifacts_dirs=["output"], on_artifact_upload_request=uploads)
    # Leaving the context has checked that all files have arrived.
    print("result:", result.text.strip())
    for file in uploads.files:
        stored = s3.get_object(Bucket=BUCKET, Key=file.key)
        with stored["Body"] as body:
            content = body.read().decode().strip()
        print(f"{file.name} ({file.size} bytes) is at {file.key} ({stored['ContentType']}): {content}")
    try:
        with s3_uploads(s3, "report"):
            raise AssertionError("nothing runs if the bucket does not exist")
    except ArtifactUploadError as error:
        print("error:", error)


def main() -> int:
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        print(f'this example needs {error.name}: pip install "moto[server]" boto3', file=sys.stderr)
        return 1
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # With the real S3, use boto3.client("s3"); nothing else changes.
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        s3.create_bucket(Bucket=BUCKET)
        upload(s3)
        s3.close()
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

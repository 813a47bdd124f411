"""Writes and reads objects with boto3, configured like Quay's (storage/cloud.py).

The variable STORE has the store's entry in DISTRIBUTED_STORAGE_CONFIG, for RadosGWStorage.

    s3.py write FOLDER PREFIX    write every file, with put_object and in parts of 5 MiB
    s3.py read KEY...            print size, SHA-256 of the whole, SHA-256 of three joined ranges
"""

import hashlib
import json
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

PART = 5 << 20

_, given = json.loads(os.environ["STORE"])
bucket = given["bucket_name"]
root = given["storage_path"].lstrip("/")


def connect():
    """A client with its own connections.

    After an empty put_object (Expect: 100-continue without a body), botocore's next request on the same
    connection hangs if the server answers such a request at once, as SeaweedFS does.
    """
    return boto3.client(
        "s3",
        endpoint_url="http://%s:%d" % (given["hostname"], given["port"]),
        aws_access_key_id=given["access_key"],
        aws_secret_access_key=given["secret_key"],
        region_name=given["region_name"],
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
    )


def write(folder, prefix):
    parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        client = connect()
        with open(path, "rb") as file:
            client.put_object(Bucket=bucket, Key=f"{root}/{prefix}/whole/{name}", Body=file)
        client.upload_file(path, bucket, f"{root}/{prefix}/parts/{name}", Config=parts)


def read(keys):
    client = connect()
    for key in keys:
        at = {"Bucket": bucket, "Key": f"{root}/{key}"}
        whole = client.get_object(**at)["Body"].read()
        assert client.head_object(**at)["ContentLength"] == len(whole)
        ranges = hashlib.sha256()
        for part in thirds(len(whole)):
            ranges.update(client.get_object(Range="bytes=%d-%d" % part, **at)["Body"].read())
        print(len(whole), hashlib.sha256(whole).hexdigest(), ranges.hexdigest())


def thirds(size):
    """The first and last bytes of up to three ranges that cover the whole."""
    step = -(-size // 3) or 1
    return [(start, min(start + step, size) - 1) for start in range(0, size, step)]


if sys.argv[1] == "write":
    write(*sys.argv[2:])
else:
    read(sys.argv[2:])

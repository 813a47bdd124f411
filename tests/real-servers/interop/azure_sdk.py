#!/usr/bin/env python3
"""Reads and writes blobs with Microsoft's SDK for Python, which Quay uses.

    azure_sdk.py COMMAND [ARGUMENT...]

    write NAME [BLOCK]        write standard input, in blocks of BLOCK bytes if given
    read NAME [FIRST LENGTH]  write a blob, or a part of it, to standard output
    list PREFIX               print one line for each blob: name, tab, size
    stage NAME ID             stage standard input as block ID without a commit
    sas SECONDS               print a shared access signature for the container, valid for SECONDS

The account comes from the environment: AZURE_URL, AZURE_CONTAINER, AZURE_ACCOUNT, AZURE_KEY.
"""

import datetime
import os
import sys

from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

URL, CONTAINER, ACCOUNT, KEY = (
    os.environ[name] for name in ("AZURE_URL", "AZURE_CONTAINER", "AZURE_ACCOUNT", "AZURE_KEY")
)


def container(block=None):
    sizes = {} if block is None else {"max_single_put_size": block, "max_block_size": block}
    return BlobServiceClient(URL, credential=KEY, **sizes).get_container_client(CONTAINER)


def write(name, block=None):
    client = container(None if block is None else int(block))
    client.upload_blob(name, sys.stdin.buffer.read(), overwrite=True)


def read(name, first=None, length=None):
    part = {} if first is None else {"offset": int(first), "length": int(length)}
    container().download_blob(name, **part).readinto(sys.stdout.buffer)


def list_blobs(prefix):
    for blob in container().list_blobs(name_starts_with=prefix):
        print(f"{blob.name}\t{blob.size}")


def stage(name, block_id):
    container().get_blob_client(name).stage_block(block_id, sys.stdin.buffer.read())


def sas(seconds):
    now = datetime.datetime.now(datetime.timezone.utc)
    print(
        generate_container_sas(
            ACCOUNT,
            CONTAINER,
            account_key=KEY,
            permission=ContainerSasPermissions.from_string("rcwdl"),
            start=now - datetime.timedelta(hours=1),
            expiry=now + datetime.timedelta(seconds=int(seconds)),
        )
    )


COMMANDS = {"write": write, "read": read, "list": list_blobs, "stage": stage, "sas": sas}

if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
    sys.exit(__doc__)
COMMANDS[sys.argv[1]](*sys.argv[2:])

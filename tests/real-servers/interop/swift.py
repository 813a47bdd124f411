"""Writes and reads objects with python-swiftclient, like Quay (storage/swift.py).

The variable STORE has the store's entry in DISTRIBUTED_STORAGE_CONFIG, for SwiftStorage.

    swift.py write FOLDER PREFIX    write every file, with put_object and as a Dynamic
                                    Large Object of 5 MiB segments with an empty manifest
    swift.py read KEY...            print size, SHA-256 of the whole, SHA-256 of three joined ranges
"""

import hashlib
import json
import os
import sys
import uuid

from swiftclient.client import Connection

SEGMENT = 5 << 20

_, given = json.loads(os.environ["STORE"])
container = given["swift_container"]
root = given["storage_path"].lstrip("/")
connection = Connection(
    authurl=given["auth_url"],
    user=given["swift_user"],
    key=given["swift_password"],
    auth_version=given["auth_version"],
    os_options=given.get("os_options", {}),
)


def write(folder, prefix):
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        connection.put_object(container, f"{root}/{prefix}/whole/{name}", data)
        segments = f"{root}/segments/{uuid.uuid4()}"
        for index, start in enumerate(range(0, len(data), SEGMENT)):
            connection.put_object(container, "%s/%09d" % (segments, index), data[start : start + SEGMENT])
        manifest = {"X-Object-Manifest": f"{container}/{segments}"}
        connection.put_object(container, f"{root}/{prefix}/parts/{name}", b"", headers=manifest)


def read(keys):
    for key in keys:
        key = f"{root}/{key}"
        headers, whole = connection.get_object(container, key)
        assert int(headers["content-length"]) == len(whole)
        ranges = hashlib.sha256()
        for part in thirds(len(whole)):
            ranges.update(connection.get_object(container, key, headers={"Range": "bytes=%d-%d" % part})[1])
        print(len(whole), hashlib.sha256(whole).hexdigest(), ranges.hexdigest())


def thirds(size):
    """The first and last bytes of up to three ranges that cover the whole."""
    step = -(-size // 3) or 1
    return [(start, min(start + step, size) - 1) for start in range(0, size, step)]


if sys.argv[1] == "write":
    write(*sys.argv[2:])
else:
    read(sys.argv[2:])

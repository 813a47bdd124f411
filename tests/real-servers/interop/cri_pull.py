"""Pulls an image as the kubelet does: cri_pull.py SOCKET IMAGE USER, with the password in CRI_PASSWORD.

The messages are those of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, written by hand: PullImageRequest has an
ImageSpec (1) and an AuthConfig (2).
"""

import os
import sys

import grpc

# In seconds.
BOUND = 100


def field(number: int, value: bytes) -> bytes:
    length, size = len(value), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes([number << 3 | 2]) + bytes(size) + value


socket, image, user = sys.argv[1:]
spec = field(1, image.encode())
login = field(1, user.encode()) + field(2, os.environ["CRI_PASSWORD"].encode())
channel = grpc.insecure_channel(f"unix://{socket}")
pull = channel.unary_unary("/runtime.v1.ImageService/PullImage")
pull(field(1, spec) + field(2, login), timeout=BOUND)

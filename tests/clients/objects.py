"""Checks the objects of `clients openshift` against schemas: objects.py FOLDER. Prints each object that it checked.

The ConfigMap is checked against the schema of Kubernetes. The others are checked against the fields, patterns and
values of the CustomResourceDefinitions in config/v1 of openshift/api; a field that is not there is refused.
"""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
PATH = r"(?:(?:/[a-z0-9]+(?:(?:(?:[._]|__|[-]*)[a-z0-9]+)+)?)+)?$"
MIRROR = rf"^({LABEL}(?:(?:\.{LABEL})+)?(?::[0-9]+)?){PATH}"
SOURCE = rf"^\*(?:\.{LABEL})+$|{MIRROR}"


def custom(kind: str, spec: dict) -> dict:
    """A cluster-scoped object of config.openshift.io/v1."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "config.openshift.io/v1"},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": {"type": "string", "pattern": r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"}},
            },
            "spec": spec,
        },
    }


def mirrors(field: str) -> dict:
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": ["source"],
        "properties": {
            "source": {"type": "string", "pattern": SOURCE},
            "mirrors": {
                "type": "array",
                "uniqueItems": True,
                "items": {"type": "string", "pattern": MIRROR},
            },
            "mirrorSourcePolicy": {"enum": ["NeverContactSource", "AllowContactingSource"]},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {field: {"type": "array", "items": entry}},
    }


PATCH = {
    "type": "object",
    "additionalProperties": False,
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "additionalTrustedCA": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            },
        },
    },
}
SCHEMAS = {
    "ImageDigestMirrorSet": custom("ImageDigestMirrorSet", mirrors("imageDigestMirrors")),
    "ImageTagMirrorSet": custom("ImageTagMirrorSet", mirrors("imageTagMirrors")),
    # A merge patch has no kind.
    None: PATCH,
}

for file in sorted(pathlib.Path(sys.argv[1]).glob("*.yaml")):
    thing = yaml.safe_load(file.read_text())
    kind = thing.get("kind")
    if kind == "ConfigMap":
        for version in ["1.25", "1.37"]:
            kubernetes_validate.validate(thing, version, strict=True)
        assert thing["metadata"]["namespace"] == "openshift-config", thing
    else:
        jsonschema.Draft202012Validator(SCHEMAS[kind]).validate(thing)
    print(file.name, kind)

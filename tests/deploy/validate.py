"""Validates Kubernetes objects strictly: an unknown key is an error.

    validate.py VERSION SCHEMAS < OBJECTS

VERSION is a version of Kubernetes, such as 1.31. SCHEMAS is a folder with a schema for each kind that is not
Kubernetes' own, KIND.json. Prints how many objects there are; the exit status is 1 if one is wrong or unknown.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def check(item, version, schemas):
    """Raises an error that says what is wrong."""
    own = schemas / f"{item['kind']}.json"
    if not own.exists():
        kubernetes_validate.validate(item, version, strict=True)
        return
    jsonschema.Draft202012Validator(json.loads(own.read_text())).validate(item)
    # Their metadata is Kubernetes' own.
    like = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": item["metadata"]}
    kubernetes_validate.validate(like, version, strict=True)


def main():
    version, schemas = sys.argv[1], pathlib.Path(sys.argv[2])
    items = [item for item in yaml.safe_load_all(sys.stdin) if item]
    failed = 0
    for item in items:
        try:
            check(item, version, schemas)
        except Exception as error:  # Whatever it is, the object is not proven right.
            print(f"{item.get('kind')} {item.get('metadata', {}).get('name')}: {error!s:.2000}")
            failed = 1
    print(len(items))
    sys.exit(failed)


main()

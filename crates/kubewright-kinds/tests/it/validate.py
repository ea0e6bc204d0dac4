"""Validates objects by the published schemas of a version of Kubernetes.

Usage: validate.py VERSION, with one JSON object a line on the standard input. Prints one line for each object that has
a fault, and then how many objects there were.
"""

import json
import sys

import kubernetes_validate

version = sys.argv[1]
count = 0
for line in sys.stdin:
    value = json.loads(line)
    count += 1
    name = f"{value['apiVersion']} {value['kind']}"
    try:
        used = kubernetes_validate.validate(value, version, strict=True)
        if used != version:
            print(f"{name}: there are no schemas of {version}, those of {used} were used")
    except kubernetes_validate.ValidationError as error:
        print(f"{name}: {'.'.join(str(step) for step in error.path)}: {error.message}")
    except kubernetes_validate.SchemaNotFoundError as error:
        print(f"{name}: {error.message}")
print(f"{count} objects")

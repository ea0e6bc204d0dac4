"""Takes one file out of archives that lie inside one another.

Usage: unpack.py ARCHIVE OUTPUT SUFFIX...

Each SUFFIX names, by the end of its name, the one file to take out of the archive before it: zip or (compressed) tar.
The last one is written to OUTPUT as a program.
"""

import io
import os
import sys
import tarfile
import zipfile


def only(names, suffix):
    found = [name for name in names if name.endswith(suffix)]
    if len(found) != 1:
        sys.exit(f"expected one file ending with {suffix}, found {found}")
    return found[0]


archive, output, *suffixes = sys.argv[1:]
with open(archive, "rb") as file:
    data = file.read()
for suffix in suffixes:
    content = io.BytesIO(data)
    # Told by its first bytes: a tar that ends with a zip looks like one to zipfile.is_zipfile.
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(content) as opened:
            data = opened.read(only(opened.namelist(), suffix))
    else:
        with tarfile.open(fileobj=content) as opened:
            data = opened.extractfile(only(opened.getnames(), suffix)).read()
with open(output, "wb") as file:
    file.write(data)
os.chmod(output, 0o755)

"""Makes the package the subject of a bill of materials of the environment that it is installed in: `tox -e sbom`.

    python bill_of_materials.py ENVIRONMENT OUTPUT

`cyclonedx-py` lists what is installed, and the package as one of many, with the folder that it was installed from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

PACKAGE = "runtimeuse-sync"


def listed(environment: Path) -> Dict[str, Any]:
    """Returns the bill of an environment, with nothing of when and where it was made."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--sv", "1.6"]
    done = subprocess.run([*command, str(environment)], stdout=subprocess.PIPE, check=True)
    bill: Dict[str, Any] = json.loads(done.stdout)
    return bill


def make_subject(bill: Dict[str, Any]) -> None:
    """Moves the package from the components to the subject of the bill."""
    (subject,) = (component for component in bill["components"] if component["name"] == PACKAGE)
    bill["components"].remove(subject)
    subject["purl"] = f"pkg:pypi/{PACKAGE}@{subject['version']}"
    # Where this machine has it from.
    del subject["externalReferences"]
    bill["metadata"]["component"] = subject


def main() -> None:
    environment, output = map(Path, sys.argv[1:])
    bill = listed(environment)
    make_subject(bill)
    text = json.dumps(bill, indent=2, sort_keys=True)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        sys.exit(f"this is no bill of materials: {fault}")
    output.parent.mkdir(exist_ok=True)
    output.write_text(f"{text}\n", encoding="utf-8")
    print(f"{output}: {PACKAGE} {bill['metadata']['component']['version']} and {len(bill['components'])} packages")


if __name__ == "__main__":
    main()

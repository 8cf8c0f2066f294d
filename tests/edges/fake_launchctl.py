"""What launchctl does with one launch agent, as far as its manual and its users tell: to be run as it is.

`bootout` answers before the end, and until then `bootstrap` is refused with 5. A label that was disabled is
refused, too. launchd opens StandardErrorPath for appending and makes no folder for it. State is in LAUNCHD.
"""

import os
import plistlib
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["LAUNCHD"])
PID, DISABLED = STATE / "pid", STATE / "disabled"


def living() -> int:
    try:
        pid = int(PID.read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state in "ZX" else pid


def main(word: str, *rest: str) -> int:
    with (STATE / "asked").open("a") as asked:
        asked.write(f"{word}\n")
    match word:
        case "enable":
            DISABLED.unlink(missing_ok=True)
        case "print":
            return 0 if living() else 113
        case "bootout" if not living():
            return 3
        case "bootout":
            os.kill(living(), signal.SIGTERM)
        case "bootstrap" if living() or DISABLED.exists():
            sys.stderr.write("Bootstrap failed: 5: Input/output error\n")
            return 5
        case "bootstrap":
            job = plistlib.loads(Path(rest[1]).read_bytes())
            with open(job["StandardErrorPath"], "ab") as errors:
                started = subprocess.Popen(
                    job["ProgramArguments"],
                    env={"HOME": os.environ["HOME"], **job["EnvironmentVariables"]},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            PID.write_text(str(started.pid))
            os._exit(0)  # it is launchd's child now
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

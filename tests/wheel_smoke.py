"""Build the wheel, install it alone into a new environment, and run what a user would run first.

Not a pytest test: it makes an environment of its own, which borrows the dependencies of the running one so that
nothing is downloaded. Run by `make wheel-smoke`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = (
    "observables/records.py",
    "theory/bounds/rates.py",
    "empirical/speech/audio.py",
    "empirical/speech/manifest.schema.json",
    "bridge/cli.py",
)


def main() -> None:
    """Fail loudly if the wheel lacks code or assets, or if its `spi` does not start outside the checkout."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(ROOT)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (wheel,) = work.glob("*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        missing = [name for name in EXPECTED if name not in names]
        weights = [name for name in names if name.endswith("model.safetensors")]
        clips = [name for name in names if name.endswith(".flac")]
        if missing or len(weights) < 2 or len(clips) < 24:
            raise SystemExit(f"wheel lacks {missing}; weights {len(weights)}, clips {len(clips)}")
        strays = sorted({name.split("/")[0] for name in names} - {"observables", "theory", "empirical", "bridge"})
        if [name for name in strays if not name.endswith(".dist-info")]:
            raise SystemExit(f"wheel ships what it should not: {strays}")

        environment = work / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
        # The dependencies are the running environment's; its editable spi must not shadow the wheel's, so they are
        # put behind the new environment's own packages and .pth files there are not read.
        site = next((environment / "lib").glob("python*/site-packages"))
        (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        where = subprocess.run(
            [python, "-c", "import bridge; print(bridge.__file__)"],
            check=True,
            capture_output=True,
            text=True,
            cwd=work,
        ).stdout.strip()
        if not where.startswith(str(site)):
            raise SystemExit(f"the smoke test imported {where}, not the wheel")
        spi = environment / "bin" / "spi"
        for command in (["--help"], ["organism", "list", "--json"], ["run", "--dry-run", "--limit", "1"]):
            subprocess.run([spi, *command], check=True, stdout=subprocess.DEVNULL, cwd=work)
        print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB; spi starts from it")


if __name__ == "__main__":
    main()

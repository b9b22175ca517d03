"""A Python that every user can start, for tests with several users: the running one may lie in somebody's home."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "idlelib", "lib2to3")


def programs(folder: Path) -> Path:
    """Return the folder of this Python's programs; where others cannot start them, that of a copy in `folder`.

    The copy finds the packages where they are.
    """
    if all(above.stat().st_mode & 0o001 for above in Path(sys.base_prefix).parents):
        return Path(sys.prefix, "bin")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    _copy_interpreter(name, folder / "python")
    venv, packages = folder / "venv", f"lib/{name}/site-packages"
    (venv / packages).mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {folder / 'python/bin'}\n")
    found = [path for path in sys.path if not _is_inside(path, sys.base_prefix)]
    (venv / packages / "all.pth").write_text("".join(f"{path}\n" for path in found))
    (venv / "bin").mkdir()
    for link in ("python", "python3", name):
        (venv / "bin" / link).symlink_to(folder / "python/bin" / name)
    for script in Path(sys.prefix, "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            _copy_script(script, venv / "bin")
    return venv / "bin"


def _is_inside(path: str, folder: str) -> bool:
    return not path or Path(path).is_relative_to(folder)


def _copy_interpreter(name: str, folder: Path) -> None:
    base = Path(sys.base_prefix)
    shutil.copytree(base / "lib" / name, folder / "lib" / name, ignore=LEFT_OUT)
    library = sysconfig.get_config_var("INSTSONAME")
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        shutil.copy(base / "lib" / library, folder / "lib")
    (folder / "bin").mkdir()
    program = (base / "bin" / name).read_bytes()
    # It says where its library lies, which is where others cannot look.
    before, after = f"{base}/lib\0".encode(), b"$ORIGIN/../lib\0"
    (folder / "bin" / name).write_bytes(
        program.replace(before, after.ljust(len(before), b"\0"))
        if len(before) >= len(after)
        else program
    )
    (folder / "bin" / name).chmod(0o755)


def _copy_script(script: Path, folder: Path) -> None:
    first, _, rest = script.read_bytes().partition(b"\n")
    if first.startswith(b"#!") and b"python" in first:
        copy = folder / script.name
        copy.write_bytes(f"#!{folder / 'python'}\n".encode() + rest)
        copy.chmod(0o755)

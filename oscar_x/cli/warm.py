"""``oscar-x warm``: compile the CPU loops now, so that nobody waits for it at their first use."""

from __future__ import annotations

from typing import Any

from oscar_x.cli.options import JsonFile
from oscar_x.cli.output import open_console, write_json


def warm(json_file: JsonFile = None) -> None:
    """Compile the loops that pack and read the cache on a CPU, for this processor, and keep them on disk.

    They are compiled at their first use otherwise. What is on disk already is left as it is.
    """
    console = open_console(json_file)
    from oscar_x.compressor import plain_layout
    from oscar_x.config import OscarConfig
    from oscar_x.errors import MissingPackageError
    from oscar_x.kernels.cpu_support import has_numba

    if not has_numba():
        raise MissingPackageError("there is nothing to compile: numba is not installed, and plain torch runs instead")
    from oscar_x.kernels.cpu_ahead import compile_ahead

    loops: list[dict[str, Any]] = []
    for notice in compile_ahead(plain_layout(OscarConfig(), num_key_value_heads=1, head_dim=128)):
        done = "compiled" if notice.begun else "found on disk"
        where = "for this process alone" if notice.folder is None else f"in {notice.folder}"
        console.print(f"{notice.what}: {done}, {where}", markup=False, soft_wrap=True)
        loops.append({"for": notice.what, "compiled": notice.begun, "folder": notice.folder})
    write_json(json_file, {"loops": loops})
    if any(loop["folder"] is None for loop in loops):
        raise OSError("no folder can be written to keep them in; set NUMBA_CACHE_DIR to one that can")

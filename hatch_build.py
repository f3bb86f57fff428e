"""Build hook: compiles proto/ into the git-ignored gen/, so that the wheel and an editable install both carry the
stubs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface[Any]):
    """Runs protoc with the Python, gRPC and typing plugins before anything is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile every .proto file.

        Args:
            version: the build's kind (`standard` or `editable`); both need the stubs.
            build_data: hatch's build data, left as it is.

        Raises:
            RuntimeError: protoc refused a file; it has printed which and why.
        """
        del version, build_data
        compile_protos(Path(self.root))


def compile_protos(root: Path) -> None:
    """Write gen/outrider/v1/*_pb2*.py(i) from proto/outrider/v1/*.proto under `root`."""
    import grpc_tools
    from grpc_tools import protoc

    out = root / "gen"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    sources = sorted(str(path) for path in (root / "proto" / "outrider" / "v1").glob("*.proto"))
    well_known = str(Path(grpc_tools.__file__).parent / "_proto")
    code = protoc.main(
        [
            "protoc",
            f"-I{root / 'proto'}",
            f"-I{well_known}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out={out}",
            f"--mypy_grpc_out={out}",
            *sources,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with code {code}; its message above names the file and line")
    for package in (out / "outrider", out / "outrider" / "v1"):
        (package / "__init__.py").write_text('"""Generated from proto/ at install; do not edit."""\n', encoding="utf-8")
        (package / "py.typed").touch()


if __name__ == "__main__":
    compile_protos(Path(__file__).parent)
    sys.exit(0)

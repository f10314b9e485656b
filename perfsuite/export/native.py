"""A graph as a package of native code, which AOTInductor makes of it, and what it was built with."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from perfsuite._compat.torch import fresh_compiler_caches
from perfsuite.errors import StorageError, TechniqueError, first_line
from perfsuite.temporary import temporary_folder

ISA, COMPILER = "vector instructions", "compiler"
_SAID = {"AOTI_CPU_ISA": ISA, "perfsuite_compiler": COMPILER}  # by the name in the package
_CAPABILITY = {"avx512": "avx512_f", "asimd": "neon"}  # where torch.cpu has another name for it than the package
_PATH_LENGTH = 240  # characters
_SOURCES = (".cpp", ".h")


def write_package(program: torch.export.ExportedProgram, file: Path, compiler: str) -> None:
    """Compile a program into a file, whose size depends on no folder name of this machine.

    The number of threads is left open, since it is another one where the file is deployed. Raises TechniqueError.
    """
    options = {
        "cpp.dynamic_threads": True,
        "aot_inductor.enable_line_tables": False,  # half of a small file, for profilers
        "aot_inductor.metadata": {"perfsuite_compiler": _version(compiler)},
    }
    with temporary_folder("compiler") as work:
        package = work / file.name
        try:
            with warnings.catch_warnings(), fresh_compiler_caches(_long(work)):
                warnings.simplefilter("ignore")  # torch warns of what torch itself calls
                torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
        except Exception as error:
            raise TechniqueError(
                f"AOTInductor cannot compile the model: {first_line(error)}",
                "write that part with other operators of torch, or gate the model on another runtime",
            ) from error
        _without_sources(package, file)


def built_with(file: Path) -> dict[str, str]:
    """The vector instructions and the compiler of a package. Raises StorageError for a file that is none."""
    try:
        with ZipFile(file) as package:
            said = [json.loads(package.read(name)) for name in package.namelist() if name.endswith("_metadata.json")]
            return {name: said[0][key].lower() for key, name in _SAID.items()}
    except (OSError, BadZipFile, ValueError, LookupError) as error:
        raise StorageError(
            f"{file.name} is no package of compiled code ({type(error).__name__})",
            "build it again with the runtime 'aot'",
        ) from error


def why_not_here(versions: Mapping[str, str]) -> str:
    """What this CPU lacks of what a package was built for; empty if nothing."""
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    lacking = [word for word in versions[ISA].split() if has.get(_CAPABILITY.get(word, word)) is False]
    return f"it was built for CPUs with {versions[ISA]}, and this one has no {lacking[0]}" if lacking else ""


def _long(work: Path) -> Path:
    """A folder of always the same length of path: the compiler writes its name into the file."""
    folder = work / "".ljust(max(1, _PATH_LENGTH - len(str(work))), "x")
    folder.mkdir()
    return folder


def _without_sources(package: Path, file: Path) -> None:
    """Copy a package without the C++ that it was made of: nothing reads it, and it names folders of this machine."""
    with ZipFile(package) as made, ZipFile(file, "w") as kept:
        for item in made.infolist():
            if not item.filename.endswith(_SOURCES):
                with made.open(item) as source, kept.open(item, "w") as target:
                    while chunk := source.read(2**20):
                        target.write(chunk)


def _version(compiler: str) -> str:
    """Such as ``g++ 12.2.0``."""
    done = subprocess.run([compiler, "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, check=False)
    return f"{Path(compiler).name} {done.stdout.strip()}".strip()

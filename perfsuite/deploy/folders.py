"""Programs in folders: exported once, and run by fresh processes, with perfsuite or without.

A folder holds the files that a runtime deploys, and ``program.json``: how the program is called, what was done to the
model and with which data, the versions that built it, and a digest of every file. Nothing of it is executed before the
digests agree; a runtime whose files hold machine code is opened on the caller's word alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from perfsuite.deploy.proof import prove
from perfsuite.errors import StorageError, UsageError
from perfsuite.export.files import MANIFEST, deployed
from perfsuite.export.signature import Signature
from perfsuite.folders import Account, replacing_folder
from perfsuite.protocols import Inputs, Program, Runtime
from perfsuite.registry import RUNTIMES
from perfsuite.storage import steps_of
from perfsuite.techniques.recorded import Step

VERSION = 1
_LARGEST = 2**24  # bytes of program.json
_CHUNK = 2**20


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``versions``: of the runtime and what its files depend on; ``steps``: what was done to the model, in order."""

    version: int
    runtime: str
    model: str
    torch: str
    versions: dict[str, str]
    signature: Signature
    steps: tuple[Step, ...]
    files: dict[str, File]


_ACCOUNT = Account(
    MANIFEST, Manifest, VERSION, what="of an exported program", noun="exported program", again="export the model again",
    written="a model was exported to", limit=_LARGEST,
)  # fmt: skip


def export_model(
    model: nn.Module,
    inputs: Inputs | Tensor | tuple[Any, ...] | Mapping[str, Any],
    runtime: str | Runtime,
    folder: str | os.PathLike[str],
) -> Path:
    """Write what a runtime deploys of a model, and how it is called; the folder is replaced whole, or left as it was.

    ``inputs``: one example of a call; batch and sequence may differ later, within the ranges that ``program.json``
    says. Before anything is written there, the program's answers are compared with the model's over other shapes.

    Raises UnavailableError without the runtime, TechniqueError for a model that it cannot take or answers otherwise,
    NonFiniteError where its answer is NaN, StorageError if the folder cannot be written or holds something else.
    """
    chosen = RUNTIMES.get(runtime) if isinstance(runtime, str) else runtime
    target = Path(folder)
    _ACCOUNT.check_target(target)
    try:
        with replacing_folder(target) as work:
            _write(model, Inputs.of(inputs), chosen, work)
    except OSError as error:
        raise StorageError(f"cannot write to {target}: {error}", "check the path and the free space") from error
    return target


def load_program(folder: str | os.PathLike[str], *, trusted: bool = False) -> Program:
    """The program of a folder that ``export_model`` wrote: ``program.call(*args, **kwargs)`` as the model was called.

    ``trusted``: whether machine code in it may be run, which some runtimes deploy: it can do whatever you can.

    Raises StorageError for a missing, broken, foreign or future folder, or one that another version or machine built;
    UnavailableError without its runtime; UsageError for machine code that is not trusted.
    """
    source = Path(folder)
    manifest = read_manifest(source)
    runtime: Any = RUNTIMES.get(manifest.runtime)
    if not hasattr(runtime, "open"):
        raise StorageError(f"the runtime {manifest.runtime!r} opens no folders", "export the model for another runtime")
    if getattr(runtime, "runs_machine_code", False) and not trusted:
        raise UsageError(
            f"{source} holds machine code, which can do whatever you can",
            "if you trust where it comes from, say so: load_program(folder, trusted=True)",
        )
    _check_files(source, manifest)
    _check_machine(source, manifest, runtime)
    try:
        program: Program = runtime.open(source, manifest.signature)
    except (OSError, RuntimeError, ValueError) as error:
        raise StorageError(
            f"{manifest.runtime} cannot open {source}: {error}", "export the model again, with the versions of here"
        ) from error
    return program


def read_manifest(folder: Path) -> Manifest:
    """What ``program.json`` says. Raises StorageError."""
    return _ACCOUNT.read(folder)


def _write(model: nn.Module, example: Inputs, runtime: Runtime, folder: Path) -> None:
    """The program is gone when this returns: it may hold its files open."""
    program = runtime.load(model, example, folder)
    signature = _signature(program, runtime)
    prove(model, program, signature, example)
    _ACCOUNT.write(folder, _manifest(model, runtime, program, signature, folder))


def _signature(program: Program, runtime: Runtime) -> Signature:
    signature = getattr(program.call, "signature", None)
    if not isinstance(signature, Signature) or not program.files:
        raise UsageError(
            f"the runtime {runtime.name!r} writes no files that could be deployed", "choose one such as 'onnxruntime'"
        )
    return signature


def _manifest(model: nn.Module, runtime: Runtime, program: Program, signature: Signature, folder: Path) -> Manifest:
    files = {path.relative_to(folder).as_posix(): _file(path) for path in deployed(folder)}
    return Manifest(
        VERSION, runtime.name, type(model).__name__, str(torch.__version__), dict(program.versions), signature,
        steps_of(model), files,
    )  # fmt: skip


def _file(path: Path) -> File:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return File(path.stat().st_size, digest.hexdigest())


def _check_machine(folder: Path, manifest: Manifest, runtime: Any) -> None:
    """Raises StorageError for files that hold for another version or machine, where a runtime's files do so at all."""
    here: Mapping[str, str] = runtime.built_for() if hasattr(runtime, "built_for") else {}
    built = {**manifest.versions, "torch": manifest.torch}
    for name, now in here.items():
        then = built.get(name, "unknown")
        if then != now:
            raise StorageError(
                f"{folder} was built for {name} {then}, and here is {now}", "export the model again, here"
            )


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Raises StorageError unless all files are there as they were written, within the folder."""
    for name, wanted in manifest.files.items():
        place = PurePosixPath(name)
        path = folder / place
        if place.is_absolute() or ".." in place.parts or path.is_symlink():
            raise StorageError(f"{folder / MANIFEST} names {name!r}, which is not in the folder", "do not use it")
        if not path.is_file():
            raise StorageError(f"{path} is missing, which belongs to the program", "copy the folder whole")
        found = path.stat().st_size
        if found != wanted.size_bytes:
            raise StorageError(
                f"{path} has {found} bytes, and {wanted.size_bytes} were written", "copy the folder again, or export"
            )
        if _file(path).sha256 != wanted.sha256:
            raise StorageError(f"{path} is another file than was written", "copy the folder again, or export")

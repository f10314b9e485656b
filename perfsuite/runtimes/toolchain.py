"""The C++ compiler that torch's own compiler writes for."""

from __future__ import annotations

from perfsuite.errors import UnavailableError


def cpp_compiler_for(runtime: str) -> str:
    """The command of the compiler. Raises UnavailableError where there is none that runs."""
    from perfsuite._compat.torch import cpp_compiler

    found = cpp_compiler()
    if not found:
        raise UnavailableError(
            f"the runtime {runtime!r} needs a C++ compiler, and there is none that runs",
            "install one (apt-get install g++), or name yours in the environment: export CXX=/path/to/g++",
        )
    return found

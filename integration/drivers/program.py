"""What the programs of all drivers share: checks that run one after the other and are reported one a line, as JSON."""

import asyncio
import inspect
import json
import sys
import time
import traceback

CHECKS = []


def check(function):
    """Registers a function as a check. Its doc string is its name."""
    CHECKS.append(function)
    return function


def run():
    """Runs all checks, or those whose name contains --only=…, and prints how each of them ended."""
    for function in CHECKS:
        if option("only", "") not in function.__doc__:
            continue
        began = time.monotonic()
        error = None
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), 60))
            else:
                function()
        except BaseException:  # whatever it is, the next check runs
            error = traceback.format_exc()
        print(json.dumps({"name": function.__doc__, "error": error, "seconds": time.monotonic() - began}), flush=True)


def equal(got, want):
    """Fails the check unless the values are equal."""
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def option(name, default=None):
    """Returns the value of --name=value on the command line. Without a default there must be one."""
    for arg in sys.argv[1:]:
        key, found, value = arg.partition("=")
        if found and key == "--" + name:
            return value
    if default is not None:
        return default
    raise SystemExit(f"missing --{name}=…")

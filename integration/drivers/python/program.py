"""What the Python programs share: checks that run one after the other and are reported one a line."""

import asyncio
import inspect
import os
import sys
import traceback

URL = sys.argv[1]
REPLICAS = [int(port) for port in os.environ["REPLICAS"].split(",")]  # the ports of the servers themselves
CHECKS = []


def check(function):
    """Registers a function as a check. Its doc string is its name."""
    CHECKS.append(function)
    return function


def run():
    """Runs all checks, or those whose name contains the second argument. Failures go to standard error, and into the exit status."""
    failed = False
    for function in CHECKS:
        if "".join(sys.argv[2:3]) not in function.__doc__:
            continue
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), 300))
            else:
                function()
            print("ok", function.__doc__, flush=True)
        except BaseException:  # whatever it is, the next check runs
            print(f"{function.__doc__}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            failed = True
    sys.exit(failed)


def restart():
    """Has the test restart the primary, and returns when it accepts connections again."""
    print("restart", flush=True)
    equal(sys.stdin.readline(), "restarted\n")


def equal(got, want):
    """Fails the check unless the values are equal."""
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


"""A function for the sandbox's workers that does what its arguments say: most of it bad."""

import os
import sys
import time


STATE = []


def act(what: str, argument: str = "") -> object:
    if what == "echo":
        return argument
    if what == "spin":
        while True:
            pass
    if what == "power":
        return 9 ** (9 ** (9**9)) > 0  # never gives up the GIL
    if what == "compute":  # until it has had so many seconds of CPU time
        while time.process_time() < float(argument):
            pass
        return argument
    if what == "sleep":
        time.sleep(float(argument))
        return argument
    if what == "fill":
        return len(bytearray(int(argument)))
    if what == "exit":
        os._exit(int(argument))
    if what == "raise":
        raise ValueError(argument)
    if what == "print":
        print(argument, flush=True)
        os.write(1, argument.encode())
        os.write(2, argument.encode())
        return argument
    if what == "remember":
        STATE.append(argument)
        return len(STATE)
    if what == "modules":
        return argument in sys.modules
    if what == "pids":
        return [os.getppid(), os.getpid()]
    if what == "write":
        with open(argument, "w") as file:
            file.write("x")
        return "written"
    if what == "long":
        return "x" * int(argument)
    raise AssertionError(what)

"""Sixteen processes open one empty database at the same moment, and enter the same study.

`python at_once.py FOLDER WARM-UP-URL URL...`: for each database in turn. What goes wrong is
printed, and exits with 1. What libraries do when they are first used costs more than all else, so
it comes once, before the forks: this process enters the database of the warm-up by itself.
"""

import gc
import os
import sys
import traceback
from pathlib import Path

from hpo import catalog, spec, studyfile
from hpo.drivers import this_process
from hpo.spec import Plan
from hpo.storage import open_storage

N_PROCESSES = 16


def enter(url: str, plan: Plan) -> None:
    """What a driver does before its first trial, and the only trial, which all of them want."""
    storage = open_storage(url)
    record = catalog.find_or_create(storage, plan)
    driver = storage.leases.enter(record.id, this_process(), record.is_alive)
    storage.drive(driver.id)
    storage.admit(storage.create_new_trial(record.id), key=None, limit=1)
    storage.leases.leave(driver.id)
    storage.close()


def at_once(url: str, plan: Plan) -> bool:
    """Lets all of them go at once; returns whether all came through."""
    gate, opener = os.pipe()
    children = []
    for _ in range(N_PROCESSES):
        if (pid := os.fork()) == 0:
            os.close(opener)
            os.read(gate, 1)  # until the other end is closed
            try:
                enter(url, plan)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(pid)
    os.close(opener)
    os.close(gate)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    return not any(codes)


def main() -> None:
    """Exits with 1 where any of them failed."""
    folder, warm_up, *urls = sys.argv[1:]
    values = {
        "name": "s",
        "objective": {"function": "objective:train", "metric": "loss"},
        "space": {"x": {"float": [0, 1]}},
        "run": {"directory": folder},
    }
    plan = spec.check(studyfile.StudyFile("at_once", Path(folder), values))
    enter(warm_up, plan)
    gc.freeze()  # a collection in a child would copy every page
    came_through = [at_once(url, plan) for url in urls]
    sys.exit(not all(came_through))


if __name__ == "__main__":
    main()

"""The first process after a power cut: it finds all that was promised, and lives on."""

from __future__ import annotations

from collections.abc import Mapping

from starlette_upload_keepalive.jobs.job_state import JobState
from starlette_upload_keepalive.spool.entry import Entry
from starlette_upload_keepalive.spool.layout import CLAIMED, CORRUPT, DEAD, DONE, FOLDERS, READY

from .log import Event, Named, Slot, Synced, Written
from .model_disk import ROOT, Files
from .promises import Broken, Expected, Place, Promises
from .world import Process, World


def restart(files: Files, expected: Mapping[str, Expected], promises: Promises) -> World:
    """Start a process on what is left, and see that all holds.

    Args:
        files: What is left. It is changed.
        expected: What each job must be.
        promises: What must hold.

    Returns:
        What has become of it.

    Raises:
        Broken: Something does not hold.
    """
    world = World(files, dict(expected))
    try:
        _Restart(world, promises).run()
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    finally:
        world.close()
    return world


class _Restart:
    def __init__(self, world: World, promises: Promises) -> None:
        self.world = world
        self.files = world.files
        self.promises = promises

    def run(self) -> None:
        process = self.world.process(keep_done=0)
        process.rescue()
        places = self.places()
        self.promises.check(places, self.crashes())
        for jobs in self.promises.requests:
            if set(jobs) <= set(places):  # from now on they are, though nobody was told
                self.world.note("accepted", *jobs)
        self.look(process, places)
        claimed = process.claim()
        waiting = {job for job, place in places.items() if place == "waits"}
        if set(claimed) != waiting:
            raise Broken(f"{waiting} wait, but claimed were {claimed}")
        self.run_again(process, claimed)
        for job in [job for job, place in places.items() if place == "dead"]:
            self.retry(process, job)
        process.sweep(forgets=True)
        process.spool.close()
        self.see_nothing_left()

    def places(self) -> dict[str, Place]:
        """Return where each job is; all of it must be in one place."""
        places = dict[str, Place]()
        states: dict[str, tuple[Place, str]] = {
            READY: ("waits", "w"),
            DONE: ("done", "scd"),
            DEAD: ("dead", "f"),
        }
        for folder, (place, states_there) in states.items():
            for name in self.names(folder):
                entry = Entry.parse(name)
                if entry is None or entry.state not in states_there:
                    raise Broken(f"{folder}/{name} is no entry of that place")
                if entry.id in places:
                    raise Broken(f"{entry.id} is there twice")
                places[entry.id] = place
        owners = [
            name for owner in self.names(CLAIMED) for name in self.names(f"{CLAIMED}/{owner}")
        ]
        if owners or len(self.names(CLAIMED)) != 1:
            raise Broken(f"not rescued: {owners} of {self.names(CLAIMED)}")
        return places

    def crashes(self) -> dict[str, int]:
        """Return how many crashes were counted of each job that waits."""
        found = [Entry.parse(name) for name in self.names(READY)]
        return {entry.id: entry.standing.crashes for entry in found if entry is not None}

    def look(self, process: Process, places: Mapping[str, Place]) -> None:
        """Look at all jobs as people do."""
        states: dict[JobState, Place] = {JobState.WAITING: "waits", JobState.FAILED: "dead"}
        seen = dict[str, Place]()
        for kept in process.spool.jobs():
            process.check(kept.record)
            seen[kept.record.id] = states.get(kept.state, "done")
            if kept.state is JobState.DELAYED:
                seen[kept.record.id] = "waits"
        if seen != places:
            raise Broken(f"people see {seen}, but there are {places}")

    def run_again(self, process: Process, claimed: list[str]) -> None:
        """Run all to their end, some with children."""
        for job in claimed:
            process.start(job)
            children = []
            if any(self.promises.endings.get(job, ())):
                children = [self.world.new(self.world.blob(b"child"), parent=job)]
            for child in process.finish(job, *children):
                process.finish(child)

    def retry(self, process: Process, job: str) -> None:
        if not process.spool.retry(job) or process.claim() != [job]:
            raise Broken(f"{job} has failed, and can't be tried again")
        self.run_again(process, [job])

    def see_nothing_left(self) -> None:
        if self.names(CORRUPT):
            raise Broken(f"taken for corrupt: {self.names(CORRUPT)}")
        left = {folder: names for folder in FOLDERS if (names := self.names(folder))}
        if left:
            raise Broken(f"left for ever: {left}")

    def names(self, path: str) -> list[str]:
        directory = ROOT
        for name in path.split("/"):
            directory = self.files.directories[directory][name].inode
        return list(self.files.directories[directory])


def settled(files: Files) -> list[Event]:
    """Return steps that lead to what is there, all of it durable."""
    made, synced = list[Event](), list[Event]()
    for directory, entries in files.directories.items():
        for name, (number, inode) in entries.items():
            is_directory = inode in files.directories
            made.append(Named(0, number, inode, is_directory, None, Slot(directory, name)))
        synced.append(Synced(0, directory, "before"))
    for inode, data in files.data.items():
        made.append(Written(0, inode, data))
        synced.append(Synced(0, inode, "before"))
    return made + synced

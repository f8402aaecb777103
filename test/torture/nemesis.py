"""What befalls the clients, backends, workers and servers of churn.py.

Each kind of cluster (see cluster.py) has a deck of deeds, from which they are drawn as from
shuffled cards, so that each comes up.  A pause ends after a while, during which other
things happen.  Of each deed it is known from when until when it may have held up others.
"""

import os
import signal
import subprocess
import time

import common

TTL_MAX = 2             # of what the clients ask for, in seconds


class Killer(common.Killer):
    """Deeds against processes, which each kind of cluster suffers."""

    DECK = {"kill_client": 4, "pause_client": 3, "cut_connection": 3, "proxy_cut": 2, "proxy_lose_answer": 4,
            "proxy_stall": 2, "proxy_late": 3, "pause_backend": 2, "pause_worker": 1, "end_worker": 2,
            "crash_worker": 1, "crash_backend": 1, "pause_postmaster": 1, "kill_postmaster": 1, "restart_server": 1}
    PAUSE = (0.1, 1.2)

    def __init__(self, crew, cluster, proxies, rng):
        super().__init__(rng, "churn ")
        self.crew, self.cluster, self.proxies = crew, cluster, proxies
        self.paused = []                # processes, and who wakes them
        self.spans = []                 # in which the server was held up
        self.stalls = []                # in which a client was, perhaps in a transaction
        self.restarts = []              # instants before which all that was under way has ended

    def look_after(self):
        self.crew.restart_the_dead()

    def end(self):
        self.go_on()

    # Pauses

    def pause(self, pid, spans):
        """SIGSTOP, for longer than most leases last.  Somebody else wakes it, since the next deed
        may wait for it."""
        seconds = self.random.uniform(0.5, TTL_MAX * 1.3)
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        waker = subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {pid}"], stderr=subprocess.DEVNULL)
        self.paused.append((pid, waker))
        spans.append((time.time(), time.time() + seconds))
        return True

    def go_on(self):
        """All at once."""
        for pid, waker in self.paused:
            if waker.poll() is None:
                waker.kill()
                waker.wait()
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
        self.paused.clear()

    def pause_client(self):
        return self.pause(self.random.choice(list(self.crew.processes.values())).pid, self.stalls)

    def pause_first(self, sql, *arguments):
        return any(self.pause(pid, self.spans) for pid, in common.ask(sql, *arguments))

    def pause_backend(self):
        return self.pause_first("SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s "
                                "ORDER BY state <> 'active', random() LIMIT 1", f"{self.victims}%")

    def pause_worker(self):
        return self.pause_first("SELECT pid FROM coord.worker WHERE pid IS NOT NULL")

    def pause_postmaster(self):
        return self.pause(self.cluster.primary.postmaster(), self.spans)

    # Clients and their connections

    def kill_client(self):
        os.kill(self.random.choice(list(self.crew.processes.values())).pid, signal.SIGKILL)
        return True

    def through_proxy(self, what):
        seconds = self.random.uniform(0.1, TTL_MAX * 1.3)
        self.stalls.append((time.time(), time.time() + seconds))
        return any([proxy.do(what, seconds) for proxy in self.proxies])

    def proxy_cut(self):
        return self.through_proxy("cut")

    def proxy_lose_answer(self):
        return self.through_proxy("lose_answer")

    def proxy_stall(self):
        return self.through_proxy("stall")

    def proxy_late(self):
        return self.through_proxy("late")

    # The server's processes

    def end_worker(self):
        return common.ask("SELECT pg_terminate_backend(pid) FROM coord.worker WHERE pid IS NOT NULL")

    def crash(self, sql, *arguments):
        self.go_on()
        began = time.time()
        done = super().crash(sql, *arguments)
        if done:
            common.wait_until_up()
            self.spans.append((began, time.time()))
        return done

    def crash_worker(self):
        return self.crash("SELECT pid FROM coord.worker WHERE pid IS NOT NULL")

    def down(self, does):
        """A deed after which nothing is left of what was under way."""
        self.go_on()
        began = time.time()
        does()
        self.restarts.append(time.time())
        self.spans.append((began, time.time()))
        return True

    def restart_server(self):
        return self.down(self.cluster.primary.restart)

    def kill_postmaster(self):
        def does():
            self.cluster.primary.kill()
            self.cluster.primary.start()
        return self.down(does)


class DiskKiller(Killer):
    """The disk gets full, and is full for a while; what cannot be written is undone, or the
    server comes down, and up again when there is room.  At the end it is not filled any more, and
    what is due must be done."""

    DECK = {"fill_disk": 6, "kill_client": 2, "cut_connection": 2, "crash_backend": 1, "restart_server": 1}
    full_until = None

    def wait(self, seconds):
        super().wait(seconds)
        if self.full_until and time.time() > self.full_until:
            self.free_disk()

    def fill_disk(self):
        if self.full_until or time.time() > self.calm_from:
            return False
        seconds = self.random.uniform(0.3, 2)
        self.full_until = time.time() + seconds
        # a job that has failed rests for the longer the oftener it did
        self.spans.append((time.time(), self.full_until + 8))
        self.cluster.fill_disk()
        return True

    def free_disk(self):
        self.cluster.free_disk()
        self.full_until = None
        if not self.cluster.primary.is_up():
            self.down(self.cluster.primary.start)

    def down(self, does):
        if self.full_until:
            self.free_disk()
        return super().down(does)

    def crash(self, sql, *arguments):
        return not self.full_until and super().crash(sql, *arguments)

    def end(self):
        super().end()
        if self.full_until:
            self.free_disk()


class ClockKiller(Killer):
    """The server's clock is stepped, to and fro."""

    DECK = {"step_clock": 8, "kill_client": 2, "cut_connection": 2, "crash_backend": 1, "crash_worker": 1,
            "restart_server": 1}

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.steps = []                 # begun, done, how far from the true time

    def step_clock(self):
        self.step_to(self.random.choice((1, -1)) * self.random.choice((0.1, 1, 10, 3600)) * self.random.random())
        return True

    def step_to(self, seconds):
        begun = time.time()
        self.cluster.set_clock(seconds)
        self.steps.append((begun, time.time(), seconds))

    def end(self):
        """All that was granted while it was fast has run out."""
        super().end()
        self.step_to(max([0, *(seconds for _, _, seconds in self.steps)]) + 10)


class FailoverKiller(Killer):
    """The primary dies, its synchronous standby takes its place, and it comes back as the
    other's standby.  Until then answers are given for what is on one server only."""

    DECK = {"fail_over": 3, "kill_client": 2, "cut_connection": 2, "proxy_lose_answer": 2, "crash_backend": 1,
            "pause_worker": 1}

    def fail_over(self):
        self.down(self.cluster.fail_over)
        self.cluster.add_standby()
        return True


KILLERS = {"plain": Killer, "disk": DiskKiller, "clock": ClockKiller, "failover": FailoverKiller}

"""The throw-away clusters that the torture plays with: one server, or one with a standby, on
a disk of its own size or with a clock of its own.

They are made within the environment of with-cluster, whose settings ($COORD_CONF) they
include.  A second server is a synchronous standby, and clients name both in PGHOST.
"""

import ctypes
import glob
import os
import signal
import subprocess
import sys
import tempfile
import time

import psycopg2

COMMON = """
listen_addresses = ''
unix_socket_directories = '{socket}'
shared_buffers = 32MB
max_connections = 60
max_prepared_transactions = 40
restart_after_crash = on
log_line_prefix = '%m [%p] %b %d '
synchronous_commit = on
wal_receiver_timeout = 5s
wal_sender_timeout = 5s
"""
SMALL_DISK = """
wal_keep_size = 0
min_wal_size = 2MB
max_wal_size = 16MB
"""
PR_SET_CHILD_SUBREAPER = 36
DISK_SIZE = "160m"
CLOCK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")


def lacks(kind):
    """Why a kind of cluster cannot be had here, or None."""
    if kind == "clock":
        with tempfile.TemporaryDirectory() as directory:
            try:
                preload = make_clock(directory)
            except (OSError, subprocess.CalledProcessError) as error:
                return f"no compiler: {error}"
            # a server with a sanitiser is not to be loaded after another library
            tried = subprocess.run(["postgres", "--version"], env=os.environ | {"LD_PRELOAD": preload},
                                   capture_output=True, text=True)
        if tried.returncode:
            return f"no clock of our own with this server: {tried.stderr.strip()}"
    if kind == "disk":
        tried = subprocess.run(with_small_disk("/mnt", "true"), capture_output=True, text=True)
        if tried.returncode:
            return f"no file system of our own: {tried.stderr.strip()}"
    return None


def make_clock(directory):
    """The library that gives a server the clock of clock.c; its path."""
    library = f"{directory}/clock.so"
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", library, CLOCK], check=True,
                   capture_output=True)
    return library


def with_small_disk(place, *command):
    """A command that finds a small file system in a place, which others do not see.  Who may
    make name spaces needs no rights for that."""
    return ["unshare", "--user", "--mount", "--map-current-user", "--keep-caps", "sh", "-c",
            f'mount -t tmpfs -o size={DISK_SIZE} tmpfs "$0" && exec "$@"', place, *command]


class Server:
    """One server of a cluster."""

    def __init__(self, directory, log, environment):
        self.data, self.socket, self.log = f"{directory}/data", f"{directory}/s", log
        self.environment = environment
        os.makedirs(self.socket, 0o700)

    def run(self, *command, check=True):
        return subprocess.run(command, check=check, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=self.environment).returncode == 0

    def make(self, settings, *options):
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync",
                 *options)
        self.configure(COMMON.format(socket=self.socket) + settings + open(os.environ["COORD_CONF"]).read())

    def configure(self, settings):
        with open(f"{self.data}/postgresql.conf", "a") as file:
            file.write(settings)

    def pg_ctl(self, *arguments, check=True):
        return self.run("pg_ctl", "-s", "-w", "-D", self.data, "-l", self.log, *arguments, check=check)

    def start(self):
        """Until it is up: after its sudden death somebody may be there still, or the disk full."""
        limit = time.monotonic() + 60
        while not self.pg_ctl("start", check=False) and not self.is_up():
            if time.monotonic() > limit:
                with open(self.log) as log:
                    raise RuntimeError(f"no start beside {self.processes()}: {log.read()[-500:]}")
            time.sleep(0.1)

    def is_up(self):
        return self.run("pg_ctl", "status", "-D", self.data, check=False)

    def processes(self):
        """What still runs in its data directory."""
        found = []
        for path in glob.glob("/proc/[0-9]*"):
            try:
                if os.readlink(f"{path}/cwd") == self.data:
                    with open(f"{path}/cmdline") as line, open(f"{path}/wchan") as where:
                        found.append(f"{line.read().strip(chr(0))} in {where.read()}")
            except OSError:             # it has ended
                pass
        return found

    def restart(self):
        self.pg_ctl("-m", "immediate", "stop", check=False)
        self.start()

    def postmaster(self):
        with open(f"{self.data}/postmaster.pid") as file:
            return int(file.readline())

    def kill(self):
        """The postmaster alone; the others find out.  It is our child, and a zombie until we
        look, which the next one takes for a living one."""
        pid = self.postmaster()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def ask(self, sql, *arguments):
        connection = psycopg2.connect(host=self.socket, port=5432, application_name="cluster", connect_timeout=5,
                                      target_session_attrs="any")
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, arguments or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class Cluster:
    """What a run of some kind needs: "plain", "disk" (a small one, in $TORTURE_DISK), "clock"
    or "failover"."""

    def __init__(self, directory, logs, kind, fsync=True):
        self.kind, self.directory = kind, directory
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PGHOST")}
        self.clock_file = f"{directory}/clock"
        if kind == "clock":
            self.set_clock(0)
            environment |= {"LD_PRELOAD": make_clock(directory), "TORTURE_CLOCK": self.clock_file}
        self.disk = os.environ["TORTURE_DISK"] if kind == "disk" else None
        names = ("a", "b") if kind == "failover" else ("a",)
        self.servers = [Server(f"{self.disk or directory}/{name}", f"{logs}/server-{name}.log", environment)
                        for name in names]
        self.primary = self.servers[0]
        settings = f"fsync = {'on' if fsync else 'off'}\n" + (SMALL_DISK if self.disk else "")
        self.primary.make(settings, *(["--wal-segsize=1"] if self.disk else []))
        self.primary.start()
        self.use(os.environ)
        if kind == "failover":
            self.add_standby()

    def use(self, environment):
        """So that libpq finds it, and common.py its log."""
        environment["PGHOST"] = ",".join(server.socket for server in self.servers)
        environment["PGPORT"] = ",".join("5432" for _ in self.servers)
        environment["PGTARGETSESSIONATTRS"] = "read-write"
        environment["COORD_LOG"] = ":".join(server.log for server in self.servers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.pg_ctl("-m", "immediate", "stop", check=False)

    # A clock of its own

    def set_clock(self, seconds):
        """Steps it, to so many seconds from the true time, for all its processes at once."""
        file = os.open(self.clock_file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, round(seconds * 1e6).to_bytes(8, sys.byteorder, signed=True), 0)
        os.close(file)

    # A disk of its own

    def fill_disk(self):
        with open(f"{self.disk}/ballast", "wb", 0) as file:
            block = bytes(1 << 16)
            while len(block) > 1:
                try:
                    while True:
                        file.write(block)
                except OSError:
                    block = block[:len(block) // 2]

    def free_disk(self):
        os.unlink(f"{self.disk}/ballast")

    # A standby

    def add_standby(self):
        """Makes the other server a synchronous standby, and waits until it is one."""
        primary = self.primary
        standby = next(server for server in self.servers if server is not primary)
        primary.run("rm", "-rf", standby.data)
        primary.run("pg_basebackup", "-h", primary.socket, "-p", "5432", "-U", "postgres", "-D", standby.data, "-R",
                    "-c", "fast", "--no-sync")
        standby.configure(f"unix_socket_directories = '{standby.socket}'\n")
        standby.start()
        primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.ask("SELECT pg_reload_conf()")
        self.wait_for_sync()

    def wait_for_sync(self, seconds=60):
        """All that has been committed by now is on the standby, and nothing else is answered."""
        limit = time.monotonic() + seconds
        here = self.primary.ask("SELECT pg_current_wal_lsn()")[0][0]
        while not self.primary.ask("SELECT 1 FROM pg_stat_replication "
                                   "WHERE sync_state = 'sync' AND flush_lsn >= %s", here):
            if time.monotonic() > limit:
                raise RuntimeError("the standby does not come up")
            time.sleep(0.05)

    def fail_over(self):
        """The primary dies, and the standby takes its place."""
        old = self.primary
        new = next(server for server in self.servers if server is not old)
        old.pg_ctl("-m", "immediate", "stop", check=False)
        new.pg_ctl("promote")
        self.primary = new

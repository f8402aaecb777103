#!/usr/bin/python3
"""Runs the SQL of a page of docs/ and compares what psql answers with what the page shows.

    run_page.py [--sections] PAGE          a line of JSON for each block: line, page, answer
    run_page.py [--sections] --write PAGE  writes the page, with new answers, to stdout

The server is that of libpq's variables; the page gets a database of its own, or with
--sections each of its sections (##) gets one, in which the extension has been created.

A block ```sql is pasted into a psql, which stays open for the whole page or section; in
```sql NAME it is another one, of that name.  A block ```sh is run by bash.  A block without
a language that follows is the answer: without one there must be no error.  ```sql repeat is
repeated until it answers what the page shows, as the page tells its reader to do; ```sql waits
is left to wait while the page goes on, and has answered before the next one of its session, or
by the end.  Blocks of other languages are not run.

Ids, long numbers (tokens, positions), times, process ids and the width of columns differ from
run to run.  They are compared as names that are given in order of appearance, so what was the
same id twice must be so again.
"""

import argparse
import json
import os
import re
import select
import subprocess
import sys
import time

TIMEOUT = int(os.environ.get("PG_TEST_TIMEOUT_DEFAULT", "60"))

FENCE = re.compile(r"^```(.*)$")
VARYING = re.compile(
    r"(?P<id>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
    r"|(?P<time>\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::\d\d)?)?)"
    r"|(?P<number>\b\d{15,19}\b)"
    r"|(?P<ms>(?<=Time: )[\d.]+ ms(?: \(.*\))?)"
    r"|(?P<pid>(?<=PID )\d+)")
ERROR = re.compile(r"^(?:psql: error|ERROR|FATAL|PANIC|invalid command)", re.M)


class Names:
    """What varies, by the names that it gets in order of appearance."""

    def __init__(self):
        self.names = {}

    def name(self, match):
        kind = match.lastgroup
        if kind not in ("id", "number"):
            return f"<{kind}>"
        return self.names.setdefault(match.group(), f"<{kind} {len(self.names) + 1}>")

    def normalise(self, text):
        text = VARYING.sub(self.name, text)
        text = re.sub(r"-{2,}", "--", re.sub(r"[ \t]+", " ", text))
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())


class Block:
    """One that is run: its language and words, its text, and where its answer is in the page."""

    def __init__(self, line, info, text, section):
        words = info.split()
        self.line, self.text, self.section = line, text, section
        self.language = words[0]
        self.repeat, self.waits = "repeat" in words[1:], "waits" in words[1:]
        self.session = " ".join(word for word in words[1:] if word not in ("repeat", "waits"))
        self.answer = self.page = None  # (first line, end) of the lines between its fences, and their text
        self.said = ""

    def says(self, text):
        return Names().normalise(self.said) == Names().normalise(text or "")


def parse(lines):
    """The blocks of a page that are run."""
    blocks, section, opened, last = [], 0, None, None
    for n, line in enumerate(lines):
        fence = FENCE.match(line)
        if opened is not None:
            if line != "```":
                continue
            info, start = opened
            if info.split()[:1] in (["sql"], ["sh"]):
                last = Block(start, info, "\n".join(lines[start:n]) + "\n", section)
                blocks.append(last)
            else:
                if info == "" and last is not None:
                    last.answer, last.page = (start, n), "\n".join(lines[start:n])
                last = None
            opened = None
        elif fence:
            opened = (fence.group(1).strip(), n + 1)
        elif line.strip():
            last = None
            section += line.startswith("## ")
    return blocks


class Psql:
    """A psql that blocks are pasted into."""

    def __init__(self, database):
        self.process = subprocess.Popen(
            ["psql", "-X", "-d", database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.count = 0

    def send(self, text):
        self.count += 1
        self.end = f"-- end of block {self.count} --\n".encode()
        try:
            self.process.stdin.write(text.encode() + b"\\echo " + self.end)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def receive(self):
        """What it answers to what was sent; it may end by that."""
        answer, give_up = b"", time.monotonic() + TIMEOUT
        while not answer.endswith(self.end):
            if not select.select([self.process.stdout], [], [], max(0, give_up - time.monotonic()))[0]:
                self.process.kill()
                return answer.decode() + "\nERROR: no answer in time\n"
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:                # it has ended
                self.process.wait(TIMEOUT)
                break
            answer += more
        return answer.decode().removesuffix(self.end.decode())

    def ended(self):
        return self.process.poll() is not None

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def psql_once(database, *commands):
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]
    return subprocess.run(command + [arg for c in commands for arg in ("-c", c)],
                          check=True, capture_output=True, text=True).stdout.strip()


def wait_until(condition, what):
    give_up = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(what)
        time.sleep(0.05)


class Room:
    """The databases and sessions that blocks are run in."""

    def __init__(self, sections):
        self.sections, self.section, self.database, self.sessions = sections, None, None, {}
        self.waiting = {}               # by session, the block that has not answered yet

    def enter(self, section):
        """A new database at the begin, and for each section if so wished."""
        if self.database is not None and not (self.sections and section != self.section):
            return
        self.leave()
        self.section, self.database = section, f"page_{os.getpid()}_{section}"
        psql_once("postgres", f"CREATE DATABASE {self.database}")
        if self.sections:
            psql_once(self.database, "CREATE EXTENSION coord")
            wait_until(lambda: psql_once(self.database, "SELECT pid IS NOT NULL FROM coord.worker") == "t", "no worker")

    def leave(self):
        for name, session in self.sessions.items():
            self.has_answered(name)
            session.close()
        self.sessions = {}
        if self.database is not None:
            psql_once("postgres", f"DROP DATABASE {self.database} WITH (FORCE)")
            self.database = None

    def has_answered(self, name):
        if name in self.waiting:
            self.waiting.pop(name).said = self.sessions[name].receive()

    def run(self, block):
        """Fills in what the block said, or will say in due time."""
        self.enter(block.section)
        if block.language == "sh":
            block.said = subprocess.run(["bash", "-c", block.text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT,
                                        env={**os.environ, "PGDATABASE": self.database}).stdout
            return
        self.has_answered(block.session)
        session = self.sessions.get(block.session)
        if session is None or session.ended():
            session = self.sessions[block.session] = Psql(self.database)
        session.send(block.text)
        self.waiting[block.session] = block
        if not block.waits:
            self.has_answered(block.session)

    def run_page(self, blocks):
        try:
            for block in blocks:
                give_up = time.monotonic() + TIMEOUT
                self.run(block)
                while block.repeat and not block.says(block.page) and time.monotonic() < give_up:
                    time.sleep(0.05)
                    self.run(block)
        finally:
            self.leave()


def compare(blocks):
    """For each block what the page shows and what was answered, as far as it is to be the same."""
    page, said = Names(), Names()
    for block in blocks:
        if block.page is None:
            yield "no error", block.said if ERROR.search(block.said) else "no error"
        else:
            yield page.normalise(block.page), said.normalise(block.said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sections", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("page")
    options = parser.parse_args()
    with open(options.page, encoding="utf-8") as file:
        lines = file.read().split("\n")
    blocks = parse(lines)
    Room(options.sections).run_page(blocks)
    differences = list(compare(blocks))
    if not options.write:
        for block, (page, answer) in zip(blocks, differences):
            print(json.dumps({"line": block.line, "page": page, "answer": answer}))
        return
    for block, (page, answer) in reversed(list(zip(blocks, differences))):
        if block.page is None and page != answer:
            print(f"{options.page}, line {block.line}: {answer}", file=sys.stderr)
        elif page != answer:
            text = "\n".join(line.rstrip() for line in block.said.splitlines()).strip("\n")
            lines[slice(*block.answer)] = text.split("\n") if text else []
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()

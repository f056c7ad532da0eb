#!/usr/bin/env python3
"""What subtasks make the memory of a server grow by: benches/memory.py target/release/subjobs

Each line is a server of its own, which takes reports of at most 16 MiB. Growth is VmRSS after the last answer less VmRSS before the
first report; the peak is VmHWM less the same.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
import uuid

TOKEN = "measure"
BODY = 16 * 1024 * 1024


def plain(number):
    job = uuid.UUID(int=(number // 10 + 1) * 0x9E3779B97F4A7C15 % 2**128)
    id = uuid.UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
    return {"id": str(id), "job_id": str(job), "job_type": "CREATE_SERVER", "status": "RUNNING"}


def usual(number):
    resource = {"resource_id": str(uuid.UUID(int=number)), "resource_name": f"server-{number}"}
    begin = {"begin_time": "2026-03-07T10:40:43.858Z", "job_resource_info": resource}
    return plain(number) | begin


def small(number):
    return {"id": f"{number:x}", "job_id": f"{number:x}", "job_type": "CREATE_SERVER", "status": "FAILED"}


def small_with_details(number):
    return small(number) | {"error_code": "x"}


def long_names(number):
    return small(number) | {"id": f"{number:0>128}", "job_id": f"{number:0>128}"}


def largest(number):
    """The most that a subtask may have: characters of four bytes, objects of 8 KiB."""
    name, info = f"{number:x}" + "\U00010348" * 120, {"x": "y" * (8192 - 8)}
    objects = {"job_resource_info": info, "job_execute_info": info}
    codes = {"error_code": "\U00010348" * 64, "error_message": "\U00010348" * 1024}
    return small(number) | {"id": name, "job_id": name} | objects | codes


def rss(process, field):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field + ":")) * 1024


def measure(program, what, make, bodies, limit, data):
    with tempfile.TemporaryDirectory() as dir:
        hashed = subprocess.run([program, "token", "--hash"], input=TOKEN, capture_output=True, text=True, check=True)
        with open(f"{dir}/access.toml", "w") as access:
            access.write(f'[[principal]]\nname = "m"\nkind = "account"\nprojects = ["*"]\n{hashed.stdout}')
        arguments = ["serve", "--access", f"{dir}/access.toml", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]
        arguments += ["--log-format", "json"] + (["--data-dir", f"{dir}/data"] if data else [])
        process = subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, text=True)
        try:
            address = None
            for line in process.stderr:
                event = json.loads(line)
                if event.get("listener") == "internal":
                    address = event["address"]
                if event["message"] == "ready":
                    break
            url, number, sent = f"http://{address}/v1/p/app-server-sub-jobs/actions/report", 0, 0
            headers = {"X-Auth-Token": TOKEN, "Content-Type": "application/x-ndjson"}
            before = rss(process, "VmRSS")
            for _ in range(bodies):
                body = bytearray()
                while number < limit:
                    line = json.dumps(make(number), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                    if len(body) + len(line) > BODY:
                        break
                    body += line
                    number += 1
                if not body:
                    break
                sent += len(body)
                request = urllib.request.Request(url, bytes(body), headers)
                assert json.load(urllib.request.urlopen(request, timeout=120))["created"] > 0
            grown, peak = rss(process, "VmRSS") - before, rss(process, "VmHWM") - before
            where = "data dir" if data else "memory"
            print(f"| {what} | {where} | {number:,} | {sent / 2**20:.0f} | {grown / 2**20:.0f} | {grown / number:,.0f} | {peak / 2**20:.0f} |", flush=True)
        finally:
            process.kill()
            process.wait()


def main():
    program = sys.argv[1]
    print("| subtasks | kept in | number | MiB sent | MiB grown | bytes each | MiB at the peak |\n| --- | --- | --- | --- | --- | --- | --- |")
    for data in [False, True]:
        for what, make, bodies, limit in [
            ("UUIDs, ten a job, no optional field", plain, 12, 500_000),
            ("the same with begin_time and a resource", usual, 18, 500_000),
            ("one report of 16 MiB: short ids, a job each", small, 1, 10**9),
            ("the same with an error_code", small_with_details, 1, 10**9),
            ("one report of 16 MiB: ids of 128 characters, a job each", long_names, 1, 10**9),
            ("one report of 16 MiB: the largest there are", largest, 1, 10**9),
            ("five reports of these", largest, 5, 10**9),
        ]:
            measure(program, what, make, bodies, limit, data)


if __name__ == "__main__":
    main()

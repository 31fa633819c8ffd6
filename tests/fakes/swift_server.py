"""OpenStack Swift with its S3 API in one process: a real object store, from Debian's `python3-swift`.

    /usr/bin/python3 tests/fakes/swift_server.py FOLDER

Run by Debian's own Python, which has the package; imported by no test. Its port is the first line that it
writes. The key is `sotto:tester`, its secret `testing`.
"""

# ruff: noqa: E402 - eventlet patches the standard library before Swift is imported
# mypy: ignore-errors

import sys
from pathlib import Path

import eventlet

eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True)

from eventlet import wsgi
from swift.common import utils

FOLDER = Path(sys.argv[1])
FOLDER.joinpath("swift.conf").write_text(
    "[swift-hash]\nswift_hash_path_suffix = sotto\n[storage-policy:0]\nname = one\ndefault = yes\n"
)
utils.set_swift_dir(str(FOLDER))

from swift.common.ring import RingBuilder
from swift.common.storage_policy import reload_storage_policies
from swift.common.wsgi import SwiftHttpProtocol, loadapp

reload_storage_policies()

from swift.account.server import AccountController
from swift.container.server import ContainerController
from swift.obj.server import ObjectController

PROXY = f"""
[DEFAULT]
swift_dir = {FOLDER}
[pipeline:main]
pipeline = s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_sotto_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
[filter:slo]
use = egg:swift#slo
"""
QUIET = utils.NullLogger()


class Cache:
    """In place of memcached."""

    def __init__(self):
        self._values = {}

    def get(self, key, **_):
        return self._values.get(key)

    def set(self, key, value, **_):
        self._values[key] = value

    def delete(self, key, **_):
        self._values.pop(key, None)

    def incr(self, key, delta=1, **_):
        self._values[key] = self._values.get(key, 0) + delta
        return self._values[key]


def start_storage():
    devices = FOLDER / "nodes"
    (devices / "d").mkdir(parents=True)
    options = {"devices": str(devices), "mount_check": "false", "swift_dir": str(FOLDER)}
    servers = {"account": AccountController, "container": ContainerController, "object": ObjectController}
    for name, server in servers.items():
        listener = eventlet.listen(("127.0.0.1", 0))
        place = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "d", "meta": ""}
        for part in ("", "replication_"):
            place[f"{part}ip"], place[f"{part}port"] = listener.getsockname()
        ring = RingBuilder(1, 1, 1)
        ring.add_dev(place)
        ring.rebalance()
        ring.get_ring().save(str(FOLDER / f"{name}.ring.gz"))
        eventlet.spawn(wsgi.server, listener, server(options), QUIET, protocol=SwiftHttpProtocol)


def main():
    start_storage()
    (FOLDER / "proxy.conf").write_text(PROXY)
    proxy, cache = loadapp(str(FOLDER / "proxy.conf")), Cache()

    def app(environment, start_response):
        environment["swift.cache"] = cache

        def start(status, headers, error=None):
            has_length = any(name.lower() == "content-length" for name, _ in headers)
            if environment["REQUEST_METHOD"] == "HEAD" and not has_length:
                headers = [*headers, ("content-length", "0")]  # eventlet would send a chunk
            return start_response(status, headers, error)

        return proxy(environment, start)

    listener = eventlet.listen(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    wsgi.server(listener, app, QUIET, protocol=SwiftHttpProtocol)


if __name__ == "__main__":
    main()

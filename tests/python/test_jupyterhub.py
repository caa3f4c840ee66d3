"""`auth = "jupyterhub"` against JupyterHub itself: users, an administrator, a service, scopes, a token that was revoked.

Runs where `jupyterhub` is on the PATH or RASK_TEST_JUPYTERHUB names it (`pip install jupyterhub`, in an environment of
its own); a stand-in is used in test_gateway.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import urllib.request

import pytest
from appliance import Appliance
from harness import Proc, clean_env, scheduler_kind, wait_until

JUPYTERHUB = os.environ.get("RASK_TEST_JUPYTERHUB") or shutil.which("jupyterhub")

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(scheduler_kind() == "stock", reason="rask's own gateway"),
    pytest.mark.skipif(not JUPYTERHUB, reason="JupyterHub is not installed: RASK_TEST_JUPYTERHUB names its command"),
]

# A hub without its proxy, which needs Node: what counts is its API. The odd prefix is one that a hub may have.
CONFIG = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    async def start(self): pass
    async def stop(self): pass
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {{}}

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:1{base}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite://"
c.Authenticator.allowed_users = {{"alice", "mallory"}}
c.Authenticator.admin_users = {{"root"}}
c.JupyterHub.services = [{{"name": "minter", "api_token": "{minter}"}}, {{"name": "dask"}}, {{"name": "cull", "api_token": "{cull}"}}]
c.JupyterHub.load_roles = [
    {{"name": "minter", "scopes": ["admin:users", "tokens"], "services": ["minter"]}},
    {{"name": "dask", "scopes": ["access:services!service=dask"], "users": ["alice"], "services": ["cull"]}},
]
"""


class RealHub:
    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.minter, self.cull = "m" * 32, "c" * 32
        config = folder / "config.py"
        base = "/@/space%20word/"
        config.write_text(CONFIG.format(base=base, port=port, minter=self.minter, cull=self.cull))
        self.url = f"http://127.0.0.1:{port}{base}hub/api"
        self.proc = Proc("jupyterhub", [JUPYTERHUB, "-f", str(config)], clean_env(folder, HOME=folder), folder)
        wait_until(self.answers, "JupyterHub listens", 60, 0.2)

    def ask(self, method: str, path: str, body: dict | None = None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, method=method)
        request.add_header("Authorization", f"token {self.minter}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def answers(self):
        assert self.proc.alive(), self.proc.output()
        try:
            return self.ask("GET", "/")
        except OSError:
            return None

    def token(self, user: str) -> dict:
        return self.ask("POST", f"/users/{user}/tokens", {"note": "test"})


@pytest.fixture
def hub(tmp_path):
    hub = RealHub(tmp_path)
    yield hub
    hub.proc.stop()


def test_a_real_jupyterhub_says_who_somebody_is(work_dir, hub):
    from dask_gateway import Gateway
    from dask_gateway.auth import JupyterHubAuth

    config = f'[gateway.auth]\ntype = "jupyterhub"\nhub_api_url = "{hub.url}"\nservice_name = "dask"\n'
    alice, root, mallory = (hub.token(name) for name in ("alice", "root", "mallory"))
    with Appliance(work_dir / "real-hub", config) as appliance:

        def status(token: str) -> int:
            return appliance.ask("GET", "/api/v1/clusters/", headers={"Authorization": f"jupyterhub {token}"}).status

        with Gateway(appliance.address, auth=JupyterHubAuth(alice["token"])) as gateway:
            name = gateway.submit()
            assert [report.name for report in gateway.list_clusters()] == [name]
            with Gateway(appliance.address, auth=JupyterHubAuth(hub.cull)) as service:
                assert service.list_clusters() == []
            with Gateway(appliance.address, auth=JupyterHubAuth(root["token"])) as admin:
                assert [report.name for report in admin.list_clusters()] == [name]
            gateway.stop_cluster(name)
        assert status(mallory["token"]) == 401, "it lacks the scope"
        assert status("0" * 32) == 401, "nobody has it"
        # What the hub said once counts for half a minute.
        hub.ask("DELETE", f"/users/alice/tokens/{alice['id']}")
        wait_until(lambda: status(alice["token"]) == 401, "a revoked token opens nothing", 45, 1)

        hub.proc.stop()
        answer = appliance.ask("GET", "/api/v1/clusters/", headers={"Authorization": f"jupyterhub {root['token']}x"})
        assert answer.status == 502 and "does not answer" in answer.error

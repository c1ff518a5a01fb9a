"""A Redfish service with real firmware's habits: sessions, ETags demanded, answers by tasks, pages."""

import contextlib
import uuid

import pytest
from aiohttp import web

UUID = "4c4c4544-0042-3510-8054-b4c04f4d3132"
R = "/redfish/v1"
S = f"{R}/Systems/1"


class RedfishPeer:
    """One machine behind one service; the attributes are its knobs, `post`: the machine is in POST."""

    def __init__(self) -> None:
        self.on = False
        self.boot = {
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd", "Cd", "BiosSetup", "UefiHttp"],
        }
        self.password = "right"
        self.sessions: dict[str, str] = {}
        self.has_sessions = True
        self.ignores_power = self.drops_boot = self.silent = self.post = self.tasks = False
        self.needs_etag = True
        self.etag = 1
        self.log = ["Fan 1 failed", "Fan 1 is back"]
        self.light = False
        self.requests: list[str] = []
        self.extra_system: dict = {}
        self.answers: dict[str, dict] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_route("*", "/{path:.*}", self._route)
        return app

    @web.middleware
    async def _guard(self, request, handler):
        import asyncio

        self.requests.append(f"{request.method} {request.path}")
        if self.silent:
            await asyncio.sleep(30)
        if request.path in self.answers:
            return web.Response(**self.answers[request.path])
        open_to_all = request.path.rstrip("/") == R or (
            request.method == "POST" and request.path == f"{R}/SessionService/Sessions"
        )
        if not open_to_all and not self._known(request):
            return _error(401, "Base.1.8.NoValidSession", "There is no valid session established.")
        return await handler(request)

    def _known(self, request) -> bool:
        if request.headers.get("X-Auth-Token") in self.sessions:
            return True
        import base64

        basic = "Basic " + base64.b64encode(f"admin:{self.password}".encode()).decode()
        return not self.has_sessions and request.headers.get("Authorization") == basic

    async def _route(self, request):
        body = await request.json() if request.can_read_body else {}
        handler = getattr(self, f"_{request.method.lower()}")
        return handler(request.path.rstrip("/"), body, request)

    def _get(self, path, body, request):
        page = int(request.query.get("$skip", 0))
        doc = self._documents(page).get(path)
        if path == f"{R}/TaskService/Tasks/1":
            return web.json_response({"TaskState": "Completed", "TaskStatus": "OK"})
        if doc is None:
            return _error(404, "Base.1.8.ResourceMissingAtURI", f"{path} does not exist.")
        return web.json_response({"@odata.id": path, **doc}, headers={"ETag": f'"{self.etag}"'})

    def _documents(self, page: int) -> dict:
        def collection(*members, following=None):
            doc = {"Members": [{"@odata.id": member} for member in members]}
            return doc | ({"Members@odata.nextLink": following} if following else {})

        entries = [
            {
                "Id": str(n),
                "Message": text,
                "Severity": "Warning",
                "Created": "2026-11-21T10:00:00Z",
                "SensorType": "Fan",
            }
            for n, text in enumerate(self.log, 1)
        ]
        entry_page = {"Members": entries[page : page + 1]}
        if page + 1 < len(entries):
            entry_page["Members@odata.nextLink"] = f"{S}/LogServices/SEL/Entries?$skip={page + 1}"
        return {
            R: {
                "RedfishVersion": "1.8.0",
                "UUID": UUID,
                "Product": "Peer",
                "Systems": {"@odata.id": f"{R}/Systems"},
                "Managers": {"@odata.id": f"{R}/Managers"},
                "AccountService": {"@odata.id": f"{R}/AccountService"},
            },
            f"{R}/Systems": collection(S),
            S: {
                "@odata.type": "#ComputerSystem.v1_9_0.ComputerSystem",
                "Manufacturer": "Peer Inc.",
                "Model": "P-1",
                "SerialNumber": "SN-CONTRACT",
                "UUID": UUID.upper(),
                "PowerState": "On" if self.on else "Off",
                "Boot": dict(self.boot),
                "LocationIndicatorActive": self.light,
                "EthernetInterfaces": {"@odata.id": f"{S}/EthernetInterfaces"},
                "LogServices": {"@odata.id": f"{S}/LogServices"},
                "Links": {
                    "ManagedBy": [{"@odata.id": f"{R}/Managers/bmc"}],
                    "Chassis": [{"@odata.id": f"{R}/Chassis/1"}],
                },
                "Actions": {
                    "#ComputerSystem.Reset": {
                        "target": f"{S}/Actions/ComputerSystem.Reset",
                        "ResetType@Redfish.AllowableValues": [
                            "On",
                            "ForceOff",
                            "GracefulShutdown",
                            "ForceRestart",
                            "Nmi",
                        ],
                    }
                },
                **self.extra_system,
            },
            f"{S}/EthernetInterfaces": collection(f"{S}/EthernetInterfaces/1"),
            f"{S}/EthernetInterfaces/1": {"Id": "1", "MACAddress": "52:54:00:AA:BB:01"},
            f"{S}/LogServices": collection(f"{S}/LogServices/SEL"),
            f"{S}/LogServices/SEL": {
                "Id": "SEL",
                "Entries": {"@odata.id": f"{S}/LogServices/SEL/Entries"},
                "Actions": {"#LogService.ClearLog": {"target": f"{S}/LogServices/SEL/Actions/LogService.ClearLog"}},
            },
            f"{S}/LogServices/SEL/Entries": entry_page,
            f"{R}/Managers": collection(f"{R}/Managers/bmc"),
            f"{R}/Managers/bmc": {
                "FirmwareVersion": "2.17",
                "Actions": {"#Manager.Reset": {"target": f"{R}/Managers/bmc/Actions/Manager.Reset"}},
            },
            f"{R}/Chassis/1": {"Thermal": {"@odata.id": f"{R}/Chassis/1/Thermal"}},
            f"{R}/Chassis/1/Thermal": {
                "Temperatures": [
                    {
                        "Name": "CPU",
                        "ReadingCelsius": 41,
                        "UpperThresholdCritical": 95,
                        "Status": {"State": "Enabled", "Health": "OK"},
                    }
                ]
            },
            f"{R}/AccountService": {"Accounts": {"@odata.id": f"{R}/AccountService/Accounts"}},
            f"{R}/AccountService/Accounts": collection(f"{R}/AccountService/Accounts/2"),
            f"{R}/AccountService/Accounts/2": {
                "Id": "2",
                "UserName": "admin",
                "RoleId": "Administrator",
                "Enabled": True,
            },
        }

    def _post(self, path, body, request):
        if path == f"{R}/SessionService/Sessions":
            if not self.has_sessions:
                return _error(404, "Base.1.8.ResourceMissingAtURI", "no sessions")
            if body != {"UserName": "admin", "Password": self.password}:
                return _error(401, "Base.1.8.NoValidSession", "Invalid username or password.")
            token = uuid.uuid4().hex
            self.sessions[token] = f"{R}/SessionService/Sessions/{len(self.sessions) + 1}"
            headers = {"X-Auth-Token": token, "Location": self.sessions[token]}
            return web.json_response({"Id": "1"}, status=201, headers=headers)
        if path.endswith("ComputerSystem.Reset"):
            return self._reset(body["ResetType"])
        if path.endswith("ClearLog"):
            self.log.clear()
        return self._accepted()

    def _reset(self, kind):
        if not self.ignores_power:
            on = kind in ("On", "ForceRestart")
            if on and (not self.on or kind == "ForceRestart") and self.boot["BootSourceOverrideEnabled"] == "Once":
                self.boot |= {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}
            self.on = on
        return self._accepted()

    def _accepted(self):
        if self.tasks:
            return web.json_response(
                {"TaskState": "Running"}, status=202, headers={"Location": f"{R}/TaskService/Tasks/1"}
            )
        return web.Response(status=204)

    def _patch(self, path, body, request):
        if self.needs_etag and request.headers.get("If-Match") != f'"{self.etag}"':
            return _error(412 if "If-Match" in request.headers else 428, "Base.1.8.PreconditionFailed", "ETag")
        self.etag += 1
        if path == S and "Boot" in body:
            if self.post:
                return _error(400, "iLO.2.14.UnableToModifyDuringSystemPOST", "")
            if not self.drops_boot:
                self.boot |= body["Boot"]
                if self.boot["BootSourceOverrideTarget"] == "None":
                    self.boot["BootSourceOverrideEnabled"] = "Disabled"
        if path == S and "LocationIndicatorActive" in body:
            self.light = body["LocationIndicatorActive"]
        if "Password" in body:
            self.password = body["Password"]
        return web.Response(status=204)

    def _delete(self, path, body, request):
        self.sessions = {token: where for token, where in self.sessions.items() if where != path}
        return web.Response(status=204)


def _error(status, name, text):
    info = {"MessageId": name, "Message": text}
    return web.json_response({"error": {"code": name, "message": text, "@Message.ExtendedInfo": [info]}}, status=status)


@contextlib.asynccontextmanager
async def serve_redfish(ssl_context=None):
    """The peer on a free port of loopback: (peer, port)."""
    peer = RedfishPeer()
    runner = web.AppRunner(peer.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        yield peer, port
    finally:
        await runner.cleanup()


@pytest.fixture
def redfish_server():
    return serve_redfish

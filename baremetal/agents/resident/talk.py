"""The conversation with the server: hello, held request, report. Dials out only, to one of the known addresses."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from baremetal.agents.http import BadAnswer, Client, Response, ServerSaid, ServerUnreachable
from baremetal.agents.resident.identity import Identity
from baremetal.errors import BaremetalError
from baremetal.protocol import agent as words
from baremetal.protocol.metadata import SIGNATURE_HEADER

ANSWER_S = 15.0  # beyond the time we asked the server to wait
MAX_DOCUMENT = 8 * 1024 * 1024  # our server makes none above 1 MiB


class DocumentTooLarge(BaremetalError):
    """The server sends something endless in place of a document."""

    code = "metadata-refused"


class Answer(NamedTuple):
    """A document as served: exact bytes and signature, neither believed yet."""

    raw: bytes
    signature: str


class Talk:
    """One connection, kept alive; the next address when one does not answer."""

    def __init__(self, identity: Identity, token: Optional[str]) -> None:
        self.identity = identity
        self.token = token
        self._index = 0
        self._client: Optional[Client] = None

    def hello(self, macs: List[str], uuid: Optional[str], version: str) -> words.HelloAnswer:
        """Trade the nonce of the config drive for a token."""
        word = words.Hello(self.identity.nonce, macs, agent=words.INSTANCE, uuid=uuid, version=version)
        answer = self._request("POST", "hello", word.to_bytes(), token=False).expect(200)
        welcome = words.HelloAnswer.from_bytes(answer.body)
        self.token = welcome.token
        self.close()
        return welcome

    def metadata(self, known_generation: Optional[int], wait_s: float) -> Optional[Answer]:
        """The document, as soon as it is another than `known_generation`; None when the time is over."""
        headers = {} if known_generation is None else {"If-None-Match": f'"{known_generation}"'}
        wait = max(0, int(wait_s))
        try:
            answer = self._request("GET", f"metadata?wait={wait}", headers=headers, timeout_s=wait + ANSWER_S)
        except BadAnswer as exc:
            self.close()
            if "longer than" not in exc.brief:
                raise
            raise DocumentTooLarge(f"the metadata document is too large: more than {MAX_DOCUMENT} bytes") from exc
        answer.expect(200, 304)
        if answer.status == 304:
            return None
        return Answer(answer.body, answer.headers.get(SIGNATURE_HEADER.lower(), ""))

    def report(self, body: bytes) -> None:
        self._request("POST", "config-report", body).expect(200)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _request(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        *,
        headers: Optional["dict[str, str]"] = None,
        timeout_s: float = ANSWER_S,
        token: bool = True,
    ) -> Response:
        client = self._connected()
        client.token = self.token if token else None
        try:
            return client.request(
                method,
                f"{words.AGENT_ROOT}/{path}",
                body=body,
                headers=headers,
                timeout_s=timeout_s,
                limit=MAX_DOCUMENT,
            )
        except ServerUnreachable:
            self._index += 1
            self.close()
            raise

    def _connected(self) -> Client:
        """The clock of this node may be years off: the CA is checked, the dates are not."""
        if self._client is None:
            url = self.identity.urls[self._index % len(self.identity.urls)]
            self._client = Client(url, ca_pem=self.identity.ca_pem, check_time=False)
        return self._client


def dead_token(exc: Exception) -> bool:
    return isinstance(exc, ServerSaid) and exc.status == 401

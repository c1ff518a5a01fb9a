"""The servers of this boot: the one that answered last is asked first, the others when it does not."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from baremetal.agents.http import BadAnswer, Client, Response, ServerDistrusted, ServerUnreachable, Url

AWAY = (502, 503, 504)  # a boot plane that lives and has no control plane: another server may have one


class Servers:
    """Speaks like one Client. Not for several threads at once."""

    def __init__(self, urls: List[str], connect: Callable[[str], Client], say: Callable[[str], None]) -> None:
        self.urls = urls
        self._connect = connect
        self._say = say
        self._clients: Dict[str, Client] = {}
        self._at = 0
        self._token: Optional[str] = None

    @property
    def url(self) -> str:
        """The one asked first now."""
        return self.urls[self._at]

    @property
    def token(self) -> Optional[str]:
        return self._token

    @token.setter
    def token(self, value: str) -> None:
        self._token = value
        for client in self._clients.values():
            client.token = value

    def ours(self, url: Url) -> bool:
        """Is this one of our servers, over TLS? Only those may see the token."""
        return url.secure and any(url[:3] == Url.parse(own)[:3] for own in self.urls)

    def request(self, method: str, path: str, **more: Any) -> Response:
        """One exchange with the first server that has an answer; the last trouble when none has."""
        trouble: Optional[Exception] = None
        away: Optional[Response] = None
        for _ in range(len(self.urls)):
            try:
                answer = self._client().request(method, path, **more)
            except (ServerUnreachable, BadAnswer, ServerDistrusted) as exc:
                trouble = exc
            else:
                if answer.status not in AWAY or len(self.urls) == 1:
                    return answer
                away = answer
            self._next()
        if away is not None:
            return away
        assert trouble is not None
        raise trouble

    def _client(self) -> Client:
        url = self.url
        if url not in self._clients:
            client = self._clients[url] = self._connect(url)
            client.token = self._token
        return self._clients[url]

    def _next(self) -> None:
        if len(self.urls) > 1:
            self._at = (self._at + 1) % len(self.urls)
            self._say(f"asking {self.url} instead")

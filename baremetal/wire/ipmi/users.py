"""User slots of a BMC (§22.22-22.30): name, password, privilege limit, enabled."""

from __future__ import annotations

from dataclasses import dataclass, field

NAME_SIZE = 16
PASSWORD_SIZE = 20
SLOTS = 10


@dataclass(slots=True, repr=False)
class User:
    """`password` is up to 20 bytes of anything; it pads to 20 with zeros as key (§13.31)."""

    name: bytes = b""
    password: bytes = b""
    privilege: int = 0x0F
    enabled: bool = False

    @property
    def key(self) -> bytes:
        """K_UID."""
        return self.password.ljust(PASSWORD_SIZE, b"\0")

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, privilege={self.privilege}, enabled={self.enabled})"


@dataclass(slots=True)
class Users:
    """Slots 1..10; slot 1 is the null user, disabled."""

    slots: list[User] = field(default_factory=lambda: [User() for _ in range(SLOTS)])

    def __getitem__(self, number: int) -> User:
        if not 1 <= number <= SLOTS:
            raise IndexError(number)
        return self.slots[number - 1]

    def find(self, name: bytes) -> User | None:
        """The enabled user of that name."""
        return next((u for u in self.slots if u.enabled and u.name == name), None)

    def number(self, user: User) -> int:
        """The slot a user is in."""
        return next(i for i, u in enumerate(self.slots, 1) if u is user)

    @property
    def enabled(self) -> int:
        """How many may log in."""
        return sum(u.enabled for u in self.slots)


def one_admin(name: str, password: str) -> Users:
    """A factory-fresh list: the administrator in slot 2."""
    users = Users()
    users[2].name = name.encode("utf-8", "surrogateescape")[:NAME_SIZE]
    users[2].password = password.encode("utf-8", "surrogateescape")[:PASSWORD_SIZE]
    users[2].privilege = 4
    users[2].enabled = True
    return users

"""Writes and reads config drives: a small ISO 9660 volume with label config-2.

The control plane builds it, the deploy ramdisk writes it to a partition of its
own, cloud-init or our agent reads it on first boot. Three trees share the same
file bytes: plain ISO 9660 (8.3 names), with Rock Ridge (what Linux and
cloud-init see: right names, root's files, mode 0600) and Joliet. Same files in,
same bytes out. ECMA-119, IEEE P1282 (Rock Ridge), SUSP 1.12. No I/O.
"""

from __future__ import annotations

import base64
import gzip
import struct
import zlib
from typing import Dict, List, Optional, Tuple, Union

SECTOR = 2048
LABEL = "config-2"
MAX_FILES = 4096
MAX_BYTES = 64 * 1024 * 1024  # Ironic's usual limit for a config drive
MAX_DEPTH = 7  # directories below the root; ECMA-119 allows 8 levels in all
_RR_ROOT = b"RRIP_1991A"
_TIME = bytes([70, 1, 1, 0, 0, 0, 0])  # 1970-01-01 00:00:00 UTC: the drive is a function of its files


class BadDrive(ValueError):
    """Not a config drive, or one we refuse."""


def build(files: Dict[str, bytes], *, label: str = LABEL) -> bytes:
    """An ISO image of these files (relative paths with slashes -> contents)."""
    root = _tree(files)
    return _Writer(root, label).image()


def pack(files: Dict[str, bytes]) -> str:
    """As an order carries it: base64 of gzip of the ISO."""
    return base64.b64encode(gzip.compress(build(files), compresslevel=6, mtime=0)).decode("ascii")


def unpack(text: str, *, limit: int = MAX_BYTES) -> bytes:
    """The ISO of pack()'s text; BadDrive when it is damaged or longer than `limit` bytes."""
    try:
        packed = base64.b64decode(text, validate=True)
        engine = zlib.decompressobj(31)
        image = engine.decompress(packed, limit + 1)
    except (ValueError, zlib.error) as exc:
        raise BadDrive(f"the config drive is not base64 of gzip: {exc}") from None
    if len(image) > limit:
        raise BadDrive(f"the config drive is larger than {limit} bytes")
    if not engine.eof:
        raise BadDrive("the config drive is cut short")
    if image[SECTOR * 16 + 1 : SECTOR * 16 + 6] != b"CD001":
        raise BadDrive("the config drive is not an ISO 9660 volume")
    return image


# --- the tree ---------------------------------------------------------------


class _Node:
    """A file or directory with its place in the image."""

    def __init__(self, name: str, data: Optional[bytes]) -> None:
        self.name = name
        self.data = data
        self.children: List[_Node] = []
        self.iso_name = b""
        self.extent = 0  # file data, or the ISO directory
        self.joliet_extent = 0
        self.size = 0 if data is None else len(data)
        self.joliet_size = self.size
        self.number = 0  # in the path table

    @property
    def is_dir(self) -> bool:
        return self.data is None


def _tree(files: Dict[str, bytes]) -> _Node:
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise BadDrive(f"a config drive holds at most {MAX_FILES} files and {MAX_BYTES} bytes")
    root = _Node("", None)
    for path in sorted(files):
        parts = path.split("/")
        if len(parts) > MAX_DEPTH + 1:
            raise BadDrive(f"too deep: {path!r}")
        for part in parts:
            _check_name(part, path)
        here = root
        for part in parts[:-1]:
            here = _directory(here, part, path)
        if any(c.name == parts[-1] for c in here.children):
            raise BadDrive(f"{path!r} is a file and a directory")
        here.children.append(_Node(parts[-1], bytes(files[path])))
    _name_all(root)
    return root


def _directory(here: _Node, name: str, path: str) -> _Node:
    for child in here.children:
        if child.name == name:
            if not child.is_dir:
                raise BadDrive(f"{path!r} is a file and a directory")
            return child
    child = _Node(name, None)
    here.children.append(child)
    return child


def _check_name(part: str, path: str) -> None:
    if part in ("", ".", "..") or "\0" in part or "\\" in part:
        raise BadDrive(f"not a plain relative path: {path!r}")
    if len(part) > 64 or len(part.encode("utf-8")) > 110:
        raise BadDrive(f"name too long (64 characters): {path!r}")


def _name_all(directory: _Node) -> None:
    """Give every child an 8.3 name unique in its directory, and sort by it (ECMA-119 §9.3)."""
    taken: Dict[bytes, bool] = {}
    for child in directory.children:
        child.iso_name = _short_name(child, taken)
        taken[child.iso_name] = True
        if child.is_dir:
            _name_all(child)
    directory.children.sort(key=lambda c: c.iso_name)


def _short_name(node: _Node, taken: Dict[bytes, bool]) -> bytes:
    stem, dot, extension = node.name.rpartition(".")
    if node.is_dir or not dot or not stem:
        stem, extension = node.name.replace(".", "_"), ""
    stem, extension = _d_characters(stem)[:8] or "_", _d_characters(extension)[:3]
    for n in range(MAX_FILES):
        tail = str(n) if n else ""
        name = stem[: 8 - len(tail)] + tail
        short = name if node.is_dir else f"{name}.{extension};1"
        if short.encode() not in taken:
            return short.encode()
    raise BadDrive(f"no short name left for {node.name!r}")


def _d_characters(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum()) else "_" for c in text).upper()


# --- writing ----------------------------------------------------------------


def _both16(n: int) -> bytes:
    return struct.pack("<H", n) + struct.pack(">H", n)


def _both32(n: int) -> bytes:
    return struct.pack("<I", n) + struct.pack(">I", n)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % SECTOR)


class _Writer:
    """Lays out: 16 empty sectors, 3 descriptors, 4 path tables, directories twice, file data."""

    def __init__(self, root: _Node, label: str) -> None:
        self.root = root
        self.label = label
        self.directories = _by_level(root)
        self.continuation = b""  # SUSP area of the root: the ER entry
        self.layout()

    def layout(self) -> None:
        for number, directory in enumerate(self.directories, 1):
            directory.number = number
            directory.size = len(self.records(directory, joliet=False))
            directory.joliet_size = len(self.records(directory, joliet=True))
        self.tables = [self.path_table(joliet, order) for joliet in (False, True) for order in "<>"]
        at = 19
        self.table_at = []
        for table in self.tables:
            self.table_at.append(at)
            at += len(_padded(table)) // SECTOR
        self.er_at = at
        at += 1
        for directory in self.directories:
            directory.extent, at = at, at + directory.size // SECTOR
        for directory in self.directories:
            directory.joliet_extent, at = at, at + directory.joliet_size // SECTOR
        for node in self.files():
            node.extent = node.joliet_extent = at if node.size else 0
            at += -(-node.size // SECTOR)
        self.sectors = at
        self.tables = [self.path_table(joliet, order) for joliet in (False, True) for order in "<>"]

    def files(self) -> List[_Node]:
        return [c for d in self.directories for c in d.children if not c.is_dir]

    def image(self) -> bytes:
        parts = [bytes(16 * SECTOR), self.descriptor(1), self.descriptor(2), _padded(b"\xffCD001\x01")]
        parts += [_padded(table) for table in self.tables]
        parts.append(_padded(_extension_reference()))
        parts += [self.records(d, joliet=False) for d in self.directories]
        parts += [self.records(d, joliet=True) for d in self.directories]
        parts += [_padded(node.data or b"") for node in self.files()]
        return b"".join(parts)

    def descriptor(self, kind: int) -> bytes:
        """Volume descriptor: 1 primary (§8.4), 2 Joliet supplementary (§8.5)."""
        joliet = kind == 2
        table_le, table_be = self.table_at[2:] if joliet else self.table_at[:2]
        out = bytes([kind]) + b"CD001\x01\0" + _text("LINUX", 32, joliet) + _text(self.label, 32, joliet)
        out += bytes(8) + _both32(self.sectors) + (b"%/E" if joliet else bytes(3)) + bytes(29)
        out += _both16(1) + _both16(1) + _both16(SECTOR) + _both32(len(self.tables[2 if joliet else 0]))
        out += struct.pack("<II", table_le, 0) + struct.pack(">II", table_be, 0)
        out += _record(self.root, b"\0", joliet, b"") + _text("", 128, joliet) * 4 + _text("", 37, joliet) * 3
        out += (b"1970010100000000\0" * 2) + (b"0" * 16 + b"\0") * 2 + b"\x01"
        return _padded(out)

    def path_table(self, joliet: bool, order: str) -> bytes:
        out = b""
        parents = {id(c): d.number for d in self.directories for c in d.children if c.is_dir}
        for d in self.directories:
            name = b"\0" if d is self.root else (_ucs2(d.name) if joliet else d.iso_name)
            extent = d.joliet_extent if joliet else d.extent
            out += struct.pack(order + "BBIH", len(name), 0, extent, parents.get(id(d), 1)) + name
            out += bytes(len(name) % 2)
        return out

    def records(self, directory: _Node, *, joliet: bool) -> bytes:
        """The directory's extent: records do not cross sectors (§6.8.1.1)."""
        parent = next((d for d in self.directories if directory in d.children), self.root)
        entries = [
            _record(directory, b"\0", joliet, b"" if joliet else self.dot_area(directory)),
            _record(parent, b"\1", joliet, b"" if joliet else _posix_area(parent)),
        ]
        children = sorted(directory.children, key=lambda c: _ucs2(c.name)) if joliet else directory.children
        for child in children:
            name = _ucs2(child.name) if joliet else child.iso_name
            area = b"" if joliet else _posix_area(child) + _name_area(child.name)
            entries.append(_record(child, name, joliet, area))
        out = b""
        for entry in entries:
            if len(out) % SECTOR + len(entry) > SECTOR:
                out = _padded(out)
            out += entry
        return _padded(out)

    def dot_area(self, directory: _Node) -> bytes:
        """The root's "." opens the System Use protocol: SP, then CE pointing at ER (SUSP §5)."""
        if directory is not self.root:
            return _posix_area(directory)
        er = _extension_reference()
        pointer = b"CE\x1c\x01" + _both32(getattr(self, "er_at", 0)) + _both32(0) + _both32(len(er))
        return b"SP\x07\x01\xbe\xef\0" + _posix_area(directory) + pointer


def _by_level(root: _Node) -> List[_Node]:
    """Directories in path table order: level by level, siblings by name."""
    found, level = [root], [root]
    while level:
        level = [c for d in level for c in d.children if c.is_dir]
        found += level
    return found


def _record(node: _Node, name: bytes, joliet: bool, area: bytes) -> bytes:
    """A directory record (§9.1) with its system use area."""
    extent = node.joliet_extent if joliet else node.extent
    size = node.joliet_size if joliet else node.size
    pad = bytes((len(name) + 1) % 2)
    length = 33 + len(name) + len(pad) + len(area)
    odd = bytes(length % 2)
    head = bytes([length + len(odd), 0]) + _both32(extent) + _both32(size) + _TIME
    head += bytes([2 if node.is_dir else 0, 0, 0]) + _both16(1) + bytes([len(name)])
    return head + name + pad + area + odd


def _posix_area(node: _Node) -> bytes:
    """PX: mode, links, uid 0, gid 0 (RRIP §4.1.1). Secrets live here: owner only."""
    mode = 0o040700 if node.is_dir else 0o100600
    links = 2 + sum(c.is_dir for c in node.children) if node.is_dir else 1
    return b"PX\x24\x01" + _both32(mode) + _both32(links) + _both32(0) + _both32(0)


def _name_area(name: str) -> bytes:
    raw = name.encode("utf-8")
    return b"NM" + bytes([5 + len(raw), 1, 0]) + raw


def _extension_reference() -> bytes:
    text = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
    return b"ER" + bytes([8 + len(_RR_ROOT) + len(text), 1, len(_RR_ROOT), len(text), 0, 1]) + _RR_ROOT + text


def _ucs2(text: str) -> bytes:
    return text.encode("utf-16-be")


def _text(text: str, size: int, joliet: bool) -> bytes:
    if joliet:
        raw = _ucs2(text)
        return (raw + _ucs2(" ") * size)[: size // 2 * 2] + bytes(size % 2)
    return text.encode("ascii").ljust(size)


# --- reading ----------------------------------------------------------------


def read(image: Union[bytes, memoryview]) -> Dict[str, bytes]:
    """Every file of an ISO 9660 volume, by Rock Ridge name, else Joliet, else the plain one.

    Takes any such volume (genisoimage's and xorriso's too), and treats it as hostile: BadDrive
    for whatever does not add up, never more than MAX_FILES files, MAX_BYTES bytes or 16 levels.
    """
    return _Reader(bytes(image)).files()


def label(image: Union[bytes, memoryview]) -> str:
    """Volume id of an ISO image, "" when it is none."""
    primary = bytes(image[16 * SECTOR : 17 * SECTOR])
    return primary[40:72].decode("ascii", "replace").rstrip() if primary[:6] == b"\x01CD001" else ""


class _Reader:
    def __init__(self, image: bytes) -> None:
        self.image = image
        self.joliet = False
        self.found: Dict[str, bytes] = {}
        self.total = 0
        self.entries = 0

    def files(self) -> Dict[str, bytes]:
        descriptors = self.descriptors()
        if 1 not in descriptors:
            raise BadDrive("not an ISO 9660 volume")
        start, size = _extent_of(descriptors[1][156:190])
        rock_ridge = b"SP\x07\x01\xbe\xef" in self.bytes_at(start, min(size, 256))
        if not rock_ridge and 2 in descriptors:
            self.joliet = True
            start, size = _extent_of(descriptors[2][156:190])
        self.walk(start, size, "", 0)
        return self.found

    def descriptors(self) -> Dict[int, bytes]:
        found: Dict[int, bytes] = {}
        for n in range(16, 32):
            sector = self.image[n * SECTOR : (n + 1) * SECTOR]
            if len(sector) < SECTOR or sector[1:6] != b"CD001" or sector[0] == 255:
                break
            if sector[0] == 2 and sector[88:91] not in (b"%/@", b"%/C", b"%/E"):
                continue
            found.setdefault(sector[0], sector)
        return found

    def bytes_at(self, sector: int, size: int) -> bytes:
        if size == 0:
            return b""
        start = sector * SECTOR
        if start + size > len(self.image):
            raise BadDrive("the volume is cut short")
        return self.image[start : start + size]

    def walk(self, sector: int, size: int, prefix: str, depth: int) -> None:
        if depth > 16:
            raise BadDrive("directories too deep, or in a circle")
        area = self.bytes_at(sector, size)
        at = 0
        while at < len(area):
            length = area[at]
            if length == 0:  # the rest of this sector is unused
                at = (at // SECTOR + 1) * SECTOR
                continue
            self.entry(area[at : at + length], prefix, depth)
            at += length

    def entry(self, record: bytes, prefix: str, depth: int) -> None:
        if len(record) < 34 or 33 + record[32] > len(record):
            raise BadDrive("broken directory record")
        raw_name = record[33 : 33 + record[32]]
        if raw_name in (b"\0", b"\1"):
            return
        self.entries += 1
        if self.entries > MAX_FILES:
            raise BadDrive(f"more than {MAX_FILES} entries")
        name = self.name_of(record, raw_name)
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise BadDrive(f"refused file name {name!r}")
        start, size = _extent_of(record)
        if record[25] & 2:
            self.walk(start, size, f"{prefix}{name}/", depth + 1)
            return
        if record[25] & 0x80:
            raise BadDrive(f"{name!r} has several extents")
        self.total += size
        if self.total > MAX_BYTES:
            raise BadDrive(f"more than {MAX_BYTES} bytes of files")
        self.found[prefix + name] = self.bytes_at(start, size)

    def name_of(self, record: bytes, raw_name: bytes) -> str:
        if self.joliet:
            return raw_name.decode("utf-16-be", "replace").partition(";")[0]
        at = 33 + len(raw_name) + (len(raw_name) + 1) % 2
        posix = self.posix_name(record[at:])
        if posix:
            return posix
        plain = raw_name.decode("ascii", "replace").partition(";")[0]
        return plain[:-1].lower() if plain.endswith(".") else plain.lower()

    def posix_name(self, area: bytes) -> str:
        """The NM entries of a system use area, following CE a few times."""
        name = b""
        for _ in range(4):
            further = b""
            at = 0
            while at + 4 <= len(area) and area[at + 2] >= 4:
                entry = area[at : at + area[at + 2]]
                if entry[:2] == b"NM" and len(entry) >= 5:
                    name += entry[5:]
                elif entry[:2] == b"CE" and len(entry) >= 28:
                    sector, offset, length = (struct.unpack_from("<I", entry, n)[0] for n in (4, 12, 20))
                    further = self.bytes_at(sector, min(offset + length, SECTOR))[offset:]
                at += len(entry)
            if not further:
                break
            area = further
        return name.decode("utf-8", "replace")


def _extent_of(record: bytes) -> Tuple[int, int]:
    """First sector and size in bytes."""
    start, size = struct.unpack_from("<I", record, 2)[0], struct.unpack_from("<I", record, 10)[0]
    return start, size

"""Is an order really our server's? Its signature is checked with the key of this ramdisk before anything changes."""

from __future__ import annotations

from baremetal.agents.trouble import OrderRefused
from baremetal.protocol import agent as words


def check(order: words.Order, boot_id: str, key_file: str) -> None:
    """OrderRefused unless the order may be carried out: harmless, or signed for this boot."""
    if order.kind not in words.SIGNED:
        return
    import base64  # late: hello must not wait for these

    from baremetal.protocol import ed25519

    try:
        with open(key_file) as f:
            key = ed25519.parse_public_key(f.read())
    except (OSError, ValueError) as exc:
        raise OrderRefused(
            f"{order.kind} is refused: this ramdisk has no key to check orders with",
            detail=str(exc),
            fix="see 'trust anchors' in the server's log, then boot the node again",
        ) from exc
    try:
        signature = base64.b64decode(order.signature or "", validate=True)
    except ValueError:
        signature = b""
    if not ed25519.verify(key, words.signed_text(order, boot_id).encode(), signature):
        raise OrderRefused(
            f"{order.kind} is refused: the order is not signed by this server for this boot",
            detail=f"key in the ramdisk: {key.hex()}; signature: {(order.signature or 'none')[:100]}",
            fix="someone else gives orders here, or the server's key was replaced: boot the node again",
        )

"""What a BMC's TLS certificate says about its care. Pure: bytes in, findings out."""

from __future__ import annotations

import datetime

SOON = datetime.timedelta(days=30)
SMALLEST_RSA = 2048

# (severity, check, what, fix), as audit.Finding takes them.
Row = tuple[str, str, str, str]


def judge(der: bytes, now: datetime.datetime | None = None) -> list[Row]:
    """Findings about a certificate (DER)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        cert = x509.load_der_x509_certificate(der)
        key = cert.public_key()
        until, since = cert.not_valid_after_utc, cert.not_valid_before_utc
        digest = cert.signature_hash_algorithm
        own = cert.issuer == cert.subject
    except Exception as exc:  # any bytes may stand in a certificate
        return [("medium", "tls-unreadable", f"its certificate cannot be read: {type(exc).__name__}", "replace it")]
    now = now or datetime.datetime.now(datetime.UTC)
    found: list[Row] = []
    if until < now:
        found.append(("medium", "tls-expired", f"its certificate ended on {until:%Y-%m-%d}", "replace it"))
    elif until < now + SOON:
        found.append(("info", "tls-expires", f"its certificate ends on {until:%Y-%m-%d}", "replace it in time"))
    if since > now:
        found.append(("info", "tls-not-yet", f"its certificate begins on {since:%Y-%m-%d}", "check its clock"))
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA:
        found.append(("high", "tls-key", f"its certificate has an RSA key of {key.key_size} bits", "replace it"))
    if digest is not None and digest.name in ("md5", "sha1"):
        found.append(("medium", "tls-digest", f"its certificate is signed with {digest.name}", "replace it"))
    if own:
        found.append(("info", "tls-self-signed", "its certificate is self-signed", "pin it, or give it one of your CA"))
    return found

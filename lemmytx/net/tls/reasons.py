"""What OpenSSL says, for people."""

from __future__ import annotations

import ssl

#: By C{SSLError.reason}. What is not here is said in OpenSSL's own words.
_REASONS = {
    "HTTP_REQUEST": "the peer speaks plain HTTP",
    "HTTPS_PROXY_REQUEST": "the peer speaks plain HTTP",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "UNKNOWN_PROTOCOL": "the peer does not speak TLS",
    "WRONG_SSL_VERSION": "the peer does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the peer does not speak TLS",
    "RECORD_TOO_SMALL": "the peer does not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection",
    "UNSUPPORTED_PROTOCOL": "no version of TLS in common",
    "NO_PROTOCOLS_AVAILABLE": "no version of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no version of TLS in common",
    "VERSION_TOO_LOW": "no version of TLS in common",
    "NO_SHARED_CIPHER": "no cipher in common",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature algorithm in common",
    "NO_SUITABLE_KEY_SHARE": "no key exchange in common",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer shows no certificate",
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the peer refused: unrecognized name",
    "CALLBACK_FAILED": "the name that was asked for is unknown",
    "CLIENTHELLO_TLSEXT": "the name that was asked for is unknown",
    "EE_KEY_TOO_SMALL": "the key of the certificate is too small",
    "CA_KEY_TOO_SMALL": "the key of an authority is too small",
    "CA_MD_TOO_WEAK": "the signature of a certificate is too weak",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record was damaged",
    "BAD_RECORD_TYPE": "a record was damaged",
}


def explain(error: ssl.SSLError) -> str:
    """
    @return: one line without a full stop: C{certificate has expired}, C{the peer refused: unknown ca}.
    """
    message = getattr(error, "verify_message", None)
    if message:
        return str(message).rstrip(".")
    reason = error.reason or ""
    if reason in _REASONS:
        return _REASONS[reason]
    words = reason.replace("_", " ").lower()
    if "ALERT" in reason.split("_"):
        return f"the peer refused: {words.partition('alert ')[2] or words}"
    return words or "TLS error"

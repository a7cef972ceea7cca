"""The initiator's side of CHAP (RFC 7143 section 12.1.3, RFC 1994).

    chap = Chap("hv1", "secret", algorithms=[7, 5], mutual=("store", "other secret"))
    chap.answer({"CHAP_A": "7", "CHAP_I": "5", "CHAP_C": "0x..."})  -> keys to send
    chap.check({"CHAP_N": "store", "CHAP_R": "0x..."})               of the target; mutual only
"""

import base64
import hashlib
import os

ALGORITHMS = {5: hashlib.md5, 6: hashlib.sha1, 7: hashlib.sha256, 8: hashlib.sha3_256}


def decode(text: str) -> bytes:
    """A binary value: 0x (hex) or 0b (base64)."""
    if text[:2].lower() == "0x":
        digits = text[2:]
        return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    if text[:2].lower() == "0b":
        return base64.b64decode(text[2:])
    raise AssertionError(f"not a binary value: {text}")


def response(algorithm: int, identifier: int, secret: str, challenge: bytes) -> bytes:
    return ALGORITHMS[algorithm](bytes([identifier]) + secret.encode() + challenge).digest()


class Chap:
    def __init__(self, user, secret, algorithms=(8, 7, 6, 5), mutual=None, base64_values=False):
        self.user, self.secret, self.mutual = user, secret, mutual
        self.algorithms = list(algorithms)
        self.base64_values = base64_values
        self.identifier, self.challenge = os.urandom(1)[0], os.urandom(24)
        self.algorithm = None
        self.target_challenge = None

    def encode(self, value: bytes) -> str:
        if self.base64_values:
            return "0b" + base64.b64encode(value).decode()
        return "0x" + value.hex()

    def offer(self) -> dict:
        return {"CHAP_A": ",".join(map(str, self.algorithms))}

    def answer(self, keys: dict) -> dict:
        self.algorithm = int(keys["CHAP_A"])
        if self.algorithm not in self.algorithms:
            raise AssertionError(f"the target chose CHAP_A={self.algorithm}, which was not offered")
        self.target_challenge = decode(keys["CHAP_C"])
        value = response(self.algorithm, int(keys["CHAP_I"]), self.secret, self.target_challenge)
        answer = {"CHAP_N": self.user, "CHAP_R": self.encode(value)}
        if self.mutual:
            answer |= {"CHAP_I": str(self.identifier), "CHAP_C": self.encode(self.challenge)}
        return answer

    def check(self, keys: dict):
        user, secret = self.mutual
        expected = response(self.algorithm, self.identifier, secret, self.challenge)
        if keys.get("CHAP_N") != user or decode(keys.get("CHAP_R", "0x")) != expected:
            raise AssertionError("the target did not prove that it knows its secret")

"""Signs and checks URLs from docs/TOKENS.md alone: an independent second implementation.

Reads JSON lines on standard input and answers each with one: a vector's secret (hexadecimal), key
id, host, scope and claims in, the host's key, the authenticated text, the MAC and the URL out.
"""

import base64
import hashlib
import hmac
import json
import sys


def netstrings(*fields):
    return b"".join(b"%d:%s," % (len(field), field) for field in (f.encode() for f in fields))


def hkdf(secret, info):
    pseudorandom = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(pseudorandom, info + b"\x01", hashlib.sha256).digest()


def signed(v):
    secret = bytes.fromhex(v["secret"])
    key = hkdf(secret, netstrings("oca-host-key-v1", v["k"], v["host"]))
    s, c, r = v.get("s", ""), v.get("c", ""), v.get("r", "")
    text = netstrings("oca-url-v1", v["host"], v["kind"], v["path"], v["i"], v["e"], v["k"], s, c, r)
    mac = hmac.new(key, text, hashlib.sha256).digest()
    parts = {name: v[name] for name in "ceikrs" if name in v}
    parts["t"] = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    if v["kind"] == "directory":
        parts["d"] = str(v["path"].count("/") + 1)
    token = [f"{name}={parts[name]}" for name in sorted(parts)]
    if v["kind"] == "directory":
        url = f"https://{v['host']}/t/{','.join(token)}/{v['key']}"
    else:
        url = f"https://{v['host']}/{v['path']}?{'&'.join(token)}"
    return {"host_key": key.hex(), "text": text.decode(), "mac": mac.hex(), "url": url}


for line in sys.stdin:
    print(json.dumps(signed(json.loads(line))), flush=True)

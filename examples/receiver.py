#!/usr/bin/env python3
"""A receiver of webhooks: takes what is signed with the secret, once, and prints it.

    ZERO_SECRET=... receiver.py PORT    (0 picks a free one; the first line says which)
"""

import hashlib, hmac, http.server, os, sys

SECRET = os.environ["ZERO_SECRET"].encode()
seen = set()  # Kept in a database by a receiver that must not act twice after a restart.


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Of the bytes as they came: JSON that is read and written again may differ.
        expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        # While a secret is replaced, both sign.
        given = [self.headers.get("X-Zero-Signature", ""), self.headers.get("X-Zero-Signature-Previous", "")]
        if not any(hmac.compare_digest(expected, one) for one in given):
            return self.answer(401)
        if self.headers["X-Zero-Delivery"] not in seen:
            print(body.decode(), flush=True)
            seen.add(self.headers["X-Zero-Delivery"])
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(server.server_port, flush=True)
server.serve_forever()

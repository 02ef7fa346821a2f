"""Certificates for tests and benchmarks, made with the openssl program: an authority, and what it signs."""
import base64
import hashlib
import ssl
import subprocess


def run(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60).stdout


def fingerprint_text(certificate, entry_id):
    """What the token file's entry of a certificate holds the hash of (server/access/tokens.h)."""
    key = ssl.PEM_cert_to_DER_cert(run("x509", "-in", certificate, "-pubkey", "-noout").decode()
                                   .replace("PUBLIC KEY", "CERTIFICATE"))
    return f"crt_{entry_id}_".encode() + base64.urlsafe_b64encode(hashlib.sha256(key).digest()).rstrip(b"=")


class Authority:
    """Signs certificates in `folder`. Each is a pair of files, NAME.pem and NAME.key."""

    def __init__(self, folder, name="authority"):
        self.folder, self.name = folder, name
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj",
            f"/CN={name}", "-keyout", self.key, "-out", self.certificate)

    def sign(self, name, subject="IP:127.0.0.1,DNS:localhost", key=None, days=1):
        """(certificate, key) for these names; with `key` for one that is there."""
        certificate, request = self.folder / f"{name}.pem", self.folder / f"{name}.csr"
        if key is None:
            key = self.folder / f"{name}.key"
            run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", key)
        names = self.folder / f"{name}.names"
        names.write_text(f"subjectAltName={subject}\n")
        run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        run("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", days,
            "-extfile", names, "-out", certificate)
        return certificate, key

    def context(self, shown=None):
        """What a client that trusts us has; `shown`: (certificate, key) that it shows."""
        context = ssl.create_default_context(cafile=self.certificate)
        if shown:
            context.load_cert_chain(*shown)
        return context

"""The certificates of a cluster, made by the openssl command.

    ca = Authority(directory, "ca")
    certificate, key = ca.issue("hv1", "holdfast://c1/hv1")
"""

from .process import run


class Authority:
    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.pem"
        self.key = directory / f"{name}.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", self.key, "-out", self.certificate, "-days", "30",
             "-subj", f"/CN={name}"])

    def issue(self, name, uri, days=30):
        """(certificate, key) of a node."""
        certificate, key, request, extensions = (
            self.directory / f"{name}.{suffix}" for suffix in ("pem", "key", "csr", "ext"))
        run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", request, "-subj", f"/CN={name}"])
        extensions.write_text(f"subjectAltName=URI:{uri}\nextendedKeyUsage=serverAuth,clientAuth\n")
        run(["openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
             "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", certificate])
        key.chmod(0o600)
        return certificate, key
